//! A parked activation: wasm entered once and for all, so that a hit need not enter it.
//!
//! wasmtime's own entry (`Func::call_unchecked`) saves eight words of its state, sets the stack limit, links a record for
//! traps to its thread-local slot, calls, and undoes all of it: ten nanoseconds. Here this is done once, by a call
//! whose callee does not return but switches back to the stack that it came from. Its frames stay where they are, on
//! the stack that [`crate::Instance::park`] was given, and with them the record, the slot and everything else that wasm
//! needs to run. A hit then calls the handler's compiled entry by itself ([`Handler::call`]).
//!
//! ```text
//!   parked stack                                 the stack of a hit
//!   ┌──────────────────────────┐                 ┌──────────────────────────┐
//!   │ tend                     │                 │ Instance::hit_parked     │
//!   │ wasmtime: call_unchecked │◀─ thread-local  │ entry trampoline         │ ◀─ where a trap returns to:
//!   │   record of the trap     │   slot          │ wasm                     │    compiled code notes it itself
//!   │ park_here                │ ◀─ Place.parked │ host call                │
//!   └──────────────────────────┘                 └──────────────────────────┘
//! ```
//!
//! [`Handler::call_direct`] leaves wasmtime's entry trampoline out too: it does the three stores that a trap needs, and leaves it to
//! its caller to have nothing to lose when one comes, so that no register need be saved for it.
//!
//! A trap leaves its reason in the parked record, and the entry trampoline of the hit returns false. Then, with
//! nothing left on the hit's stack that could be overwritten, [`crate::Instance::settle`] switches to the parked stack and
//! lets `park_here` return false too, as wasmtime expects of a call that trapped: so wasmtime itself makes the error of the
//! reason and puts its state in order; `tend` says how the hit ended and parks again.
//!
//! What this relies on, beyond wasmtime's public interface, is the layout that its compiled code uses itself, and that
//! `wasmtime-environ` of the very same version gives: where a function's entry is, where fuel and the stack limit are. And on
//! one property of its source (`traphandlers.rs`, 48.0.8): the only things of an entry that compiled code and host calls
//! use are the stack limit and the record in the slot, and the record is used by a trap alone. `tests/it/traps.rs` runs every
//! trap through all ways in.
#![expect(unsafe_code, reason = "switches stacks, and calls compiled code by its address")]

use core::arch::naked_asm;
use core::ffi::c_void;
use core::ptr::NonNull;

use trocar_abi::shared::TrapCode;
use wasmtime::{Func, Store, ValRaw};
use wasmtime_environ::{HostPtr, PtrSize, VMCONTEXT_MAGIC};

use crate::config::WASM_STACK;
use crate::direct::Fuel;
use crate::instance::{State, trap_code};
use crate::trace::{Trace, note};

/// What a hit's end is told to: the argument that [`crate::Instance::park`] was given, and why the hit trapped.
pub type AfterTrap = unsafe extern "C" fn(argument: *mut c_void, code: TrapCode);

/// How wasmtime calls a function whose values lie in an array; false if it trapped.
type ArrayCall =
    unsafe extern "C" fn(callee: *mut c_void, caller: *mut c_void, values: *mut ValRaw, len: usize) -> bool;

/// Words of wasmtime's function reference.
const REFERENCE_WORDS: usize = 4;

/// wasmtime's function reference.
type Reference = [usize; REFERENCE_WORDS];

/// A handler, by the addresses that calling it takes. As large as a power of two: a hit finds its own by number.
#[derive(Clone, Copy)]
pub(crate) struct Handler {
    /// Its compiled code itself.
    code: usize,
    context: *mut c_void,
    /// Words of the store: stack pointer, frame pointer and code that a trap goes on with.
    on_trap: *mut [usize; 3],
    /// One if it returns nothing.
    nothing: u32,
    call: ArrayCall,
    pub(crate) func: Func,
    _room: u64,
}
const _: () = assert!(size_of::<Handler>() == 64);

impl Handler {
    /// `None` for a host call that the module exports again: it has no instance's context, and cannot be called this way.
    pub(crate) fn new(func: Func, store: &mut Store<State>) -> Option<Self> {
        let reference = func.to_raw(&mut *store).cast::<u8>();
        let at = |offset: u8| reference.wrapping_add(usize::from(offset));
        let layout = HostPtr.vm_func_ref();
        // SAFETY: `to_raw` gives wasmtime's function reference, whose fields lie where its own compiled code expects them;
        // this one is the address of the array-call entry.
        let call = unsafe { at(layout.array_call()).cast::<ArrayCall>().read() };
        // SAFETY: as above: the instance that the function belongs to.
        let context = unsafe { at(layout.vmctx()).cast::<*mut c_void>().read() };
        // SAFETY: every kind of context begins with the number of its kind.
        let kind = unsafe { context.cast::<u32>().read() };
        if kind != VMCONTEXT_MAGIC {
            return None;
        }
        // SAFETY: as above: this one is the address of the function's compiled code, or null.
        let code = unsafe { at(layout.wasm_call()).cast::<usize>().read() };
        let words = HostPtr.vm_store_context();
        let first = words.last_wasm_entry_sp();
        let others = [words.last_wasm_entry_fp(), words.last_wasm_entry_trap_handler()];
        if code == 0 || others != [first + 8, first + 16] {
            return None;
        }
        let nothing = u32::from(func.ty(&*store).results().len() == 0);
        let mut handler =
            Self { func, call, context, code, on_trap: core::ptr::null_mut(), nothing, _room: 0 };
        handler.on_trap = handler.store_field(first);
        Some(handler)
    }

    /// Its function reference with another entry; `None` if this wasmtime's has another size.
    fn entered_by(&self, entry: ArrayCall, store: &mut Store<State>) -> Option<Reference> {
        let layout = HostPtr.vm_func_ref();
        if usize::from(layout.size()) != size_of::<Reference>() {
            return None;
        }
        // SAFETY: wasmtime's function reference, of the size that was just compared.
        let mut reference = unsafe { self.func.to_raw(store).cast::<Reference>().read() };
        *reference.get_mut(usize::from(layout.array_call()) / size_of::<usize>())? = entry as usize;
        Some(reference)
    }

    /// Calls it through wasmtime's own entry; if it traps, `trace` says where.
    pub(crate) fn enter(
        &self,
        store: &mut Store<State>,
        value: &mut ValRaw,
        trace: &mut Trace,
    ) -> wasmtime::Result<()> {
        let Some(mut reference) = self.entered_by(traced, store) else {
            return Err(wasmtime::Error::msg("wasmtime's function reference has another size"));
        };
        // SAFETY: a function reference of this store but for its entry, which takes what array calls take; it is used
        // while it is on this stack.
        let func = unsafe { Func::from_raw(&mut *store, (&raw mut reference).cast()) };
        let func = func.ok_or_else(|| wasmtime::Error::msg("no function"))?;
        let traced = Traced { handler: self, trace };
        let mut values = [*value, ValRaw::i64((&raw const traced) as i64)];
        // SAFETY: `traced` takes these two values; the first is what the handler's one result needs.
        let result = unsafe { func.call_unchecked(&mut *store, &mut values) };
        *value = values[0];
        result
    }

    /// A field of the context of its store.
    pub(crate) fn store_field<T>(&self, offset: u8) -> *mut T {
        let place = self.context.cast::<u8>().wrapping_add(usize::from(HostPtr.vmcontext_store_context()));
        // SAFETY: a handler has an instance's context (`new`), in which this field is the address of
        // the store's.
        let store = unsafe { place.cast::<*mut u8>().read() };
        store.wrapping_add(usize::from(offset)).cast()
    }

    /// Its store's fuel. The reserve is zero, because no fuel that is ever set is over `i64::MAX`.
    pub(crate) fn fuel(&self) -> Option<Fuel> {
        let word = NonNull::new(self.store_field(HostPtr.vm_store_context().fuel_consumed()))?;
        // SAFETY: where compiled code counts; kept in the store itself and beside it.
        Some(unsafe { Fuel::new(word) })
    }

    /// Calls it in a parked activation. False if it trapped.
    ///
    /// # Safety
    /// The instance that it belongs to is parked, its stack limit is right for this stack, and `value` is what the
    /// handler's one result needs.
    #[inline]
    pub(crate) unsafe fn call(&self, value: &mut ValRaw) -> bool {
        // SAFETY: the caller's contract. The callee is an instance of wasm; it asks nothing of its caller's context but to be
        // one of the same store, and its own is.
        unsafe { (self.call)(self.context, self.context, value, 1) }
    }
}

impl Handler {
    /// Calls its compiled code in a parked activation, by the convention of wasmtime's own entry trampoline: context twice,
    /// what it returns in eax, registers kept as in C (`CallConv::Tail` in cranelift-codegen 0.135, `isa/x64/abi.rs`), save
    /// after a trap, which goes where the store says.
    ///
    /// # Safety
    /// As [`crate::Instance::hit_direct`] asks.
    #[inline(always)]
    pub(crate) unsafe fn call_direct(&self, on_trap: usize, argument: *mut c_void) -> u32 {
        let mut value: u32;
        // SAFETY: the caller's contract. The words of the store are those that wasmtime's entry trampoline writes, with the
        // same meaning; nobody else uses the store now. Two pushes leave the stack aligned as it is for any call.
        unsafe {
            core::arch::asm!(
                "push {argument}",
                "push {argument}",
                "mov [{words}], rsp",
                "mov [{words} + 8], rbp",
                "mov [{words} + 16], {on_trap}",
                "call {code}",
                "add rsp, 16",
                argument = in(reg) argument,
                words = in(reg) self.on_trap,
                on_trap = in(reg) on_trap,
                code = in(reg) self.code,
                inout("rdi") self.context => _,
                inout("rsi") self.context => _,
                lateout("eax") value,
                clobber_abi("sysv64"),
            );
        }
        value | self.nothing
    }
}

/// What [`traced`] needs.
struct Traced<'a> {
    handler: &'a Handler,
    trace: *mut Trace,
}

/// A handler's entry that says where it trapped. The second value is the address of a [`Traced`].
unsafe extern "C" fn traced(callee: *mut c_void, caller: *mut c_void, values: *mut ValRaw, _: usize) -> bool {
    // SAFETY: `Handler::enter` gives two values.
    let place = unsafe { values.wrapping_add(1).read() }.get_i64() as *const Traced<'_>;
    // SAFETY: as above; it outlives the call.
    let traced = unsafe { &*place };
    // SAFETY: wasmtime calls this as it would call that entry, whose one value is the first.
    let returned = unsafe { (traced.handler.call)(callee, caller, values, 1) };
    if !returned {
        // SAFETY: that call has just come back, and wasm has its stack below here; the trace is of the handler's instance.
        unsafe { note(traced.trace) };
    }
    returned
}

/// Stack pointers, where the six registers that a callee keeps are pushed.
#[repr(C)]
struct Place {
    /// Of the parked activation.
    parked: usize,
    /// Of who started or settled it, meanwhile.
    home: usize,
}

/// A parked activation.
pub(crate) struct Parked {
    place: Place,
    duty: Duty,
    /// wasmtime's function reference with [`park_here`] as its entry.
    reference: Reference,
    stack_limit: *mut usize,
    fuel: Fuel,
}

/// What [`tend`] needs.
#[derive(Clone, Copy)]
struct Duty {
    store: *mut Store<State>,
    after_trap: AfterTrap,
    argument: *mut c_void,
}

impl Parked {
    /// Parks `instance` on the stack below `stack_top`. `None` if there is no handler: then no hit needs it.
    ///
    /// # Safety
    /// As [`crate::Instance::park`] asks.
    pub(crate) unsafe fn start(
        parked: &mut Option<alloc::boxed::Box<Self>>,
        store: *mut Store<State>,
        handler: Handler,
        stack_top: usize,
        after_trap: AfterTrap,
        argument: *mut c_void,
    ) -> Option<usize> {
        // SAFETY: the caller's contract: the store is there, and nobody else uses it.
        let reference = handler.entered_by(park_here, unsafe { &mut *store })?;
        let place = Place { parked: 0, home: 0 };
        let stack_limit = handler.store_field(HostPtr.vm_store_context().stack_limit());
        let fuel = handler.fuel()?;
        let this = parked.insert(alloc::boxed::Box::new(Self {
            place,
            duty: Duty { store, after_trap, argument },
            reference,
            stack_limit,
            fuel,
        }));
        let this: *mut Self = &raw mut **this;
        // SAFETY: just made.
        let place = unsafe { &raw mut (*this).place };
        // SAFETY: the caller's contract: the stack is ours for good; `this` lies on the heap and stays there.
        unsafe { start(place, stack_top, this) };
        // SAFETY: as above; `park_here` has written it.
        Some(unsafe { (*place).parked })
    }

    /// Sets what wasm may use of this stack, and its fuel.
    #[inline]
    pub(crate) fn prepare(&self, fuel: i64) {
        let here: usize;
        // SAFETY: reads the stack pointer.
        unsafe {
            core::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags));
        };
        // SAFETY: the field of the store's context that wasmtime's own entry sets in just this way; the store is ours.
        // Below zero there is no stack, and the limit would be one that nothing is above.
        unsafe { self.stack_limit.write(here.wrapping_sub(WASM_STACK)) };
        self.fuel.set(fuel);
    }

    /// What was used of the fuel that was set, by a hit that came to its end.
    #[inline]
    pub(crate) fn used(&self, fuel: i64) -> u64 {
        fuel.wrapping_sub(self.fuel.left()).cast_unsigned()
    }

    /// Lets wasmtime's own entry set the stack limit, as it does where none is set.
    pub(crate) fn step_aside(&self) {
        // SAFETY: the field of the store's context with the value that it has outside wasm; the store is ours.
        unsafe { self.stack_limit.write(usize::MAX) };
    }

    /// Lets wasmtime say why the hit trapped, and parks again.
    ///
    /// # Safety
    /// As [`crate::Instance::settle`] asks.
    pub(crate) unsafe fn settle(this: *mut Self) {
        // SAFETY: the caller's contract: an activation that is parked.
        let place = unsafe { &raw mut (*this).place };
        // SAFETY: the caller's contract: its frames are whole, and a trap has left its reason there.
        unsafe { resume(place) };
    }
}

/// Runs on the parked stack: parks, and says how a hit ended each time one trapped.
unsafe extern "C" fn tend(this: *mut Parked) -> ! {
    loop {
        // SAFETY: `this` lives as long as its instance; whoever switched here uses nothing of it now.
        let place = unsafe { &raw mut (*this).place };
        // SAFETY: as above.
        let reference = unsafe { &raw mut (*this).reference };
        // SAFETY: as above.
        let Duty { store, after_trap, argument } = unsafe { (*this).duty };
        // SAFETY: the instance's store, which does not move; whoever switched here does not use it now.
        let store = unsafe { &mut *store };
        // SAFETY: a function reference of this store but for its entry, which takes what array calls take.
        let func = unsafe { Func::from_raw(&mut *store, reference.cast()) };
        let mut values = [ValRaw::i64(place as i64)];
        // SAFETY: `park_here` reads the one value, a place, and returns nothing.
        let result = func.map(|f| unsafe { f.call_unchecked(&mut *store, &mut values) });
        let code = match &result {
            Some(Err(error)) => trap_code(error),
            Some(Ok(())) | None => TrapCode::Other,
        };
        drop(result);
        // SAFETY: what `park` was given with this argument.
        unsafe { after_trap(argument, code) };
    }
}

/// The callee of the parked call. Goes home; returns false when it is resumed.
#[unsafe(naked)]
unsafe extern "C" fn park_here(_: *mut c_void, _: *mut c_void, values: *mut ValRaw, len: usize) -> bool {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov rdi, [rdx]", // the place
        "mov [rdi], rsp",
        "mov rsp, [rdi + 8]",
        // What `start` or `resume` pushed.
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Starts `tend(this)` on the stack below `stack_top`; returns when it has parked.
#[unsafe(naked)]
unsafe extern "C" fn start(place: *mut Place, stack_top: usize, this: *mut Parked) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi + 8], rsp",
        "mov rsp, rsi",
        "and rsp, -16",
        "mov rdi, rdx",
        "xor ebp, ebp", // the end, for whoever walks frame pointers
        "call {tend}",
        "ud2",
        tend = sym tend,
    )
}

/// Lets the parked call return false; returns when it has parked again.
#[unsafe(naked)]
unsafe extern "C" fn resume(place: *mut Place) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi + 8], rsp",
        "mov rsp, [rdi]",
        // What `park_here` pushed.
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "xor eax, eax",
        "ret",
    )
}
