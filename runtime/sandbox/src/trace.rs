//! Where a handler trapped: the return addresses of its frames.
//!
//! wasmtime can collect them itself, with names and all, which is much code for the target. Here they are read right after
//! the handler has come back, from the frames that it left below the stack pointer:
//!
//! ```text
//!  who called the handler  │ ◀─ rsp after the call
//!  ────────────────────────┤
//!  entry trampoline, if any│  ▲ each rbp points to the one before it, the return address lies above it
//!  handler, its callees    │  │
//!  trampoline of the trap  │ ◀─ frame pointer that compiled code noted in its store, with the first address
//! ```
//! Nothing has been called since, so they are as they were, unless a signal handler ran in between: then words of its
//! frame are taken for addresses. That is why the first address is the noted one, and why whoever uses the others keeps
//! only what lies in the module's code. All that is read is stack of this thread, whatever the words say.
#![expect(unsafe_code, reason = "reads frames that are over")]

use core::arch::naked_asm;
use core::mem::offset_of;

use trocar_abi::evidence::FRAMES_MAX;
use wasmtime_environ::{HostPtr, PtrSize};

use crate::parked::Handler;

/// Bytes below the stack pointer that frames of a handler may take: its own 32 KiB, and the largest frame on top.
const REACH: usize = 48 << 10;
const _: () = assert!(crate::WASM_STACK + (12 << 10) <= REACH);

/// The addresses of the last trap, innermost first.
#[derive(Debug)]
#[repr(C)]
pub struct Trace {
    pub(crate) addresses: [usize; FRAMES_MAX],
    pub(crate) count: usize,
    /// The words of the store where compiled code notes, before it leaves for a trap, the frame pointer of the trampoline
    /// that it leaves by, and the address behind. Null without handlers.
    left_frame: *const usize,
    left_address: *const usize,
}

impl Trace {
    /// The trace of an instance with this first handler.
    pub(crate) fn new(handler: Option<&Handler>) -> Self {
        let layout = HostPtr.vm_store_context();
        let word =
            |offset| handler.map_or(core::ptr::null(), |h| h.store_field::<usize>(offset).cast_const());
        Self {
            addresses: [0; FRAMES_MAX],
            count: 0,
            left_frame: word(layout.last_wasm_exit_trampoline_fp()),
            left_address: word(layout.last_wasm_exit_pc()),
        }
    }
}

/// Fills `trace`. It keeps to registers, so that all it writes to the stack is its own return address, in the place of
/// the handler's.
///
/// # Safety
/// Called by whoever called a handler of the instance that the trace belongs to, right after that call, with nothing
/// called in between; below its stack pointer are [`REACH`] bytes of stack.
#[unsafe(naked)]
pub unsafe extern "C" fn note(trace: *mut Trace) {
    naked_asm!(
        "mov rdx, [rdi + {left_frame}]",
        "mov rdx, [rdx]",
        "mov rax, [rdi + {left_address}]",
        "mov rax, [rax]",
        "mov [rdi + {addresses}], rax",
        "mov ecx, 1",
        "lea r8, [rsp - 8]", // the last place for a frame pointer and its return address below the caller's frame
        "lea r9, [rsp - {reach}]",
        "cmp rdx, r9",
        "jb 3f",
        "cmp rdx, r8",
        "ja 3f",
        "test dl, 7",
        "jnz 3f",
        "2:",
        "mov rax, [rdx]",
        "cmp rax, rdx", // frames become higher
        "jbe 3f",
        "cmp rax, r8",
        "ja 3f",
        "test al, 7",
        "jnz 3f",
        "mov rdx, rax",
        "mov rax, [rdx + 8]",
        "mov [rdi + 8 * rcx + {addresses}], rax",
        "inc ecx",
        "cmp ecx, {most}",
        "jb 2b",
        "3:",
        "mov [rdi + {count}], rcx",
        "ret",
        reach = const REACH,
        most = const FRAMES_MAX,
        addresses = const offset_of!(Trace, addresses),
        count = const offset_of!(Trace, count),
        left_frame = const offset_of!(Trace, left_frame),
        left_address = const offset_of!(Trace, left_address),
    )
}
