//! What a probe can reach of the process that it runs in.

use core::arch::asm;

use trocar_abi::control::flags;
use trocar_abi::import::errno::{EFAULT, EPERM};
use trocar_sandbox::Target;

use crate::context::current;
use crate::global::agent;
use crate::sys;

/// The process itself.
pub(crate) struct OwnProcess;

const CLOCK_MONOTONIC: i32 = 1;
/// Segment whose limit holds the processor's number (Linux `arch/x86/include/asm/segment.h`, `__CPUNODE_SEG`).
const CPU_SEGMENT: u32 = 0x7b;

impl Target for OwnProcess {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), i32> {
        if agent().flags & flags::MAY_READ == 0 {
            return Err(EPERM);
        }
        if to.is_empty() || sys::read_own_memory(agent().pid, address, to) { Ok(()) } else { Err(EFAULT) }
    }

    fn time_ns(&self) -> u64 {
        let mut time = [0i64; 2];
        let vdso = agent().clock_gettime;
        if vdso == 0 {
            if agent().flags & flags::NO_SYSCALLS == 0 {
                sys::clock(&mut time);
            }
        } else {
            // SAFETY: the host found the function `__vdso_clock_gettime` in this process's vdso; this is its type.
            let clock: extern "C" fn(i32, *mut i64) -> i32 = unsafe { core::mem::transmute(vdso) };
            clock(CLOCK_MONOTONIC, time.as_mut_ptr());
        }
        let [seconds, nanoseconds] = time;
        (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanoseconds as u64)
    }

    fn span_ns(&self) -> i64 {
        // SAFETY: the context of this thread, which is inside a hit: only this thread uses it.
        current().map_or(-1, |context| unsafe { (*context).span_ns })
    }

    fn function(&self) -> u32 {
        // SAFETY: as above.
        let site = current().map(|context| unsafe { (*context).site });
        site.and_then(|site| agent().sites.get(site as usize)).map_or(0, |facts| facts.function)
    }

    fn cpu(&self) -> u32 {
        let value: u32;
        // SAFETY: reads a segment limit that Linux keeps readable for this purpose; changes flags only.
        unsafe { asm!("lsl {0:e}, {1:e}", out(reg) value, in(reg) CPU_SEGMENT, options(nostack, nomem)) };
        value & 0xfff
    }
}
