//! The control block: what the host tells the agent before the first hit, in memory private to the target.
//!
//! The host writes it through `/proc/PID/mem` while the agent is not yet reachable from any site; the
//! agent only reads it, except for the fields under "answers". Addresses are addresses in the target.

/// First word of the control block, so that a wrong pointer is found at once.
pub const MAGIC: u64 = 0x7261_636f_7274_0001;

/// Most bytes of a message that the agent leaves in the control block.
pub const MESSAGE_BYTES: usize = 240;

/// What the host asks of `agent_entry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Op {
    /// Create the engine, load the module, prepare the instance.
    Init = 0,
    /// Create `contexts_wanted` more contexts and hand them to the pool.
    Fill = 1,
}

/// Facts about the target that change how a hit runs.
pub mod flags {
    /// `fs:0` holds the thread pointer itself (glibc, musl): proven by the host for every thread.
    pub const FS0_SELF: u32 = 1 << 0;
    /// Never run on the thread's own stack (goroutines).
    pub const ALWAYS_SWITCH: u32 = 1 << 1;
    /// Never leave the thread's own stack (a collector that scans stacks of threads it stopped by signal).
    pub const NEVER_SWITCH: u32 = 1 << 2;
    /// `sigaltstack` is not to be called: a seccomp filter of some thread forbids it, or is not known.
    pub const NO_ALTERNATE_STACK: u32 = 1 << 3;
    /// Arguments are passed as Go's ABIInternal does (rax, rbx, rcx, rdi, rsi, r8, r9, r10, r11).
    pub const GO_ARGUMENTS: u32 = 1 << 4;
    /// `process_vm_readv` is not to be called, as above: every `read` is an error code.
    pub const NO_READ: u32 = 1 << 5;
    /// The module's machine code touches none of xmm8 to xmm15: a hit need not save them. Set by proof only.
    pub const LOW_VECTORS: u32 = 1 << 6;
    /// `gettid` is not to be called, as above.
    pub const NO_THREAD_ID: u32 = 1 << 7;
    /// `clock_gettime` is not to be called, as above.
    pub const NO_CLOCK: u32 = 1 << 8;
    /// From this bit on: bytes from the thread pointer to a word in which the thread's id is, as the kernel has it; zero: none
    /// is known. Proven by the host for every thread, and only with [`FS0_SELF`].
    pub const THREAD_ID_SHIFT: u32 = 16;
    /// Every system call that a hit might make.
    pub const NO_CALLS: u32 = NO_ALTERNATE_STACK | NO_READ | NO_THREAD_ID | NO_CLOCK;
}

/// The control block.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Control {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`crate::VERSION`].
    pub version: u32,
    /// Bits of [`flags`].
    pub flags: u32,
    /// Process id of the target in its own pid namespace.
    pub pid: u32,
    /// Number of entries at `sites`.
    pub site_count: u32,
    /// Address of `[Site; site_count]`.
    pub sites: u64,
    /// Address of the shared memory, and its length in bytes.
    pub shared: u64,
    /// Length of the shared memory in bytes.
    pub shared_len: u64,
    /// Address of `[u64; gate_count]`: the addresses of the gate words.
    pub gates: u64,
    /// Number of gate words, one for each block of trampolines.
    pub gate_count: u32,
    /// Contexts that `Op::Fill` creates.
    pub contexts_wanted: u32,
    /// Most contexts that may ever exist; the shared memory has room for that many.
    pub context_capacity: u32,
    /// Bytes of spare stack for each context, without its guard page.
    pub spare_stack: u32,
    /// The probe.
    pub probe: Probe,
    /// Address and length of the agent's own heap for `Init` (engine, module, linker).
    pub heap: u64,
    /// Length of that heap in bytes.
    pub heap_len: u64,
    /// Answers: address of the thread table, [`crate::hit::ThreadSlot`] × `table_len`.
    pub table: u64,
    /// Answers: number of slots in the thread table, a power of two.
    pub table_len: u32,
    /// Answers: number of contexts that exist.
    pub contexts: u32,
    /// Answers: address of `[u64; context_capacity]`, the addresses of the contexts
    /// ([`crate::hit::ContextHead`] at the start of each).
    pub context_list: u64,
    /// Address of the region for contexts: `context_capacity` times [`context_stride`] bytes.
    pub region: u64,
    /// Address of `__vdso_clock_gettime` in the target, zero if it has none.
    pub clock_gettime: u64,
    /// Nanoseconds of a tick of the time-stamp counter, times 2^32.
    pub nanoseconds_per_tick: u64,
    /// Sizes of the shared memory.
    pub layout: crate::shared::Layout,
    /// Address and length of the host's own record of the session, for who has to remove it without its host; the agent
    /// does not read it.
    pub journal: u64,
    /// Length of that record in bytes.
    pub journal_len: u64,
    /// Address of `[Operand; operand_count]` ([`crate::operand::Operand`]): the arguments of all markers.
    pub operands: u64,
    /// Number of operands.
    pub operand_count: u64,
    /// How many of the session's semaphores are raised: the host's note for who finds the session without it. Here, and not in
    /// the shared memory, because a child of fork has semaphores of its own.
    pub raised: u64,
    /// Answers: address that trampolines call.
    pub hit_entry: u64,
    /// Answers: address of the word with the agent's own copy of `flags`, which the host corrects before it opens a gate.
    pub flags_at: u64,
    /// Answers: zero, or the operation failed and `message` says why.
    pub failed: u32,
    /// Answers: bytes used of `message`.
    pub message_len: u32,
    /// Answers: `table_len - 1`.
    pub table_mask: u64,
    /// Answers: why an operation failed, UTF-8.
    pub message: [u8; MESSAGE_BYTES],
}

/// The probe of a session, as the agent needs it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Probe {
    /// Address of the precompiled module (page aligned, readable and executable, never writable).
    pub module: u64,
    /// Length of the precompiled module in bytes.
    pub module_len: u64,
    /// Fuel that each hit gets.
    pub fuel: u64,
    /// Most bytes of linear memory of an instance.
    pub memory_max: u64,
    /// Address of `[MapSpec; map_count]` ([`crate::map::MapSpec`]).
    pub maps: u64,
    /// Number of maps.
    pub map_count: u32,
    /// Number of handlers.
    pub handler_count: u32,
    /// Address of the handlers' export names, each NUL-terminated, one after another.
    pub handlers: u64,
    /// Length of those names in bytes, terminators included.
    pub handlers_len: u64,
    /// Address of `[u64; param_count]`: integer parameters, or `offset << 32 | length` into `strings`.
    pub params: u64,
    /// Number of parameters.
    pub param_count: u32,
    /// Traps and out-of-fuel hits after which the probe is quarantined.
    pub trap_limit: u32,
    /// Address of the bytes that string parameters point into.
    pub strings: u64,
    /// Length of those bytes.
    pub strings_len: u64,
    /// Records that a context takes from [`crate::shared::SharedHead::records`] at once; zero: records have no limit.
    pub record_batch: u32,
    /// At sites with [`site_flags::SAMPLED`] one hit in so many runs.
    pub sample: u32,
    /// Bytes of a context's own heap ([`context_heap`]).
    pub context_heap: u64,
    /// From which each context makes the seed of its random numbers.
    pub seed: u64,
}

/// A site as the agent needs it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Site {
    /// Address of the instruction.
    pub address: u64,
    /// Which handler of the probe runs here; [`NO_HANDLER`]: none, the hit only notes that a call begins.
    pub handler: u32,
    /// Bits of [`site_flags`].
    pub flags: u32,
    /// Index of the function that the site is an entry or an exit of.
    pub function: u32,
    /// Where a marker's operands are in the table of all ([`crate::operand::packed`]).
    pub operands: u32,
}

/// The handler of a site without one.
pub const NO_HANDLER: u32 = u32::MAX;

/// Functions whose calls are told apart.
pub const FUNCTIONS_MAX: u32 = 1 << 16;

/// Bytes of a context's own heap, for a module of so many functions: store, instance, tables, and the error values of
/// traps. An instance of Go, 1300 functions, takes half a mebibyte; what is never touched takes no memory.
#[must_use]
pub const fn context_heap(functions: usize) -> u64 {
    crate::round_up((256 << 10) + functions as u64 * 1024, crate::PAGE)
}

/// Bytes of one context's part of the region.
///
/// ```text
/// guard page │ spare stack │ context, then its heap │ linear memory
/// ```
#[must_use]
pub const fn context_stride(spare_stack: u32, context_heap: u64, memory_max: u64) -> u64 {
    crate::PAGE
        + crate::round_up(spare_stack as u64, crate::PAGE)
        + context_heap
        + crate::round_up(memory_max, crate::PAGE)
}

/// Most bytes of one trampoline; each is aligned to 16.
pub const TRAMPOLINE_MAX: u64 = 256;

/// Bytes of a cache line.
pub const LINE: u64 = 64;

/// Bytes of the gates of a block of trampolines for so many sites: a page with the gate word, then a line for the cell with
/// the agent's entry and one for that of each site.
#[must_use]
pub const fn block_gates(sites: u64) -> u64 {
    crate::round_up(crate::PAGE + LINE + LINE * sites, crate::PAGE)
}

/// Bytes of the whole block, which begins with its gate word.
#[must_use]
pub const fn block_len(sites: u64) -> u64 {
    block_gates(sites) + crate::round_up(sites * TRAMPOLINE_MAX, crate::PAGE)
}

/// Facts about a site.
pub mod site_flags {
    /// The trampoline lowered the stack pointer by [`crate::hit::RED_ZONE`] before it pushed.
    pub const RED_ZONE_SKIPPED: u32 = 1 << 0;
    /// The probe uses floating point here: MXCSR is set to its default for the hit and put back.
    pub const FLOATS: u32 = 1 << 1;
    /// A call of the function begins here: the stack pointer is at its return address.
    pub const ENTRY: u32 = 1 << 2;
    /// A call of the function ends here: the stack pointer is at its return address.
    pub const EXIT: u32 = 1 << 3;
    /// Of the hits here only one in [`super::Probe::sample`] runs.
    pub const SAMPLED: u32 = 1 << 4;
    /// A USDT marker: its arguments are its operands.
    pub const MARKER: u32 = 1 << 5;
    /// Go: r14 holds the goroutine, whose second word is the top of its stack. Calls are known by these, since it moves.
    pub const GOROUTINE: u32 = 1 << 6;
}

const _: () = assert!(size_of::<Site>() == 24);
const _: () = assert!(size_of::<Probe>() == 120);
const _: () = assert!(size_of::<Control>() == 72 + 120 + 40 + 16 + 24 + 48 + 16 + 16 + MESSAGE_BYTES);
