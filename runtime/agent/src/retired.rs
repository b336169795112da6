//! Contexts whose hit was left for good: a signal handler that interrupted it went elsewhere by `siglongjmp`, or ended the
//! thread. What the probe was doing there is unknown, so such a context is retired, and its thread gets another one.
//!
//! That a hit was left is proven, never guessed. A hit that goes on, at whatever time and from whatever stack, goes back by
//! the frame that it pushed when it came. So it was left where that frame is no more: this hit's own frame lies over it, or it
//! lies on the thread's own stack and the address of its trampoline is not in it any more. Stack pointers alone prove
//! nothing: a coroutine, a signal stack, or a task that shares the thread pointer may have its stack in a frame of another.
//!
//! What this does not know: a coroutine that was copied away with its whole stack, out of a hit, and is copied back.

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use trocar_abi::control::block_len;
use trocar_abi::hit::{HIT_FRAME, HitFrame, inside};
use trocar_abi::loss::Loss;
use trocar_abi::shared::ContextShared;

use crate::context::{Context, is_pool_filled, note, replace, take};
use crate::dispatch::stack_range;
use crate::global::{Agent, agent};

/// Contexts that were retired.
static RETIRED: AtomicU32 = AtomicU32::new(0);

/// Retires `busy`, the context of the thread with this pointer, if the hit that is `inside` it was left for good. Answers
/// another context, which the hit with `frame` is inside; or why that hit is lost.
///
/// # Safety
/// `busy` is the context that was found for this thread pointer, `within` what its word said, `frame` the hit's own.
#[cold]
pub(crate) unsafe fn instead_of(
    busy: *mut Context,
    within: u64,
    (thread_pointer, mark): (u64, u32),
    frame: NonNull<HitFrame>,
    sp: u64,
) -> Result<*mut Context, Loss> {
    // SAFETY: the caller's contract.
    let word = unsafe { Context::inside(busy) };
    // SAFETY: as above.
    let is_left = || unsafe { is_left(busy, mark, within & inside::FRAME, frame.as_ptr() as u64) };
    let exchange = |from, to| word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    let asked = within & !inside::LEFT | inside::ASKED;
    // Whoever asked before, or retired it, may have been left in the midst of that.
    let already = within & inside::LEFT != 0;
    if !already {
        if !is_left() {
            return Err(Loss::Reentrant);
        }
        // It is found out again at the next hit: by then the host may have filled the pool.
        if !has_another() {
            return Err(Loss::NoContext);
        }
        // Nobody has ended that hit, or begun another, between this exchange and the next: only a task that shares the thread
        // pointer could. So what is seen between them is seen of that hit.
        if !exchange(within, asked) {
            return Err(Loss::Reentrant);
        }
        if !is_left() {
            let _ = exchange(asked, asked & !inside::ASKED);
            return Err(Loss::Reentrant);
        }
    }
    let Some(other) = another() else {
        let _ = exchange(asked, asked & !inside::ASKED);
        return Err(Loss::NoContext);
    };
    if !already && !exchange(asked, asked & !inside::ASKED | inside::LEFT) {
        return Err(Loss::Reentrant);
    }
    // SAFETY: a context of the agent; its block's address never changes.
    let shared: *mut ContextShared = unsafe { (*busy).shared };
    // SAFETY: the context's block in the shared memory, of which nobody writes this field meanwhile but with the same value.
    let retired = unsafe { &raw mut (*shared).retired };
    // SAFETY: as above, and aligned.
    unsafe { AtomicU32::from_ptr(retired) }.store(1, Ordering::Release);
    // SAFETY: just taken from the pool: nobody else knows it.
    let head = unsafe { &mut (*other).head };
    // The thread has the stack that it had, which the host finds again by the same place in it.
    // SAFETY: the head of a context, which stays.
    (head.stack_low, head.stack_high) = stack_range(unsafe { &(*busy).head });
    // SAFETY: as above; written before the context was in the table.
    let sp = if head.stack_low == 0 { sp } else { unsafe { (*shared).first_sp } };
    head.inside = frame.as_ptr() as u64 | inside::HIT;
    // SAFETY: as above.
    unsafe { note(other, thread_pointer, sp) };
    if replace(thread_pointer, busy, other) {
        return Ok(other);
    }
    // A signal handler that came in between and hit a site has done it.
    // SAFETY: as above.
    unsafe { Context::inside(other) }.store(0, Ordering::Release);
    Err(Loss::Reentrant)
}

/// Whether there is another context: not when half of all that there may ever be were retired. The rest is for threads to
/// come.
fn has_another() -> bool {
    RETIRED.load(Ordering::Relaxed) < agent().layout.contexts / 2 && is_pool_filled()
}

/// A context of the pool, instead of one that is retired.
fn another() -> Option<*mut Context> {
    let another = take()?;
    RETIRED.fetch_add(1, Ordering::Relaxed);
    Some(another)
}

/// Whether the frame at `left`, of a hit inside `busy`, is there no more. Another hit has its frame at `here`.
///
/// # Safety
/// `busy` is a context of this thread pointer, and `mark` this thread's.
unsafe fn is_left(busy: *mut Context, mark: u32, left: u64, here: u64) -> bool {
    if here.abs_diff(left) < HIT_FRAME {
        return true;
    }
    // SAFETY: a word of a context, which stays; written only at a thread's first hit there.
    if unsafe { (*busy).mark } != mark {
        // It was another thread's, whose stack may be gone.
        return false;
    }
    // SAFETY: the head of a context, which stays.
    let (low, high) = stack_range(unsafe { &(*busy).head });
    let is_own = |frame: u64| frame >= low && frame < high && high - frame >= HIT_FRAME;
    if !is_own(left) || !is_own(here) {
        return false;
    }
    let word = (left + offset_of!(HitFrame, trampoline) as u64) as *const u64;
    // SAFETY: an aligned word of the stack that this hit is on, which is mapped in this range. Volatile: whatever is there.
    !may_be_trampoline(agent(), unsafe { word.read_volatile() })
}

/// Whether an address may be one in our trampolines: each block begins with its gate, and none is longer than all sites need.
fn may_be_trampoline(agent: &Agent, address: u64) -> bool {
    let len = block_len(agent.sites.len() as u64);
    agent.gates.iter().any(|gate| address.wrapping_sub(*gate) < len)
}
