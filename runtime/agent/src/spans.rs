//! Calls under way: where each began, until it comes to an exit.
//!
//! One table for all threads, since a coroutine or a goroutine may begin a call on one and end it on another. A call is
//! known by its function and by the address of its return address, which no other call has while it lasts; so two
//! threads never write one entry, save where an entry is given up (see `enter`). What never comes to an exit (an
//! exception, `longjmp`) stays until the same place begins a call again, or until room is needed.

use core::sync::atomic::{AtomicU64, Ordering};

use trocar_abi::control::FUNCTIONS_MAX;

/// A call under way.
#[derive(Debug, Default)]
pub(crate) struct Span {
    /// Address of the return address and index of the function; zero: free.
    key: AtomicU64,
    /// Ticks when it began.
    began: AtomicU64,
}

/// Entries of the table, a power of two. Each call under way takes one: recursion deeper than this gives up its oldest.
pub(crate) const SPANS: usize = 8192;
/// Entries that are looked at for a call.
const REACH: usize = 8;

/// Addresses of the lower half, where programs live, have 47 bits; the rest holds the function.
const FUNCTION_BITS: u32 = FUNCTIONS_MAX.trailing_zeros();

fn key(return_address_at: u64, function: u32) -> u64 {
    return_address_at << FUNCTION_BITS | u64::from(function & (FUNCTIONS_MAX - 1))
}

/// The entries where a call may be.
fn reach(table: &[Span], key: u64) -> impl Iterator<Item = &Span> {
    let first = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
    (0..REACH).filter_map(move |step| table.get(first.wrapping_add(step) & (SPANS - 1)))
}

/// Notes that a call begins. False: another one was given up for it, which never came to an exit or is too deep.
pub(crate) fn enter(table: &[Span], return_address_at: u64, function: u32, now: u64) -> bool {
    let key = key(return_address_at, function);
    let mut oldest: Option<(&Span, u64)> = None;
    let mut free = None;
    for span in reach(table, key) {
        let found = span.key.load(Ordering::Relaxed);
        if found == key {
            span.began.store(now, Ordering::Relaxed);
            return false;
        }
        let began = span.began.load(Ordering::Relaxed);
        if found == 0 {
            free = free.or(Some(span));
        } else if oldest.is_none_or(|(_, least)| began < least) {
            oldest = Some((span, began));
        }
    }
    if let Some(span) = free
        && span.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        span.began.store(now, Ordering::Relaxed);
        return true;
    }
    // Another thread took the free one, or there is none. Its owner, if it has one, finds it gone.
    if let Some((span, _)) = oldest {
        span.key.store(key, Ordering::Relaxed);
        span.began.store(now, Ordering::Relaxed);
    }
    false
}

/// Ticks since the call began that ends now; `None` if its beginning is not known.
pub(crate) fn leave(table: &[Span], return_address_at: u64, function: u32, now: u64) -> Option<u64> {
    let key = key(return_address_at, function);
    let span = reach(table, key).find(|span| span.key.load(Ordering::Relaxed) == key)?;
    let began = span.began.load(Ordering::Relaxed);
    span.key.store(0, Ordering::Relaxed);
    // On another processor the counter may be a little behind.
    Some(now.saturating_sub(began))
}
