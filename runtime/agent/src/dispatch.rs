//! The whole hit: find the thread's context, choose a stack, run the probe, account for it.
//!
//! INVARIANT (accounting): each hit that passes the gate raises `hits` by one and exactly one of `executed`,
//! `condition_false` and the losses by one.

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use trocar_abi::control::{Site, flags, site_flags};
use trocar_abi::hit::{HIT_FRAME, HitFrame, RED_ZONE, STACK_ROOM};
use trocar_abi::loss::Loss;
use trocar_abi::shared::{OWNER_DIED, ProbeState, SharedHead, SiteStats, TIMED_EVERY, TrapCode};
use trocar_sandbox::{Hit, Instance, Outcome};

use crate::context::{Context, claim, find, identify};
use crate::global::{agent, thread_pointer};

/// Answer of [`enter`], in rax and rdx: what the entry code does next.
#[repr(C)]
pub(crate) struct Entered {
    /// [`DONE`], [`SETTLE`], or the top of the stack to call [`run`] on.
    next: u64,
    /// The context, unless done.
    context: *mut Context,
}

/// The hit has ended, and left the context if it had one.
const DONE: u64 = 0;
/// The hit ran in place and trapped: call [`settle`].
pub(crate) const SETTLE: u64 = 1;

const OVER: Entered = Entered { next: DONE, context: core::ptr::null_mut() };

/// A hit as far as the stack that it came on carries it: to its end, where it can run in place. Else to the choice
/// of another stack, of which little may be used.
///
/// # Safety
/// Called by `hit_entry` alone, with the frame that it pushed.
pub(crate) unsafe extern "C" fn enter(frame: *mut HitFrame) -> Entered {
    let agent = agent();
    // SAFETY: the frame that the entry code has just pushed.
    let site = unsafe { (*frame).site } as usize;
    let Some(facts) = agent.sites.get(site) else { return OVER };
    if agent.head_word(offset_of!(SharedHead, host)).load(Ordering::Relaxed) & OWNER_DIED != 0 {
        return lose_slowly(site, Loss::HostGone);
    }
    if agent.head_word(offset_of!(SharedHead, state)).load(Ordering::Relaxed) != ProbeState::Armed as u32 {
        return lose_slowly(site, Loss::Suspended);
    }
    let tp = thread_pointer();
    let Some(context) = find(tp).or_else(|| claim(tp, stack_pointer(frame, facts))) else {
        return lose_slowly(site, Loss::NoContext);
    };
    // SAFETY: `find` and `claim` give contexts of the agent.
    if unsafe { Context::inside(context) }.swap(1, Ordering::Acquire) != 0 {
        return lose_slowly(site, Loss::Reentrant);
    }
    // SAFETY: INVARIANT (inside): we have just entered it.
    let ctx = unsafe { &mut *context };
    // From here on a panic ends this hit.
    ctx.recover = frame as u64;
    if ctx.head.stale != 0 {
        // SAFETY: as above.
        unsafe { identify(context) };
    }
    // The host may write the stack's range meanwhile, a word at a time: both ends zero until known, and low is written
    // before high.
    let below = frame as u64;
    let fits = |low: u64, high: u64| below >= low && below < high && below - low >= STACK_ROOM;
    let on_alternate = below >= ctx.head.alternate_low && below < ctx.head.alternate_high;
    if !on_alternate
        && agent.flags & (flags::ALWAYS_SWITCH | flags::NEVER_SWITCH | flags::NO_SYSCALLS) == 0
        && fits(ctx.head.stack_low, ctx.head.stack_high)
    {
        // The usual case.
        // SAFETY: entered above, and on a stack with room; settling may leave this stack.
        if unsafe { serve(ctx, frame, site, facts, false) } {
            return Entered { next: SETTLE, context };
        }
        // SAFETY: we are inside, and leave.
        unsafe { Context::inside(context) }.store(0, Ordering::Release);
        return OVER;
    }
    // SAFETY: as above.
    unsafe { enter_elsewhere(ctx, frame, site, on_alternate) }
}

/// A hit that may have to switch stacks, or must not.
///
/// # Safety
/// As [`enter`], which has entered the context.
#[cold]
unsafe fn enter_elsewhere(
    ctx: &mut Context,
    frame: *mut HitFrame,
    site: usize,
    on_alternate: bool,
) -> Entered {
    let agent = agent();
    let below = frame as u64;
    let fits = |low: u64, high: u64| below >= low && below < high && below - low >= STACK_ROOM;
    let here = frame as u64 & !63;
    let stack = if on_alternate {
        if fits(ctx.head.alternate_low, ctx.head.alternate_high) {
            Ok(here)
        } else {
            Err(Loss::AlternateStack)
        }
    } else if agent.flags & flags::ALWAYS_SWITCH == 0 && fits(ctx.head.stack_low, ctx.head.stack_high) {
        Ok(here)
    } else if agent.flags & flags::NEVER_SWITCH != 0 {
        Err(Loss::NoStackRoom)
    } else if agent.flags & flags::NO_SYSCALLS != 0 && agent.flags & flags::ALWAYS_SWITCH == 0 {
        // Off the known stack, and its alternate stack could not be asked: it may be on that one.
        Err(Loss::NoContext)
    } else {
        Ok(ctx.head.spare_top)
    };
    // Settling a trap leaves this stack for some hundred nanoseconds. That must not be where the kernel would take the
    // alternate stack for free, or a collector would look for objects.
    ctx.stays = on_alternate || agent.flags & (flags::NEVER_SWITCH | flags::NO_SYSCALLS) != 0;
    match stack {
        Ok(next) => Entered { next, context: ctx },
        Err(loss) => {
            // SAFETY: we are inside, and leave.
            unsafe { Context::inside(ctx) }.store(0, Ordering::Release);
            lose_slowly(site, loss)
        }
    }
}

/// The stack pointer at the site.
fn stack_pointer(frame: *const HitFrame, facts: &Site) -> u64 {
    let skipped = if facts.flags & site_flags::RED_ZONE_SKIPPED != 0 { RED_ZONE } else { 0 };
    frame as u64 + HIT_FRAME + skipped
}

/// Counts a loss where any thread may count: no context is ours, so this is atomic.
#[cold]
fn lose_slowly(site: usize, loss: Loss) -> Entered {
    let agent = agent();
    let at = agent.layout.slow_stats() as usize + site * size_of::<SiteStats>();
    agent.counter(at + offset_of!(SiteStats, hits)).fetch_add(1, Ordering::Relaxed);
    agent.counter(at + offset_of!(SiteStats, losses) + 8 * loss as usize).fetch_add(1, Ordering::Relaxed);
    OVER
}

/// The rest of a hit, on the stack that [`enter`] chose. True if [`settle`] must end it.
///
/// # Safety
/// Called by `hit_entry` alone, with the context that `enter` entered and the frame that it was given.
pub(crate) unsafe extern "C" fn run(context: *mut Context, frame: *mut HitFrame) -> bool {
    // SAFETY: INVARIANT (inside).
    let ctx = unsafe { &mut *context };
    // SAFETY: the frame stays on the thread's stack until the entry code pops it.
    let site = unsafe { (*frame).site } as usize;
    let Some(facts) = agent().sites.get(site) else { return false };
    let stays = ctx.stays;
    // SAFETY: as this function's own contract.
    unsafe { serve(ctx, frame, site, facts, stays) }
    // The entry code leaves the context, when it is off the spare stack.
}

/// Runs the probe and accounts for it. True if it trapped in the parked activation: then [`settle`] ends the hit.
///
/// # Safety
/// The caller is inside the context and on a stack with room; `frame` is the hit's, and so are `site` and `facts`.
/// After a trap that stack may be left, unless the hit `stays`.
#[inline(always)]
unsafe fn serve(ctx: &mut Context, frame: *mut HitFrame, site: usize, facts: &Site, stays: bool) -> bool {
    // SAFETY: this context's counters: one for each site, and `site` is below their number.
    let stats = unsafe { ctx.stats.add(site) };
    // SAFETY: as above; INVARIANT (inside): nobody else writes them.
    let stats = unsafe { &mut *stats };
    let timed = stats.hits % TIMED_EVERY == TIMED_EVERY - 1;
    let started = if timed { ticks() } else { 0 };
    // Counted before the probe runs: a hit that never comes back (`siglongjmp` out of a handler) has come all the same.
    stats.hits += 1;
    ctx.site = site as u32;
    let tid = ctx.head.tid;
    // Made where it is stored, not here: a copy would be read back wider than it was written, and wait for that.
    let hit = || Hit {
        frame: NonNull::new(frame).unwrap_or(NonNull::dangling()),
        rsp: stack_pointer(frame, facts),
        rip: facts.address,
        site: site as u32,
        tid,
    };
    let outcome = match ctx.instance.as_mut() {
        Some(instance) if stays || facts.flags & site_flags::FLOATS != 0 => {
            // SAFETY: as below.
            unsafe { seldom(instance, facts, stays, hit()) }
        }
        // SAFETY: `boot` parked it or it knows that it is not; the slot is in the context; `settle` comes after `None`.
        Some(instance) => unsafe { instance.hit_parked(facts.handler, hit) },
        None => Some(Outcome::Trapped(TrapCode::Other)),
    };
    match outcome {
        Some(Outcome::Executed) => stats.executed += 1,
        Some(Outcome::ConditionFalse) => stats.condition_false += 1,
        Some(Outcome::RingFull) => lose(stats, Loss::RingFull),
        Some(Outcome::Trapped(code)) => trapped(stats, code, site as u32, tid),
        None => {}
    }
    if timed {
        took(stats, ticks().wrapping_sub(started));
    }
    outcome.is_none()
}

/// A hit that uses floats, or must stay on its stack.
///
/// # Safety
/// As `Instance::hit_parked`.
#[cold]
unsafe fn seldom(instance: &mut Instance, facts: &Site, stays: bool, hit: Hit) -> Option<Outcome> {
    let go = |instance: &mut Instance| {
        if stays {
            Some(instance.hit(facts.handler, hit))
        } else {
            // SAFETY: the caller's contract.
            unsafe { instance.hit_parked(facts.handler, || hit) }
        }
    };
    if facts.flags & site_flags::FLOATS != 0 { with_default_mxcsr(|| go(instance)) } else { go(instance) }
}

/// Notes what a timed hit took.
#[cold]
fn took(stats: &mut SiteStats, spent: u64) {
    let least = match stats.timed >> 32 {
        0 => u64::from(u32::MAX),
        n => n,
    };
    stats.ticks = stats.ticks.wrapping_add(spent);
    stats.timed = least.min(spent).max(1) << 32 | (stats.timed & 0xffff_ffff).wrapping_add(1) & 0xffff_ffff;
}

/// Last part of a hit that trapped in the parked activation, on the stack that it came on: its own frames are gone.
///
/// # Safety
/// Called by `hit_entry` alone, after [`enter`] or [`run`] said so of this context.
#[cold]
pub(crate) unsafe extern "C" fn settle(context: *mut Context) {
    // SAFETY: INVARIANT (inside): this hit still owns the context.
    let instance = unsafe { (*context).instance.as_mut() };
    if let Some(instance) = instance {
        // SAFETY: `hit_parked` answered `None`, and the entry code is back on the stack that the hit came on.
        unsafe { Instance::settle(instance) };
    }
}

/// What the parked activation says of a hit that trapped, on the context's spare stack.
///
/// # Safety
/// `context` is the context that is being settled.
pub(crate) unsafe extern "C" fn after_trap(context: *mut c_void, code: TrapCode) {
    let context: *mut Context = context.cast();
    // SAFETY: the caller's contract; `serve` wrote the site of the hit.
    let site = unsafe { (*context).site };
    // SAFETY: as above.
    let tid = unsafe { (*context).head.tid };
    // SAFETY: as above.
    let stats = unsafe { (*context).stats };
    // SAFETY: this context's counters, as in `serve`.
    let stats = unsafe { stats.add(site as usize) };
    // SAFETY: as above; `serve` has ended.
    trapped(unsafe { &mut *stats }, code, site, tid);
}

#[cold]
fn lose(stats: &mut SiteStats, loss: Loss) {
    if let Some(count) = stats.losses.get_mut(loss as usize) {
        *count += 1;
    }
}

/// A trap: noted for the report; at the limit the probe is quarantined and its gates close at once.
#[cold]
fn trapped(stats: &mut SiteStats, code: TrapCode, site: u32, tid: u32) {
    let agent = agent();
    lose(stats, if code == TrapCode::OutOfFuel { Loss::OutOfFuel } else { Loss::Trap });
    let word = |offset| agent.head_word(offset);
    word(offset_of!(SharedHead, trap_code)).store(code as u32, Ordering::Relaxed);
    word(offset_of!(SharedHead, trap_site)).store(site, Ordering::Relaxed);
    word(offset_of!(SharedHead, trap_tid)).store(tid, Ordering::Relaxed);
    if word(offset_of!(SharedHead, traps)).fetch_add(1, Ordering::AcqRel) + 1 >= agent.trap_limit {
        word(offset_of!(SharedHead, state)).store(ProbeState::Quarantined as u32, Ordering::Release);
        agent.close_gates();
    }
}

fn with_default_mxcsr<T>(f: impl FnOnce() -> T) -> T {
    let mut saved = 0u32;
    let default = 0x1f80u32; // all exceptions masked, round to nearest (Intel SDM 1, 10.2.3)
    // SAFETY: stores MXCSR into `saved`.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut saved, options(nostack, preserves_flags)) };
    // SAFETY: a valid value; the code between runs with it and it is put back below.
    unsafe {
        core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const default, options(nostack, preserves_flags))
    };
    let outcome = f();
    // SAFETY: the value that was there before.
    unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const saved, options(nostack, preserves_flags)) };
    outcome
}

fn ticks() -> u64 {
    // SAFETY: reads the time-stamp counter. A target that forbids it (PR_SET_TSC) is refused by the host.
    unsafe { core::arch::x86_64::_rdtsc() }
}
