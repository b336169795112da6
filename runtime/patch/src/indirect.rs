//! An indirect jump: a switch, or a tail call?
//!
//! It can land inside its function only through an address that somebody has of an instruction there. So the
//! first question is which such addresses there are ([`Reachable`]):
//!
//! | inside the function there are | `jmp` through |
//! |---|---|
//! | no addresses | anything: a tail call |
//! | targets of self-relative tables only | a computed register: a switch, unless the function takes the address of another table too, which may hold functions. A pointer loaded from memory, or from a fixed cell: a tail call, since memory holds no such pointer |
//! | absolute addresses (tables of pointers, taken labels) | a table that is read and leads inside: a switch. A table that leads outside: a tail call. Anything else: unknown |
//!
//! Where the register comes from is looked for in the straight code before the jump, up to the first place
//! that a branch reaches. What is not found there is unknown, unless the first line of the table decides.
//! A pointer that is loaded from the stack counts as computed: it may have been put there.

use std::collections::BTreeSet;

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use crate::analysis::Analysis;
use crate::image::find;
use crate::tables::walk;

/// What an indirect jump is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indirect {
    /// It stays in the function.
    Switch,
    /// It leaves.
    Tail,
    /// Either may be true.
    Unknown,
}

/// Which addresses inside a function somebody has.
pub struct Reachable {
    /// In a pointer, or taken by an instruction.
    absolute: bool,
    /// As a target of a self-relative table.
    relative: bool,
    /// Every table whose address the function takes leads inside: none holds functions.
    switches: bool,
    members: BTreeSet<usize>,
}

impl Reachable {
    /// Looks at all parts of a function.
    pub fn new(analysis: &Analysis, members: &BTreeSet<usize>) -> Self {
        let a = analysis;
        // A pointer to the start of a part is one to a function. A table may well lead to the start of a cold part.
        let member = |target: u64| a.is_instruction(target) && a.part_in(target, members);
        let inside =
            |target: u64| member(target) && a.part_at(target).is_some_and(|(_, p)| p.start != target);
        let absolute = members.iter().filter_map(|m| a.sweep.parts.get(*m)).any(|part| {
            // In position-independent code every pointer is a relocation's; a word of data that looks like one is
            // none.
            let pointers = (!a.image.pie).then_some(&a.pointers);
            [&a.sweep.taken, &a.called].into_iter().chain(pointers).any(|marks| {
                let mut from = part.start + 1;
                while let Some(at) = marks.first(from..part.end) {
                    if inside(at) {
                        return true;
                    }
                    from = at + 1;
                }
                false
            })
        });
        let relative = members.iter().flat_map(|m| a.bases(*m)).any(|base| {
            let mut found = false;
            walk(&a.image, base, None, |target| {
                found = member(target);
                !found
            });
            found
        });
        let mut switches = true;
        for base in members.iter().flat_map(|m| a.bases(*m)) {
            walk(&a.image, base, None, |target| {
                switches &= a.part_in(target, members);
                false
            });
        }
        Self { absolute, relative, switches, members: members.clone() }
    }
}

/// Where the value of a register comes from.
enum Source {
    /// This memory operand.
    Loaded(Instruction),
    /// An address that the code names.
    Named(u64),
    /// An entry of the self-relative table at this address.
    Table(u64),
    /// Other arithmetic.
    Computed,
    /// The result of a call.
    Returned,
    /// Not in sight.
    Unseen,
}

impl Analysis {
    /// What the last instruction of `code` is, an indirect jump.
    pub(crate) fn indirect(&self, code: &[Instruction], reachable: &Reachable) -> Indirect {
        let Some((jump, before)) = code.split_last() else { return Indirect::Unknown };
        if !reachable.absolute && !reachable.relative {
            return Indirect::Tail;
        }
        match jump.op0_kind() {
            OpKind::Register => match self.source(before, jump.op0_register(), jump.ip()) {
                Source::Loaded(i) => {
                    let upto = before.iter().position(|b| b.ip() == i.ip()).unwrap_or(0);
                    let (head, tail) = before.split_at_checked(upto).unwrap_or((&[], before));
                    self.through(head, &i, tail, reachable)
                }
                Source::Named(target) => self.leads(target, reachable),
                Source::Table(base) => self.leads_from(base, reachable),
                Source::Computed if reachable.switches && !reachable.absolute => Indirect::Switch,
                Source::Returned if !reachable.absolute => Indirect::Tail,
                Source::Computed | Source::Returned | Source::Unseen => Indirect::Unknown,
            },
            OpKind::Memory => self.through(before, jump, &[], reachable),
            _ => Indirect::Unknown,
        }
    }

    /// A pointer in the memory that `i` names; `before` is the code before `i`, `after` that from it to the jump.
    fn through(
        &self,
        before: &[Instruction],
        i: &Instruction,
        after: &[Instruction],
        reachable: &Reachable,
    ) -> Indirect {
        let base = i.memory_base();
        if !reachable.absolute {
            // Memory holds no address inside, except where this function has computed one and put it there; and it
            // takes its frame down only to leave.
            let stack = matches!(base, Register::RSP | Register::RBP);
            return if stack && !frame_goes(after) { Indirect::Unknown } else { Indirect::Tail };
        }
        let table = match base {
            Register::None => Some(i.memory_displacement64()),
            Register::RIP => Some(i.ip_rel_memory_address()),
            _ => match self.source(before, base, i.ip()) {
                Source::Named(at) => Some(at.wrapping_add(i.memory_displacement64())),
                _ => None,
            },
        };
        match table.and_then(|at| self.pointer_at(at)) {
            Some(target) => self.leads(target, reachable),
            None => Indirect::Unknown,
        }
    }

    fn leads(&self, target: u64, reachable: &Reachable) -> Indirect {
        match self.part_at(target) {
            Some((index, _)) if reachable.members.contains(&index) => Indirect::Switch,
            Some(_) => Indirect::Tail,
            None => Indirect::Unknown,
        }
    }

    /// Where the first entry of a self-relative table leads.
    fn leads_from(&self, base: u64, reachable: &Reachable) -> Indirect {
        let mut first = None;
        walk(&self.image, base, None, |target| {
            first = Some(target);
            false
        });
        first.map_or(Indirect::Unknown, |target| self.leads(target, reachable))
    }

    /// The first pointer of a table in data.
    fn pointer_at(&self, at: u64) -> Option<u64> {
        let bytes = find(&self.image.data, at)?.from(at)?.get(..8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?)).filter(|p| *p != 0)
    }

    /// Where a register has its value from at `at`, the address after `before`.
    fn source(&self, before: &[Instruction], register: Register, at: u64) -> Source {
        let (mut register, mut next) = (register.full_register(), at);
        let mut info = InstructionInfoFactory::new();
        for (seen, i) in (1..).zip(before.iter().rev()) {
            // Whoever comes from elsewhere may have another value.
            if self.arrives(next) || i.next_ip() != next {
                return Source::Unseen;
            }
            next = i.ip();
            match i.flow_control() {
                FlowControl::Next | FlowControl::ConditionalBranch => {}
                FlowControl::Call | FlowControl::IndirectCall if register == Register::RAX => {
                    return Source::Returned;
                }
                FlowControl::Call | FlowControl::IndirectCall if kept_by_calls(register) => {}
                _ => return Source::Unseen,
            }
            let writes = |u: &iced_x86::UsedRegister| {
                u.register().full_register() == register
                    && matches!(
                        u.access(),
                        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
                    )
            };
            if !info.info(i).used_registers().iter().any(writes) {
                continue;
            }
            match (i.mnemonic(), i.op1_kind()) {
                (Mnemonic::Mov, OpKind::Register) => register = i.op1_register().full_register(),
                (Mnemonic::Mov, OpKind::Memory) => return Source::Loaded(*i),
                (Mnemonic::Mov, OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64) => {
                    return Source::Named(i.immediate(1));
                }
                (Mnemonic::Lea, _) if i.memory_base() == Register::RIP => {
                    return Source::Named(i.ip_rel_memory_address());
                }
                // movsxd i,[r+i*4]; add i,r (or add r,i): the register that is not the entry is the table.
                (Mnemonic::Add, OpKind::Register) => {
                    let earlier = before.get(..before.len() - seen).unwrap_or(&[]);
                    let named = [i.op1_register(), i.op0_register()]
                        .map(|r| self.source(earlier, r, i.ip()))
                        .into_iter()
                        .find_map(|s| if let Source::Named(base) = s { Some(base) } else { None });
                    return named.map_or(Source::Computed, Source::Table);
                }
                (Mnemonic::Add | Mnemonic::Sub | Mnemonic::Lea, _) => return Source::Computed,
                _ => return Source::Unseen,
            }
        }
        Source::Unseen
    }

    /// Whether control may arrive at an address from elsewhere than above.
    fn arrives(&self, at: u64) -> bool {
        let marks = [
            &self.sweep.jumps,
            &self.sweep.calls,
            &self.entries,
            &self.pointers,
            &self.sweep.taken,
            &self.tables,
        ];
        marks.iter().any(|m| m.has(at))
    }
}

/// Whether this code takes a frame down.
fn frame_goes(code: &[Instruction]) -> bool {
    code.iter().any(|i| match i.mnemonic() {
        Mnemonic::Pop | Mnemonic::Leave => true,
        Mnemonic::Add => i.op0_register() == Register::RSP,
        _ => false,
    })
}

/// Registers that a callee keeps in the System V calling convention.
fn kept_by_calls(register: Register) -> bool {
    matches!(
        register,
        Register::RBX | Register::RBP | Register::R12 | Register::R13 | Register::R14 | Register::R15
    )
}
