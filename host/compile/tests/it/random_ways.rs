//! The bound against real hits of modules that nobody wrote: random trees of blocks, branches, calls, host calls and
//! counted loops. What a hit uses is never more than the bound; where there is only one way, it is the bound.

use trocar_compile::verify;
use trocar_package::{Manifest, attach_section};
use trocar_sandbox::Outcome;

use crate::machine::{Machine, Memory};
use crate::wasm;

/// Modules in one run.
const MODULES: u64 = 200;
/// Functions of a module; each calls only later ones.
const FUNCTIONS: u64 = 5;

/// A linear congruential sequence: the same modules in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}

/// Code without a branch: it leaves nothing on the stack.
const STRAIGHT: [&str; 9] = [
    "(call $count (i32.const 0) (i32.const 0) (i64.const 1))",
    "(drop (call $read (i64.const 0x1000) (i32.const 64) (i32.const 24)))",
    "(drop (call $read_str (call $arg (i32.const 1)) (i32.const 64) (i32.const 80)))",
    "(call $log (i32.const 2) (i32.const 0) (i32.const 33))",
    "(drop (call $hash_add (i32.const 1) (i32.const 0) (i32.const 8) (i64.const 1)))",
    "(global.set $g (i64.mul (i64.add (global.get $g) (i64.const 3)) (call $arg (i32.const 0))))",
    "(memory.fill (i32.const 128) (i32.const 7) (i32.const 50))",
    "(local.set $x (i32.add (local.get $x) (i32.wrap_i64 (global.get $g)))) nop",
    "(i64.store (i32.const 8) (i64.load (i32.const 16))) (drop (memory.size))",
];

/// A condition that differs from hit to hit and from place to place.
const CONDITION: [&str; 4] = [
    "(i32.and (i32.wrap_i64 (call $arg (i32.const 0))) (i32.const 1))",
    "(i32.wrap_i64 (i64.shr_u (call $arg (i32.const 0)) (i64.extend_i32_u (local.get $x))))",
    "(i64.eqz (i64.rem_u (global.get $g) (i64.const 3)))",
    "(local.tee $x (i32.add (local.get $x) (i32.const 1)))",
];

/// Loops of a few rounds: start, step, condition to go on, end. Without a condition they go on until zero.
const COUNTED: [(i32, i32, &str, i32); 6] = [
    (0, 1, "i32.ne", 3),
    (10, -3, "i32.gt_s", -2),
    (3, -1, "", 0),
    (-8, 4, "i32.lt_s", 0),
    (5, 0, "i32.lt_u", 5),
    (7, 2, "i32.gt_u", 9),
];

/// Some statements, within so many blocks.
fn statements(dice: &mut Dice, function: u64, depth: u64, branches: bool) -> String {
    let mut text = String::new();
    for _ in 0..1 + dice.roll(4) {
        let inner = |dice: &mut Dice| statements(dice, function, depth + 1, branches);
        let condition = dice.pick(&CONDITION);
        text += &match dice.roll(if depth < 4 { 12 } else { 6 }) {
            0..4 => match dice.pick(&STRAIGHT) {
                // On how many pages a string is, and so what it costs, is another way that the code does not show.
                string if !branches && string.contains("$read_str") => " nop ".to_owned(),
                other => other.to_owned(),
            },
            4 if function + 1 < FUNCTIONS => {
                format!("(call $f{})", function + 1 + dice.roll(FUNCTIONS - 1 - function))
            }
            6 if dice.roll(2) == 0 => format!("(block {})", inner(dice)),
            7 => format!("(loop (block {}))", inner(dice)),
            8 if branches => format!("(if {condition} (then {}) (else {}))", inner(dice), inner(dice)),
            9 if branches => format!("(if {condition} (then {}))", inner(dice)),
            10 if branches => format!("(block (br_if 0 {condition}) {} (br 0) nop)", inner(dice)),
            11 if branches => {
                let (a, b) = (inner(dice), inner(dice));
                format!("(block (block (block (br_table 0 1 2 {condition})) {a} (br 1)) {b})")
            }
            5 if branches && depth > 1 && dice.roll(3) == 0 => {
                format!("(if {condition} (then {}))", dice.pick(&["(return)", "(br 1)", "(unreachable)"]))
            }
            6 => {
                let (code, local) = (inner(dice), format!("$i{depth}"));
                let (start, step, condition, end) = COUNTED[usize::try_from(dice.roll(6)).unwrap()];
                let next = format!("(local.tee {local} (i32.add (local.get {local}) (i32.const {step})))");
                let condition = if condition.is_empty() {
                    next
                } else {
                    format!("({condition} {next} (i32.const {end}))")
                };
                let outer = if dice.roll(2) == 0 { "(block (br_if 0 (i32.const 0)) nop)" } else { "" };
                format!(
                    "{outer} (local.set {local} (i32.const {start})) (loop $l (block {code}) (br_if $l {condition}))"
                )
            }
            _ => "(drop (i32.const 1))".to_owned(),
        };
    }
    text
}

fn module(dice: &mut Dice, branches: bool) -> Vec<u8> {
    let mut functions = String::new();
    for function in 0..FUNCTIONS {
        let name = if function == 0 { r#"(export "on_hit")"# } else { "" };
        functions += &format!(
            "(func $f{function} {name} (local $x i32) (local $i0 i32) (local $i1 i32) (local $i2 i32) (local $i3 i32) {})",
            statements(dice, function, 0, branches)
        );
    }
    let text = format!(
        r#"(module (import "trocar" "arg" (func $arg (param i32) (result i64)))
             (import "trocar" "counter_add" (func $count (param i32 i32 i64)))
             (import "trocar" "hash_add" (func $hash_add (param i32 i32 i32 i64) (result i32)))
             (import "trocar" "log" (func $log (param i32 i32 i32)))
             (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
             (import "trocar" "read_str" (func $read_str (param i64 i32 i32) (result i32)))
             (memory (export "memory") 1) (global $g (mut i64) (i64.const 1)) {functions})"#
    );
    let manifest = "abi=1\nname='p'\nmaps=[{name='m',kind='counter',entries=1},\
        {name='h',kind='hash',entries=16,key=[{name='k',type='u64'}]}]\n";
    attach_section(&wasm(&text), &Manifest::from_toml(manifest).unwrap()).unwrap()
}

#[test]
fn a_hit_never_uses_more_than_the_bound() {
    let mut dice = Dice(7);
    let (mut hits, mut exact, mut traps) = (0, 0, 0);
    for number in 0..MODULES {
        let verified = verify(&module(&mut dice, true)).unwrap_or_else(|e| panic!("{number}: {e}"));
        let bound = verified.worst_fuel.unwrap_or_else(|| panic!("{number}: no bound"));
        let mut machine = Machine::new(&verified, Memory(vec![(0x1000, vec![b'a'; 40])]));
        for argument in [0, 1, 2, 0x5555, u64::MAX, 0xdead_beef] {
            let (outcome, used) = machine.hit([argument, 0x1000 + argument]);
            assert!(used <= bound, "module {number}, hit {argument}: used {used}, bound {bound}");
            hits += 1;
            exact += u32::from(used == bound);
            traps += u32::from(matches!(outcome, Outcome::Trapped(_)));
        }
    }
    // Otherwise the modules would say little: some ways are the dearest, and some end in a trap.
    println!("{hits} hits, {exact} of the whole bound, {traps} traps");
    assert!(exact > hits / 20 && traps > 10, "{hits} hits, {exact} of the whole bound, {traps} traps");
}

#[test]
fn where_there_is_one_way_the_bound_is_what_a_hit_uses() {
    let mut dice = Dice(11);
    for number in 0..MODULES {
        let verified = verify(&module(&mut dice, false)).unwrap_or_else(|e| panic!("{number}: {e}"));
        let mut machine = Machine::new(&verified, Memory(vec![(0x1000, vec![b'a'; 40])]));
        let (outcome, used) = machine.hit([3, 0x1000]);
        assert_eq!((outcome, Some(used)), (Outcome::Executed, verified.worst_fuel), "module {number}");
    }
}
