//! Hits that are not real: read from JSON lines, or made up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trocar_abi::hit::{HitFrame, REGISTERS};

/// Most bytes of memory in one recorded hit.
const MEMORY_MAX: usize = 16 << 20;
const ARGUMENTS: [&str; 6] = HitFrame::ARGUMENTS;

/// A number: an integer, or a text such as `0x7ffd1000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word(pub u64);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Unsigned(u64),
            Signed(i64),
            Text(String),
        }
        let bad =
            |text: &str| serde::de::Error::custom(format!("{text:?} is no number: write 42 or \"0x2a\""));
        match Any::deserialize(from)? {
            Any::Unsigned(n) => Ok(Self(n)),
            Any::Signed(n) => Ok(Self(n.cast_unsigned())),
            Any::Text(text) => match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).map(Self).map_err(|_| bad(&text)),
                None => text.parse().map(Self).map_err(|_| bad(&text)),
            },
        }
    }
}

impl Serialize for Word {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// A range of the target's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedMemory {
    /// Its first address.
    pub address: Word,
    /// Its bytes as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// Its bytes as text; a NUL follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A hit, as one JSON line has it. Everything may be left out.
///
/// ```json
/// {"args":[3,"0x5000"],"regs":{"rax":1},"memory":[{"address":"0x5000","text":"get"}],"tid":812,"handler":"on_hit"}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedHit {
    /// Integer arguments, at most six.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Word>,
    /// Registers by name; they win over `args`.
    #[serde(default)]
    pub regs: BTreeMap<String, Word>,
    /// What can be read.
    #[serde(default)]
    pub memory: Vec<RecordedMemory>,
    /// Thread.
    #[serde(default)]
    pub tid: u32,
    /// Index of the site.
    #[serde(default)]
    pub site: u32,
    /// Clock at the hit, in nanoseconds.
    #[serde(default)]
    pub time_ns: u64,
    /// Number of the processor.
    #[serde(default)]
    pub cpu: u32,
    /// At an exit of a function: how long its call took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_ns: Option<i64>,
    /// Index of the function.
    #[serde(default)]
    pub function: u32,
    /// Export name of the handler; without it the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Arguments are where Go puts them; `args` are those of other languages in any case.
    #[serde(default)]
    pub go: bool,
}

/// What is wrong with a recorded hit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HitError {
    /// It is no JSON of the right form.
    #[error("not a hit: {0}")]
    Json(String),
    /// More arguments than there are registers for them.
    #[error(
        "{0} arguments are more than the six that registers hold; put the rest into `memory` at $reg.rsp + 8"
    )]
    Arguments(usize),
    /// A register that does not exist.
    #[error("there is no register {0:?}; there are {names}", names = names())]
    Register(String),
    /// Memory that is no hexadecimal text, has neither `hex` nor `text`, or is too large.
    #[error("memory at {address:#x}: {what}")]
    Memory {
        /// Its address.
        address: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// The registers, for a message.
fn names() -> String {
    REGISTERS.join(", ")
}

/// A hit, checked.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) frame: HitFrame,
    pub(crate) rsp: u64,
    pub(crate) rip: u64,
    pub(crate) memory: Vec<(u64, Vec<u8>)>,
}

impl RecordedHit {
    /// Reads one JSON object.
    ///
    /// # Errors
    /// It is none, or a part of it is wrong.
    pub fn from_json(line: &str) -> Result<Self, HitError> {
        let hit: Self = serde_json::from_str(line).map_err(|e| HitError::Json(e.to_string()))?;
        hit.ready()?;
        Ok(hit)
    }

    /// All registers by their DWARF numbers, as a probe sees them.
    ///
    /// # Errors
    /// The hit is not as it should be.
    pub fn registers(&self) -> Result<[u64; 17], HitError> {
        let ready = self.ready()?;
        let mut registers = [0; 17];
        for (number, register) in (0..).zip(&mut registers) {
            *register = match number {
                7 => ready.rsp,
                16 => ready.rip,
                n => ready.frame.register(n).unwrap_or(0),
            };
        }
        Ok(registers)
    }

    pub(crate) fn ready(&self) -> Result<Ready, HitError> {
        if self.args.len() > ARGUMENTS.len() {
            return Err(HitError::Arguments(self.args.len()));
        }
        let mut values: BTreeMap<&str, u64> =
            ARGUMENTS.into_iter().zip(self.args.iter().map(|w| w.0)).collect();
        for (name, value) in &self.regs {
            let known = REGISTERS.iter().find(|r| *r == name);
            values.insert(known.ok_or_else(|| HitError::Register(name.clone()))?, value.0);
        }
        let memory = self.memory.iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
        if memory.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > MEMORY_MAX {
            return Err(HitError::Memory { address: 0, what: "more than 16 MiB in one hit" });
        }
        let value = |name: &str| values.get(name).copied().unwrap_or(0);
        Ok(Ready { frame: frame(value), rsp: value("rsp"), rip: value("rip"), memory })
    }
}

impl RecordedMemory {
    /// A range with these bytes.
    #[must_use]
    pub fn new(address: u64, bytes: &[u8]) -> Self {
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { address: Word(address), hex: Some(hex), text: None }
    }
}

fn bytes(memory: &RecordedMemory) -> Result<(u64, Vec<u8>), HitError> {
    let address = memory.address.0;
    let wrong = |what| HitError::Memory { address, what };
    let bytes = match (&memory.hex, &memory.text) {
        (Some(hex), None) => {
            let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let digits: Option<Vec<u8>> =
                hex.as_bytes().iter().filter(|c| !c.is_ascii_whitespace()).map(digit).collect();
            let digits = digits.ok_or_else(|| wrong("`hex` holds something that is no hexadecimal digit"))?;
            let (pairs, odd) = digits.as_chunks::<2>();
            if !odd.is_empty() {
                return Err(wrong("`hex` has an odd number of digits"));
            }
            pairs.iter().map(|[high, low]| high << 4 | low).collect()
        }
        (None, Some(text)) => text.bytes().chain([0]).collect(),
        _ => return Err(wrong("give either `hex` or `text`")),
    };
    Ok((address, bytes))
}

fn frame(value: impl Fn(&str) -> u64) -> HitFrame {
    HitFrame {
        xmm: [[0; 2]; 16],
        mxcsr: 0x1f80,
        site: 0,
        rbx: value("rbx"),
        r15: value("r15"),
        r14: value("r14"),
        r13: value("r13"),
        r12: value("r12"),
        r11: value("r11"),
        r10: value("r10"),
        r9: value("r9"),
        r8: value("r8"),
        rdi: value("rdi"),
        rsi: value("rsi"),
        rdx: value("rdx"),
        rax: value("rax"),
        rflags: 0x202,
        rbp: value("rbp"),
        trampoline: 0,
        rcx: value("rcx"),
    }
}

/// Where made-up memory begins.
const BASE: u64 = 0x1_0000;
/// Words of made-up memory; each holds the address of the text.
const POINTERS: u64 = 256;

/// Hit number `index` of a made-up series: `arg0` is the address of 256 pointers, each to the text `made-up`; the
/// other arguments are `index`, `2^index` up to 2^31, `index % 7`, 0 and -1; four threads take turns, a millisecond apart.
#[must_use]
pub fn made_up(index: u64) -> RecordedHit {
    let text_at = BASE + POINTERS * 8;
    let bytes: Vec<u8> = (0..POINTERS).flat_map(|_| text_at.to_le_bytes()).chain(*b"made-up\0").collect();
    let args = [BASE, index, 1 << (index % 32), index % 7, 0, u64::MAX];
    RecordedHit {
        args: args.map(Word).into(),
        regs: [("rsp", 0x7fff_0000), ("rip", 0x40_1000), ("rax", index)]
            .map(|(name, value)| (name.to_owned(), Word(value)))
            .into(),
        memory: vec![RecordedMemory::new(BASE, &bytes)],
        tid: 1000 + u32::try_from(index % 4).unwrap_or(0),
        site: 0,
        time_ns: index.wrapping_mul(1_000_000),
        cpu: 0,
        span_ns: i64::try_from(index.wrapping_mul(1000)).ok(),
        function: 0,
        handler: None,
        go: false,
    }
}
