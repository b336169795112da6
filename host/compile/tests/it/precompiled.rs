//! What `precompile` makes: code that an engine with the sandbox's configuration loads, for any x86-64, and a cache that
//! gives back nothing but what was put in.
#![expect(unsafe_code, reason = "loading compiled code is what the agent does, and is unsafe")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use iced_x86::{Decoder, DecoderOptions, EncodingKind, Instruction, Register};
use object::{Object, ObjectSection, SectionFlags};
use trocar_compile::{CodeMap, Place, Source, Spot, engine, precompile};
use trocar_sandbox::configure;
use wasmtime::{Config, Engine, Module};

use crate::wasm;

/// Operations that newer processors have instructions for, and floats.
const TEMPTING: &str = r#"(module (memory (export "memory") 1)
    (func (export "on_hit") (result i32)
      (i64.store (i32.const 0) (i64.popcnt (i64.load (i32.const 0))))
      (i64.store (i32.const 8) (i64.clz (i64.load (i32.const 8))))
      (i64.store (i32.const 16) (i64.ctz (i64.load (i32.const 16))))
      (f64.store (i32.const 24) (f64.floor (f64.load (i32.const 24))))
      (f64.store (i32.const 32) (f64.nearest (f64.add (f64.load (i32.const 32)) (f64.mul (f64.load (i32.const 40)) (f64.load (i32.const 48))))))
      (f32.store (i32.const 56) (f32.ceil (f32.sqrt (f32.demote_f64 (f64.load (i32.const 24))))))
      (i64.store (i32.const 64) (i64.trunc_sat_f64_u (f64.load (i32.const 24))))
      (f64.store (i32.const 72) (f64.convert_i64_u (i64.load (i32.const 64))))
      (i64.store (i32.const 80) (i64.rotl (i64.load (i32.const 80)) (i64.and (i64.load (i32.const 88)) (i64.xor (i64.load (i32.const 96)) (i64.const -1)))))
      (memory.copy (i32.const 256) (i32.const 0) (i32.const 128))
      (i32.load (i32.const 0))))"#;

fn code(text: &str) -> Vec<u8> {
    engine().unwrap().precompile_module(&wasm(text)).unwrap()
}

/// Loads compiled code into an engine as the agent configures one: no compiler setting, no processor feature.
fn load(change: impl FnOnce(&mut Config), code: &[u8]) -> wasmtime::Result<Module> {
    let mut config = Config::new();
    configure(&mut config);
    change(&mut config);
    let engine = Engine::new(&config)?;
    // SAFETY: the bytes are what `engine()` compiled in this very test.
    unsafe { Module::deserialize(&engine, code) }
}

#[test]
fn the_code_is_loaded_by_an_engine_with_the_sandboxs_configuration() {
    for text in [r#"(module (func (export "on_hit")))"#, TEMPTING] {
        let module = load(|_| {}, &code(text)).unwrap();
        assert!(module.get_export("on_hit").is_some());
    }
}

#[test]
fn an_engine_with_another_configuration_refuses_it() {
    let code = code(TEMPTING);
    type Change = fn(&mut Config);
    let changes: [(&str, Change); 4] = [
        ("no fuel", |c| {
            c.consume_fuel(false);
        }),
        ("signals", |c| {
            c.signals_based_traps(true);
        }),
        ("epochs", |c| {
            c.epoch_interruption(true);
        }),
        ("guards", |c| {
            c.memory_reservation(1 << 32).memory_guard_size(1 << 16);
        }),
    ];
    for (name, change) in changes {
        assert!(load(change, &code).is_err(), "{name}");
    }
}

#[test]
fn code_that_is_cut_or_of_another_version_is_refused() {
    let code = code(TEMPTING);
    assert!(load(|_| {}, &code[..code.len() / 2]).is_err());
    assert!(load(|_| {}, b"\0asm\x01\0\0\0").is_err());
    assert!(load(|_| {}, &[]).is_err());
}

#[test]
fn the_code_runs_on_any_x86_64_and_touches_no_wide_register() {
    let code = code(TEMPTING);
    let file = object::File::parse(&*code).unwrap();
    let mut instructions = 0;
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        if sh_flags & u64::from(object::elf::SHF_EXECINSTR) == 0 {
            continue;
        }
        for instruction in decode(section.data().unwrap()) {
            instructions += 1;
            let text = instruction.to_string();
            assert_eq!(instruction.op_code().encoding(), EncodingKind::Legacy, "{text}");
            for operand in 0..instruction.op_count() {
                let register = instruction.op_register(operand);
                assert!(
                    register == Register::None
                        || register.is_gpr()
                        || register.is_xmm()
                        || register.is_segment_register(),
                    "{text}"
                );
            }
            for feature in instruction.cpuid_features() {
                let feature = format!("{feature:?}");
                assert!(BASELINE.contains(&feature.as_str()), "{text} needs {feature}");
            }
        }
    }
    assert!(instructions > 200, "{instructions} instructions");
}

/// What every x86-64 processor has, as iced names it (AMD64 Architecture Programmer's Manual 3, appendix D).
const BASELINE: [&str; 11] = [
    "INTEL8086",
    "INTEL186",
    "INTEL286",
    "INTEL386",
    "INTEL486",
    "X64",
    "CMOV",
    "SSE",
    "SSE2",
    "MULTIBYTENOP",
    "CX8",
];

/// All instructions of a piece of code; it must be whole instructions from its first byte to its last, except for the
/// zeros that fill it up.
fn decode(bytes: &[u8]) -> Vec<Instruction> {
    let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
    let mut all = Vec::new();
    while decoder.position() < end {
        let instruction = decoder.decode();
        assert!(!instruction.is_invalid(), "at {:#x}", instruction.ip());
        all.push(instruction);
    }
    all
}

// ---- the cache: in a process of its own, whose cache folder is the test's --------------------------------------

const CHILD: &str = "TROCAR_TEST_CACHE_CHILD";

/// Runs [`compiles_in_a_child`] with these variables; whether the code came from the cache. The child checks the code.
fn in_child(variables: &[(&str, &Path)]) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "precompiled::compiles_in_a_child", "--nocapture"]).env(CHILD, "1");
    child.env_remove("XDG_CACHE_HOME").env_remove("HOME").envs(variables.iter().copied());
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("cached: true") != text.contains("cached: false"), "{text}");
    text.contains("cached: true")
}

/// The child's part; by itself, with no cache folder of its own, it does nothing.
#[test]
fn compiles_in_a_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let compiled = precompile(&wasm(TEMPTING)).unwrap();
    println!("cached: {}", compiled.cached());
    assert_eq!(compiled.code(), code(TEMPTING), "the same code, wherever it came from");
}

/// The one file in a cache.
fn cached_file(cache: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> =
        fs::read_dir(cache.join("trocar")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn code_is_compiled_once_and_then_taken_from_the_cache() {
    let home = tempfile::tempdir().unwrap();
    let (xdg, plain) = (home.path().join("xdg"), home.path().join(".cache"));
    fs::create_dir(&xdg).unwrap();
    let with_xdg = [("XDG_CACHE_HOME", xdg.as_path()), ("HOME", home.path())];
    assert!(!in_child(&with_xdg));
    assert!(in_child(&with_xdg));
    assert!(!plain.exists());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&cached_file(&xdg)), mode(&xdg.join("trocar"))), (0o600, 0o700));
    // Without the variable, or with a relative one, it is the folder in the home.
    assert!(!in_child(&[("HOME", home.path())]));
    assert!(in_child(&[("XDG_CACHE_HOME", Path::new("relative")), ("HOME", home.path())]));
    cached_file(&plain);
}

#[test]
fn without_a_place_for_a_cache_code_is_compiled() {
    assert!(!in_child(&[]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    fs::write(&file, "").unwrap();
    assert!(!in_child(&[("XDG_CACHE_HOME", &file)]));
}

#[test]
fn a_cache_file_that_anyone_changed_or_could_have_changed_is_made_anew() {
    let cache = tempfile::tempdir().unwrap();
    let variables = [("XDG_CACHE_HOME", cache.path())];
    assert!(!in_child(&variables));
    let file = cached_file(cache.path());
    let good = fs::read(&file).unwrap();
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::write(&file, bytes).unwrap();
        assert!(!in_child(&variables));
        assert_eq!(fs::read(&file).unwrap(), good, "made anew");
        assert!(in_child(&variables));
    };
    damaged(&|bytes| bytes[good.len() / 2] ^= 1);
    damaged(&|bytes| *bytes.last_mut().unwrap() ^= 1);
    damaged(&|bytes| bytes.truncate(good.len() - 1));
    damaged(&|bytes| bytes.truncate(31));
    damaged(&Vec::clear);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(!in_child(&variables), "its group may write it");
    assert!(in_child(&variables));
    // A link may lead to somebody else's file.
    let elsewhere = cache.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert!(!in_child(&variables), "a link");
    assert!(in_child(&variables));
}

#[test]
fn a_function_that_needs_too_much_stack_at_once_is_refused() {
    // So many values live at the same time do not fit into registers.
    let live = |n: usize| {
        let (values, sums) = ("(call $arg (i32.const 0)) ".repeat(n), "i64.add ".repeat(n - 1));
        crate::wasm(&format!(
            r#"(module (import "trocar" "arg" (func $arg (param i32) (result i64)))
                 (import "trocar" "counter_add" (func $counter_add (param i32 i32 i64)))
                 (func (export "on_hit") i32.const 0 i32.const 0 {values} {sums} call $counter_add))"#
        ))
    };
    assert!(trocar_compile::precompile(&live(200)).is_ok());
    let refused = trocar_compile::precompile(&live(3000)).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("bytes of stack at once") && refused.contains("optimization"), "{refused}");
}

#[test]
fn an_address_of_the_code_leads_to_its_instruction_and_other_code_to_nothing() {
    let wat = r#"(module (import "trocar" "arg" (func $arg (param i32) (result i64)))
        (func $split (param i64) (result i64) (i64.div_u (i64.const 100) (local.get 0)))
        (func (export "on_hit") (drop (call $split (call $arg (i32.const 0))))))"#;
    let wasm = crate::wasm(wat);
    let code = trocar_compile::precompile(&wasm).unwrap().into_code();
    let map = CodeMap::of(&wasm, &code).unwrap();
    let spots: Vec<Spot> = (0..=u32::from(u16::MAX)).filter_map(|address| map.caller(address)).collect();
    let of = |function| spots.iter().filter(move |s| s.function == function);
    assert!(of(0).next().is_none(), "the import has no code");
    // i64.div_u is 0x80, call is 0x10: both are the source of some address.
    for (function, operator) in [(1, 0x80), (2, 0x10)] {
        let mut at = of(function).filter_map(|s| s.offset);
        assert!(at.any(|offset| wasm[offset as usize] == operator), "{operator:#x} of function {function}");
    }
    assert_eq!(map.caller(0), None);
    assert_eq!(map.caller(u32::MAX), None);
    let other = trocar_compile::precompile(&crate::wasm(&wat.replace("100", "101"))).unwrap().into_code();
    assert!(CodeMap::of(&wasm, &other).unwrap_err().to_string().contains("another"));
    assert!(CodeMap::of(&wasm, b"no code").is_err());
}

#[test]
fn names_and_lines_of_a_damaged_module_are_not_there() {
    let wasm = crate::wasm(
        r#"(module (func $named (export "on_hit")) (func) (@custom ".debug_info" "\ff\ff\ff")
        (@custom ".debug_abbrev" "\ff") (@custom ".debug_line" "\01"))"#,
    );
    let places = |wasm: &[u8], function| Source::of(wasm).places(Spot { function, offset: Some(70) });
    let plain = |name: &str| vec![Place { function: name.to_owned(), source: None }];
    assert_eq!(places(&wasm, 0), plain("named"));
    assert_eq!(places(&wasm, 1), plain("function 1"));
    for end in 0..wasm.len() {
        assert!(!places(&wasm[..end], 0).is_empty());
        let mut other = wasm.clone();
        other[end] ^= 0xff;
        assert!(!places(&other, 0).is_empty());
    }
}
