//! The agent's own globals: written while booting, read on every hit.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use trocar_abi::control::{Control, Site, flags};
use trocar_abi::hit::ThreadSlot;
use trocar_abi::operand::Operand;
use trocar_abi::shared::Layout;
use trocar_sandbox::Loaded;

use crate::context::Context;
use crate::heap::Heap;
use crate::spans::Table;

/// What every hit reads. Filled by `boot::init` before any gate opens, constant after it.
pub(crate) struct Agent {
    pub(crate) flags: u32,
    pub(crate) pid: u32,
    pub(crate) sites: &'static [Site],
    /// Arguments of markers.
    pub(crate) operands: &'static [Operand],
    pub(crate) shared: *mut u8,
    pub(crate) layout: Layout,
    pub(crate) table: *mut ThreadSlot,
    /// Its length, a power of two, less one.
    pub(crate) table_mask: u32,
    pub(crate) contexts: *mut *mut Context,
    pub(crate) clock_gettime: u64,
    pub(crate) trap_limit: u32,
    pub(crate) gates: &'static [u64],
    pub(crate) loaded: Option<Loaded>,
    /// Of the calls under way, if some site begins a call.
    pub(crate) spans: Option<&'static Table>,
    pub(crate) nanoseconds_per_tick: u64,
    /// Fuel of a hit.
    pub(crate) fuel: u64,
    /// At sampled sites one hit in so many runs.
    pub(crate) sample: u64,
}

/// A cell for [`Agent`].
///
/// INVARIANT (boot first): it is written only by `boot::init`, on the host's helper thread, before the host opens a
/// gate; afterwards everybody only reads.
struct AgentCell(UnsafeCell<Agent>);
// SAFETY: INVARIANT (boot first).
unsafe impl Sync for AgentCell {}

/// The table before there is one: a slot that is never taken.
struct EmptyTable(UnsafeCell<ThreadSlot>);
// SAFETY: nobody claims a context before `boot::init` has put another table in its place.
unsafe impl Sync for EmptyTable {}
static EMPTY: EmptyTable = EmptyTable(UnsafeCell::new(ThreadSlot { key: 0, context: 0 }));

static AGENT: AgentCell = AgentCell(UnsafeCell::new(Agent {
    flags: 0,
    pid: 0,
    sites: &[],
    operands: &[],
    shared: core::ptr::null_mut(),
    layout: Layout { sites: 0, contexts: 0, maps: 0, ring: 0 },
    table: EMPTY.0.get(),
    table_mask: 0,
    contexts: core::ptr::null_mut(),
    clock_gettime: 0,
    trap_limit: 0,
    gates: &[],
    loaded: None,
    spans: None,
    nanoseconds_per_tick: 0,
    fuel: 0,
    sample: 1,
}));

/// Contexts that exist and may be claimed; grows when the host refills the pool.
pub(crate) static FILLED: AtomicU32 = AtomicU32::new(0);

/// The helper thread's state: its thread pointer, so that the platform layer knows it is booting, the heap that
/// allocations come from, wasmtime's thread-local slot, and where a panic goes.
pub(crate) static BOOT_THREAD: AtomicU64 = AtomicU64::new(0);
pub(crate) static BOOT_HEAP: AtomicPtr<Heap> = AtomicPtr::new(core::ptr::null_mut());
pub(crate) static BOOT_TLS: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
/// Linear memory for the instance that is being created: base and length.
pub(crate) static MEMORY_BASE: AtomicU64 = AtomicU64::new(0);
pub(crate) static MEMORY_LEN: AtomicU64 = AtomicU64::new(0);

/// The globals.
#[inline]
pub(crate) fn agent() -> &'static Agent {
    let cell = AGENT.0.get();
    // SAFETY: INVARIANT (boot first): nobody writes any more when anybody but the boot thread reads.
    unsafe { &*cell }
}

/// The globals, to fill them.
///
/// # Safety
/// INVARIANT (boot first): on the helper thread, before a gate is open, and no other reference is in use.
pub(crate) unsafe fn agent_mut() -> &'static mut Agent {
    let cell = AGENT.0.get();
    // SAFETY: the caller's contract.
    unsafe { &mut *cell }
}

/// Whether this thread is the helper.
#[inline]
pub(crate) fn booting() -> bool {
    let helper = BOOT_THREAD.load(Ordering::Relaxed);
    helper != 0 && helper == thread_pointer()
}

/// The thread pointer: from `fs:0` where the host has proven that it holds it, else by `rdfsbase`.
#[inline]
pub(crate) fn thread_pointer() -> u64 {
    let value: u64;
    if agent().flags & flags::FS0_SELF != 0 {
        // SAFETY: the host has proven that fs:0 is mapped and holds the thread pointer, for every thread there was;
        // the same runtime sets up every later one.
        unsafe {
            core::arch::asm!("mov {}, fs:[0]", out(reg) value, options(nostack, readonly, preserves_flags))
        };
    } else {
        // SAFETY: the host refuses targets on processors or kernels without FSGSBASE unless FS0_SELF holds.
        unsafe { core::arch::asm!("rdfsbase {}", out(reg) value, options(nostack, nomem, preserves_flags)) };
    }
    value
}

/// The thread pointer, and what tells a thread from a later one that has the same: its id in its control block, where the host
/// has proven that it is there, else the same for both.
#[inline(always)]
pub(crate) fn thread_and_mark() -> (u64, u32) {
    let pointer = thread_pointer();
    let all = agent().flags;
    if all & flags::FS0_SELF == 0 {
        return (pointer, 0);
    }
    let mark: u32;
    let at = u64::from(all >> flags::THREAD_ID_SHIFT);
    // SAFETY: as in `thread_pointer`; the offset is zero, or one where the host has found a word in every thread there was.
    unsafe {
        core::arch::asm!("mov {:e}, fs:[{}]", out(reg) mark, in(reg) at, options(nostack, readonly, preserves_flags))
    };
    (pointer, mark)
}

impl Agent {
    /// A word of the shared head or of the evidence, by its offset; shared with the host and all threads.
    pub(crate) fn head_word(&self, offset: usize) -> &'static AtomicU32 {
        debug_assert!(offset + 4 <= trocar_abi::PAGE as usize);
        // SAFETY: callers pass the offset of a field of the head, which the host mapped; it is never unmapped while our
        // code can run.
        let field = unsafe { self.shared.add(offset) };
        // SAFETY: as above, and such fields are aligned.
        unsafe { AtomicU32::from_ptr(field.cast()) }
    }

    /// A word of the head or of the slow path's counters, by its offset in the shared memory.
    pub(crate) fn counter(&self, offset: usize) -> &'static AtomicU64 {
        // SAFETY: callers pass an offset within the head or the slow path's counters, which the host mapped.
        let word = unsafe { self.shared.add(offset) };
        // SAFETY: as above, and counters are aligned.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// Closes every gate: no new hit enters the agent.
    pub(crate) fn close_gates(&self) {
        for &gate in self.gates {
            // SAFETY: the host put the addresses of its gate words there; each is an aligned, writable word of ours.
            let word = unsafe { AtomicU64::from_ptr(gate as *mut u64) };
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// The control block's address, kept for later operations.
pub(crate) static CONTROL: AtomicPtr<Control> = AtomicPtr::new(core::ptr::null_mut());
