//! What a hit that trapped left in the shared memory, read once and cut to what there can be.

use std::mem::offset_of;

use trocar_abi::evidence::{Evidence, FRAMES_MAX, STACK_WORDS, Which, offset};
use trocar_abi::shared::TrapCode;
use trocar_ring::SharedView;

/// The evidence of a trap. Its numbers are the target's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrapEvidence {
    /// Why it trapped.
    pub trap: TrapCode,
    /// Index of the site.
    pub site: u32,
    /// Thread, zero if unknown.
    pub tid: u32,
    /// Index of the handler.
    pub handler: u32,
    /// Index of the function that the site belongs to.
    pub function: u32,
    /// Number of the processor.
    pub cpu: u32,
    /// The clock, in nanoseconds; zero if it was not asked.
    pub time_ns: u64,
    /// Nanoseconds since the call began, -1 if unknown.
    pub span_ns: i64,
    /// Registers by their DWARF numbers.
    pub registers: [u64; 17],
    /// Words of the stack from its pointer upwards.
    pub stack: Vec<u64>,
    /// Return addresses in the compiled code, innermost first.
    pub frames: Vec<u32>,
}

/// Reads one; `None` if there is none.
pub(crate) fn read(view: &SharedView, which: Which) -> Option<TrapEvidence> {
    let at = offset(which);
    // The low half is `written`: after it everything else is there.
    let written = view.load_u64_acquire(at + offset_of!(Evidence, written) as u64)?;
    if written & 0xffff_ffff == 0 {
        return None;
    }
    let half = |field: usize| view.load_u32(at + field as u64);
    let word = |field: usize| view.load_u64(at + field as u64);
    let mut registers = [0; 17];
    for (n, register) in registers.iter_mut().enumerate() {
        *register = word(offset_of!(Evidence, registers) + 8 * n)?;
    }
    let most = |count: u64, most: usize| usize::try_from(count).unwrap_or(most).min(most);
    let words = most(word(offset_of!(Evidence, stack_count))?, STACK_WORDS);
    let frames = most(half(offset_of!(Evidence, frame_count))?.into(), FRAMES_MAX);
    Some(TrapEvidence {
        trap: TrapCode::from_u32(half(offset_of!(Evidence, trap_code))?),
        site: half(offset_of!(Evidence, site))?,
        tid: half(offset_of!(Evidence, tid))?,
        handler: half(offset_of!(Evidence, handler))?,
        function: half(offset_of!(Evidence, function))?,
        cpu: half(offset_of!(Evidence, cpu))?,
        time_ns: word(offset_of!(Evidence, time_ns))?,
        span_ns: word(offset_of!(Evidence, span_ns))?.cast_signed(),
        registers,
        stack: (0..words).filter_map(|n| word(offset_of!(Evidence, stack) + 8 * n)).collect(),
        frames: (0..frames).filter_map(|n| half(offset_of!(Evidence, frames) + 4 * n)).collect(),
    })
}
const _: () = assert!(offset_of!(Evidence, written) == 0);
