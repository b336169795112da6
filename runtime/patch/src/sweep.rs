//! One pass over the whole text: instruction boundaries, direct branch and call targets, addresses taken.
//!
//! Text is cut into *parts*: from each function start to the next, and the gaps between functions. A part is
//! decoded linearly from its start; a gap goes on where the function before it ended. Only function starts
//! cut inside a function, never ends: a wrong size in a symbol table must not make up a boundary. Where a
//! direct branch lands between two boundaries (a skipped `lock` prefix, code after data in text), the
//! bytes are decoded from there too, until both readings meet, so that branches found only that way count.
//!
//! It does not know which parts belong together; `analysis.rs` joins them.

use std::collections::HashSet;
use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use crate::image::{FunctionRange, Image, Segment, find};
use crate::instruction::{Flow, flow, is_nop};
use crate::marks::Marks;
use crate::{JUMP, SHORT_JUMP};

/// A piece of text that is decoded from its start.
#[derive(Clone, Debug)]
pub struct TextPart {
    /// First byte.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// A known function covers it.
    pub function: bool,
    /// It starts inside the function before it (overlapping ranges).
    pub joined: bool,
    /// First address where decoding failed, or where an instruction ran into the next function.
    pub bad: Option<u64>,
    /// It contains an indirect jump.
    pub indirect_jump: bool,
}

/// What the pass found.
#[derive(Debug)]
pub struct Sweep {
    /// All parts, sorted; together they are the text.
    pub parts: Vec<TextPart>,
    /// Starts of instructions.
    pub boundaries: Marks,
    /// Targets of direct jumps, conditional or not.
    pub jumps: Marks,
    /// Targets of direct calls.
    pub calls: Marks,
    /// Text addresses that an instruction takes (`lea reg, [rip+T]`; at a fixed address, also as a constant).
    pub taken: Marks,
    /// Text addresses that a `lea` takes.
    pub leas: Marks,
    /// Text addresses whose bytes an instruction reads or writes: data among the code.
    pub reads: Marks,
    /// Addresses that a second reading went through, or ended at.
    pub second: Marks,
    /// Addresses of instructions of a second reading that leave.
    pub second_exits: Vec<u64>,
    /// Bytes inside an instruction of a second reading.
    pub straddled: Marks,
    /// Runs of nops and `int3` right after an instruction that leaves, sorted. See `padding.rs`.
    pub padding: Vec<Range<u64>>,
    /// Long nops of functions that straight code runs through, sorted. See `padding.rs`.
    pub nops: Vec<Range<u64>>,
    /// Addresses taken, with the part that does it: possible bases of jump tables.
    pub bases: Vec<(usize, u64)>,
    /// Direct jumps that leave their part.
    pub crossings: Vec<(usize, u64)>,
    /// Offset from the `fs` base at which Go code finds its goroutine, where all code agrees on one.
    pub go_tls: Option<i32>,
    /// Instructions decoded.
    pub instructions: u64,
}

/// Cuts a segment into parts. `functions` is sorted by start.
fn cut(segment: &Segment, functions: &[FunctionRange], parts: &mut Vec<TextPart>) {
    let (first, end) = (segment.vaddr, segment.end());
    let mut push = |start: u64, function: bool, joined: bool| {
        parts.push(TextPart { start, end, function, joined, bad: None, indirect_jump: false });
    };
    let mut covered = first;
    let mut last_start = None;
    for f in functions.iter().filter(|f| f.start >= first && f.start < end && f.end > f.start) {
        if f.start > covered {
            push(covered, false, false);
        }
        if last_start != Some(f.start) {
            push(f.start, true, last_start.is_some() && f.start < covered);
            last_start = Some(f.start);
        }
        covered = covered.max(f.end.min(end));
    }
    if covered < end {
        push(covered, false, false);
    }
}

/// Sorts the functions and gives every part its end.
fn cut_all(image: &Image) -> Vec<TextPart> {
    let mut functions = image.functions.clone();
    functions.sort_unstable();
    functions.dedup();
    let mut parts = Vec::with_capacity(functions.len() * 2);
    for segment in &image.text {
        let from = parts.len();
        let near = functions.partition_point(|f| f.start < segment.vaddr);
        let past = functions.partition_point(|f| f.start < segment.end());
        cut(segment, functions.get(near..past).unwrap_or(&[]), &mut parts);
        let mut end = segment.end();
        for part in parts.iter_mut().skip(from).rev() {
            part.end = end;
            end = part.start;
        }
    }
    parts
}

/// The part that contains an address.
pub fn part_of(parts: &[TextPart], vaddr: u64) -> Option<usize> {
    let index = parts.partition_point(|p| p.start <= vaddr).checked_sub(1)?;
    parts.get(index).filter(|p| vaddr < p.end).map(|_| index)
}

impl Sweep {
    /// Decodes the whole text.
    pub fn new(image: &Image) -> Self {
        let marks = || Marks::new(&image.text);
        let mut sweep = Self {
            parts: cut_all(image),
            boundaries: marks(),
            jumps: marks(),
            calls: marks(),
            taken: marks(),
            leas: marks(),
            reads: marks(),
            second: marks(),
            second_exits: Vec::new(),
            straddled: marks(),
            padding: Vec::new(),
            nops: Vec::new(),
            bases: Vec::new(),
            crossings: Vec::new(),
            go_tls: None,
            instructions: 0,
        };
        let mut tls = GoTls::default();
        let mut run = PaddingRun::default();
        let mut index = 0;
        for segment in &image.text {
            run.end(u64::MAX, &mut sweep.padding);
            let mut decoder = Decoder::with_ip(64, &segment.bytes, segment.vaddr, DecoderOptions::NONE);
            while sweep.parts.get(index).is_some_and(|p| p.start < segment.end()) {
                sweep.part(image, index, &mut decoder, segment.vaddr, &mut tls, &mut run);
                index += 1;
            }
        }
        run.end(u64::MAX, &mut sweep.padding);
        sweep.second_readings(image);
        sweep.bases.sort_unstable();
        sweep.bases.dedup();
        sweep.crossings.sort_unstable();
        sweep.crossings.dedup();
        sweep.go_tls = if image.go { tls.answer() } else { None };
        sweep
    }

    /// Decodes one part. The decoder stands where the part before it ended.
    fn part(
        &mut self,
        image: &Image,
        index: usize,
        decoder: &mut Decoder<'_>,
        base: u64,
        tls: &mut GoTls,
        run: &mut PaddingRun,
    ) {
        let Some(part) = self.parts.get(index).cloned() else { return };
        if part.function {
            run.end(part.start, &mut self.padding);
        }
        if part.function || decoder.ip() < part.start {
            seek(decoder, base, part.start);
        }
        let mut bad = None;
        let mut indirect_jump = false;
        let mut instruction = Instruction::default();
        while decoder.ip() < part.end && decoder.can_decode() {
            let at = decoder.ip();
            decoder.decode_out(&mut instruction);
            self.instructions += 1;
            if instruction.is_invalid() {
                bad = bad.or(Some(at));
                run.end(at, &mut self.padding);
                seek(decoder, base, at + 1);
                continue;
            }
            if decoder.ip() > part.end && part.function {
                bad = bad.or(Some(at));
            }
            self.boundaries.mark(at);
            let dead = run.note(&instruction, part.function, &mut self.padding);
            if !dead && part.function && instruction.len() >= NOP_ROOM && is_nop(&instruction) {
                self.nops.push(at..instruction.next_ip());
            }
            indirect_jump |= self.note(image, index, &instruction, (part.start, part.end));
            if image.go {
                tls.note(&instruction);
            }
        }
        if let Some(part) = self.parts.get_mut(index) {
            part.bad = bad;
            part.indirect_jump = indirect_jump;
        }
    }

    /// Notes where an instruction may send control and which addresses it takes. Answers whether it is an
    /// indirect jump.
    #[inline]
    fn note(&mut self, image: &Image, part: usize, i: &Instruction, own: (u64, u64)) -> bool {
        if !image.pie {
            self.note_absolute(i);
        }
        match i.flow_control() {
            FlowControl::Next => {
                if i.code() == Code::Lea_r64_m && i.memory_base() == Register::RIP {
                    let base = i.ip_rel_memory_address();
                    self.taken.mark(base);
                    self.leas.mark(base);
                    self.bases.push((part, base));
                } else if i.memory_base() == Register::RIP && !is_nop(i) {
                    self.reads.mark(i.ip_rel_memory_address());
                } else if !image.pie && i.code() == Code::Mov_r32_imm32 {
                    let base = u64::from(i.immediate32());
                    if find(&image.data, base).is_some() {
                        self.bases.push((part, base));
                    }
                }
            }
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                let target = i.near_branch_target();
                self.jumps.mark(target);
                if target < own.0 || target >= own.1 {
                    self.crossings.push((part, target));
                }
            }
            FlowControl::XbeginXabortXend => self.jumps.mark(i.near_branch_target()),
            FlowControl::Call if i.is_call_near() => self.calls.mark(i.near_branch_target()),
            FlowControl::IndirectBranch => return true,
            FlowControl::Call
            | FlowControl::IndirectCall
            | FlowControl::Return
            | FlowControl::Interrupt
            | FlowControl::Exception => {}
        }
        false
    }

    /// At a fixed address, an immediate or a displacement of 32 bits or more may be a code address.
    #[inline]
    fn note_absolute(&mut self, i: &Instruction) {
        if i.memory_displ_size() >= 4 {
            self.taken.mark(i.memory_displacement64());
            if i.memory_base() == Register::None {
                self.reads.mark(i.memory_displacement64());
            }
        }
        for operand in 0..i.op_count() {
            if matches!(
                i.op_kind(operand),
                OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64
            ) {
                self.taken.mark(i.immediate(operand));
            }
        }
    }

    /// Decodes from every address that control reaches off the boundaries, until a boundary is met.
    fn second_readings(&mut self, image: &Image) {
        let mut seen: HashSet<u64> = HashSet::new();
        let mut todo: Vec<u64> = self.jumps.without(&self.boundaries);
        todo.extend(self.calls.without(&self.boundaries));
        todo.extend(image.entries.iter().filter(|e| !self.boundaries.has(**e)));
        while let Some(start) = todo.pop() {
            let Some(index) = part_of(&self.parts, start) else { continue };
            let Some(own) = self.parts.get(index).map(|p| (p.start, p.end)) else { continue };
            let Some(bytes) = find(&image.text, start).and_then(|s| s.from(start)) else { continue };
            let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
            while decoder.can_decode() && !self.boundaries.has(decoder.ip()) && seen.insert(decoder.ip()) {
                self.second.mark(decoder.ip());
                let instruction = decoder.decode();
                if instruction.is_invalid() {
                    break;
                }
                (instruction.ip() + 1..instruction.next_ip()).for_each(|b| self.straddled.mark(b));
                self.instructions += 1;
                if self.note(image, index, &instruction, own)
                    && let Some(part) = self.parts.get_mut(index)
                {
                    part.indirect_jump = true;
                }
                if flow(&instruction) == Ok(Flow::Leaves) {
                    self.second_exits.push(instruction.ip());
                }
                let target = instruction.near_branch_target();
                if target != 0 && !self.boundaries.has(target) {
                    todo.push(target);
                }
            }
            // Where it met the first reading, or stopped for another reason.
            self.second.mark(decoder.ip());
        }
    }
}

/// Bytes of a nop in which a jump over it and a long jump have room.
const NOP_ROOM: usize = SHORT_JUMP + JUMP;

/// Follows the decoding and notes padding: what comes after an instruction that leaves, as long as it is
/// nops or `int3`.
#[derive(Default)]
struct PaddingRun {
    /// First byte of the run, and the target of the jump before it.
    began: Option<(u64, u64)>,
    /// Address after its last byte.
    upto: u64,
}

impl PaddingRun {
    /// Answers whether the instruction is padding.
    #[inline]
    fn note(&mut self, i: &Instruction, function: bool, runs: &mut Vec<Range<u64>>) -> bool {
        if self.began.is_some() {
            if is_nop(i) || i.code() == Code::Int3 {
                self.upto = i.next_ip();
                return true;
            }
            self.end(i.ip(), runs);
        }
        if function && flow(i) == Ok(Flow::Leaves) {
            self.began = Some((i.next_ip(), i.near_branch_target()));
            self.upto = i.next_ip();
        }
        false
    }

    /// Something else begins at `at`.
    fn end(&mut self, at: u64, runs: &mut Vec<Range<u64>>) {
        let Some((from, target)) = self.began.take() else { return };
        let to = self.upto.min(at);
        // A jump over exactly the padding keeps it for somebody who will write there (XRay's sleds).
        if from < to && target != to {
            runs.push(from..to);
        }
    }
}

/// Moves a decoder that began at `base`.
fn seek(decoder: &mut Decoder<'_>, base: u64, to: u64) {
    let Some(offset) = to.checked_sub(base).and_then(|o| usize::try_from(o).ok()) else { return };
    if decoder.set_position(offset).is_ok() {
        decoder.set_ip(to);
    }
}

/// Go keeps the goroutine at a negative offset from the `fs` base. Which one depends on how it was linked;
/// the code tells, as long as all of it tells the same.
#[derive(Default)]
struct GoTls {
    found: Option<i32>,
    conflict: bool,
}

impl GoTls {
    fn note(&mut self, i: &Instruction) {
        let plain = i.code() == Code::Mov_r64_rm64
            && i.segment_prefix() == Register::FS
            && i.memory_base() == Register::None
            && i.memory_index() == Register::None;
        if !plain {
            return;
        }
        let offset = i.memory_displacement64().cast_signed();
        match i32::try_from(offset) {
            Ok(offset) if offset < 0 => {
                self.conflict |= self.found.is_some_and(|found| found != offset);
                self.found = Some(offset);
            }
            _ => {}
        }
    }

    fn answer(&self) -> Option<i32> {
        self.found.filter(|_| !self.conflict)
    }
}
