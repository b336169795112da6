//! The static bound of fuel beside what hits really use: never less, and exact where the code is straight.

use std::fs;
use std::path::{Path, PathBuf};

use trocar_abi::import::IMPORTS;
use trocar_abi::import::Ty;
use trocar_compile::{Verified, verify};
use trocar_expr::{compile_count, compile_log, parse, parse_template};
use trocar_package::{Manifest, attach_section};
use trocar_sandbox::Outcome;

use crate::machine::{Machine, Memory};
use crate::wasm;

/// A folder of the repository.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// Files in a folder and its subfolders with this extension, sorted; build folders are left out.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The WAT examples and the ready-made probes, by name.
fn shipped() -> Vec<(String, Verified)> {
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let examples =
        files(&folder("probe-sdk/wat"), "wat").into_iter().map(|p| (name(&p), wat::parse_file(&p).unwrap()));
    let probes = files(&folder("probes"), "wasm").into_iter().map(|p| (name(&p), fs::read(&p).unwrap()));
    examples
        .chain(probes)
        .map(|(name, bytes)| (name.clone(), verify(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"))))
        .collect()
}

fn one(name: &str) -> Verified {
    shipped().into_iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no probe {name}")).1
}

/// A redis client at 0x1000 that sends `name`, with an argument array of one at 0x2000 and its object at 0x3000.
fn redis_client(name: &[u8; 3], argc: u32) -> Memory {
    let mut client = vec![0u8; 256];
    client[72..76].copy_from_slice(&argc.to_le_bytes());
    client[80..88].copy_from_slice(&0x2000u64.to_le_bytes());
    let mut object = vec![0u8; 128];
    object[8..16].copy_from_slice(&(0x3000u64 + 19).to_le_bytes());
    object[16] = 3;
    object[19..22].copy_from_slice(name);
    Memory(vec![(0x1000, client), (0x2000, 0x3000u64.to_le_bytes().to_vec()), (0x3000, object)])
}

/// Targets that lead a probe through its different ways: nothing readable, texts of several lengths, a redis client.
fn targets() -> Vec<Memory> {
    let text = |len: usize| Memory(vec![(0x1000, [vec![b'a'; len], vec![0; 4096]].concat())]);
    vec![
        Memory::default(),
        text(0),
        text(5),
        text(63),
        text(64),
        text(300),
        redis_client(b"GET", 2),
        redis_client(b"set", 5000),
    ]
}

/// The most fuel that a hit of this probe uses over all targets and some arguments.
fn most_used(verified: &Verified) -> u64 {
    let mut most = 0;
    for memory in targets() {
        let mut machine = Machine::new(verified, memory);
        for first in [0x1000, 0, 1, 0x1fff, u64::MAX, 1 << 40] {
            for second in [0x1000, 0, 3, u64::MAX] {
                let (outcome, used) = machine.hit([first, second]);
                assert!(
                    matches!(outcome, Outcome::Executed | Outcome::ConditionFalse),
                    "{first} {second}: {outcome:?}"
                );
                most = most.max(used);
            }
        }
    }
    most
}

#[test]
fn every_shipped_probe_is_verified_and_stays_within_its_bound_and_its_limit() {
    let shipped = shipped();
    let names: Vec<&str> = shipped.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["counter", "histogram", "string", "call-count", "redis-commands"] {
        assert!(names.contains(&name), "{name} is missing: {names:?}");
    }
    for (name, verified) in &shipped {
        assert!(verified.has_manifest, "{name}");
        let used = most_used(verified);
        println!("{name}: used {used}, bound {:?}", verified.worst_fuel);
        if let Some(bound) = verified.worst_fuel {
            assert!(used <= bound, "{name}: a hit used {used} fuel; the bound says {bound}");
        }
        let limit = verified.manifest.limits.fuel.unwrap_or(10_000);
        assert!(used <= limit, "{name}: a hit used {used} fuel; its limit is {limit}");
    }
}

#[test]
fn the_bound_of_straight_probes_is_exact() {
    for name in ["counter", "call-count"] {
        let verified = one(name);
        assert_eq!(Some(most_used(&verified)), verified.worst_fuel, "{name}");
    }
    let count = verify(&compile_count(None, None).unwrap().wasm).unwrap();
    assert_eq!(Some(most_used(&count)), count.worst_fuel, "trocar count");
}

#[test]
fn the_redis_probe_reads_its_made_up_client() {
    // Otherwise what it uses would be that of its way out, and say little.
    let verified = one("redis-commands");
    let good = Machine::new(&verified, redis_client(b"GET", 2)).hit([0x1000, 0]).1;
    let large = Machine::new(&verified, redis_client(b"GET", 5000)).hit([0x1000, 0]).1;
    let none = Machine::new(&verified, Memory::default()).hit([0x1000, 0]).1;
    assert!(none < 3000 && good > 3 * 2000 && large > good, "{none} {good} {large}");
}

#[test]
fn generated_probes_stay_within_their_bound() {
    let mut probes = Vec::new();
    for (by, condition) in [
        (Some("$arg0"), Some("$arg1 / $arg0 > 3")),
        (Some("str($arg1)"), Some("*(u32*)($arg0 + 16) == 'a' || $arg0 > 0")),
        (Some("str($arg0, 200)"), None),
        (None, Some("buf($reg.rdi, 8) == \"aaaaaaaa\"")),
        (Some("*(u8*)*(u64*)$arg0"), None),
    ] {
        let parse = |text: &str| parse(text).unwrap();
        let probe = compile_count(by.map(parse).as_ref(), condition.map(parse).as_ref()).unwrap();
        probes.push((format!("count --by {by:?} --if {condition:?}"), probe.wasm));
    }
    for template in ["no values", "x={$arg0} {$arg1:x}", "{buf($arg0, 8)} {str($arg1)}"] {
        let probe = compile_log(&parse_template(template).unwrap(), None).unwrap();
        probes.push((format!("log {template:?}"), probe.wasm));
    }
    for (name, bytes) in probes {
        let verified = verify(&bytes).unwrap();
        let used = most_used(&verified);
        let limit = verified.manifest.limits.fuel.unwrap_or(10_000);
        assert!(used <= limit, "{name}: a hit used {used} fuel; its limit is {limit}");
        if let Some(bound) = verified.worst_fuel {
            assert!(used <= bound, "{name}: a hit used {used} fuel; the bound says {bound}");
        }
    }
}

/// The bound of a module and the fuel of one hit in it.
fn bound_and_use(functions: &str) -> (Option<u64>, u64) {
    let text = format!(
        r#"(module (import "trocar" "counter_add" (func $count (param i32 i32 i64)))
           (import "trocar" "time_ns" (func $time (result i64)))
           (memory (export "memory") 1) (global $g (mut i64) (i64.const 0)) {functions})"#
    );
    let manifest = "abi=1\nname='p'\nmaps=[{name='m',kind='counter',entries=1}]\n";
    let bytes = attach_section(&wasm(&text), &Manifest::from_toml(manifest).unwrap()).unwrap();
    let verified = verify(&bytes).unwrap();
    let used = Machine::new(&verified, Memory::default()).hit([0, 0]).1;
    (verified.worst_fuel, used)
}

#[test]
fn the_bound_is_exact_for_every_kind_of_straight_code() {
    let count = "(call $count (i32.const 0) (i32.const 0) (i64.const 1))";
    for code in [
        String::new(),
        "nop nop (block (block nop)) (drop (i32.const 1))".to_owned(),
        "(global.set $g (i64.add (global.get $g) (i64.const 1)))".to_owned(),
        "(local i64) (local.set 0 (i64.load (i32.const 8))) (i64.store (i32.const 8) (local.tee 0 (local.get 0)))".to_owned(),
        "(drop (select (i32.const 1) (i32.const 2) (i32.const 3))) (drop (memory.size))".to_owned(),
        "(drop (memory.grow (i32.const 1)))".to_owned(),
        "(drop (f64.sqrt (f64.div (f64.const 1) (f64.const 3)))) (drop (i32.trunc_sat_f64_s (f64.const 1e30)))".to_owned(),
        "(drop (i64.popcnt (i64.const 7))) (drop (i32.extend8_s (i32.const 255)))".to_owned(),
        "(drop (call $time)) (drop (call $time))".to_owned(),
        format!("{count} {count}"),
        "(return)".to_owned(),
        "(block (br 0))".to_owned(),
        "(loop (nop)) (loop (br_if 1 (i32.const 0)))".to_owned(),
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 1000))".to_owned(),
        "(memory.copy (i32.const 0) (i32.const 8) (i32.const 8))".to_owned(),
        // What no way leads to.
        format!("(return) {count}"),
        format!("(block (br 0) {count}) (block (block (br 1)) {count})"),
        // Of two ways the dearer one is taken.
        format!("(if (i32.const 1) (then {count} {count}) (else {count}))"),
        format!("(if (i32.const 0) (then {count}) (else {count} {count}))"),
        format!("(block (block (br_table 1 0 (i32.const 1))) {count})"),
        // The way that is taken is the longer one, and the other is empty.
        format!("(if (i32.const 1) (then {count}))"),
        format!("(block (br_if 0 (i32.const 0)) {count})"),
    ] {
        let (bound, used) = bound_and_use(&format!(r#"(func (export "on_hit") {code})"#));
        assert_eq!(bound, Some(used), "{code}");
    }
    let calls = format!(
        r#"(func $a {count}) (func $b (call $a) (call $a)) (func (export "on_hit") (call $b) (call $a))"#
    );
    let (bound, used) = bound_and_use(&calls);
    assert_eq!(bound, Some(used), "{calls}");
}

#[test]
fn the_bound_holds_whichever_way_is_taken() {
    let count = "(call $count (i32.const 0) (i32.const 0) (i64.const 1))";
    for code in [
        format!("(if (i32.const 0) (then {count} {count}) (else {count}))"),
        format!("(if (i32.const 1) (then {count} {count}) (else {count}))"),
        format!("(if (i32.const 1) (then (return))) {count}"),
        format!("(block (block (block (br_table 0 1 2 (i32.const 1))) {count}) {count}) {count}"),
        format!("(return) {count}"),
        format!("{count} unreachable"),
        format!("(drop (i32.div_s (i32.const 1) (i32.const 0))) {count}"),
    ] {
        let (bound, used) = bound_and_use(&format!(r#"(func (export "on_hit") {code})"#));
        assert!(bound.is_some_and(|b| b >= used), "{code}: bound {bound:?}, used {used}");
    }
}

/// A call with the longest range that it accepts, and the manifest's maps for it.
fn longest_call(name: &str) -> Option<(&'static str, &'static str)> {
    let hash = "maps=[{name='m',kind='hash',entries=16,key=[{name='k',type='str',bytes=256}]}]";
    Some(match name {
        "emit" | "log" => ("(call $call (i32.const 0) (i32.const 0) (i32.const 4096))", ""),
        "hash_add" | "hash_set" => {
            ("(drop (call $call (i32.const 0) (i32.const 0) (i32.const 256) (i64.const 1)))", hash)
        }
        "hash_get" => ("(drop (call $call (i32.const 0) (i32.const 0) (i32.const 256)))", hash),
        "param_str" => ("(drop (call $call (i32.const 0) (i32.const 0) (i32.const 65536)))", ""),
        "read" | "read_str" => ("(drop (call $call (i64.const 0x1000) (i32.const 0) (i32.const 65536)))", ""),
        _ => return None,
    })
}

#[test]
fn the_bound_holds_for_host_calls_that_are_charged_by_the_byte() {
    for import in IMPORTS {
        let Some((call, maps)) = longest_call(import.name) else { continue };
        let ty = |t: &Ty| if *t == Ty::I32 { "i32" } else { "i64" };
        let params: Vec<&str> = import.params.iter().map(ty).collect();
        let result = import.result.as_ref().map_or(String::new(), |t| format!("(result {})", ty(t)));
        let text = format!(
            r#"(module (import "trocar" "{}" (func $call (param {}) {result})) (memory (export "memory") 1)
               (func (export "on_hit") {call}))"#,
            import.name,
            params.join(" ")
        );
        let manifest = Manifest::from_toml(&format!("abi=1\nname='p'\n{maps}\n")).unwrap();
        let verified = verify(&attach_section(&wasm(&text), &manifest).unwrap()).unwrap();
        let (outcome, used) = Machine::new(&verified, Memory::default()).hit([0, 0]);
        assert_eq!(outcome, Outcome::Executed, "{}", import.name);
        if let Some(bound) = verified.worst_fuel {
            assert!(used <= bound, "{}: a hit used {used} fuel; the bound says {bound}", import.name);
        }
    }
}
