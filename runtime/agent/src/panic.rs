//! A panic is a bug of ours. It disarms the agent for good; the thread goes on where the hit began.

use core::fmt::Write;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use trocar_abi::shared::{ProbeState, SharedHead};

use crate::boot::Message;
use crate::context::current;
use crate::entry::BOOT_RECOVER;
use crate::global::{BOOT_THREAD, CONTROL, agent, booting};

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let agent = agent();
    if booting() {
        // SAFETY: the control block of the running operation, which the boot code no longer uses.
        if let Some(block) = unsafe { CONTROL.load(Ordering::Relaxed).as_mut() } {
            block.failed = 1;
            let _ = write!(Message(block), "panic: {info}");
        }
        BOOT_THREAD.store(0, Ordering::Relaxed);
        let sp = BOOT_RECOVER.load(Ordering::Relaxed);
        // SAFETY: `agent_entry` saved this stack pointer for exactly this, and its frame is still below us.
        unsafe { core::arch::asm!("mov rsp, {}", "jmp recover_boot", in(reg) sp, options(noreturn)) }
    }
    if !agent.shared.is_null() {
        agent.head_word(offset_of!(SharedHead, state)).store(ProbeState::Disarmed as u32, Ordering::Release);
    }
    agent.close_gates();
    match current() {
        Some(context) => {
            // SAFETY: the context of this thread, which is inside a hit.
            let frame = unsafe { (*context).recover };
            // The entry code leaves the context. What it was doing is unknown, but closed gates and the disarmed state
            // keep every later hit out of it, and the host must not wait for it before it takes our pages away.
            // SAFETY: `recover_hit` restores everything from the frame, wherever this thread is; the frame is whole, since
            // `hit_entry` made it and nothing of ours above it is written.
            unsafe {
                core::arch::asm!(
                    "mov r12, rax",
                    "mov rbx, rcx",
                    "mov rsp, rcx",
                    "jmp recover_hit",
                    in("rax") context,
                    in("rcx") frame,
                    options(noreturn)
                )
            }
        }
        // A panic outside a hit and outside boot: `enter` contains nothing that panics. Rather wait than harm.
        None => loop {
            core::hint::spin_loop();
        },
    }
}

/// Referred to by the prebuilt `core` and `alloc`; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
