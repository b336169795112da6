//! Contexts: what one thread needs to run probes. And the table that finds a thread's context.

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use trocar_abi::control::flags;
use trocar_abi::hit::{ContextHead, HitFrame, STACK_ROOM, ThreadSlot, inside, slot_in};
use trocar_abi::shared::{ContextShared, SharedHead, SiteStats};
use trocar_sandbox::{Instance, Trace};

use crate::global::{FILLED, agent, thread_pointer};
use crate::heap::Heap;
use crate::sys;

/// Pages of stacks that a context remembers.
pub(crate) const ORDINARY: usize = 64;

/// One thread's context. Its memory: see `trocar_abi::control::context_stride`.
///
/// INVARIANT (inside): whoever changed `head.inside` from 0 to its frame owns every other field until it writes 0 again;
/// the host writes `stack_*` and `stale` at any time, one aligned word each.
#[repr(C)]
pub(crate) struct Context {
    pub(crate) head: ContextHead,
    /// The frame of the hit that is inside. A panic in it goes there: the entry code restores everything from it.
    pub(crate) recover: NonNull<HitFrame>,
    /// Where on the thread's own stack a hit is served at once.
    pub(crate) usual: Usual,
    /// What tells the thread from a later one with the same thread pointer ([`thread_and_mark`]), once it is `met`.
    pub(crate) mark: u32,
    pub(crate) met: bool,
    pub(crate) shared: *mut ContextShared,
    pub(crate) stats: *mut SiteStats,
    /// What says where a hit trapped; null where none can.
    pub(crate) trace: *mut Trace,
    /// wasmtime's thread-local slot.
    pub(crate) tls: *mut u8,
    /// This hit must not leave its stack, even after a trap: it enters wasm by wasmtime's own entry.
    pub(crate) stays: bool,
    /// Pages, by number, of stacks other than the thread's own that are known not to be its alternate one.
    pub(crate) ordinary: [u64; ORDINARY],
    /// The highest address of the thread's own stack where a hit is known not to have been on an alternate one. A later
    /// alternate stack that lies in a frame of the own one is above every hit of the functions below that frame.
    pub(crate) proven_high: u64,
    pub(crate) heap: Heap,
    pub(crate) instance: Option<Instance>,
}

/// Addresses where a hit of the thread is known to be on its own stack, not on the alternate one, with room.
///
/// It is found out where a hit is not in it; whatever it was found out from sets it to none where it changes, and for what the
/// host changes it says itself which stack it is of.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Usual {
    low: u64,
    /// Zero: there are none.
    len: u64,
    /// The head's `stack_high`, by which the host says that it has another stack in mind.
    stack_high: u64,
}

impl Usual {
    /// Of the stack `low..high`, up to and with `proven`, what is on the same side of the alternate stack as `at`, which
    /// is not on that one.
    pub(crate) fn new((low, high): (u64, u64), proven: u64, alternate: (u64, u64), at: u64) -> Self {
        let (mut from, mut to) = (low.saturating_add(STACK_ROOM), high.min(proven.saturating_add(1)));
        if at < alternate.0 {
            to = to.min(alternate.0);
        } else {
            from = from.max(alternate.1);
        }
        Self { low: from, len: to.saturating_sub(from), stack_high: high }
    }

    /// Whether a hit with its frame at `at` is there.
    #[inline(always)]
    pub(crate) fn holds(&self, at: u64, head: &ContextHead) -> bool {
        let high = &raw const head.stack_high;
        // SAFETY: a field of the head; volatile, because another process writes it.
        at.wrapping_sub(self.low) < self.len && unsafe { high.read_volatile() } == self.stack_high
    }
}

impl Context {
    /// The word that says whether a hit is inside.
    ///
    /// # Safety
    /// `context` is one of the agent's contexts.
    #[inline]
    pub(crate) unsafe fn inside<'a>(context: *mut Self) -> &'a AtomicU64 {
        // SAFETY: the caller's contract: mapped memory that is never unmapped while our code can run.
        let field = unsafe { &raw mut (*context).head.inside };
        // SAFETY: as above, and aligned.
        unsafe { AtomicU64::from_ptr(field) }
    }

    /// Enters it for the hit with this frame: one exchange. An error: what its word says of the hit that is inside.
    ///
    /// # Safety
    /// As [`Context::inside`].
    #[inline]
    pub(crate) unsafe fn enter(context: *mut Self, frame: NonNull<HitFrame>) -> Result<(), u64> {
        let within = frame.as_ptr() as u64 | inside::HIT;
        // SAFETY: the caller's contract.
        let word = unsafe { Self::inside(context) };
        word.compare_exchange(0, within, Ordering::Acquire, Ordering::Relaxed).map(drop)
    }
}

/// A slot's key while its context is being written.
const RESERVED: u64 = 1;

/// The context of this thread, if it has one.
#[inline]
pub(crate) fn current() -> Option<*mut Context> {
    find(thread_pointer())
}

/// Key and context of a slot.
fn slot(i: u32) -> (&'static AtomicU64, &'static AtomicU64) {
    // SAFETY: the table has `table_mask + 1` slots and `i` is below that: callers mask it.
    let slot = unsafe { agent().table.add(i as usize) }.cast::<u64>();
    // SAFETY: as above: a slot is two words.
    let context = unsafe { slot.add(1) };
    // SAFETY: an aligned word of the table, which lives as long as the agent.
    let key = unsafe { AtomicU64::from_ptr(slot) };
    // SAFETY: as above.
    (key, unsafe { AtomicU64::from_ptr(context) })
}
const _: () = assert!(offset_of!(ThreadSlot, key) == 0 && offset_of!(ThreadSlot, context) == 8);

/// The context of the thread with this thread pointer.
#[inline]
pub(crate) fn find(thread_pointer: u64) -> Option<*mut Context> {
    if thread_pointer <= RESERVED {
        return None; // a thread without a thread pointer; and the two values that are no key
    }
    let i = slot_in(thread_pointer, agent().table_mask);
    let (key, context) = slot(i);
    // Written before its key; only one that is retired is ever replaced.
    if key.load(Ordering::Acquire) == thread_pointer {
        return Some(context.load(Ordering::Acquire) as *mut Context);
    }
    place(i, thread_pointer).map(|context| context.load(Ordering::Acquire) as *mut Context)
}

/// Where the table has the context of the thread with this pointer, in this slot or behind it.
#[cold]
fn place(first: u32, thread_pointer: u64) -> Option<&'static AtomicU64> {
    let mut i = first;
    for _ in 0..=agent().table_mask {
        let (key, context) = slot(i);
        match key.load(Ordering::Acquire) {
            key if key == thread_pointer => return Some(context),
            0 => return None,
            _ => {}
        }
        i = (i + 1) & agent().table_mask;
    }
    None
}

fn by_index(index: u32) -> Option<*mut Context> {
    if index >= FILLED.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: the list has room for every context there may be, and `index` is below the number that exist.
    let entry = unsafe { agent().contexts.add(index as usize) };
    // SAFETY: as above; entries below FILLED were written before FILLED was raised.
    Some(unsafe { entry.read() })
}

/// Whether the pool has a context now.
pub(crate) fn is_pool_filled() -> bool {
    let claimed = agent().head_word(offset_of!(SharedHead, claimed));
    claimed.load(Ordering::Relaxed) < FILLED.load(Ordering::Acquire)
}

/// Takes a context from the pool. `None` if it is empty: the host will refill it.
pub(crate) fn take() -> Option<*mut Context> {
    let claimed = agent().head_word(offset_of!(SharedHead, claimed));
    let mut index = claimed.load(Ordering::Relaxed);
    loop {
        if index >= FILLED.load(Ordering::Acquire) {
            return None;
        }
        match claimed.compare_exchange_weak(index, index + 1, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => break,
            Err(now) => index = now,
        }
    }
    by_index(index)
}

/// Tells the host whose a context is that was taken from the pool.
///
/// # Safety
/// `context` was taken for the thread with this pointer, which is here.
pub(crate) unsafe fn note(context: *mut Context, thread_pointer: u64, sp: u64) {
    // SAFETY: a context of the agent; its block's address never changes.
    let shared = unsafe { (*context).shared };
    // SAFETY: the context's block in the shared memory; the thread that has just claimed it writes this field.
    unsafe { (*shared).first_sp = sp };
    // SAFETY: as above.
    let field = unsafe { &raw mut (*shared).thread_pointer };
    // SAFETY: as above, aligned; written last: the host takes it for "claimed".
    unsafe { AtomicU64::from_ptr(field) }.store(thread_pointer, Ordering::Release);
}

/// Gives the thread with this pointer another context than the one that it has. False: it has another one already.
pub(crate) fn replace(thread_pointer: u64, old: *mut Context, new: *mut Context) -> bool {
    let Some(value) = place(slot_in(thread_pointer, agent().table_mask), thread_pointer) else {
        return false;
    };
    value.compare_exchange(old as u64, new as u64, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Claims a context from the pool for this thread. `None` if the pool is empty: the host will refill it.
#[cold]
pub(crate) fn claim(thread_pointer: u64, sp: u64) -> Option<*mut Context> {
    let agent = agent();
    if thread_pointer < 2 {
        return None;
    }
    let context = take()?;
    let mut i = slot_in(thread_pointer, agent.table_mask);
    for _ in 0..=agent.table_mask {
        let (key, value) = slot(i);
        if key.compare_exchange(0, RESERVED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            value.store(context as u64, Ordering::Relaxed);
            // SAFETY: just taken.
            unsafe { note(context, thread_pointer, sp) };
            key.store(thread_pointer, Ordering::Release);
            return Some(context);
        }
        i = (i + 1) & agent.table_mask;
    }
    None
}

/// Whether a hit is on the thread's alternate stack, which may have been installed since the last look: leaving that one
/// would let the kernel take it for free. Asks the kernel, unless the place is known.
pub(crate) fn is_on_alternate(context: &mut Context, at: u64, on_own: bool) -> bool {
    let page = at / trocar_abi::PAGE;
    let Some(known) = context.ordinary.get_mut(page as usize % ORDINARY) else { return false };
    if if on_own { at <= context.proven_high } else { *known == page } {
        return false;
    }
    (context.head.alternate_low, context.head.alternate_high) = sys::alternate_stack();
    let on = at >= context.head.alternate_low && at < context.head.alternate_high;
    match (on, on_own) {
        (true, _) => {}
        (false, true) => context.proven_high = at,
        (false, false) => *known = page,
    }
    on
}

/// A hit of a thread that this context has not met: its first one, or the first of a later thread that has its predecessor's
/// thread pointer, whose stack is not that one's.
///
/// # Safety
/// The caller is inside the context, with its hit's stack pointer at the site.
#[cold]
pub(crate) unsafe fn meet(context: *mut Context, mark: u32, sp: u64) {
    // SAFETY: INVARIANT (inside): the caller owns the context.
    let ctx = unsafe { &mut *context };
    if ctx.met && ctx.mark != mark {
        for word in [&raw mut ctx.head.stack_high, &raw mut ctx.head.stack_low] {
            // SAFETY: a word of the head; volatile, because the host reads and writes it too. The end first, as the host does.
            unsafe { word.write_volatile(0) };
        }
        // SAFETY: this context's block in the shared memory. The host looks for the stack again, by this place in it.
        unsafe { (*ctx.shared).first_sp = sp };
    }
    (ctx.met, ctx.mark) = (true, mark);
    // SAFETY: as above.
    unsafe { identify(context) };
}

/// Asks the kernel who this thread is and where its alternate stack lies: at a thread's first hit, and again after the
/// host saw that the thread which had this context is gone. The two system calls of a first hit.
///
/// # Safety
/// The caller is inside the context.
unsafe fn identify(context: *mut Context) {
    // SAFETY: INVARIANT (inside): the caller owns the context.
    let context = unsafe { &mut *context };
    context.head.stale = 0;
    // Another thread's, perhaps.
    context.ordinary = [0; ORDINARY];
    context.proven_high = 0;
    context.usual = Usual::default();
    if agent().flags & flags::NO_ALTERNATE_STACK == 0 {
        (context.head.alternate_low, context.head.alternate_high) = sys::alternate_stack();
    }
    let told = agent().flags >> flags::THREAD_ID_SHIFT != 0;
    if agent().flags & flags::NO_THREAD_ID == 0 || told {
        let asked = agent().flags & flags::NO_THREAD_ID == 0;
        context.head.tid = if asked { sys::thread_id() } else { context.mark };
        // SAFETY: this context's block in the shared memory.
        unsafe { (*context.shared).tid = context.head.tid };
    }
}
