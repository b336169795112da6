//! The whole hit: find the thread's context, choose a stack, run the probe, account for it.
//!
//! INVARIANT (accounting): each hit that passes the gate raises `hits` by one and exactly one of `executed`,
//! `condition_false` and the losses by one.

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use trocar_abi::control::{NO_HANDLER, Site, flags, site_flags};
use trocar_abi::evidence::Which;
use trocar_abi::hit::{ContextHead, HIT_FRAME, HitFrame, RED_ZONE, STACK_ROOM, first_slot};
use trocar_abi::loss::Loss;
use trocar_abi::shared::{
    HIT_FUEL, OWNER_DIED, ProbeState, SLOW_PARTS, SharedHead, SiteStats, TIMED_EVERY, TrapCode, UNIT_SCALE,
};
use trocar_sandbox::{Hit, Instance, Outcome};

use crate::context::{Context, Usual, claim, find, is_on_alternate, meet};
use crate::evidence;
use crate::global::{agent, thread_and_mark, thread_pointer};
use crate::retired;
use crate::spans;

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
pub(crate) unsafe extern "C" fn enter(frame: NonNull<HitFrame>) -> Entered {
    let agent = agent();
    // SAFETY: the frame that the entry code has just pushed.
    let site = unsafe { (*frame.as_ptr()).site } as usize;
    let Some(facts) = agent.sites.get(site) else { return OVER };
    let lose_slowly = |site, loss| {
        forget(frame, facts);
        lose_slowly(site, loss)
    };
    if agent.head_word(offset_of!(SharedHead, host)).load(Ordering::Relaxed) & OWNER_DIED != 0 {
        return lose_slowly(site, Loss::HostGone);
    }
    if agent.head_word(offset_of!(SharedHead, state)).load(Ordering::Relaxed) != ProbeState::Armed as u32 {
        forget(frame, facts);
        return suspended(site, frame);
    }
    let (tp, mark) = thread_and_mark();
    let context = match find(tp) {
        Some(context) => context,
        None => match claim(tp, stack_pointer(frame.as_ptr(), facts.flags)) {
            Some(context) => context,
            None => return lose_slowly(site, Loss::NoContext),
        },
    };
    // SAFETY: `find` and `claim` give contexts of the agent.
    let context = match unsafe { Context::enter(context, frame) } {
        Ok(()) => context,
        Err(within) => {
            let sp = stack_pointer(frame.as_ptr(), facts.flags);
            // SAFETY: as found, with what it said; the frame of this hit.
            match unsafe { retired::instead_of(context, within, (tp, mark), frame, sp) } {
                Ok(other) => other,
                Err(loss) => return lose_slowly(site, loss),
            }
        }
    };
    // SAFETY: INVARIANT (inside): we have just entered it.
    let ctx = unsafe { &mut *context };
    // From here on a panic ends this hit.
    ctx.recover = frame;
    if ctx.head.stale != 0 || ctx.mark != mark {
        // SAFETY: as above.
        unsafe { meet(context, mark, stack_pointer(frame.as_ptr(), facts.flags)) };
    }
    if ctx.usual.holds(frame.as_ptr() as u64, &ctx.head)
        && agent.flags & (flags::ALWAYS_SWITCH | flags::NEVER_SWITCH | flags::NO_ALTERNATE_STACK) == 0
    {
        // SAFETY: entered above, and on a stack with room; settling may leave this stack.
        if unsafe { serve(context, site, facts, false) } {
            return Entered { next: SETTLE, context };
        }
        // SAFETY: we are inside, and leave.
        unsafe { Context::inside(context) }.store(0, Ordering::Release);
        return OVER;
    }
    // SAFETY: as above.
    unsafe { enter_elsewhere(ctx, site) }
}

/// A hit that comes while the probe is suspended or done with. Suspended is what a probe on a busy function may be for
/// long, so it is counted where this thread alone counts.
#[cold]
fn suspended(site: usize, frame: NonNull<HitFrame>) -> Entered {
    let Some(context) = find(thread_pointer()) else { return lose_slowly(site, Loss::Suspended) };
    // SAFETY: `find` gives contexts of the agent.
    if unsafe { Context::enter(context, frame) }.is_err() {
        return lose_slowly(site, Loss::Suspended);
    }
    // SAFETY: INVARIANT (inside): we have just entered it.
    let all = unsafe { (*context).stats };
    // SAFETY: this context's counters: one for each site, and the caller has found the facts of this one.
    let stats = unsafe { all.add(site) };
    // SAFETY: as above; INVARIANT (inside): nobody else writes them.
    let stats = unsafe { &mut *stats };
    stats.hits += 1;
    lose(stats, Loss::Suspended);
    // SAFETY: we are inside, and leave.
    unsafe { Context::inside(context) }.store(0, Ordering::Release);
    OVER
}

/// The thread's own stack, which the host may be writing, a word at a time: first the end, as zero, then the start, then the
/// end. Zero, zero while it changes.
pub(crate) fn stack_range(head: &ContextHead) -> (u64, u64) {
    let read = |field: *const u64| {
        // SAFETY: a field of the head; volatile, because another process writes it.
        unsafe { field.read_volatile() }
    };
    let (high, low) = (read(&raw const head.stack_high), read(&raw const head.stack_low));
    if read(&raw const head.stack_high) == high && low != 0 { (low, high) } else { (0, 0) }
}

/// A hit that may have to switch stacks, or must not; or that is on the thread's own stack, but not where others were.
///
/// # Safety
/// As [`enter`], which has entered the context.
#[cold]
unsafe fn enter_elsewhere(ctx: &mut Context, site: usize) -> Entered {
    let agent = agent();
    let frame = ctx.recover;
    let below = frame.as_ptr() as u64;
    let fits = |low: u64, high: u64| below >= low && below < high && below - low >= STACK_ROOM;
    let here = below & !63;
    let (stack_low, stack_high) = stack_range(&ctx.head);
    // Go sets it up once, soon after a thread's start, and the stacks of goroutines are never the thread's own.
    let always = agent.flags & flags::ALWAYS_SWITCH != 0;
    let asks = agent.flags & (flags::NEVER_SWITCH | flags::NO_ALTERNATE_STACK) == 0
        && (!always || ctx.head.alternate_high == 0);
    let on_own = below >= stack_low && below < stack_high;
    let was_alternate = below >= ctx.head.alternate_low && below < ctx.head.alternate_high;
    let on_alternate = was_alternate || (asks && is_on_alternate(ctx, below, on_own));
    ctx.usual = if on_alternate
        || agent.flags & (flags::ALWAYS_SWITCH | flags::NEVER_SWITCH | flags::NO_ALTERNATE_STACK) != 0
    {
        Usual::default()
    } else {
        let alternate = (ctx.head.alternate_low, ctx.head.alternate_high);
        Usual::new((stack_low, stack_high), ctx.proven_high, alternate, below)
    };
    let stack = if on_alternate {
        if fits(ctx.head.alternate_low, ctx.head.alternate_high) {
            Ok(here)
        } else {
            Err(Loss::AlternateStack)
        }
    } else if agent.flags & flags::ALWAYS_SWITCH == 0 && fits(stack_low, stack_high) {
        Ok(here)
    } else if agent.flags & flags::NEVER_SWITCH != 0 {
        Err(Loss::NoStackRoom)
    } else if agent.flags & flags::NO_ALTERNATE_STACK != 0 && agent.flags & flags::ALWAYS_SWITCH == 0 {
        // Off the known stack, and its alternate stack could not be asked: it may be on that one.
        Err(Loss::NoContext)
    } else {
        Ok(ctx.head.spare_top)
    };
    // Settling a trap leaves this stack for some hundred nanoseconds. That must not be where the kernel would take the
    // alternate stack for free, or a collector would look for objects.
    ctx.stays = on_alternate || agent.flags & (flags::NEVER_SWITCH | flags::NO_ALTERNATE_STACK) != 0;
    match stack {
        Ok(next) => Entered { next, context: ctx },
        Err(loss) => {
            // SAFETY: we are inside, and leave.
            unsafe { Context::inside(ctx) }.store(0, Ordering::Release);
            if let Some(facts) = agent.sites.get(site) {
                forget(frame, facts);
            }
            lose_slowly(site, loss)
        }
    }
}

/// The hit is lost. If a call began here, whatever began at this place before has ended unseen, and its time must not be
/// taken for this call's.
#[cold]
fn forget(frame: NonNull<HitFrame>, facts: &Site) {
    if facts.flags & site_flags::ENTRY != 0
        && let Some(table) = agent().spans
    {
        spans::forget(table, call_at(frame.as_ptr(), facts.flags), facts.function);
    }
}

/// The stack pointer at the site.
pub(crate) fn stack_pointer(frame: *const HitFrame, of_site: u32) -> u64 {
    let skipped = if of_site & site_flags::RED_ZONE_SKIPPED != 0 { RED_ZONE } else { 0 };
    frame as u64 + HIT_FRAME + skipped
}

/// What the call is known by that begins or ends at the site: where its return address is. A goroutine's stack moves, so
/// there it is the goroutine and how far that is from the top.
fn call_at(frame: *const HitFrame, of_site: u32) -> u64 {
    let at = stack_pointer(frame, of_site);
    if of_site & site_flags::GOROUTINE == 0 {
        return at;
    }
    // SAFETY: the entry code's frame of this hit.
    let goroutine = unsafe { (*frame).r14 };
    let top = (goroutine as *const u64).wrapping_add(1);
    // SAFETY: the function keeps its goroutine in r14 from its entry to its exit; either it has compared its stack pointer
    // with the third word there, or the trampoline has with this one; and the trampoline has read the first.
    let top = unsafe { *top };
    spans::of_goroutine(goroutine, top.wrapping_sub(at))
}

/// Counts a loss where other threads may count too: no context is ours, so this is atomic.
#[cold]
fn lose_slowly(site: usize, loss: Loss) -> Entered {
    let agent = agent();
    let part = slow_part();
    let parts = agent.counter(offset_of!(SharedHead, slow));
    // Every hit reads this line, so it is written no more often than it must be.
    if parts.load(Ordering::Relaxed) & 1 << part == 0 {
        parts.fetch_or(1 << part, Ordering::Relaxed);
    }
    let at = agent.layout.slow_stats(part) as usize + site * size_of::<SiteStats>();
    agent.counter(at + offset_of!(SiteStats, hits)).fetch_add(1, Ordering::Relaxed);
    agent.counter(at + offset_of!(SiteStats, losses) + 8 * loss as usize).fetch_add(1, Ordering::Relaxed);
    OVER
}

/// The part of the slow path's counters that this thread counts in; by its stack if it has no thread pointer.
fn slow_part() -> u32 {
    /// Stacks are further apart than so many bits of an address.
    const STACK_BITS: u32 = 14;
    let (pointer, here) = (thread_pointer(), 0u8);
    let who = if pointer > 1 { pointer } else { &raw const here as u64 >> STACK_BITS };
    first_slot(who, SLOW_PARTS)
}

/// The rest of a hit, on the stack that [`enter`] chose. True if [`settle`] must end it; a trap in the handler's own code does
/// not come back at all, and goes there by itself.
///
/// # Safety
/// Called by `hit_entry` alone, with the context that `enter` entered.
pub(crate) unsafe extern "C" fn run(context: *mut Context) -> bool {
    // SAFETY: INVARIANT (inside).
    let ctx = unsafe { &mut *context };
    // SAFETY: the frame stays on the thread's stack until the entry code pops it.
    let site = unsafe { (*ctx.recover.as_ptr()).site } as usize;
    let Some(facts) = agent().sites.get(site) else { return false };
    let stays = ctx.stays;
    // SAFETY: as this function's own contract. The entry code leaves the context, when it is off the spare stack.
    unsafe { serve(context, site, facts, stays) }
}

/// Runs the probe and accounts for it. True if it trapped in the parked activation: then [`settle`] ends the hit. As a rule
/// a trap does not come back here, and goes to [`settle`] by itself.
///
/// What a hit costs is the number of its instructions, some five of which run in a cycle; see SPEED.md.
///
/// # Safety
/// The caller is inside the context and on a stack with room; the context's frame is the hit's, and so are `site` and
/// `facts`. After a trap that stack may be left, unless the hit `stays`.
#[inline(always)]
unsafe fn serve(context: *mut Context, site: usize, facts: &Site, stays: bool) -> bool {
    // SAFETY: INVARIANT (inside).
    let ctx = unsafe { &mut *context };
    // SAFETY: this context's counters: one for each site, and `site` is below their number.
    let stats = unsafe { ctx.stats.add(site) };
    // SAFETY: as above; INVARIANT (inside): nobody else writes them.
    let stats = unsafe { &mut *stats };
    // Counted before the probe runs: a hit that never comes back (`siglongjmp` out of a handler) has come all the same.
    stats.hits += 1;
    if facts.flags & (site_flags::ENTRY | site_flags::EXIT) != 0 {
        span(ctx, site, facts);
        if facts.handler == NO_HANDLER {
            stats.executed += 1;
            return false;
        }
    }
    if stays || facts.flags & (site_flags::FLOATS | site_flags::SAMPLED) != 0 || stats.hits % TIMED_EVERY == 0
    {
        // SAFETY: as here.
        return unsafe { serve_seldom(context, site, facts, stays) };
    }
    let (frame, tid) = (ctx.recover, ctx.head.tid);
    let (outcome, used) = match ctx.instance.as_mut() {
        // SAFETY: `boot` parked it or it knows that it is not; the slot is in the context. `trap_hit` does what is asked of it.
        Some(instance) => unsafe {
            let on_trap = crate::entry::trap_hit as *const () as usize;
            instance.hit_direct(facts.handler, || hit(frame, tid, site), on_trap, context.cast())
        },
        None => (Outcome::Trapped(TrapCode::Other), 0),
    };
    // SAFETY: as here.
    unsafe { charge(context, outcome, used) };
    account(stats, outcome, context);
    false
}

/// Charges the fuel of the hit that is inside, for the share of a core; a trapped one is charged all that it was given.
/// Answers what was charged.
///
/// # Safety
/// As [`serve`].
#[inline(always)]
unsafe fn charge(context: *mut Context, outcome: Outcome, used: u64) -> u64 {
    let fuel = if matches!(outcome, Outcome::Trapped(_)) { agent().fuel } else { used };
    // SAFETY: as above.
    unsafe { add_fuel(context, fuel) };
    fuel
}

/// # Safety
/// As [`serve`].
#[inline(always)]
unsafe fn add_fuel(context: *mut Context, fuel: u64) {
    // SAFETY: INVARIANT (inside).
    let shared = unsafe { (*context).shared };
    // SAFETY: this context's block in the shared memory, which only who is inside writes.
    let sum = unsafe { &mut (*shared).fuel };
    *sum = sum.wrapping_add(fuel);
}

/// A call of the function ends here, or begins; at a place that is both (a function of a single jump) first the one, then
/// the other.
#[inline(always)]
fn span(ctx: &mut Context, site: usize, facts: &Site) {
    if facts.flags & site_flags::EXIT != 0 {
        ends(ctx, site, facts);
    }
    if facts.flags & site_flags::ENTRY != 0 {
        begins(ctx.recover.as_ptr(), facts);
    }
}

/// A call begins. By itself, as `ends` is: the two together would keep more registers than either.
#[inline(never)]
fn begins(frame: *const HitFrame, facts: &Site) {
    let (agent, now) = (agent(), ticks());
    let Some(table) = agent.spans else { return };
    if !spans::enter(table, call_at(frame, facts.flags), facts.function, now) {
        agent.counter(offset_of!(SharedHead, abandoned)).fetch_add(1, Ordering::Relaxed);
    }
}

/// A call ends, and the hit is told how long it took.
#[inline(never)]
fn ends(ctx: &mut Context, site: usize, facts: &Site) {
    let (agent, now) = (agent(), ticks());
    let call = call_at(ctx.recover.as_ptr(), facts.flags);
    let ticks = agent.spans.and_then(|table| spans::leave(table, call, facts.function, now));
    let nanoseconds = ticks.map_or(-1, |ticks| {
        let nanoseconds = (u128::from(ticks) * u128::from(agent.nanoseconds_per_tick)) >> 32;
        i64::try_from(nanoseconds).unwrap_or(i64::MAX)
    });
    if let Some(instance) = &mut ctx.instance {
        instance.set_span(site as u32, nanoseconds);
    }
}

/// The same for a hit that uses floats, must stay on its stack, or is timed.
///
/// # Safety
/// As [`serve`], which has counted the hit.
#[cold]
unsafe fn serve_seldom(context: *mut Context, site: usize, facts: &Site, stays: bool) -> bool {
    // SAFETY: INVARIANT (inside).
    let ctx = unsafe { &mut *context };
    if facts.flags & site_flags::SAMPLED != 0 {
        // SAFETY: as in `serve`.
        let stats = unsafe { ctx.stats.add(site) };
        // SAFETY: as in `serve`.
        let stats = unsafe { &mut *stats };
        if stats.hits % agent().sample != 0 {
            lose(stats, Loss::SampledOut);
            return false;
        }
    }
    let hit = hit(ctx.recover, ctx.head.tid, site);
    let go = |instance: &mut Instance| {
        if stays {
            let outcome = instance.hit(facts.handler, hit);
            Some((outcome, instance.fuel_used()))
        } else {
            // SAFETY: as in `serve`.
            unsafe { instance.hit_parked(facts.handler, || hit) }
        }
    };
    let started = ticks();
    let ended = match ctx.instance.as_mut() {
        Some(instance) if facts.flags & site_flags::FLOATS != 0 => with_default_mxcsr(|| go(instance)),
        Some(instance) => go(instance),
        None => Some((Outcome::Trapped(TrapCode::Other), 0)),
    };
    let spent = ticks().wrapping_sub(started);
    // SAFETY: as in `serve`.
    let stats = unsafe { ctx.stats.add(site) };
    // SAFETY: as in `serve`.
    let stats = unsafe { &mut *stats };
    let shared = ctx.shared;
    // What traps in the parked activation is charged, and accounted for, when it is settled.
    let (outcome, fuel) = match ended {
        // SAFETY: as here.
        Some((outcome, used)) => (Some(outcome), unsafe { charge(context, outcome, used) }),
        None => (None, 0),
    };
    if let Some(outcome) = outcome {
        account(stats, outcome, context);
    }
    if stats.hits % TIMED_EVERY == 0 || facts.flags & site_flags::SAMPLED != 0 {
        if matches!(outcome, Some(Outcome::Executed | Outcome::ConditionFalse)) {
            // SAFETY: this context's block in the shared memory, which only who is inside writes.
            let least = unsafe { &mut (*shared).unit_ticks };
            let unit = (spent.saturating_mul(UNIT_SCALE) / fuel.saturating_add(HIT_FUEL)).max(1);
            *least = if *least == 0 { unit } else { unit.min(*least) };
        }
        let least = match stats.timed >> 32 {
            0 => u64::from(u32::MAX),
            n => n,
        };
        stats.ticks = stats.ticks.wrapping_add(spent);
        stats.timed =
            least.min(spent).max(1) << 32 | (stats.timed & 0xffff_ffff).wrapping_add(1) & 0xffff_ffff;
    }
    outcome.is_none()
}

/// What the probe is told of a hit. Made where it is stored: a copy would be read back wider than it was written, and
/// wait for that.
#[inline(always)]
fn hit(frame: NonNull<HitFrame>, tid: u32, site: usize) -> Hit {
    Hit { frame, site: site as u32, tid }
}

/// Accounts for the hit that is inside.
#[inline(always)]
fn account(stats: &mut SiteStats, outcome: Outcome, context: *mut Context) {
    // The usual ends first, without a table of jumps.
    if outcome == Outcome::Executed {
        stats.executed += 1;
    } else if outcome == Outcome::ConditionFalse {
        stats.condition_false += 1;
    } else {
        lost(stats, outcome, context);
    }
}

/// Accounts for a hit that ended in another way, and knows how.
#[cold]
fn lost(stats: &mut SiteStats, outcome: Outcome, context: *mut Context) {
    match outcome {
        Outcome::Executed | Outcome::ConditionFalse => {}
        Outcome::RingFull => lose(stats, Loss::RingFull),
        Outcome::RateLimited => lose(stats, Loss::RateLimited),
        Outcome::Trapped(code) => trapped(stats, code, context),
    }
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
        // SAFETY: the handler trapped, and the entry code is back on the stack that the hit came on.
        unsafe { Instance::settle(instance) };
    }
}

/// What the parked activation says of a hit that trapped, on the context's spare stack.
///
/// # Safety
/// `context` is the context that is being settled.
pub(crate) unsafe extern "C" fn after_trap(context: *mut c_void, code: TrapCode) {
    let context: *mut Context = context.cast();
    // SAFETY: the caller's contract: the context of the hit.
    let frame = unsafe { (*context).recover };
    // SAFETY: the frame stays on the thread's stack until the entry code pops it.
    let site = unsafe { (*frame.as_ptr()).site } as u32;
    // SAFETY: as above.
    let stats = unsafe { (*context).stats };
    // SAFETY: this context's counters, as in `serve`.
    let stats = unsafe { stats.add(site as usize) };
    // SAFETY: as above.
    unsafe { add_fuel(context, agent().fuel) };
    // SAFETY: as above; `serve` has ended.
    trapped(unsafe { &mut *stats }, code, context);
}

#[cold]
fn lose(stats: &mut SiteStats, loss: Loss) {
    if let Some(count) = stats.losses.get_mut(loss as usize) {
        *count += 1;
    }
}

/// A trap of the hit in this context: noted for the report; at the limit the probe is quarantined and its gates close at
/// once.
#[cold]
fn trapped(stats: &mut SiteStats, code: TrapCode, context: *mut Context) {
    let agent = agent();
    // SAFETY: INVARIANT (inside): the hit's own context.
    let ctx = unsafe { &*context };
    // SAFETY: the frame stays on the thread's stack until the entry code pops it.
    let (site, tid) = (unsafe { ctx.recover.as_ref() }.site as u32, ctx.head.tid);
    lose(stats, if code == TrapCode::OutOfFuel { Loss::OutOfFuel } else { Loss::Trap });
    let word = |offset| agent.head_word(offset);
    word(offset_of!(SharedHead, trap_code)).store(code as u32, Ordering::Relaxed);
    word(offset_of!(SharedHead, trap_site)).store(site, Ordering::Relaxed);
    word(offset_of!(SharedHead, trap_tid)).store(tid, Ordering::Relaxed);
    let number = word(offset_of!(SharedHead, traps)).fetch_add(1, Ordering::AcqRel).wrapping_add(1);
    for (which, its) in [(Which::First, 1), (Which::Last, agent.trap_limit)] {
        if number == its {
            // SAFETY: inside, as above, and out of the instance; no other trap has this number.
            unsafe { evidence::leave(context, which, code) };
        }
    }
    if number == agent.trap_limit {
        // After its evidence, and only by this trap. Not over what stopped the probe before.
        let state = word(offset_of!(SharedHead, state));
        for before in [ProbeState::Armed, ProbeState::Suspended] {
            let quarantined = ProbeState::Quarantined as u32;
            let _ = state.compare_exchange(before as u32, quarantined, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
    if number >= agent.trap_limit {
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
