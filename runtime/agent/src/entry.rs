//! The two ways into the agent, in assembly: `hit_entry` from trampolines, `agent_entry` on the host's helper thread.
//!
//! `hit_entry` builds the `HitFrame` of `trocar_abi::hit`, in which the order of the pushes is drawn; the two must
//! change together, and `OFFSETS` below compares them. It keeps every register but rcx, which the trampoline itself
//! pops, and the upper halves of vector registers by not touching them: this image contains no AVX instruction.

use core::mem::offset_of;

use trocar_abi::hit::{ContextHead, HIT_FRAME, HitFrame};

use crate::context::Context;
use crate::dispatch::SETTLE;

core::arch::global_asm!(
    ".globl hit_entry",
    "hit_entry:",
    // The stack as a frame-pointer unwinder expects it: return address, then the caller's rbp.
    "push rbp",
    "mov rbp, rsp",
    "pushfq",
    // A program may ask for alignment checks (AC); compiled code would fault on its own unaligned accesses. The saved
    // flags bring it back.
    "test dword ptr [rsp], 0x40000",
    "jz 5f",
    "push 0x202",
    "popfq",
    "5:",
    "push rax",
    "push rdx",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rbx",
    // The trampoline left the site's index in ecx, zero-extended.
    "push rcx",
    // The flags are saved: from here on they may change. Compiled code expects the direction flag clear.
    "cld",
    // MXCSR's slot is filled only for probes that use floats, by `run`. The slots of xmm8 to xmm15 only for modules that
    // touch these registers: nothing of this image that a hit can reach does (`host/inject/tests/it/image.rs`).
    "sub rsp, 264",
    "movups [rsp], xmm0",
    "movups [rsp + 16], xmm1",
    "movups [rsp + 32], xmm2",
    "movups [rsp + 48], xmm3",
    "movups [rsp + 64], xmm4",
    "movups [rsp + 80], xmm5",
    "movups [rsp + 96], xmm6",
    "movups [rsp + 112], xmm7",
    "cmp byte ptr [rip + {high_vectors}], 0",
    "je 8f",
    "movups [rsp + 128], xmm8",
    "movups [rsp + 144], xmm9",
    "movups [rsp + 160], xmm10",
    "movups [rsp + 176], xmm11",
    "movups [rsp + 192], xmm12",
    "movups [rsp + 208], xmm13",
    "movups [rsp + 224], xmm14",
    "movups [rsp + 240], xmm15",
    "8:",
    // rbx: the frame, kept by every callee.
    "mov rbx, rsp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {enter}",
    // rax: what next; 0 is the end. rdx: the context, kept in r12 by every callee.
    "test rax, rax",
    "jz 3f",
    "mov r12, rdx",
    "cmp rax, {settle_next}",
    "je 4f",
    // The rest on another stack, whose top is in rax; or on this one.
    "mov rsp, rax",
    "mov rdi, rdx",
    "call {run}",
    "test al, al",
    "jz 7f",
    "4:",
    // The probe trapped. Why is known to the parked activation, which lies on top of the spare stack and may need all
    // of it: so first back to the stack that the hit came on.
    "mov rsp, rbx",
    "and rsp, -16",
    "mov rdi, r12",
    "call {settle}",
    "jmp 7f",
    // Here a trap in `serve` goes on, with the context at the top of the stack. First of all, while its frames are there: where
    // it was.
    ".globl trap_hit",
    "trap_hit:",
    "mov r12, [rsp]",
    "mov rdi, [r12 + {trace}]",
    "call {note}",
    "mov rbx, [r12 + {recover}]",
    // The frame of `enter` or `run`, where rbp still points, is no more.
    "lea rbp, [rbx + {rbp}]",
    "jmp 4b",
    "7:",
    // A panic comes here with the context in r12 and the frame in rbx.
    ".globl recover_hit",
    "recover_hit:",
    "mov rsp, rbx",
    // Only now, back on the thread's own stack, is the context left: a signal handler that came earlier and hit a site
    // would be given the spare stack from its top, over the frames that this hit still had on it.
    "mov qword ptr [r12 + {inside}], 0",
    "3:",
    "mov rsp, rbx",
    "movups xmm0, [rsp]",
    "movups xmm1, [rsp + 16]",
    "movups xmm2, [rsp + 32]",
    "movups xmm3, [rsp + 48]",
    "movups xmm4, [rsp + 64]",
    "movups xmm5, [rsp + 80]",
    "movups xmm6, [rsp + 96]",
    "movups xmm7, [rsp + 112]",
    "cmp byte ptr [rip + {high_vectors}], 0",
    "je 9f",
    "movups xmm8, [rsp + 128]",
    "movups xmm9, [rsp + 144]",
    "movups xmm10, [rsp + 160]",
    "movups xmm11, [rsp + 176]",
    "movups xmm12, [rsp + 192]",
    "movups xmm13, [rsp + 208]",
    "movups xmm14, [rsp + 224]",
    "movups xmm15, [rsp + 240]",
    "9:",
    // The flags. `popfq` takes longer than the rest of this epilogue, so it is left to the flags that only it can bring
    // back: direction and alignment check, which this code may have cleared. Every other flag that a program can set is
    // either arithmetic and put back below, or still what it was (trap, nested task, identification).
    "mov eax, [rip + {by_popfq}]",
    "test [rsp + {rflags}], eax",
    "jnz 6f",
    // Overflow: 8 + 0x78 is over 127, 0 + 0x78 is not. Then sign, zero, adjust, parity and carry, which are the low byte
    // of the saved flags as `sahf` wants it. Nothing below changes a flag.
    "mov al, [rsp + {rflags} + 1]",
    "and al, 8",
    "add al, 0x78",
    "mov ah, [rsp + {rflags}]",
    "sahf",
    "lea rsp, [rsp + 264]",
    "pop rcx",
    "pop rbx",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rax",
    "lea rsp, [rsp + 8]",
    "pop rbp",
    "ret",
    "6:",
    "add rsp, 264",
    "pop rcx",
    "pop rbx",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rax",
    "popfq",
    "pop rbp",
    "ret",
    // agent_entry(rdi: operation, rsi: control block), called on a stack of ours. A panic in `boot` comes back to
    // `recover_boot` with this stack pointer, so what the caller wants kept is kept here, not by `boot`.
    ".globl agent_entry",
    "agent_entry:",
    "cld",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "xor ebp, ebp",
    "sub rsp, 8",
    "mov [rip + {boot_recover}], rsp",
    "call {boot}",
    ".globl recover_boot",
    "recover_boot:",
    "add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    enter = sym crate::dispatch::enter,
    run = sym crate::dispatch::run,
    settle = sym crate::dispatch::settle,
    note = sym trocar_sandbox::note,
    trace = const offset_of!(Context, trace),
    recover = const offset_of!(Context, recover),
    rbp = const offset_of!(HitFrame, rbp),
    boot = sym crate::boot::boot,
    boot_recover = sym BOOT_RECOVER,
    by_popfq = sym FLAGS_BY_POPFQ,
    high_vectors = sym HIGH_VECTORS,
    rflags = const offset_of!(HitFrame, rflags),
    settle_next = const SETTLE,
    inside = const offset_of!(Context, head) + offset_of!(ContextHead, inside),
);

/// Where a panic while booting goes: the stack pointer that `agent_entry` saved.
pub(crate) static BOOT_RECOVER: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// The flags of a hit that are put back by `popfq` and not by `sahf`: direction (10) and alignment check (18). All of
/// them, that is the bit that is always set (1), on a processor without `sahf`; `boot` looks.
pub(crate) static FLAGS_BY_POPFQ: core::sync::atomic::AtomicU32 =
    core::sync::atomic::AtomicU32::new(1 << 10 | 1 << 18);

/// Whether the module touches xmm8 to xmm15; `boot` looks at the flags, which the host set by proof. Never changes while a
/// gate is open, so that what is saved is what is put back.
pub(crate) static HIGH_VECTORS: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(true);

unsafe extern "C" {
    /// What trampolines call.
    pub(crate) fn hit_entry();
    /// Where a trap goes on.
    pub(crate) fn trap_hit();
}

/// The frame that `hit_entry` pushes, compared with the shared definition.
const OFFSETS: () = {
    assert!(offset_of!(HitFrame, xmm) == 0);
    assert!(offset_of!(HitFrame, mxcsr) == 256);
    assert!(offset_of!(HitFrame, site) == 264);
    assert!(offset_of!(HitFrame, rbx) == 272);
    assert!(offset_of!(HitFrame, r15) == 280);
    assert!(offset_of!(HitFrame, r8) == 336);
    assert!(offset_of!(HitFrame, rdi) == 344);
    assert!(offset_of!(HitFrame, rsi) == 352);
    assert!(offset_of!(HitFrame, rdx) == 360);
    assert!(offset_of!(HitFrame, rax) == 368);
    assert!(offset_of!(HitFrame, rflags) == 376);
    assert!(offset_of!(HitFrame, rbp) == 384);
    assert!(offset_of!(HitFrame, trampoline) == 392);
    assert!(offset_of!(HitFrame, rcx) == 400);
    assert!(HIT_FRAME == 408);
};
#[expect(clippy::let_unit_value, reason = "uses the constant, so that it is evaluated")]
const _: () = {
    let _ = OFFSETS;
};
