//! A probe's instance and one hit in it.
#![expect(unsafe_code, reason = "call_unchecked and the in-place module need their contracts stated")]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use core::ffi::c_void;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use trocar_abi::hit::HitFrame;
use trocar_abi::operand::Operand;
use trocar_abi::shared::TrapCode;
use trocar_ring::Producer;
use wasmtime::{Engine, InstancePre, Linker, Memory, Module, Store, Trap, ValRaw};

use crate::direct::{Fuel, Linear};
use crate::host_call::HostCallError;
use crate::limits::{Limits, OverLimit};
use crate::maps::Maps;
use crate::parked::{AfterTrap, Handler, Parked};
use crate::rate::Rate;
use crate::shim::{Exited, ShimState};
use crate::trace::{Trace, note};

/// Exports that run when an instance is made, after its start function: the first of them that there is.
pub const RUNS_ONCE: [&str; 2] = ["_initialize", "__wasm_call_ctors"];

/// What the probe can reach of the target besides registers. The agent's answers are system calls on its own
/// process; a rehearsal's answers come from a recorded hit.
pub trait Target: Send + Sync {
    /// Copies `to.len()` bytes at `address`; an error code of `trocar_abi::import::errno` otherwise.
    ///
    /// # Errors
    /// `EFAULT` if any byte is not readable, `EPERM` if reading is not allowed here.
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), i32>;
    /// Nanoseconds of CLOCK_MONOTONIC.
    fn time_ns(&self) -> u64;
    /// Nanoseconds of CLOCK_REALTIME.
    fn real_time_ns(&self) -> u64;
    /// Number of the processor.
    fn cpu(&self) -> u32;
    /// Index of the function that a site, the running hit's, belongs to.
    fn function(&self, site: u32) -> u32;
    /// Stack pointer and instruction pointer at the running hit, which has these registers and came at this site. Asked only
    /// when a probe asks: hardly any does.
    fn place(&self, frame: &HitFrame, site: u32) -> (u64, u64);
    /// Argument `n` of the marker that a site is; `None` if it is no marker. Past the last one an operand without form.
    fn operand(&self, site: u32, n: u32) -> Option<Operand> {
        let _ = (site, n);
        None
    }
}

/// Where a hit's arguments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// Where C puts them.
    SystemV,
    /// Where Go puts them.
    Go,
    /// Some sites are markers, which say themselves where; at the others they are where C or Go puts them.
    Markers {
        /// Go does.
        go: bool,
    },
}

impl Arguments {
    /// Those of a target.
    #[must_use]
    pub const fn of(go: bool, markers: bool) -> Self {
        match (markers, go) {
            (true, go) => Self::Markers { go },
            (false, true) => Self::Go,
            (false, false) => Self::SystemV,
        }
    }
}

/// What one context gives to its instance.
#[derive(Debug)]
pub struct Env {
    /// Shards of the maps.
    pub maps: Maps,
    /// The ring.
    pub ring: Producer,
    /// Integer parameters, or `offset << 32 | length` into `strings`.
    pub params: &'static [u64],
    /// Bytes of string parameters.
    pub strings: &'static [u8],
    /// Where arguments are.
    pub arguments: Arguments,
    /// How many records may be written.
    pub rate: Rate,
    /// Seed of the instance's random numbers, which are not for secrets.
    pub seed: u64,
}

/// The hit that is running.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// Registers at the site.
    pub frame: NonNull<HitFrame>,
    /// Index of the site.
    pub site: u32,
    /// Kernel's id of the thread, zero if unknown.
    pub tid: u32,
}

/// The hit that is running, as host calls want it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    frame: NonNull<HitFrame>,
    /// Site in the low half, thread in the high half: a record takes both at once, and two halves that were just
    /// written would make it wait for them.
    who: u64,
}

impl Running {
    #[inline(always)]
    fn new(hit: &Hit) -> Self {
        let who = u64::from(hit.site) | u64::from(hit.tid) << 32;
        Self { frame: hit.frame, who }
    }

    /// Index of the site.
    #[expect(clippy::cast_possible_truncation, reason = "the low half")]
    pub(crate) const fn site(&self) -> u32 {
        self.who as u32
    }

    /// Kernel's id of the thread.
    pub(crate) const fn tid(&self) -> u32 {
        (self.who >> 32) as u32
    }
}

/// How long the call took whose exit a hit is at. Kept with the exit's site, so that a hit at another site, of which
/// nothing was said, need not take it back.
#[derive(Clone, Copy, Debug)]
struct Span {
    site: u32,
    nanoseconds: i64,
}

impl Span {
    const UNKNOWN: i64 = -1;

    /// What was said of a hit at this site.
    #[inline(always)]
    const fn at(&self, site: u32) -> i64 {
        if self.site == site { self.nanoseconds } else { Self::UNKNOWN }
    }
}

/// Data of the store: everything a host call may touch.
pub struct State {
    pub(crate) env: Env,
    pub(crate) target: &'static dyn Target,
    pub(crate) hit: Option<Running>,
    span: Span,
    pub(crate) memory: Option<Memory>,
    pub(crate) linear: Linear,
    pub(crate) fuel: Option<Fuel>,
    /// Why a record of the running hit was dropped; none between hits.
    pub(crate) dropped: Option<Dropped>,
    pub(crate) shim: ShimState,
    extension: Option<Extension>,
    pub(crate) limits: Limits,
}

/// What the functions that a rehearsal adds to the linker keep in the store.
pub type Extension = Box<dyn Any + Send>;

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// The ring had no room.
    RingFull,
    /// The probe has had its records.
    RateLimited,
}

// SAFETY: `hit` is set only while the thread that owns the instance is inside `Instance::hit`, and cleared after;
// `linear` and `fuel` point into the store itself and its memory, which move with it.
unsafe impl Send for State {}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("hit", &self.hit).finish_non_exhaustive()
    }
}

impl State {
    /// What [`Loaded::extended`] made; nothing in the target.
    pub fn extension(&mut self) -> Option<&mut (dyn Any + Send)> {
        self.extension.as_deref_mut()
    }

    /// A register of the running hit by its DWARF number; zero for another number, or outside a hit.
    pub(crate) fn register(&self, number: u32) -> u64 {
        let (Some(hit), Some(frame)) = (self.hit, self.frame()) else { return 0 };
        match number {
            7 => self.target.place(frame, hit.site()).0,
            16 => self.target.place(frame, hit.site()).1,
            _ => frame.register(number).unwrap_or(0),
        }
    }

    /// Nanoseconds since the call began whose exit the running hit is at, -1 if that was not seen or it is no exit.
    pub(crate) fn span_ns(&self) -> i64 {
        self.hit.map_or(Span::UNKNOWN, |h| self.span.at(h.site()))
    }

    /// Registers of the running hit, or zeros outside one (the start function).
    pub(crate) fn frame(&self) -> Option<&HitFrame> {
        // SAFETY: `hit` is `Some` only while `Instance::hit` runs, whose caller keeps the frame alive.
        self.hit.map(|h| unsafe { h.frame.as_ref() })
    }
}

/// How a hit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handler ran to its end.
    Executed,
    /// The handler said that its condition does not hold.
    ConditionFalse,
    /// The handler ran, but a record found no room.
    RingFull,
    /// The handler ran, but wrote more records than it may.
    RateLimited,
    /// The handler was stopped.
    Trapped(TrapCode),
}

/// A module that is ready to be instantiated.
#[derive(Clone)]
pub struct Loaded {
    engine: Engine,
    pre: InstancePre<State>,
    handlers: Vec<Box<str>>,
    extension: Option<fn() -> Extension>,
    /// Where the compiled code lies.
    text: Range<usize>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("handlers", &self.handlers).finish_non_exhaustive()
    }
}

impl Loaded {
    /// Links the host calls to a module.
    ///
    /// # Errors
    /// An import that does not exist.
    pub fn new(engine: &Engine, module: &Module, handlers: &[&str]) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        crate::host_call::link(&mut linker)?;
        Self::with_linker(&linker, module, handlers)
    }

    /// The same with a linker that has other functions besides the host calls: a rehearsal may have all of WASI.
    ///
    /// # Errors
    /// An import that does not exist.
    pub fn with_linker(linker: &Linker<State>, module: &Module, handlers: &[&str]) -> wasmtime::Result<Self> {
        Ok(Self {
            engine: linker.engine().clone(),
            pre: linker.instantiate_pre(module)?,
            handlers: handlers.iter().map(|&h| h.into()).collect(),
            extension: None,
            text: {
                let text = module.text().as_ptr_range();
                text.start.addr()..text.end.addr()
            },
        })
    }

    /// The same module, whose instances each get what `make` makes before anything of them runs.
    #[must_use]
    pub fn extended(mut self, make: fn() -> Extension) -> Self {
        self.extension = Some(make);
        self
    }
}

/// A probe's instance: one for each context, kept between hits.
pub struct Instance {
    store: Store<State>,
    handlers: Vec<Handler>,
    /// At most `i64::MAX`.
    fuel: u64,
    parked: Option<Box<Parked>>,
    trace: Trace,
    text: Range<usize>,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("fuel", &self.fuel).finish_non_exhaustive()
    }
}

impl Instance {
    /// Instantiates the module; its start function, if it has one, runs with `start_fuel`.
    ///
    /// # Errors
    /// Memory over the limit, a trap in the start function, a handler that the module does not export.
    pub fn new(
        loaded: &Loaded,
        env: Env,
        target: &'static dyn Target,
        fuel: u64,
        start_fuel: u64,
        memory_max: usize,
    ) -> wasmtime::Result<Self> {
        let limits = Limits { memory_max, grown: false };
        let shim = ShimState::new(env.seed);
        let extension = loaded.extension.map(|make| make());
        let state = State {
            env,
            target,
            hit: None,
            span: Span { site: 0, nanoseconds: Span::UNKNOWN },
            memory: None,
            linear: Linear::default(),
            fuel: None,
            dropped: None,
            shim,
            extension,
            limits,
        };
        let mut store = Store::new(&loaded.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_fuel(start_fuel.min(i64::MAX.cast_unsigned()))?;
        let instance = loaded.pre.instantiate(&mut store)?;
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        let mut handlers = Vec::with_capacity(loaded.handlers.len());
        for name in &loaded.handlers {
            let func =
                instance.get_func(&mut store, name).ok_or_else(|| wasmtime::Error::msg("no such handler"))?;
            let ty = func.ty(&store);
            let result_is_i32 = ty.results().all(|t| t.is_i32());
            if ty.params().len() != 0 || ty.results().len() > 1 || !result_is_i32 {
                return Err(wasmtime::Error::msg("a handler takes nothing and returns nothing or an i32"));
            }
            handlers.push(Handler::new(func, &mut store).ok_or_else(|| {
                wasmtime::Error::msg("a handler is a function of the module, not one that it imports")
            })?);
        }
        store.data_mut().fuel = handlers.first().and_then(Handler::fuel);
        // A reactor runs its constructors in `_initialize`; a module that was linked without one exports them by
        // themselves. Never both, and with the start function's budget.
        if let Some(once) = RUNS_ONCE.iter().find_map(|name| instance.get_func(&mut store, name)) {
            once.typed::<(), ()>(&store)?.call(&mut store, ())?;
        }
        // False whenever a hit begins.
        store.data_mut().dropped = None;
        let trace = Trace::new(handlers.first());
        let fuel = fuel.min(i64::MAX.cast_unsigned());
        Ok(Self { store, handlers, fuel, parked: None, trace, text: loaded.text.clone() })
    }

    /// Parks an activation on the stack below `stack_top`, so that [`Instance::hit_parked`] can be used; the lowest
    /// address that it uses there, or `None` if it cannot be parked, and then every hit enters by itself.
    ///
    /// # Safety
    /// `this` does not move any more. `stack_top` is the end of a stack with room for what runs after a trap (wasmtime's
    /// error and `after_trap`: 16 KiB are plenty), used by nobody else above the address that is returned, and, while
    /// [`Instance::settle`] runs, by nobody at all. Whatever is wasmtime's thread-local slot now is its slot during
    /// every later hit. `after_trap` may be called with `argument`.
    pub unsafe fn park(
        this: *mut Self,
        stack_top: usize,
        after_trap: AfterTrap,
        argument: *mut c_void,
    ) -> Option<usize> {
        // SAFETY: the caller's contract.
        let instance = unsafe { &mut *this };
        let handler = *instance.handlers.first()?;
        let store = &raw mut instance.store;
        // SAFETY: the caller's contract.
        unsafe { Parked::start(&mut instance.parked, store, handler, stack_top, after_trap, argument) }
    }

    /// As [`Instance::hit`], in the parked activation, for the hit that `hit` makes; with the fuel that it used, unless it
    /// trapped. `None`: the handler trapped, and [`Instance::settle`] says why.
    ///
    /// # Safety
    /// [`Instance::park`] was called, and wasmtime's thread-local slot is what it was then. After `None` nothing is done
    /// with the instance before `settle`.
    #[inline(always)]
    pub unsafe fn hit_parked(&mut self, handler: u32, hit: impl FnOnce() -> Hit) -> Option<(Outcome, u64)> {
        let (Some(parked), Some(handler)) = (&self.parked, self.handlers.get(handler as usize)) else {
            return Some(self.hit_by_itself(handler, hit()));
        };
        parked.prepare(self.fuel.cast_signed());
        let state = self.store.data_mut();
        state.hit = Some(Running::new(&hit()));
        let mut value = ValRaw::i32(1);
        // SAFETY: parked, by the caller's contract; the stack limit has just been set; one value is enough, as in `hit`.
        let returned = unsafe { handler.call(&mut value) };
        if !returned {
            // SAFETY: the call has just come back, and wasm has its stack below here; the trace is of this instance.
            unsafe { note(&raw mut self.trace) };
            return None;
        }
        let used = parked.used(self.fuel.cast_signed());
        let state = self.store.data_mut();
        state.hit = None;
        Some((ended(state, value.get_u32()), used))
    }

    /// As [`Instance::hit_parked`], without wasmtime's entry trampoline. A trap does not come back: it goes on at `on_trap`,
    /// with the stack pointer of the call, where `argument` lies at its top, and with no register that was kept.
    ///
    /// # Safety
    /// As [`Instance::hit_parked`]. `on_trap` is code that has [`note`] called at once with [`Instance::trace`], and leaves
    /// the frames of the callers for good; then it does as after `None`.
    #[inline(always)]
    pub unsafe fn hit_direct(
        &mut self,
        handler: u32,
        hit: impl FnOnce() -> Hit,
        on_trap: usize,
        argument: *mut c_void,
    ) -> (Outcome, u64) {
        let (Some(parked), Some(handler)) = (&self.parked, self.handlers.get(handler as usize)) else {
            return self.hit_by_itself(handler, hit());
        };
        parked.prepare(self.fuel.cast_signed());
        let state = self.store.data_mut();
        state.hit = Some(Running::new(&hit()));
        // SAFETY: parked, by the caller's contract, which also is that of `on_trap`; the stack limit has just been set.
        let value = unsafe { handler.call_direct(on_trap, argument) };
        let used = parked.used(self.fuel.cast_signed());
        let state = self.store.data_mut();
        state.hit = None;
        (ended(state, value), used)
    }

    /// Says how long the call took that ends at this site, before the hit there: nanoseconds, -1 if its beginning was not
    /// seen. At a site of which it is said it is said before each hit.
    #[inline]
    pub fn set_span(&mut self, site: u32, nanoseconds: i64) {
        self.store.data_mut().span = Span { site, nanoseconds };
    }

    /// What was said of the last hit, at this site; -1 if nothing.
    #[must_use]
    pub fn span_ns(&self, site: u32) -> i64 {
        self.store.data().span.at(site)
    }

    /// What [`note`] fills.
    pub fn trace(&mut self) -> *mut Trace {
        &raw mut self.trace
    }

    /// The same where nothing is parked, or there is no such handler.
    #[cold]
    fn hit_by_itself(&mut self, handler: u32, hit: Hit) -> (Outcome, u64) {
        let outcome = self.hit(handler, hit);
        (outcome, self.fuel_used())
    }

    /// Has `after_trap` called with the reason why the last hit trapped.
    ///
    /// # Safety
    /// [`Instance::hit_parked`] has just answered `None`, or [`Instance::hit_direct`] has trapped, and nothing lies on the
    /// parked stack any more but the parked activation itself: whoever calls this runs on another stack.
    pub unsafe fn settle(this: *mut Self) {
        // SAFETY: the caller's contract: the instance is there, and nobody uses it.
        let state = unsafe { &mut *this }.store.data_mut();
        state.hit = None;
        state.dropped = None;
        // SAFETY: as above.
        let parked = unsafe { (*this).parked.as_mut() };
        if let Some(parked) = parked {
            let parked: *mut Parked = &raw mut **parked;
            // SAFETY: the caller's contract.
            unsafe { Parked::settle(parked) };
        }
    }

    /// Runs handler number `handler` for one hit. The caller keeps `hit.frame` valid until this returns.
    pub fn hit(&mut self, handler: u32, hit: Hit) -> Outcome {
        let Some(handler) = self.handlers.get(handler as usize) else {
            return Outcome::Trapped(TrapCode::Other);
        };
        let state = self.store.data_mut();
        state.hit = Some(Running::new(&hit));
        if self.store.set_fuel(self.fuel).is_err() {
            return Outcome::Trapped(TrapCode::Other);
        }
        if let Some(parked) = &self.parked {
            parked.step_aside();
        }
        // Not zero: a handler without a result leaves it, and that means "executed".
        let mut value = ValRaw::i32(1);
        let result = handler.enter(&mut self.store, &mut value, &mut self.trace);
        let state = self.store.data_mut();
        state.hit = None;
        match result {
            Ok(()) => ended(state, value.get_u32()),
            Err(error) => {
                state.dropped = None;
                Outcome::Trapped(trap_code(&error))
            }
        }
    }

    /// Fuel that the last hit used, unless it trapped.
    #[inline]
    #[must_use]
    pub fn fuel_used(&self) -> u64 {
        // Below zero after the straight code of a hit that came to its end with none left: that was used too.
        let left = self.store.data().fuel.map_or(0, Fuel::left);
        self.fuel.cast_signed().saturating_sub(left).cast_unsigned()
    }

    /// Where the last hit that trapped did so: the return addresses of its frames in the module's compiled code, as
    /// offsets there, innermost first. Those past the first are wrong in the rare case that a signal came as it trapped.
    pub fn trapped_at(&self) -> impl Iterator<Item = u32> {
        let addresses = self.trace.addresses.iter().take(self.trace.count);
        let inside = addresses.filter(|address| self.text.contains(address));
        inside.filter_map(|address| u32::try_from(address - self.text.start).ok())
    }

    /// Whether arguments are where Go puts them, from the next hit on.
    pub fn set_go_arguments(&mut self, go: bool) {
        self.store.data_mut().env.arguments = Arguments::of(go, false);
    }

    /// Fuel that the last hit left.
    #[must_use]
    pub fn fuel_left(&self) -> u64 {
        self.store.get_fuel().unwrap_or(0)
    }

    /// The store, for a rehearsal that wants to look inside.
    pub fn store(&mut self) -> &mut Store<State> {
        &mut self.store
    }
}

/// How a hit ended that did not trap.
#[inline]
fn ended(state: &mut State, value: u32) -> Outcome {
    // Looked at before it is taken: that would be a store for each hit.
    if state.dropped.is_some() {
        match state.dropped.take() {
            Some(Dropped::RateLimited) => Outcome::RateLimited,
            _ => Outcome::RingFull,
        }
    } else if value == 0 {
        Outcome::ConditionFalse
    } else {
        Outcome::Executed
    }
}

pub(crate) fn trap_code(error: &wasmtime::Error) -> TrapCode {
    if error.downcast_ref::<HostCallError>().is_some() {
        return TrapCode::HostCall;
    }
    if error.downcast_ref::<OverLimit>().is_some() {
        return TrapCode::OverLimit;
    }
    if error.downcast_ref::<Exited>().is_some() {
        return TrapCode::Exit;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => TrapCode::OutOfFuel,
        Some(Trap::StackOverflow) => TrapCode::StackOverflow,
        Some(Trap::MemoryOutOfBounds) => TrapCode::MemoryOutOfBounds,
        Some(Trap::TableOutOfBounds | Trap::IndirectCallToNull) => TrapCode::Table,
        Some(Trap::IntegerDivisionByZero) => TrapCode::DivideByZero,
        Some(Trap::IntegerOverflow | Trap::BadConversionToInteger) => TrapCode::Integer,
        Some(Trap::UnreachableCodeReached) => TrapCode::Unreachable,
        Some(Trap::BadSignature) => TrapCode::BadSignature,
        Some(_) | None => TrapCode::Other,
    }
}
