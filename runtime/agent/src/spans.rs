//! Calls under way: where each began, until it comes to an exit.
//!
//! One table for all threads, since a coroutine or a goroutine may begin a call on one and end it on another. A call is
//! known by its function and by the address of its return address, which no other call has while it lasts; so two
//! threads never write one entry, save where an entry is given up (see `enter`). What never comes to an exit (an
//! exception, `longjmp`) stays until the same place begins a call again, or until room is needed.
//!
//! A goroutine's stack moves; its calls are known by a number that stands for the goroutine and the distance from the top
//! of its stack. That two calls under way have the same one is as likely as one in some millions with a full table; they
//! would take each other's times.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use trocar_abi::control::FUNCTIONS_MAX;

/// A call under way.
#[derive(Debug, Default)]
pub(crate) struct Span {
    /// Where the return address is (or what stands for that) and index of the function; zero: free.
    key: AtomicU64,
    /// Ticks when it began.
    began: AtomicU64,
}

/// Places of the table where a call's entries may begin, a power of two. Each call under way takes one entry: recursion
/// deeper than this gives up its oldest.
const SPANS: usize = 8192;
/// Entries that are looked at for a call.
const REACH: usize = 8;
/// Entries of the table: the last place has as many as any, so that none is looked for at the table's beginning.
const ENTRIES: usize = SPANS + REACH - 1;

/// Its length is part of its type, so that no entry's index need be compared with it.
pub(crate) type Table = [Span; ENTRIES];

/// A table without calls, for good; `None` if there is no memory for it.
pub(crate) fn table() -> Option<&'static Table> {
    let spans: Vec<Span> = core::iter::repeat_with(Span::default).take(ENTRIES).collect();
    let table: Box<Table> = spans.into_boxed_slice().try_into().ok()?;
    Some(Box::leak(table))
}

/// Addresses of the lower half, where programs live, have 47 bits; the rest holds the function.
const FUNCTION_BITS: u32 = FUNCTIONS_MAX.trailing_zeros();

fn key(at: u64, function: u32) -> u64 {
    at << FUNCTION_BITS | u64::from(function & (FUNCTIONS_MAX - 1))
}

/// What stands for the place of a return address so far from the top of a goroutine's stack: as many bits as an address has,
/// and not zero.
pub(crate) fn of_goroutine(goroutine: u64, from_top: u64) -> u64 {
    let mixed = (goroutine ^ from_top.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> (FUNCTION_BITS + 1)) | 1
}

/// The entries where a call may be.
#[inline(always)]
fn reach(table: &Table, key: u64) -> Option<&[Span; REACH]> {
    let first = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SPANS.trailing_zeros());
    table.get(first as usize..)?.first_chunk()
}

/// Notes that a call begins. False: another one was given up for it, which never came to an exit or is too deep.
#[inline(always)]
pub(crate) fn enter(table: &Table, at: u64, function: u32, now: u64) -> bool {
    let key = key(at, function);
    let Some(reach) = reach(table, key) else { return false };
    if let Some(span) = find(reach, key) {
        span.began.store(now, Ordering::Relaxed);
        return false;
    }
    // Another thread may take a free one first.
    let take = |span: &&Span| span.key.compare_exchange(0, key, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if let Some(span) = reach.iter().find(take) {
        span.began.store(now, Ordering::Release);
        return true;
    }
    give_up(reach, key, now);
    false
}

/// Gives the oldest entry to a call that begins.
#[cold]
fn give_up(reach: &[Span; REACH], key: u64, now: u64) {
    // Its owner, if it has one, finds it gone.
    if let Some(oldest) = reach.iter().min_by_key(|span| span.began.load(Ordering::Acquire)) {
        oldest.key.store(key, Ordering::Release);
        oldest.began.store(now, Ordering::Release);
    }
}

/// Ticks since the call began that ends now; `None` if its beginning is not known.
#[inline(always)]
pub(crate) fn leave(table: &Table, at: u64, function: u32, now: u64) -> Option<u64> {
    let key = key(at, function);
    let span = find(reach(table, key)?, key)?;
    // Never the oldest while it is free, or taken and not yet dated.
    let began = span.began.swap(u64::MAX, Ordering::AcqRel);
    let still = span.key.compare_exchange(key, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    // On another processor the counter may be a little behind.
    (still && began != u64::MAX).then(|| now.saturating_sub(began))
}

/// Forgets what began at this place.
pub(crate) fn forget(table: &Table, at: u64, function: u32) {
    let _ = leave(table, at, function, 0);
}

#[inline(always)]
fn find(reach: &[Span; REACH], key: u64) -> Option<&Span> {
    reach.iter().find(|span| span.key.load(Ordering::Acquire) == key)
}
