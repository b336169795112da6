//! Calls through a module's import table: where its code goes to functions of other modules.
//!
//! The loader writes the address of each imported function into a slot (relocations JUMP_SLOT and GLOB_DAT; System V x86-64
//! ABI, 4.4). Code goes there by `jmp *slot(%rip)` or `call *slot(%rip)`: the stubs of the procedure linkage table do, one
//! for all calls of a function, and with `-fno-plt` each call itself. Where code reads the slot (`mov slot(%rip), %reg`), it
//! has the function's address, and nobody sees what it calls by it.
//!
//! Code is searched for the displacements that lead to a slot. Bytes that only look like such an instruction are no
//! danger: the planner patches instructions alone.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use object::elf::{R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, SHT_RELA, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE};

use crate::bytes::{u32_at, u64_at};
use crate::code::is_linkage;
use crate::elf::Elf;

/// A place where code goes through the import table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The function, as the file names it.
    pub name: String,
    /// What the instruction does.
    pub way: Way,
}

/// What an instruction does with a slot of the import table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is the stub of the procedure linkage table, to which calls go.
    Stub,
    /// It calls the function.
    Call,
    /// It jumps there, as a call that is a function's last does.
    Jump,
    /// It takes the function's address: calls by it cannot be seen.
    Address,
}

impl Way {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stub => "stub",
            Self::Call => "call",
            Self::Jump => "jump",
            Self::Address => "address",
        }
    }
}

/// A function that a module calls through its import table.
pub(crate) struct Slot<'a> {
    /// Its name.
    pub(crate) name: &'a [u8],
    /// Address of the slot.
    at: u64,
    /// The module has it itself, and goes through the table so that others may take its place.
    pub(crate) is_own: bool,
    /// It may as well be data: its name has no type, and the slot is not of the kind that only calls use.
    is_untyped: bool,
}

impl Elf {
    /// All imported functions; a name may have two slots.
    pub(crate) fn imported(&self) -> Vec<Slot<'_>> {
        let mut imported = Vec::new();
        for table in self.tables(SHT_RELA, &[self.dynamic.rela, self.dynamic.jump_rela]) {
            for entry in self.range(&table).chunks_exact(24) {
                let (Some(slot), Some(kind), Some(symbol)) =
                    (u64_at(entry, 0), u32_at(entry, 8), u32_at(entry, 12))
                else {
                    continue;
                };
                if kind != R_X86_64_JUMP_SLOT && kind != R_X86_64_GLOB_DAT {
                    continue;
                }
                let Some((name, of, is_own)) = self.dynamic_name(symbol) else { continue };
                // What is called is a function; what has a slot of the other kind may be data. A plugin that was linked
                // without its host does not know which.
                let is_known = of == STT_FUNC || of == STT_GNU_IFUNC || kind == R_X86_64_JUMP_SLOT;
                if is_known || (of == STT_NOTYPE && !is_own) {
                    imported.push(Slot { name, at: slot, is_own, is_untyped: !is_known });
                }
            }
        }
        imported
    }

    /// Every instruction that goes through the slots of these functions, or reads them, in ascending order.
    pub(crate) fn import_sites(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<(u64, Import)> {
        let slots: HashMap<u64, Slot<'_>> =
            self.imported().into_iter().filter(|s| wanted(s.name)).map(|s| (s.at, s)).collect();
        if slots.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut called = HashSet::new();
        self.slot_users(|at, way, slot| {
            if let Some(Slot { name, .. }) = slots.get(&slot) {
                found.push((at, slot, Import { name: String::from_utf8_lossy(name).into_owned(), way }));
                if way != Way::Address {
                    called.insert(slot);
                }
            }
        });
        // What nobody calls is not known to be a function.
        found.retain(|(_, slot, _)| called.contains(slot) || slots.get(slot).is_some_and(|s| !s.is_untyped));
        found.sort_by_key(|(at, ..)| *at);
        found.into_iter().map(|(at, _, import)| (at, import)).collect()
    }

    /// The jumps of the stubs of the procedure linkage table: to the planner each is a function of one instruction.
    #[must_use]
    pub fn stubs(&self) -> Vec<Range<u64>> {
        let slots: HashSet<u64> = self.imported().into_iter().map(|s| s.at).collect();
        let mut stubs = Vec::new();
        self.slot_users(|at, way, slot| {
            if way == Way::Stub && slots.contains(&slot) {
                // A prefix makes it longer; the displacement ends it.
                let prefixed = self.at(at).is_some_and(|bytes| bytes.first() == Some(&BND));
                stubs.push(at..at + if prefixed { 7 } else { 6 });
            }
        });
        stubs
    }

    /// Calls `found` with address, way and slot of each instruction that looks like one of those above.
    fn slot_users(&self, mut found: impl FnMut(u64, Way, u64)) {
        let linkage: Vec<Range<u64>> =
            self.sections.iter().filter(|s| is_linkage(s.name(&self.bytes))).map(|s| s.range()).collect();
        for text in &self.text {
            let bytes = self.range(text);
            let slot = |behind: usize| {
                let displacement =
                    bytes.get(behind.checked_sub(4)?..)?.first_chunk().copied().map(i32::from_le_bytes)?;
                Some((text.start + behind as u64).wrapping_add_signed(i64::from(displacement)))
            };
            for at in memchr::memchr_iter(JUMP_OR_CALL, bytes) {
                let address = text.start + at as u64;
                let (Some(&what), Some(slot)) = (bytes.get(at + 1), slot(at + 6)) else { continue };
                match what {
                    CALL => found(address, Way::Call, slot),
                    JUMP if linkage.iter().any(|r| r.contains(&address)) => {
                        // `bnd jmp`, as linkers wrote it for a while. Only here: elsewhere that byte may end something else.
                        let prefixed = at.checked_sub(1).and_then(|at| bytes.get(at)) == Some(&BND);
                        found(address - u64::from(prefixed), Way::Stub, slot);
                    }
                    JUMP => found(address, Way::Jump, slot),
                    _ => {}
                }
            }
            for at in memchr::memchr_iter(MOVE, bytes) {
                let wide =
                    at.checked_sub(1).and_then(|at| bytes.get(at)).is_some_and(|rex| rex & 0xf8 == REX_W);
                let relative = bytes.get(at + 1).is_some_and(|modrm| modrm & 0xc7 == RIP_RELATIVE);
                if wide
                    && relative
                    && let Some(slot) = slot(at + 6)
                {
                    found(text.start + at as u64 - 1, Way::Address, slot);
                }
            }
        }
    }
}

/// First byte of `call *`, `jmp *` and others (Intel SDM, group 5), and the second of those two with `disp32(%rip)`.
const JUMP_OR_CALL: u8 = 0xff;
const CALL: u8 = 0x15;
const JUMP: u8 = 0x25;
const BND: u8 = 0xf2;
/// `mov reg, [rip + disp32]` with a prefix for 64 bits.
const MOVE: u8 = 0x8b;
const REX_W: u8 = 0x48;
const RIP_RELATIVE: u8 = 0x05;
