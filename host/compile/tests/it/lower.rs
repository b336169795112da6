//! Simple handlers as native code: the same maps and the same ends as under the engine, whatever the registers; and what is
//! not simple, with its reason.
#![expect(unsafe_code, reason = "the code that is tested is called")]

use std::arch::asm;

use memmap2::{Mmap, MmapMut};
use trocar_abi::PAGE;
use trocar_abi::hit::{HitFrame, StubFrame};
use trocar_abi::shared::{ContextShared, Layout, SiteStats};
use trocar_compile::{Facts, Lowered, Verified, lower, verify};
use trocar_expr::{compile_count, parse};
use trocar_package::{Manifest, ParamValue, attach_section};
use trocar_sandbox::Outcome;

use crate::machine::{Machine, Memory, NO_REGISTERS};
use crate::random_ways::Dice;
use crate::wasm;

/// Sites of each session here.
const SITES: u32 = 3;
/// Random modules in one run, and hits of each.
const MODULES: u64 = 300;
const HITS: u64 = 12;

fn lowered(verified: &Verified) -> Result<Lowered, String> {
    let (maps, _) = verified.manifest.map_specs();
    let params = verified.manifest.resolve_params(&[]).unwrap();
    let params: Vec<Option<u64>> = params
        .iter()
        .map(|p| match p {
            ParamValue::Int(n) => Some(n.cast_unsigned()),
            ParamValue::Str(_) => None,
        })
        .collect();
    let facts = Facts { maps: &maps, params: &params, sites: SITES, go: false };
    lower(&verified.wasm, verified, &verified.handlers[0].name, &facts).map_err(|e| e.to_string())
}

/// A context's block, and the code that counts in it.
struct Native {
    code: Mmap,
    words: Vec<u64>,
    layout: Layout,
}

impl Native {
    fn new(verified: &Verified, lowered: &Lowered) -> Self {
        let mut bytes = MmapMut::map_anon(lowered.code.len()).unwrap();
        bytes.copy_from_slice(&lowered.code);
        let (_, maps) = verified.manifest.map_specs();
        let layout = Layout { sites: SITES, contexts: 1, maps, ring: PAGE };
        let words = vec![0; usize::try_from(layout.context_stride() / 8).unwrap()];
        Self { code: bytes.make_exec().unwrap(), words, layout }
    }

    /// One hit. That every register but the stack pointer is kept is checked by the caller's own compiled code as far as it
    /// uses them, and here for those that a call would not keep.
    fn hit(&mut self, registers: &HitFrame, site: u32) {
        let r = registers;
        let frame = StubFrame {
            r8: r.r8,
            r9: r.r9,
            r10: r.r10,
            r11: r.r11,
            r12: r.r12,
            r13: r.r13,
            r14: r.r14,
            r15: r.r15,
            rbx: r.rbx,
            rbp: r.rbp,
            rdi: r.rdi,
            rsi: r.rsi,
            rdx: r.rdx,
            flags: 0,
            rax: r.rax,
            trampoline: 0,
            rcx: r.rcx,
        };
        let marks = [0x1111_u64, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666];
        let mut kept = marks;
        let at = (self.words.as_mut_ptr(), u64::from(site), &raw const frame);
        // SAFETY: code that was proven (`lower::proof`), for a block of this layout, with fewer sites than it has.
        unsafe {
            asm!(
                "call {code}",
                code = in(reg) self.code.as_ptr(),
                in("rdi") at.0, in("rsi") at.1, in("rdx") at.2,
                inout("rax") kept[0], inout("rcx") kept[1], inout("r8") kept[2],
                inout("r9") kept[3], inout("r10") kept[4], inout("r11") kept[5],
            );
        }
        assert_eq!(kept, marks, "every register is kept");
    }

    fn word(&self, at: usize) -> u64 {
        self.words[at / 8]
    }

    fn stats(&self, site: u32) -> (u64, u64, u64) {
        let start = self.layout.context_stats(0) - self.layout.context(0);
        let at = usize::try_from(start).unwrap() + site as usize * size_of::<SiteStats>();
        let word = |offset: usize| self.word(at + offset);
        (
            word(std::mem::offset_of!(SiteStats, hits)),
            word(std::mem::offset_of!(SiteStats, executed)),
            word(std::mem::offset_of!(SiteStats, condition_false)),
        )
    }

    fn maps(&self, verified: &Verified) -> Vec<u64> {
        let (_, bytes) = verified.manifest.map_specs();
        let start = usize::try_from((self.layout.context_maps(0) - self.layout.context(0)) / 8).unwrap();
        self.words[start..start + usize::try_from(bytes / 8).unwrap()].to_vec()
    }
}

/// The same hits in both ways.
fn compare(verified: &Verified, lowered: &Lowered, dice: &mut Dice, what: &str) {
    let mut native = Native::new(verified, lowered);
    let mut machine = Machine::new(verified, Memory::default());
    let mut ends = [(0, 0, 0); SITES as usize];
    let hits = HITS;
    for _ in 0..hits {
        let mut number = || match dice.roll(5) {
            0 => dice.roll(4),
            1 => u64::MAX - dice.roll(3),
            2 => 1 << dice.roll(64),
            _ => dice.roll(1 << 31) << 33 | dice.roll(1 << 31) << 3 | dice.roll(8),
        };
        let registers = HitFrame {
            rax: number(),
            rbx: number(),
            rcx: number(),
            rdx: number(),
            rsi: number(),
            rdi: number(),
            rbp: number(),
            r8: number(),
            r9: number(),
            r10: number(),
            r15: number(),
            ..NO_REGISTERS
        };
        let site = u32::try_from(dice.roll(u64::from(SITES))).unwrap();
        native.hit(&registers, site);
        let (outcome, fuel) = machine.hit_at(registers, site);
        let end = &mut ends[site as usize];
        end.0 += 1;
        match outcome {
            Outcome::Executed => end.1 += 1,
            Outcome::ConditionFalse => end.2 += 1,
            other => panic!("a simple handler ended in {other:?}\n{what}"),
        }
        assert!(lowered.fuel >= fuel / 2, "what is billed follows the bound: {fuel}\n{what}");
        assert_eq!(native.maps(verified), machine.maps(), "{registers:x?}\n{what}");
    }
    for (site, end) in (0..).zip(ends) {
        assert_eq!(native.stats(site), end, "{what}");
    }
    assert_eq!(native.word(std::mem::offset_of!(ContextShared, stub_hits)), hits);
}

/// Maps of the modules here: counters, a histogram, one of the greatest precision; and a parameter.
const MANIFEST: &str = "abi = 1
name = 'simple'
maps = [{name='counts', kind='counter', entries=4}, {name='sizes', kind='hist', entries=2},
        {name='exact', kind='hist', entries=3, precision=6}]
params = [{name='limit', type='int', default=-7}]";

const IMPORTS: &str = r#"
    (import "trocar" "arg" (func $arg (param i32) (result i64)))
    (import "trocar" "reg" (func $reg (param i32) (result i64)))
    (import "trocar" "ret" (func $ret (result i64)))
    (import "trocar" "site" (func $site (result i32)))
    (import "trocar" "param" (func $param (param i32) (result i64)))
    (import "trocar" "counter_add" (func $count (param i32 i32 i64)))
    (import "trocar" "hist_add" (func $hist (param i32 i32 i64)))
    (import "trocar" "time_ns" (func $time (result i64)))
    (global $k i64 (i64.const 0x1234567890abcdef))
    (global $changes (mut i32) (i32.const 0))"#;

fn module(functions: &str) -> Verified {
    let manifest = Manifest::from_toml(&MANIFEST.replace(",\n", ",")).unwrap();
    let bytes = attach_section(&wasm(&format!("(module {IMPORTS} {functions})")), &manifest).unwrap();
    verify(&bytes).unwrap_or_else(|e| panic!("{e} {:?}\n{functions}", e.hint))
}

/// A random expression of this type.
fn expression(dice: &mut Dice, ty: &str, depth: u64) -> String {
    let e = |dice: &mut Dice, ty: &str| expression(dice, ty, depth + 1);
    let other = if ty == "i32" { "i64" } else { "i32" };
    match dice.roll(if depth < 5 { 16 } else { 5 }) {
        0 if ty == "i32" => format!("(i32.const {})", dice.roll(1 << 32)),
        0 => format!("(i64.const {})", dice.roll(1 << 31).wrapping_mul(0x1_0000_0003)),
        1 if ty == "i32" => "(call $site)".into(),
        1 => dice.pick(&["(call $ret)", "(global.get $k)", "(call $param (i32.const 0))"]).into(),
        2 if ty == "i64" => format!("(call $arg (i32.const {}))", dice.roll(8)),
        3 if ty == "i64" => {
            format!("(call $reg (i32.const {}))", dice.pick(&["0", "1", "3", "6", "8", "10", "15"]))
        }
        2..5 => format!("(local.get ${}{})", dice.pick(&["a", "b"]), &ty[1..]),
        5..9 => {
            let op = dice
                .pick(&["add", "sub", "mul", "and", "or", "xor", "shl", "shr_u", "shr_s", "rotl", "rotr"]);
            format!("({ty}.{op} {} {})", e(dice, ty), e(dice, ty))
        }
        9 if ty == "i32" => {
            let op = dice.pick(&["eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"]);
            let of = dice.pick(&["i32", "i64"]);
            format!("({of}.{op} {} {})", e(dice, of), e(dice, of))
        }
        9 => format!("({}, {})", dice.pick(&["i64.extend_i32_u", "i64.extend_i32_s"]), e(dice, other))
            .replace(", ", " "),
        10 if ty == "i32" => format!("(i32.wrap_i64 {})", e(dice, "i64")),
        10 => format!("(i64.{} {})", dice.pick(&["extend8_s", "extend16_s", "extend32_s"]), e(dice, "i64")),
        11 => format!("({ty}.{} {})", dice.pick(&["clz", "ctz"]), e(dice, ty)),
        12 => format!("(select {} {} {})", e(dice, ty), e(dice, ty), e(dice, "i32")),
        13 => format!("(if (result {ty}) {} (then {}) (else {}))", e(dice, "i32"), e(dice, ty), e(dice, ty)),
        14 => format!(
            "(block (result {ty}) {} (br_if 0 {}) (drop) {})",
            e(dice, ty),
            e(dice, "i32"),
            e(dice, ty)
        ),
        _ => format!("(call $f{} {} {})", &ty[1..], e(dice, "i32"), e(dice, "i64")),
    }
}

fn statements(dice: &mut Dice, depth: u64, within_handler: bool) -> String {
    let mut text = String::new();
    for _ in 0..1 + dice.roll(3) {
        let inner = |dice: &mut Dice| statements(dice, depth + 1, within_handler);
        text += &match dice.roll(if depth < 3 { 9 } else { 5 }) {
            0 => {
                let entry =
                    dice.pick(&["(i32.const 3)", "(call $site)", "(i32.and (local.get $a32) (i32.const 3))"]);
                format!("(call $count (i32.const 0) {entry} {})", expression(dice, "i64", 3))
            }
            1 => {
                let (map, entry) = (1 + dice.roll(2), dice.roll(2));
                format!("(call $hist (i32.const {map}) (i32.const {entry}) {})", expression(dice, "i64", 3))
            }
            2..5 => {
                let (name, ty) = (dice.pick(&["a", "b"]), dice.pick(&["i32", "i64"]));
                format!("(local.set ${name}{} {})", &ty[1..], expression(dice, ty, 2))
            }
            5 => format!("(if {} (then {}) (else {}))", expression(dice, "i32", 2), inner(dice), inner(dice)),
            6 => format!("(if {} (then {}))", expression(dice, "i32", 2), inner(dice)),
            7 => format!(
                "(block (br_if 0 {}) {} (br 0) {})",
                expression(dice, "i32", 2),
                inner(dice),
                inner(dice)
            ),
            _ if within_handler => {
                format!("(if {} (then (return {})))", expression(dice, "i32", 2), expression(dice, "i32", 4))
            }
            _ => String::new(),
        };
    }
    text
}

#[test]
fn random_simple_handlers_do_the_same_in_both_tiers() {
    let mut dice = Dice(7);
    let mut simple = 0;
    let mut reasons = std::collections::BTreeMap::new();
    for _ in 0..MODULES {
        let locals = "(local $a32 i32) (local $b32 i32) (local $a64 i64) (local $b64 i64)";
        let both = "(param $a32 i32) (param $b64 i64)";
        let of_both = "(local $b32 i32) (local $a64 i64)";
        let leaf = |dice: &mut Dice, ty: &str| {
            // Functions that are called call nothing: the handler alone decides how deep and how long it is.
            let text = expression(dice, ty, 4);
            if text.contains("call $f") { format!("({ty}.const 5)") } else { text }
        };
        let functions = format!(
            "(func $f32 {both} (result i32) {of_both} {})
             (func $f64 {both} (result i64) {of_both} (local.set $a64 {}) (if (i64.eqz (local.get $a64)) (then (return (i64.const 1)))) {})
             (func (export \"on_hit\") (result i32) {locals} {} {})",
            leaf(&mut dice, "i32"),
            leaf(&mut dice, "i64"),
            leaf(&mut dice, "i64"),
            statements(&mut dice, 0, true),
            expression(&mut dice, "i32", 2),
        );
        let verified = module(&functions);
        match lowered(&verified) {
            Ok(lowered) => {
                simple += 1;
                compare(&verified, &lowered, &mut dice, &functions);
            }
            Err(reason) => *reasons.entry(reason).or_insert(0) += 1,
        }
    }
    assert!(simple > MODULES / 2, "{simple} of {MODULES}; {reasons:#?}");
}

#[test]
fn what_count_makes_is_simple() {
    let condition = |text: &str| parse(text).unwrap();
    let mut dice = Dice(11);
    for text in
        ["", "$arg0 > 5", "$arg1 & 1 && $reg.rdi != 0", "$ret < 0 || $arg2 == -1", "$arg5 - $arg4 > 100"]
    {
        let condition = (!text.is_empty()).then(|| condition(text));
        let compiled = compile_count(None, condition.as_ref()).unwrap();
        let verified = verify(&compiled.wasm).unwrap();
        let lowered = lowered(&verified).unwrap_or_else(|e| panic!("`{text}`: {e}"));
        assert_eq!(lowered.registers, !text.is_empty(), "`{text}`");
        compare(&verified, &lowered, &mut dice, text);
    }
}

#[test]
fn the_ready_made_counter_is_simple() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../probes/call-count/call-count.wasm");
    let verified = verify(&std::fs::read(path).unwrap()).unwrap();
    compare(&verified, &lowered(&verified).unwrap(), &mut Dice(3), "call-count");
}

#[test]
fn what_is_not_simple_says_why() {
    for (body, why) in [
        ("(drop (call $time))", "it calls `time_ns`"),
        ("(drop (call $reg (i32.const 7)))", "it wants rsp"),
        ("(call $count (i32.const 0) (i32.wrap_i64 (call $ret)) (i64.const 1))", "not proven"),
        ("(call $count (i32.const 0) (i32.const 4) (i64.const 1))", "not proven"),
        ("(call $count (i32.const 1) (i32.const 0) (i64.const 1))", "which map"),
        ("(call $count (i32.wrap_i64 (call $ret)) (i32.const 0) (i64.const 1))", "which map"),
        ("(drop (call $arg (call $site)))", "which argument"),
        ("(global.set $changes (i32.const 1))", "GlobalSet"),
        ("(drop (global.get $changes))", "a global that changes"),
        ("(drop (i32.div_u (call $site) (i32.const 3)))", "I32DivU"),
        ("(loop $l (br_if $l (i32.wrap_i64 (call $ret))))", "its cost has no bound"),
        ("(drop (f64.convert_i64_s (call $ret)))", "F64ConvertI64S"),
        ("unreachable", "Unreachable"),
    ] {
        let verified = module(&format!("(func (export \"on_hit\") {body})"));
        let error = lowered(&verified).expect_err(body);
        assert!(error.contains(why), "{body}: {error}, not {why}");
    }
    // As long, and as dear, as it may be, and a little over that.
    let of = |n: usize, what: &str| module(&format!("(func (export \"on_hit\") {})", what.repeat(n)));
    assert!(lowered(&of(990, "nop ")).is_ok());
    assert_eq!(lowered(&of(1010, "nop ")).unwrap_err(), "it is too long");
    assert!(lowered(&of(50, "(drop (call $ret))")).is_ok());
    let dear = lowered(&of(300, "(drop (call $ret))")).unwrap_err();
    assert!(dear.contains("its dearest way takes"), "{dear}");
}
