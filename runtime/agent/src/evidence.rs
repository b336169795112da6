//! The evidence of a trap, into the shared memory: what the probe did, and what it could see of the target.
//!
//! The hits that leave some are told apart by the number of their trap, so each piece has one writer.

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use trocar_abi::evidence::{Evidence, STACK_WORDS, Which, offset};
use trocar_abi::hit::{HitFrame, REGISTERS};
use trocar_abi::shared::TrapCode;
use trocar_sandbox::Target;

use crate::context::Context;
use crate::dispatch::{stack_pointer, stack_range};
use crate::global::agent;
use crate::target::OwnProcess;

/// Leaves the evidence of the hit that is inside `context` and has just trapped.
///
/// # Safety
/// INVARIANT (inside) for the caller, and the instance is not running; nobody else writes this piece.
#[cold]
pub(crate) unsafe fn leave(context: *const Context, which: Which, code: TrapCode) {
    let agent = agent();
    let at = offset(which) as usize;
    // SAFETY: evidence lies in the first page of the shared memory, which the host mapped.
    let to: *mut Evidence = unsafe { agent.shared.add(at) }.cast();
    // SAFETY: the caller's contract.
    let ctx = unsafe { &*context };
    let frame: NonNull<HitFrame> = ctx.recover;
    // SAFETY: the frame stays on the thread's stack until the entry code pops it.
    let registers = unsafe { frame.as_ref() };
    let Some(site) = agent.sites.get(registers.site as usize) else { return };
    let rsp = stack_pointer(frame.as_ptr(), site.flags);
    let word = |to: *mut u32, value| {
        // SAFETY: a field of the evidence; volatile, because another process reads it.
        unsafe { to.write_volatile(value) };
    };
    let long = |to: *mut u64, value| {
        // SAFETY: as above.
        unsafe { to.write_volatile(value) };
    };
    // SAFETY: each a field of the evidence above.
    let fields = unsafe { &mut *to };
    word(&raw mut fields.trap_code, code as u32);
    word(&raw mut fields.site, registers.site as u32);
    word(&raw mut fields.tid, ctx.head.tid);
    word(&raw mut fields.handler, site.handler);
    word(&raw mut fields.function, site.function);
    word(&raw mut fields.cpu, OwnProcess.cpu());
    let span = ctx.instance.as_ref().map_or(-1, |instance| instance.span_ns(registers.site as u32));
    long((&raw mut fields.span_ns).cast(), span.cast_unsigned());
    let time = if agent.clock_gettime == 0 { 0 } else { OwnProcess.time_ns() };
    long(&raw mut fields.time_ns, time);
    for (number, to) in (0..).zip(fields.registers.iter_mut()) {
        let value = match number {
            7 => rsp,
            16 => site.address,
            n => registers.register(n).unwrap_or(0),
        };
        long(to, value);
    }
    // What lies above the stack pointer is mapped for sure where the stack is known.
    let (low, high) = stack_range(&ctx.head);
    let known = if rsp >= low && rsp < high && rsp.is_multiple_of(8) { (high - rsp) / 8 } else { 0 };
    let known = (known as usize).min(STACK_WORDS);
    for (n, to) in fields.stack.iter_mut().take(known).enumerate() {
        let at = (rsp as *const u64).wrapping_add(n);
        // SAFETY: an aligned word below the end of the thread's stack. Volatile: another thread may write there.
        long(to, unsafe { at.read_volatile() });
    }
    long(&raw mut fields.stack_count, known as u64);
    let mut count = 0;
    if let Some(instance) = &ctx.instance {
        for (address, to) in instance.trapped_at().zip(fields.frames.iter_mut()) {
            word(to, address);
            count += 1;
        }
    }
    word(&raw mut fields.frame_count, count);
    agent.head_word(at + offset_of!(Evidence, written)).store(1, Ordering::Release);
}
const _: () = assert!(REGISTERS.len() == 17);
