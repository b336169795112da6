//! What a probe can reach of the process that it runs in.

use core::arch::asm;

use trocar_abi::control::{flags, site_flags};
use trocar_abi::hit::HitFrame;
use trocar_abi::import::errno::{EFAULT, EPERM};
use trocar_abi::operand::{Operand, unpacked};
use trocar_sandbox::Target;

use crate::dispatch::stack_pointer;
use crate::global::agent;
use crate::sys;

/// The process itself.
pub(crate) struct OwnProcess;

const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;
/// Segment whose limit holds the processor's number (Linux `arch/x86/include/asm/segment.h`, `__CPUNODE_SEG`).
const CPU_SEGMENT: u32 = 0x7b;

impl Target for OwnProcess {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), i32> {
        if agent().flags & flags::NO_READ != 0 {
            return Err(EPERM);
        }
        if to.is_empty() || sys::read_own_memory(agent().pid, address, to) { Ok(()) } else { Err(EFAULT) }
    }

    fn time_ns(&self) -> u64 {
        clock_ns(CLOCK_MONOTONIC)
    }

    fn real_time_ns(&self) -> u64 {
        clock_ns(CLOCK_REALTIME)
    }

    fn function(&self, site: u32) -> u32 {
        agent().sites.get(site as usize).map_or(0, |site| site.function)
    }

    fn place(&self, frame: &HitFrame, site: u32) -> (u64, u64) {
        let site = agent().sites.get(site as usize);
        site.map_or((0, 0), |site| (stack_pointer(frame, site.flags), site.address))
    }

    fn operand(&self, site: u32, n: u32) -> Option<Operand> {
        let site = agent().sites.get(site as usize).filter(|s| s.flags & site_flags::MARKER != 0)?;
        let found = unpacked(site.operands, n).and_then(|at| agent().operands.get(at as usize));
        Some(found.copied().unwrap_or_default())
    }

    fn cpu(&self) -> u32 {
        let value: u32;
        // SAFETY: reads a segment limit that Linux keeps readable for this purpose; changes flags only.
        unsafe { asm!("lsl {0:e}, {1:e}", out(reg) value, in(reg) CPU_SEGMENT, options(nostack, nomem)) };
        value & 0xfff
    }
}

/// What a clock says, in nanoseconds.
fn clock_ns(id: i32) -> u64 {
    let mut time = [0i64; 2];
    let vdso = agent().clock_gettime;
    if vdso == 0 {
        if agent().flags & flags::NO_CLOCK == 0 {
            sys::clock(id, &mut time);
        }
    } else {
        // SAFETY: the host found the function `__vdso_clock_gettime` in this process's vdso; this is its type.
        let clock: extern "C" fn(i32, *mut i64) -> i32 = unsafe { core::mem::transmute(vdso) };
        clock(id, time.as_mut_ptr());
    }
    let [seconds, nanoseconds] = time;
    (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanoseconds as u64)
}
