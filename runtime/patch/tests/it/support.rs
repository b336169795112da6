//! Small images from bytes, and places for trampolines.

use iced_x86::code_asm::CodeAssembler;
use trocar_patch::{
    Analysis, FunctionRange, Image, Placement, Reason, Refusal, Segment, SitePlan, Template, Trampoline,
};

/// Where the test's text lies.
pub const TEXT: u64 = 0x1000;
/// Where the test's data lies.
pub const DATA: u64 = 0x8000;
/// Where the test's module is loaded.
pub const BIAS: u64 = 0x5555_0000_0000;

/// Assembles at [`TEXT`].
pub fn assemble(write: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).unwrap();
    write(&mut a);
    a.assemble(TEXT).unwrap()
}

/// Position-independent text that is one function.
pub fn image(text: &[u8]) -> Image {
    let end = TEXT + text.len() as u64;
    Image {
        text: vec![Segment { vaddr: TEXT, bytes: text.into() }],
        functions: vec![FunctionRange { start: TEXT, end }],
        pie: true,
        ..Image::default()
    }
}

/// Adds bytes at [`DATA`].
pub fn with_data(mut image: Image, data: &[u8]) -> Image {
    image.data.push(Segment { vaddr: DATA, bytes: data.into() });
    image
}

/// Plans an address of one function's text.
pub fn plan(text: &[u8], at: u64) -> Result<SitePlan, Refusal> {
    Analysis::new(image(text)).plan(at)
}

/// The reason of a refusal.
pub fn reason(plan: Result<SitePlan, Refusal>) -> Reason {
    plan.expect_err("a refusal").reason
}

/// A placement near the test's module.
pub fn near() -> Placement {
    Placement {
        bias: BIAS,
        trampoline: BIAS + 0x10_0000,
        agent_cell: BIAS + 0x20_0000,
        gate: BIAS + 0x20_0008,
        site_index: 0x0102_0304,
        red_zone: true,
        skipped_cell: None,
    }
}

/// The trampoline of a plan, near it.
pub fn emit(plan: &SitePlan, placement: &Placement) -> Trampoline {
    let template = Template::make(plan, placement).unwrap();
    let trampoline = template.emit().unwrap();
    assert_eq!(trampoline.bytes.len(), template.length());
    trampoline
}

/// An instruction at `at` whose last field but `tail` is a rip-relative displacement to `target`.
pub fn rip_relative(opcode: &[u8], at: u64, target: u64, tail: &[u8]) -> Vec<u8> {
    let end = at + (opcode.len() + 4 + tail.len()) as u64;
    let distance = i32::try_from(target.cast_signed() - end.cast_signed()).unwrap();
    [opcode, &distance.to_le_bytes(), tail].concat()
}
