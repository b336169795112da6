//! The arguments of USDT markers: from the text of a note to where their values are.
//!
//! The text is what the compiler put for each operand of the marker's empty instruction, in the assembler's (AT&T) notation,
//! behind its size: `-4@%edi 8@-16(%rbp) 4@$5 -4@NBuffers(%rip) 8@(%rax,%rdx,8)`. A negative size is that of a signed number.
//! Names are looked up in the file's symbols. What is not understood (floats, thread-local data, names that the file has
//! lost) is an operand without form.

use object::elf::{SHN_UNDEF, SHT_SYMTAB, STT_OBJECT, STT_SECTION, STT_TLS};
use trocar_abi::operand::{ARGUMENTS, NO_REGISTER, Operand, form};

use crate::bytes::{c_string, u8_at, u16_at, u32_at, u64_at};
use crate::elf::Elf;
use crate::markers::Marker;
use crate::symbols::SYMBOL;

/// Names of the low part of a register: eight, four, two and one bytes; by DWARF number.
const REGISTERS: [[&str; 4]; 16] = [
    ["rax", "eax", "ax", "al"],
    ["rdx", "edx", "dx", "dl"],
    ["rcx", "ecx", "cx", "cl"],
    ["rbx", "ebx", "bx", "bl"],
    ["rsi", "esi", "si", "sil"],
    ["rdi", "edi", "di", "dil"],
    ["rbp", "ebp", "bp", "bpl"],
    ["rsp", "esp", "sp", "spl"],
    ["r8", "r8d", "r8w", "r8b"],
    ["r9", "r9d", "r9w", "r9b"],
    ["r10", "r10d", "r10w", "r10b"],
    ["r11", "r11d", "r11w", "r11b"],
    ["r12", "r12d", "r12w", "r12b"],
    ["r13", "r13d", "r13w", "r13b"],
    ["r14", "r14d", "r14w", "r14b"],
    ["r15", "r15d", "r15w", "r15b"],
];
/// `st_info` of a datum that is local to its source file (STB_LOCAL is zero).
const LOCAL_OBJECT: u8 = STT_OBJECT;
/// The second bytes of the first four.
const SECOND_BYTES: [&str; 4] = ["ah", "dh", "ch", "bh"];

impl Elf {
    /// Where the arguments of a marker are, in a process in which the file is loaded with this bias.
    #[must_use]
    pub fn operands(&self, marker: &Marker, bias: u64) -> Vec<Operand> {
        let symbol = |name: &str| Some(self.symbol_value(name)?.wrapping_add(bias));
        let words = marker.arguments.split_ascii_whitespace().take(ARGUMENTS);
        words.map(|word| operand(word, symbol).unwrap_or_default()).collect()
    }

    /// The address of a symbol of any kind but thread-local; `None` if several of that name differ. Only from a table that
    /// also has what is local to a source file: without those (`strip`, `strip -x`), another file's symbol of that name may be
    /// all that is left.
    fn symbol_value(&self, name: &str) -> Option<u64> {
        let mut value = None;
        let mut has_locals = false;
        for table in self.sections.iter().filter(|s| s.kind == SHT_SYMTAB) {
            let strings = usize::try_from(table.link).ok().and_then(|link| self.sections.get(link));
            let strings = strings.and_then(|s| s.bytes(&self.bytes)).unwrap_or_default();
            for entry in table.bytes(&self.bytes).unwrap_or_default().chunks_exact(SYMBOL) {
                let kind = u8_at(entry, 4).unwrap_or(0) & 0xf;
                if u16_at(entry, 6) == Some(SHN_UNDEF) || kind == STT_TLS || kind == STT_SECTION {
                    continue;
                }
                has_locals |= u8_at(entry, 4) == Some(LOCAL_OBJECT);
                let text = u32_at(entry, 0).and_then(|at| c_string(strings, u64::from(at)));
                if text == Some(name.as_bytes()) {
                    let this = u64_at(entry, 8)?;
                    if value.is_some_and(|other| other != this) {
                        return None;
                    }
                    value = Some(this);
                }
            }
        }
        value.filter(|_| has_locals)
    }
}

fn operand(word: &str, symbol: impl Fn(&str) -> Option<u64>) -> Option<Operand> {
    let (size, place) = word.split_once('@').unwrap_or(("8", word));
    let (signed, size) = size.strip_prefix('-').map_or((0, size), |size| (1, size));
    let size = size.parse().ok().filter(|size| [1, 2, 4, 8].contains(size))?;
    let none = Operand { size, signed, base: NO_REGISTER, index: NO_REGISTER, ..Operand::default() };
    if let Some(value) = place.strip_prefix('$') {
        return Some(Operand { form: form::CONSTANT, value: sum(value, symbol)?, ..none });
    }
    if place.starts_with('%') && !place.contains(['(', ':']) {
        let (base, shift) = register(place)?;
        return Some(Operand { form: form::REGISTER, base, shift, ..none });
    }
    let memory = Operand { form: form::MEMORY, scale: 1, ..none };
    let Some((displacement, inside)) = place.split_once('(') else {
        return Some(Operand { value: sum(place, symbol)?, ..memory });
    };
    let inside = inside.strip_suffix(')')?;
    if inside == "%rip" {
        // Only with a name is it an address of the file: the name's.
        return displacement
            .contains(is_name_start)
            .then(|| sum(displacement, symbol))?
            .map(|value| Operand { value, ..memory });
    }
    let value = if displacement.is_empty() { 0 } else { sum(displacement, symbol)? };
    let mut parts = inside.split(',');
    let whole =
        |name: &str| register(name).filter(|(n, shift)| *shift == 0 && is_whole(name, *n)).map(|(n, _)| n);
    let base = match parts.next()? {
        "" => NO_REGISTER,
        name => whole(name)?,
    };
    let index = parts.next().map_or(Some(NO_REGISTER), whole)?;
    let scale = parts.next().map_or(Some(1), |scale| scale.parse().ok())?;
    (parts.next().is_none() && [1, 2, 4, 8].contains(&scale)).then_some(Operand {
        base,
        index,
        scale,
        value,
        ..memory
    })
}

/// A register's DWARF number, and how far to shift it.
fn register(name: &str) -> Option<(u8, u8)> {
    let name = name.strip_prefix('%')?;
    let number = |at: usize| u8::try_from(at).ok();
    if let Some(at) = REGISTERS.iter().position(|names| names.contains(&name)) {
        return Some((number(at)?, 0));
    }
    Some((number(SECOND_BYTES.iter().position(|other| *other == name)?)?, 8))
}

/// Addresses are made of registers of 64 bits.
fn is_whole(name: &str, number: u8) -> bool {
    REGISTERS.get(usize::from(number)).is_some_and(|[whole, ..]| name.strip_prefix('%') == Some(*whole))
}

const fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == '.'
}

/// A sum of numbers and names, as assemblers write displacements: `52+CheckpointStats`, `-16`, `day+4`.
fn sum(text: &str, symbol: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let negative = rest.starts_with('-');
        let term = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        let end = term.find(['+', '-']).unwrap_or(term.len());
        let (term, after) = term.split_at(end);
        let value = if term.starts_with(is_name_start) {
            symbol(term)?
        } else {
            match term.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok()?,
                None => term.parse().ok()?,
            }
        };
        total = if negative { total.wrapping_sub(value) } else { total.wrapping_add(value) };
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(word: &str) -> Option<Operand> {
        operand(word, |name| (name == "day" || name == "stats.0").then_some(0x5000))
    }

    fn of(size: u8, signed: u8, form: u8) -> Operand {
        Operand { size, signed, form, base: NO_REGISTER, index: NO_REGISTER, ..Operand::default() }
    }

    #[test]
    fn every_kind_of_operand_is_read() {
        let constant = |size, signed, value| Operand { value, ..of(size, signed, form::CONSTANT) };
        let register =
            |size, signed, base, shift| Operand { base, shift, ..of(size, signed, form::REGISTER) };
        let memory = |size, signed, base, value: i64| Operand {
            base,
            scale: 1,
            value: value.cast_unsigned(),
            ..of(size, signed, form::MEMORY)
        };
        for (word, want) in [
            ("4@$5", constant(4, 0, 5)),
            ("-4@$-7", constant(4, 1, (-7i64).cast_unsigned())),
            ("8@$day", constant(8, 0, 0x5000)),
            ("-4@%edi", register(4, 1, 5, 0)),
            ("1@%sil", register(1, 0, 4, 0)),
            ("2@%r14w", register(2, 0, 14, 0)),
            ("1@%ah", register(1, 0, 0, 8)),
            ("%rax", register(8, 0, 0, 0)),
            ("8@-16(%rbp)", memory(8, 0, 6, -16)),
            ("4@(%r12)", memory(4, 0, 12, 0)),
            ("-4@112(%rsp)", memory(4, 1, 7, 112)),
            ("2@day(%rip)", memory(2, 0, NO_REGISTER, 0x5000)),
            ("-4@52+stats.0(%rip)", memory(4, 1, NO_REGISTER, 0x5034)),
            ("-4@day-4(%rip)", memory(4, 1, NO_REGISTER, 0x4ffc)),
            ("8@day", memory(8, 0, NO_REGISTER, 0x5000)),
            ("8@day(%rax)", memory(8, 0, 0, 0x5000)),
            ("8@8(%rax,%rdx,4)", Operand { index: 1, scale: 4, ..memory(8, 0, 0, 8) }),
            ("8@(%rax,%rdx)", Operand { index: 1, ..memory(8, 0, 0, 0) }),
            ("8@(,%rdx,8)", Operand { index: 1, scale: 8, ..memory(8, 0, NO_REGISTER, 0) }),
        ] {
            assert_eq!(read(word), Some(want), "{word}");
        }
    }

    #[test]
    fn what_is_not_understood_is_none() {
        for word in [
            "",
            "@",
            "8@",
            "3@%rax",
            "4@%xmm0",
            "8f@%xmm0",
            "8@%fs:16",
            "8@%fs:(%rax)",
            "8@lost(%rip)",
            "8@16(%rip)",
            "8@$",
            "8@$x",
            "8@(%eax)",
            "8@(%ah)",
            "8@(%rax",
            "8@(%rax,%rdx,3)",
            "8@(%rax,%rdx,8,1)",
            "8@$99999999999999999999",
            "8@--4(%rax)",
        ] {
            assert_eq!(read(word), None, "{word}");
        }
    }
}
