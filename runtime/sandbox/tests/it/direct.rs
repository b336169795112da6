//! A hit whose trap does not come back to its caller: what the agent's entry code is there, a jump over frames is here.
#![expect(unsafe_code, reason = "leaves frames, as the agent's entry code does")]

use core::arch::naked_asm;
use core::mem::offset_of;

use trocar_sandbox::{Hit, Instance, Outcome, Trace, note};

/// A hit to be made, and what came of it.
#[repr(C)]
struct Job {
    /// Where the registers lie that a callee keeps.
    kept: usize,
    trace: *mut Trace,
    instance: *mut Instance,
    handler: u32,
    hit: Hit,
    ended: Option<(Outcome, u64)>,
}

/// The hit; `None` if it trapped, and is to be settled.
///
/// # Safety
/// As [`Instance::hit_direct`].
pub(crate) unsafe fn hit(instance: &mut Instance, handler: u32, hit: Hit) -> Option<(Outcome, u64)> {
    let trace = instance.trace();
    let mut job = Job { kept: 0, trace, instance, handler, hit, ended: None };
    // SAFETY: `run` leaves nothing to be dropped where it is left.
    unsafe { guarded(&raw mut job) };
    job.ended
}

unsafe extern "C" fn run(job: *mut Job) {
    // SAFETY: `hit` gives a job, which lasts.
    let job = unsafe { &mut *job };
    // SAFETY: as above: nobody else uses the instance.
    let instance = unsafe { &mut *job.instance };
    let (on_trap, hit) = (on_trap as *const () as usize, job.hit);
    let argument = (&raw mut *job).cast();
    // SAFETY: the caller's contract; `on_trap` notes the trace at once and leaves these frames.
    job.ended = Some(unsafe { instance.hit_direct(job.handler, || hit, on_trap, argument) });
}

/// Calls [`run`], which a trap may leave.
#[unsafe(naked)]
unsafe extern "C" fn guarded(job: *mut Job) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdi + {kept}], rsp",
        "call {run}",
        "2:",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        ".globl trocar_test_trapped",
        "trocar_test_trapped:",
        "mov rbx, [rsp]",
        "mov rdi, [rbx + {trace}]",
        "call {note}",
        "mov rsp, [rbx + {kept}]",
        "jmp 2b",
        run = sym run,
        note = sym note,
        kept = const offset_of!(Job, kept),
        trace = const offset_of!(Job, trace),
    )
}

/// Where a trap goes on.
#[unsafe(naked)]
unsafe extern "C" fn on_trap() {
    naked_asm!("jmp trocar_test_trapped")
}
