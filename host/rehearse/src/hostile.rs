//! Hits that an enemy would make up: for a probe that believes what it reads.
//!
//! A probe sees registers, memory and clocks of a program that may be wrong, under attack, or simply not what the author
//! thought. Each kind here is one way of being so, at its worst; the same kind and round are the same hit in every run.
//! Every register has the kind's value, so that it does not matter through which a handler looks.

use std::collections::BTreeMap;

use trocar_abi::PAGE;
use trocar_abi::hit::REGISTERS;

use crate::hit::{RecordedHit, RecordedMemory, Word};

/// A page of the hit's memory, and where nothing is.
const BASE: u64 = 0x10_0000;
/// Pages of a long text: longer than any one read, and than most buffers.
const LONG: u64 = 16;
/// Nodes of a chain.
const NODES: u64 = 64;

/// A way of being hostile.
#[derive(Clone, Copy, Debug)]
pub struct HostileKind {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    make: fn(&mut Dice) -> Enemy,
}

/// All of them.
pub const HOSTILE: [HostileKind; 14] = [
    kind("null", "every pointer is null", |_| registers(0)),
    kind("all-ones", "every bit of every register is set", |_| registers(u64::MAX)),
    kind("dangling", "pointers lead to where nothing is", |dice| {
        registers(BASE + dice.roll(1 << 30) * 8).memory(BASE - PAGE, vec![0xff; 8])
    }),
    kind("not-canonical", "pointers that no processor accepts, and those of the kernel", |dice| {
        registers(dice.pick([1 << 63, 0x0000_8000_0000_0000, 0xffff_8000_0000_0000, u64::MAX - 7]))
    }),
    kind("extremes", "the greatest and least integers of each size", |dice| {
        registers(dice.pick(EXTREMES)).each(|dice| dice.pick(EXTREMES), dice)
    }),
    kind("page-end", "the last bytes of a page, with nothing behind", |dice| {
        let left = dice.pick([1, 2, 3, 4, 7, 8, 15, 31]);
        registers(BASE + PAGE - left).memory(BASE, vec![b'A'; page()])
    }),
    kind("misaligned", "pointers to the midst of a word, over the edge of two pages", |dice| {
        let at = BASE + PAGE - 1 - dice.roll(7);
        registers(at).memory(BASE, words(2, |n| at ^ n))
    }),
    kind("empty", "pointers to zeros: empty texts, null members, lengths of nothing", |_| {
        registers(BASE).memory(BASE, vec![0; pages(LONG)])
    }),
    kind("unterminated", "a text without an end", |_| registers(BASE).memory(BASE, vec![b'A'; pages(LONG)])),
    kind("huge", "every length and count that is read is the greatest", |_| {
        registers(BASE).memory(BASE, vec![0xff; pages(LONG)])
    }),
    kind("loops", "every pointer that is read leads back to where it was", |dice| {
        let at = BASE + dice.roll(PAGE / 8) * 8;
        registers(at).memory(BASE, words(LONG, |_| at))
    }),
    kind("chain", "a list of many nodes, whose last one dangles", |_| {
        // Whatever offset the link has, it leads to the next page.
        registers(BASE).memory(BASE, words(NODES, |n| BASE + (n * 8 / PAGE + 1) * PAGE))
    }),
    kind("strange-text", "text that is no UTF-8 and holds what a terminal obeys", |dice| {
        const STRANGE: &[u8] = b"\x1b[2J\x1b]0;x\x07\xff\xfe\xc3\x28\r\n%s%n${$(`\"'\\\x80\0";
        let skip = usize::try_from(dice.roll(STRANGE.len() as u64)).unwrap_or(0);
        let text: Vec<u8> = STRANGE.iter().copied().cycle().skip(skip).take(pages(1)).collect();
        registers(BASE).memory(BASE, text)
    }),
    kind("noise", "registers and memory without meaning, pointers among them", |dice| {
        let mut word = || if dice.roll(3) == 0 { BASE + dice.roll(PAGE * 4) } else { dice.next() };
        let memory = words(4, |_| word());
        registers(BASE)
            .memory(BASE, memory)
            .each(|dice| if dice.roll(2) == 0 { BASE + dice.roll(PAGE * 4) } else { dice.next() }, dice)
    }),
];

const fn kind(name: &'static str, about: &'static str, make: fn(&mut Dice) -> Enemy) -> HostileKind {
    HostileKind { name, about, make }
}

impl HostileKind {
    /// The hit of a round, for this handler.
    #[must_use]
    pub fn hit(&self, handler: &str, round: u64) -> RecordedHit {
        let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.name.len() as u64);
        let enemy = (self.make)(&mut dice);
        RecordedHit {
            args: Vec::new(),
            regs: enemy.registers.into_iter().map(|(name, value)| (name.to_owned(), Word(value))).collect(),
            memory: enemy.memory.into_iter().map(|(at, bytes)| RecordedMemory::new(at, &bytes)).collect(),
            tid: dice.pick([0, 1, u32::MAX]),
            site: 0,
            time_ns: dice.pick([0, 1, u64::MAX]),
            cpu: 0,
            span_ns: Some(dice.pick([-1, 0, i64::MAX, i64::MIN])),
            function: 0,
            handler: Some(handler.to_owned()),
            go: false,
        }
    }
}

/// A hit in the making.
#[derive(Debug)]
struct Enemy {
    registers: BTreeMap<&'static str, u64>,
    memory: Vec<(u64, Vec<u8>)>,
}

fn registers(value: u64) -> Enemy {
    Enemy { registers: REGISTERS.into_iter().map(|name| (name, value)).collect(), memory: Vec::new() }
}

impl Enemy {
    fn memory(mut self, at: u64, bytes: Vec<u8>) -> Self {
        self.memory.push((at, bytes));
        self
    }

    fn each(mut self, mut value: impl FnMut(&mut Dice) -> u64, dice: &mut Dice) -> Self {
        for register in self.registers.values_mut() {
            *register = value(dice);
        }
        self
    }
}

const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

fn pages(n: u64) -> usize {
    usize::try_from(n * PAGE).unwrap_or(0)
}

fn page() -> usize {
    pages(1)
}

/// So many pages of words.
fn words(n: u64, mut word: impl FnMut(u64) -> u64) -> Vec<u8> {
    (0..n * PAGE / 8).flat_map(|n| word(n).to_le_bytes()).collect()
}

/// Numbers without meaning, the same in every run (SplitMix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    const fn roll(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    fn pick<T: Copy + Default, const N: usize>(&mut self, from: [T; N]) -> T {
        let index = usize::try_from(self.roll(N as u64)).unwrap_or(0);
        from.get(index).copied().unwrap_or_default()
    }
}
