//! What one hit leaves on the stack, and the head of the context it runs in.
//!
//! ```text
//!  rsp at the site ─▶ ┌────────────────────────────┐ higher addresses
//!                     │ red zone, 128 bytes        │ only where the site says RED_ZONE_SKIPPED
//!                     ├────────────────────────────┤
//!                     │ rcx                        │ pushed by the trampoline
//!                     │ return into the trampoline │ pushed by its call
//!                     │ rbp                        │ ◀─ rbp during the hit: a frame-pointer chain
//!                     │ rflags                     │
//!                     │ rax rdx rsi rdi r8 … r15   │
//!                     │ rbx, mxcsr                 │
//!                     │ xmm15 … xmm0               │
//!                     └────────────────────────────┘ ◀─ &HitFrame
//! ```
//! `runtime/agent/src/entry.rs` pushes exactly this; a test there compares the offsets.

/// Bytes below the stack pointer that a leaf function may use (System V x86-64 ABI, 3.2.2).
pub const RED_ZONE: u64 = 128;

/// The registers of the target at a hit.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HitFrame {
    /// Low 128 bits of xmm0 to xmm15; of the upper eight only where the module touches them.
    pub xmm: [[u64; 2]; 16],
    /// MXCSR of the target, in the low half.
    pub mxcsr: u64,
    /// The site's index, set by the entry code from the trampoline's `ecx`.
    pub site: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rbx: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r15: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r14: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r13: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r12: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r11: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r10: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r9: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r8: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rdi: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rsi: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rdx: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rax: u64,
    /// Flags as `pushfq` leaves them.
    pub rflags: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rbp: u64,
    /// Return address into the trampoline.
    pub trampoline: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rcx: u64,
}

/// Bytes of a [`HitFrame`].
pub const HIT_FRAME: u64 = 256 + 19 * 8;
const _: () = assert!(size_of::<HitFrame>() as u64 == HIT_FRAME);

/// DWARF numbers of the general registers (System V x86-64 ABI, figure 3.36), as `reg` takes them.
pub const REGISTERS: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "rip",
];

impl HitFrame {
    /// The registers of the integer arguments of a System V call (x86-64 ABI, 3.2.3).
    pub const ARGUMENTS: [&str; 6] = ["rdi", "rsi", "rdx", "rcx", "r8", "r9"];
    /// Those of Go's ABIInternal.
    pub const GO_ARGUMENTS: [&str; 9] = ["rax", "rbx", "rcx", "rdi", "rsi", "r8", "r9", "r10", "r11"];

    /// The argument `n` of a System V call, counted from zero; `None` past the sixth.
    #[must_use]
    pub const fn argument(&self, n: u32) -> Option<u64> {
        Some(match n {
            0 => self.rdi,
            1 => self.rsi,
            2 => self.rdx,
            3 => self.rcx,
            4 => self.r8,
            5 => self.r9,
            _ => return None,
        })
    }

    /// The integer argument `n` of Go's ABIInternal; `None` past the ninth.
    /// Source: Go's `src/cmd/compile/abi-internal.md`, amd64 architecture.
    #[must_use]
    pub const fn go_argument(&self, n: u32) -> Option<u64> {
        Some(match n {
            0 => self.rax,
            1 => self.rbx,
            2 => self.rcx,
            3 => self.rdi,
            4 => self.rsi,
            5 => self.r8,
            6 => self.r9,
            7 => self.r10,
            8 => self.r11,
            _ => return None,
        })
    }

    /// A register by its DWARF number, save rsp and rip, which are not in the frame.
    #[must_use]
    pub const fn register(&self, number: u32) -> Option<u64> {
        Some(match number {
            0 => self.rax,
            1 => self.rdx,
            2 => self.rcx,
            3 => self.rbx,
            4 => self.rsi,
            5 => self.rdi,
            6 => self.rbp,
            8 => self.r8,
            9 => self.r9,
            10 => self.r10,
            11 => self.r11,
            12 => self.r12,
            13 => self.r13,
            14 => self.r14,
            15 => self.r15,
            _ => return None,
        })
    }
}

/// What a native stub hands to its handler: the registers of the target at a hit, but rsp and rip.
/// `host/inject/src/stub.rs` pushes exactly this.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct StubFrame {
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r8: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r9: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r10: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r11: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r12: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r13: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r14: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub r15: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rbx: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rbp: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rdi: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rsi: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rdx: u64,
    /// Arithmetic flags, as the stub keeps them.
    pub flags: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rax: u64,
    /// Return address into the trampoline.
    pub trampoline: u64,
    #[expect(missing_docs, reason = "registers are named by themselves")]
    pub rcx: u64,
}

impl StubFrame {
    /// Offset of a register by its name in [`REGISTERS`]; `None` for rsp and rip, which are not in the frame.
    #[must_use]
    pub fn offset(register: &str) -> Option<usize> {
        use core::mem::offset_of;
        Some(match register {
            "rax" => offset_of!(Self, rax),
            "rbx" => offset_of!(Self, rbx),
            "rcx" => offset_of!(Self, rcx),
            "rdx" => offset_of!(Self, rdx),
            "rsi" => offset_of!(Self, rsi),
            "rdi" => offset_of!(Self, rdi),
            "rbp" => offset_of!(Self, rbp),
            "r8" => offset_of!(Self, r8),
            "r9" => offset_of!(Self, r9),
            "r10" => offset_of!(Self, r10),
            "r11" => offset_of!(Self, r11),
            "r12" => offset_of!(Self, r12),
            "r13" => offset_of!(Self, r13),
            "r14" => offset_of!(Self, r14),
            "r15" => offset_of!(Self, r15),
            _ => return None,
        })
    }
}

/// A slot of the thread table: thread pointer to context. Zero is free; the key is written last.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ThreadSlot {
    /// The thread pointer (`fs` base); zero for a free slot.
    pub key: u64,
    /// Address of the context.
    pub context: u64,
}

/// First slot of the thread table to look at for a thread pointer; `len` is a power of two. Thread pointers are
/// page- or cache-line-aligned, so the product's high bits are taken.
#[must_use]
pub const fn first_slot(thread_pointer: u64, len: u32) -> u32 {
    slot_in(thread_pointer, len - 1)
}

/// The same for a table whose length is `mask + 1`.
#[inline]
#[must_use]
pub const fn slot_in(thread_pointer: u64, mask: u32) -> u32 {
    (thread_pointer.wrapping_mul(SLOT_FACTOR) >> 32) as u32 & mask
}

/// What [`first_slot`] multiplies with: 2^64 divided by the golden ratio.
pub const SLOT_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Head of a context: the part that the host reads and writes in the target's private memory.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ContextHead {
    /// Zero outside a hit; during one the address of its frame, with bits of [`inside`]. Entered by one exchange; a context
    /// that is inside is never entered again.
    pub inside: u64,
    /// Lowest and highest address of the thread's stack where hits may run in place; both zero: none known.
    pub stack_low: u64,
    /// End of that stack.
    pub stack_high: u64,
    /// The thread's alternate signal stack; both zero: none.
    pub alternate_low: u64,
    /// End of the alternate stack.
    pub alternate_high: u64,
    /// Highest address of the context's spare stack, 16-byte aligned.
    pub spare_top: u64,
    /// Kernel's id of the thread, zero if it could not be asked.
    pub tid: u32,
    /// Set by the host when the thread that had this context is gone: ask the kernel again.
    pub stale: u32,
    /// Address of the context's block in the shared memory.
    pub shared: u64,
}
const _: () = assert!(size_of::<ContextHead>() == 64);

/// What [`ContextHead::inside`] says besides the address of the hit's frame.
pub mod inside {
    /// A hit is inside: in the low half, so that this half is never zero then.
    pub const HIT: u64 = 1;
    /// Another hit finds out whether this one was left for good.
    pub const ASKED: u64 = 1 << 1;
    /// It was: the context is retired. Nobody is in it, and nobody will be.
    pub const LEFT: u64 = 1 << 2;
    /// The address: frames are made of whole words.
    pub const FRAME: u64 = !7;

    /// Whether a hit is inside that was not found to have been left.
    #[must_use]
    pub const fn is_hit(word: u64) -> bool {
        word != 0 && word & LEFT == 0
    }
}

/// Room below the stack pointer, in bytes, that a hit needs to run on the thread's own stack: 32 KiB of
/// wasm, the agent's own frames, and a signal handler on top.
pub const STACK_ROOM: u64 = 48 * 1024;
