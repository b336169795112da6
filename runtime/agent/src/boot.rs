//! What happens on the host's helper thread: the engine, the module, the pool of contexts.
//!
//! The host gave it a stack of ours, and waits. No gate is open yet when
//! `init` runs; hits may be under way on other threads when `fill` runs.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Write;
use core::mem::offset_of;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use trocar_abi::control::{Control, MAGIC, Op, Probe, context_stride, flags, site_flags};
use trocar_abi::hit::{ContextHead, RED_ZONE, ThreadSlot, inside};
use trocar_abi::map::MapSpec;
use trocar_abi::shared::{ContextShared, SharedHead, TAIL_OFFSET};
use trocar_abi::{PAGE, round_up};
use trocar_ring::Producer;
use trocar_sandbox::{Arguments, Env, Instance, Loaded, Maps, Rate, START_FUEL, configure};
use wasmtime::{Config, CustomCodeMemory, Engine, Module};

use crate::context::{Context, Usual};
use crate::dispatch::after_trap;
use crate::entry::{FLAGS_BY_POPFQ, HIGH_VECTORS, hit_entry};
use crate::global::{
    BOOT_HEAP, BOOT_THREAD, BOOT_TLS, CONTROL, FILLED, MEMORY_BASE, MEMORY_LEN, agent, agent_mut,
    thread_pointer,
};
use crate::heap::Heap;
use crate::memory::Creator;
use crate::spans;
use crate::sys;
use crate::target::OwnProcess;

/// Runs one operation. Leaves the answer in the control block.
///
/// # Safety
/// Called by `agent_entry` alone; `control` is the host's control block.
pub(crate) unsafe extern "C" fn boot(op: u32, control: *mut Control) {
    // SAFETY: the host's control block, which nobody else uses while an operation runs.
    let block = unsafe { &mut *control };
    block.failed = 1;
    if block.magic != MAGIC || block.version != trocar_abi::VERSION {
        say(block, "the control block is of another version");
        return;
    }
    CONTROL.store(control, Ordering::Relaxed);
    // An operation that was broken off left these as they were in its midst.
    BOOT_TLS.store(ptr::null_mut(), Ordering::Relaxed);
    BOOT_HEAP.store(block.heap as *mut Heap, Ordering::Relaxed);
    // The thread pointer is needed before the flags are in `agent()`, so they are put there first.
    // SAFETY: INVARIANT (boot first).
    unsafe { agent_mut() }.flags = block.flags;
    BOOT_THREAD.store(thread_pointer(), Ordering::Relaxed);
    let result = match op {
        o if o == Op::Init as u32 => init(block),
        o if o == Op::Fill as u32 => fill(block),
        _ => Err(wasmtime::Error::msg("no such operation")),
    };
    match result {
        Ok(()) => block.failed = 0,
        Err(error) => {
            let mut text = Message(block);
            // The message is cut at its capacity; that is not an error.
            let _ = write!(text, "{error:#}");
        }
    }
    BOOT_THREAD.store(0, Ordering::Relaxed);
}

fn say(block: &mut Control, text: &str) {
    let _ = Message(block).write_str(text);
}

/// Writes into the control block's message, cut at its capacity.
pub(crate) struct Message<'a>(pub(crate) &'a mut Control);

impl Write for Message<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let start = self.0.message_len as usize;
        if let Some(room) = self.0.message.get_mut(start..) {
            let n = room.len().min(text.len());
            if let (Some(to), Some(from)) = (room.get_mut(..n), text.as_bytes().get(..n)) {
                to.copy_from_slice(from);
                self.0.message_len += n as u32;
            }
        }
        Ok(())
    }
}

/// A slice of something that the host put at `address`.
///
/// # Safety
/// The host mapped `len` values there for the life of the agent; nobody writes them any more.
unsafe fn placed<T>(address: u64, len: usize) -> &'static [T] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's contract.
    unsafe { core::slice::from_raw_parts(address as *const T, len) }
}

/// Code is where the host put it, readable and executable already: nothing is to be done, and nothing is ever
/// mprotected in the target.
struct InPlace;

impl CustomCodeMemory for InPlace {
    fn required_alignment(&self) -> usize {
        PAGE as usize
    }
    fn publish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// AVX is never reported, so neither wasmtime nor a module may use it; what x86-64-v2 has is asked of the processor.
fn detect(feature: &str) -> Option<bool> {
    let leaf = core::arch::x86_64::__cpuid(1);
    Some(match feature {
        "sse3" => leaf.ecx & 1 != 0,
        "ssse3" => leaf.ecx & 1 << 9 != 0,
        "sse4.1" => leaf.ecx & 1 << 19 != 0,
        "sse4.2" => leaf.ecx & 1 << 20 != 0,
        "popcnt" => leaf.ecx & 1 << 23 != 0,
        _ => false,
    })
}

/// The context of free slots: as if a hit were inside, so that nobody enters it.
static NOBODY: ContextHead = ContextHead {
    inside: inside::HIT,
    stack_low: 0,
    stack_high: 0,
    alternate_low: 0,
    alternate_high: 0,
    spare_top: 0,
    tid: 0,
    stale: 1,
    shared: 0,
};

fn init(block: &mut Control) -> wasmtime::Result<()> {
    // SAFETY: the host mapped `heap_len` bytes at `heap` for the agent alone.
    let heap =
        unsafe { (block.heap as *mut Heap).as_mut() }.ok_or_else(|| wasmtime::Error::msg("no heap"))?;
    let first = block.heap as usize + round_up(size_of::<Heap>() as u64, 64) as usize;
    *heap = Heap::new(first, (block.heap + block.heap_len) as usize);
    BOOT_HEAP.store(heap, Ordering::Relaxed);
    BOOT_TLS.store(ptr::null_mut(), Ordering::Relaxed);

    // SAFETY: the host placed these before it entered us.
    let sites = unsafe { placed(block.sites, block.site_count as usize) };
    // SAFETY: as above.
    let gates: &[u64] = unsafe { placed(block.gates, block.gate_count as usize) };
    for &gate in gates {
        // SAFETY: the page of a gate word is ours.
        if !unsafe { sys::wipe_on_fork(gate & !(PAGE - 1)) } {
            return Err(wasmtime::Error::msg("madvise(MADV_WIPEONFORK) failed"));
        }
    }
    // Processors of the first years of x86-64 have no `sahf` in 64-bit mode (CPUID 8000_0001h, ecx bit 0).
    let extended = core::arch::x86_64::__cpuid(0x8000_0000).eax;
    if extended < 0x8000_0001 || core::arch::x86_64::__cpuid(0x8000_0001).ecx & 1 == 0 {
        FLAGS_BY_POPFQ.store(u32::MAX, Ordering::Relaxed);
    }
    HIGH_VECTORS.store(block.flags & flags::LOW_VECTORS == 0, Ordering::Relaxed);
    let table_len = (block.context_capacity * 4).next_power_of_two();
    // One more, always free: the native stub looks at the slot behind a thread's first without asking where the table ends.
    // And a thread without a thread pointer finds a free slot there: its context sends it on to the agent.
    let free = ThreadSlot { key: 0, context: &raw const NOBODY as u64 };
    let table: Vec<ThreadSlot> = alloc::vec![free; table_len as usize + 1];
    let contexts: Vec<*mut Context> = alloc::vec![ptr::null_mut(); block.context_capacity as usize];
    let table = Box::leak(table.into_boxed_slice());
    let contexts = Box::leak(contexts.into_boxed_slice());
    block.table = table.as_mut_ptr() as u64;
    block.table_len = table_len;
    block.table_mask = u64::from(table_len) - 1;
    block.context_list = contexts.as_mut_ptr() as u64;
    block.hit_entry = hit_entry as *const () as u64;

    // SAFETY: INVARIANT (boot first): no gate is open, nobody else reads.
    let agent = unsafe { agent_mut() };
    block.flags_at = &raw mut agent.flags as u64;
    agent.pid = block.pid;
    agent.sites = sites;
    agent.gates = gates;
    // SAFETY: as above.
    agent.operands = unsafe { placed(block.operands, usize::try_from(block.operand_count)?) };
    agent.shared = block.shared as *mut u8;
    agent.layout = block.layout;
    agent.table = table.as_mut_ptr();
    agent.table_mask = table_len - 1;
    agent.contexts = contexts.as_mut_ptr();
    agent.clock_gettime = block.clock_gettime;
    agent.trap_limit = block.probe.trap_limit;
    agent.nanoseconds_per_tick = block.nanoseconds_per_tick;
    agent.fuel = block.probe.fuel;
    agent.sample = u64::from(block.probe.sample.max(1));
    if sites.iter().any(|s| s.flags & site_flags::ENTRY != 0) {
        agent.spans = spans::table();
    }
    agent.loaded = Some(load(&block.probe)?);
    Ok(())
}

fn load(probe: &Probe) -> wasmtime::Result<Loaded> {
    let mut config = Config::new();
    configure(&mut config);
    config.with_custom_code_memory(Some(alloc::sync::Arc::new(InPlace)));
    config.with_host_memory(alloc::sync::Arc::new(Creator));
    // SAFETY: `detect` answers only what CPUID says, or false.
    unsafe { config.detect_host_feature(detect) };
    let engine = Engine::new(&config)?;
    let bytes = ptr::slice_from_raw_parts_mut(probe.module as *mut u8, probe.module_len as usize);
    let bytes = NonNull::new(bytes).ok_or_else(|| wasmtime::Error::msg("no module"))?;
    // SAFETY: the host compiled these bytes itself with this very configuration, placed them here for the life of the
    // agent, and nobody can write them (a sealed file).
    let module = unsafe { Module::deserialize_raw(&engine, bytes)? };
    // SAFETY: the host placed the names.
    let names: &[u8] = unsafe { placed(probe.handlers, probe.handlers_len as usize) };
    let mut handlers: Vec<&str> = Vec::new();
    for name in names.split(|&b| b == 0).filter(|n| !n.is_empty()) {
        handlers.push(
            core::str::from_utf8(name).map_err(|_| wasmtime::Error::msg("a handler's name is not UTF-8"))?,
        );
    }
    Loaded::new(&engine, &module, &handlers)
}

/// Creates the contexts that the host wants, each in its own part of the region, and adds them to the pool.
fn fill(block: &mut Control) -> wasmtime::Result<()> {
    let filled = FILLED.load(Ordering::Relaxed);
    let until = filled.saturating_add(block.contexts_wanted).min(block.context_capacity);
    for index in filled..until {
        let context = create(block, index)?;
        // SAFETY: the list has `context_capacity` entries and `index` is below it.
        let entry = unsafe { agent().contexts.add(index as usize) };
        // SAFETY: as above; readers look only below FILLED.
        unsafe { entry.write(context) };
        FILLED.store(index + 1, Ordering::Release);
        block.contexts = index + 1;
    }
    Ok(())
}

fn create(block: &Control, index: u32) -> wasmtime::Result<*mut Context> {
    let agent = agent();
    let loaded = agent.loaded.as_ref().ok_or_else(|| wasmtime::Error::msg("fill before init"))?;
    let stride = context_stride(block.spare_stack, block.probe.context_heap, block.probe.memory_max);
    let start = block.region + u64::from(index) * stride;
    // SAFETY: the first page of a part of the region that nobody uses yet.
    if !unsafe { sys::make_guard(start, PAGE) } {
        return Err(wasmtime::Error::msg("mprotect of a guard page failed"));
    }
    let spare_top = start + PAGE + round_up(u64::from(block.spare_stack), PAGE);
    let context = spare_top as *mut Context;
    let heap_start = spare_top + round_up(size_of::<Context>() as u64, 64);
    let heap_end = spare_top + block.probe.context_heap;
    MEMORY_BASE.store(heap_end, Ordering::Relaxed);
    MEMORY_LEN.store(round_up(block.probe.memory_max, PAGE), Ordering::Relaxed);

    let layout = &agent.layout;
    let at = |offset: u64| (block.shared + offset) as *mut u8;
    let shared: *mut ContextShared = at(layout.context(index)).cast();
    let tail = at(layout.context(index) + TAIL_OFFSET).cast();
    // SAFETY: the block of this context in the shared memory, which the host laid out with the same `Layout`; the ring
    // is `layout.ring` bytes, a power of two, and this context is its only producer.
    let ring = unsafe { Producer::new(shared.cast(), tail, at(layout.context_ring(index)), layout.ring) };
    let ring = ring.ok_or_else(|| wasmtime::Error::msg("the ring's size is not a power of two"))?;
    // SAFETY: the host placed these for the life of the agent.
    let specs: &[MapSpec] = unsafe { placed(block.probe.maps, block.probe.map_count as usize) };
    // SAFETY: INVARIANT (shards): the host sized this context's map area for `specs`; only this context writes it.
    let maps = unsafe { Maps::new(at(layout.context_maps(index)), specs) };
    // SAFETY: as above.
    let params = unsafe { placed(block.probe.params, block.probe.param_count as usize) };
    // SAFETY: as above.
    let strings = unsafe { placed(block.probe.strings, block.probe.strings_len as usize) };
    let records = at(offset_of!(SharedHead, records) as u64).cast();
    let rate = match block.probe.record_batch {
        0 => Rate::unlimited(),
        // SAFETY: a word of the shared head, which stays mapped; contexts and the host access it atomically.
        batch => unsafe { Rate::new(records, batch) },
    };
    let markers = agent.sites.iter().any(|s| s.flags & site_flags::MARKER != 0);
    let arguments = Arguments::of(block.flags & flags::GO_ARGUMENTS != 0, markers);
    // An odd factor: no two contexts begin with the same number.
    let seed = block.probe.seed ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let env = Env { maps, ring, params, strings, arguments, seed, rate };

    let head = ContextHead { spare_top, stale: 1, shared: shared as u64, ..ContextHead::default() };
    let empty = Context {
        head,
        recover: NonNull::dangling(),
        usual: Usual::default(),
        mark: 0,
        met: false,
        shared,
        stats: at(layout.context_stats(index)).cast(),
        trace: ptr::null_mut(),
        tls: ptr::null_mut(),
        stays: true,
        ordinary: [0; crate::context::ORDINARY],
        proven_high: 0,
        heap: Heap::new(heap_start as usize, heap_end as usize),
        instance: None,
    };
    // SAFETY: fresh memory of the region, large enough (`context_heap`) and aligned (a page).
    unsafe { context.write(empty) };
    // What the instance allocates must lie in the heap of its own context.
    // SAFETY: the context that was just written; nobody else knows it.
    let heap = unsafe { &raw mut (*context).heap };
    let boot_heap = BOOT_HEAP.swap(heap, Ordering::Relaxed);
    let memory_max = usize::try_from(block.probe.memory_max)?;
    let instance = Instance::new(loaded, env, &OwnProcess, block.probe.fuel, START_FUEL, memory_max);
    let parked = instance.map(|instance| {
        // SAFETY: as above. From here on the instance does not move.
        let instance = unsafe { (*context).instance.insert(instance) };
        // SAFETY: as above.
        unsafe { (*context).trace = instance.trace() };
        // SAFETY: the top of the context's spare stack, which nobody uses yet; hits will start below what is used now.
        // `after_trap` is given the context, and the slot is moved there below.
        unsafe { Instance::park(instance, spare_top as usize, after_trap, context.cast()) }
    });
    BOOT_HEAP.store(boot_heap, Ordering::Relaxed);
    let slot = BOOT_TLS.swap(ptr::null_mut(), Ordering::Relaxed);
    if let Some(lowest) = parked? {
        // SAFETY: as above. Hits that run on the spare stack leave the parked frames, and a red zone below them, alone.
        unsafe { (*context).head.spare_top = (lowest as u64 - RED_ZONE) & !63 };
        // SAFETY: as above.
        unsafe { (*context).tls = slot };
    }
    Ok(context)
}
