//! Bad input: each case gets its exit status, one message with a cause, and leaves a target that runs on.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use tempfile::TempDir;
use trocar_test_support::command::{binary, text};
use trocar_test_support::{Live, Outcome, Snapshot, Target, run, target};

use crate::probe::Probe;

/// The command failed with this status, and told why once: an `error` object with its code and a message that
/// holds every one of `words`.
fn refused(outcome: &Outcome, status: i32, words: &[&str]) {
    let codes = [(4, "nothing_patched"), (5, "no_process"), (7, "not_permitted"), (8, "bad_probe")];
    let code = codes.iter().find(|(s, _)| *s == status).unwrap().1;
    assert_eq!(outcome.status, status, "{outcome}");
    let error = outcome.one("error");
    assert_eq!(text(error, "code"), code, "{outcome}");
    let said = format!("{} {}", text(error, "message"), text(error, "hint")).to_lowercase();
    for word in words {
        assert!(said.contains(&word.to_lowercase()), "the message says `{word}`: {outcome}");
    }
    assert!(!said.contains("panick"), "{outcome}");
}

/// Runs `trocar load` with a probe on a counter and proves that the counter was not touched.
fn bad_probe(probe: &Probe, words: &[&str]) {
    let mut target = Target::start("counter");
    let before = Snapshot::of(target.pid());
    let outcome = run(&["load", probe.path(), "-p", &target.pid().to_string(), "--at", "work"]);
    refused(&outcome, 8, words);
    before.assert_same();
    assert_eq!(target.done("run 2 10"), 20);
}

#[test]
fn a_file_that_is_no_module_is_refused() {
    bad_probe(&Probe::of_bytes(b"\x7fELF not wasm"), &["wasm"]);
    bad_probe(&Probe::of_bytes(b""), &["wasm"]);
    bad_probe(&Probe::of_bytes(b"\0asm\x01\0\0\0\x01\xff"), &[]);
}

#[test]
fn a_component_is_refused_by_name() {
    bad_probe(&Probe::of_bytes(b"\0asm\x0d\0\x01\0"), &["component"]);
}

#[test]
fn an_abi_that_is_missing_or_newer_is_refused() {
    let with = |manifest: &str| {
        let quoted = manifest.replace('"', "\\\"");
        Probe::of_wat(&format!(r#"(module (func (export "on_hit")) (@custom "trocar.manifest" "{quoted}"))"#))
    };
    bad_probe(&with(r#"{"name":"old"}"#), &["abi"]);
    bad_probe(&with(r#"{"abi":2,"name":"new"}"#), &["abi", "2"]);
    bad_probe(&with("no json"), &["manifest"]);
}

#[test]
fn unknown_and_reserved_imports_are_refused_with_what_exists() {
    let import = |module: &str, name: &str| {
        Probe::of_wat(&format!(r#"(module (import "{module}" "{name}" (func)) (func (export "on_hit")))"#))
    };
    bad_probe(&import("trocar", "launch_missiles"), &["launch_missiles", "counter_add"]);
    bad_probe(&import("trocar", "override"), &["override"]);
    bad_probe(&import("env", "printf"), &["env", "printf"]);
    bad_probe(&import("wasi_snapshot_preview1", "sock_send"), &["sock_send"]);
}

#[test]
fn a_memory_over_the_limit_is_refused() {
    let probe = Probe::of_wat(r#"(module (memory (export "memory") 1000) (func (export "on_hit")))"#);
    bad_probe(&probe, &["memory"]);
}

#[test]
fn a_module_without_its_handler_is_refused() {
    bad_probe(&Probe::of_wat(r#"(module (func (export "on_his")))"#), &["on_hit"]);
    bad_probe(&Probe::of_wat(r#"(module (func (export "on_hit") (param i32)))"#), &["on_hit"]);
}

#[test]
fn a_probe_file_that_is_not_there_is_refused() {
    let target = Target::start("counter");
    let outcome = run(&["load", "/nowhere/probe.wasm", "-p", &target.pid().to_string(), "--at", "work"]);
    refused(&outcome, 8, &["/nowhere/probe.wasm"]);
}

/// `trocar count` with a point that cannot be patched.
fn bad_point(name: &str, point: &str, words: &[&str]) {
    let mut target = Target::start(name);
    let before = Snapshot::of(target.pid());
    refused(&run(&["count", "-p", &target.pid().to_string(), point, "--for", "1s"]), 4, words);
    before.assert_same();
    assert_eq!(target.done("run 2 10"), if name == "redzone" { 2 } else { 20 });
}

#[test]
fn a_function_that_is_not_there_is_refused_with_the_nearest_names() {
    bad_point("counter", "wrok", &["wrok", "work"]);
    bad_point("counter", "counter:wrk", &["work"]);
    bad_point("counter", "nosuchmodule.so:work", &["nosuchmodule.so"]);
}

#[test]
fn the_vdso_is_refused() {
    bad_point("counter", "[vdso]:__vdso_clock_gettime", &["vdso", "kernel"]);
    bad_point("counter", "[vdso]:*", &["vdso"]);
}

#[test]
fn the_child_side_of_clone_and_vfork_and_the_return_from_a_handler_are_refused() {
    for (name, point, word) in [
        ("counter", "libc.so.6:vfork", "child side"),
        ("counter", "libc.so.6:clone", "child side"),
        ("counter-static", "clone", "child side"),
        ("counter-static", "clone3", "child side"),
        ("counter-musl", "__clone", "child side"),
        ("counter-static", "__restore_rt", "return from a signal handler"),
        ("counter-static", "_dl_runtime_resolve_xsavec", "lazy resolver"),
    ] {
        bad_point(name, point, &[word]);
    }
}

#[test]
fn an_ambiguous_name_is_refused_with_all_that_it_may_mean() {
    bad_point("twins", "swab", &["twins:swab", "libc.so.6:swab"]);
}

#[test]
fn a_name_in_a_stripped_program_is_refused() {
    bad_point("counter-stripped", "counter-stripped:work", &["stripped"]);
}

#[test]
fn addresses_without_code_are_refused() {
    bad_point("counter", "counter:0x10", &["0x10"]);
    bad_point("counter", "0x1000", &["0x1000"]);
    bad_point("counter", "work+0x100000", &["work"]);
}

#[test]
fn the_middle_of_an_instruction_is_refused() {
    let mut target = Target::start("redzone");
    let answer = target.ask("sites");
    let first: u64 = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    drop(target);
    bad_point("redzone", &format!("redzone+{:#x}", first + 1), &["instruction"]);
}

#[test]
fn a_site_that_another_tool_has_patched_is_refused() {
    let mut target = Target::start("counter-nopie");
    let before = Snapshot::of(target.pid());
    let out = Command::new("nm").arg(target::path("counter-nopie")).output().unwrap();
    let symbols = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = symbols.lines().find(|l| l.ends_with(" work")).unwrap();
    let address = u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap();
    let memory = File::options().read(true).write(true).open(format!("/proc/{}/mem", target.pid())).unwrap();
    let mut first = [0];
    memory.read_exact_at(&mut first, address).unwrap();
    memory.write_all_at(&[0xcc], address).unwrap();
    refused(&run(&["count", "-p", &target.pid().to_string(), "work"]), 4, &["another tool"]);
    let mut now = [0];
    memory.read_exact_at(&mut now, address).unwrap();
    assert_eq!(now, [0xcc], "the other tool's breakpoint is still there");
    memory.write_all_at(&first, address).unwrap();
    before.assert_same();
    assert_eq!(target.done("run 2 10"), 20);
}

#[test]
fn a_file_that_was_replaced_since_it_was_mapped_is_read_as_it_is_mapped() {
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("counter");
    fs::copy(target::path("counter"), &copy).unwrap();
    let mut target = Target::spawn(&mut Command::new(&copy));
    let newer = folder.path().join("newer");
    fs::copy(target::path("counter-frame"), &newer).unwrap();
    fs::rename(&newer, &copy).unwrap();
    // As root, or for the program itself, the mapped file can be had though its name now means another.
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    let calls = target.done("run 2 10");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "{outcome}");
}

#[test]
fn processes_that_cannot_be_probed_are_refused() {
    let target = Target::start("traced");
    let traced = target.fact("traced").to_string();
    refused(&run(&["count", "-p", &traced, "main"]), 4, &["traced", &target.pid().to_string()]);
    let zombie = target.fact("zombie").to_string();
    refused(&run(&["count", "-p", &zombie, "main"]), 5, &["zombie"]);
    let narrow = Target::start("narrow");
    refused(&run(&["count", "-p", &narrow.pid().to_string(), "_start"]), 4, &["32-bit"]);
    assert!(narrow.finish().success());
}

#[test]
fn a_kernel_thread_is_refused() {
    // kthreadd is process 2 unless this is a pid namespace of its own; then there is no kernel thread to try.
    let status = fs::read_to_string("/proc/2/status").unwrap_or_default();
    if status.contains("kthreadd") && mappings_are_none(2) {
        refused(&run(&["count", "-p", "2", "main"]), 4, &["kernel"]);
    }
}

fn mappings_are_none(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|m| m.is_empty())
}

#[test]
fn a_process_that_is_not_there_is_told_so() {
    let mut gone = Target::start("counter");
    let pid = gone.pid().to_string();
    gone.kill();
    refused(&run(&["count", "-p", &pid, "work"]), 5, &[&pid]);
    refused(&run(&["count", "-p", "no-process-has-this-name", "work"]), 5, &["no-process-has-this-name"]);
}

#[test]
fn a_process_of_somebody_else_is_refused_with_what_is_missing() {
    // As root: a copy of trocar that everybody may run, run as nobody. Otherwise: process 1 is not ours.
    let root = fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        return refused(&run(&["count", "-p", "1", "main"]), 7, &["permi"]);
    }
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("trocar");
    fs::copy(binary(), &copy).unwrap();
    let mut target = Target::start("counter");
    let before = Snapshot::of(target.pid());
    let mut command = Command::new(&copy);
    command.args(["count", "-p", &target.pid().to_string(), "work", "-o", "json"]).uid(65534).gid(65534);
    command.current_dir(folder.path()).env("HOME", folder.path());
    refused(&Live::spawn(&mut command).finish(), 7, &["permi"]);
    before.assert_same();
    assert_eq!(target.done("run 2 10"), 20);
}

#[test]
fn wrong_words_end_with_status_2() {
    for args in [
        &["frobnicate"][..],
        &["count"],
        &["count", "-p", "1"],
        &["load", "-p", "1"],
        &["count", "--hits", "x"],
    ] {
        let outcome = Command::new(binary()).args(args).output().unwrap();
        assert_eq!(outcome.status.code(), Some(2), "{args:?}: {outcome:?}");
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{args:?}: {outcome:?}");
    }
}

#[test]
fn strict_fails_when_one_site_is_refused() {
    let mut target = Target::start("counter");
    let before = Snapshot::of(target.pid());
    let outcome = run(&["count", "-p", &target.pid().to_string(), "work", "wrok", "--strict"]);
    refused(&outcome, 4, &["wrok"]);
    before.assert_same();
    assert_eq!(target.done("run 2 10"), 20);
}

#[test]
fn a_message_for_people_is_one_block_on_stderr() {
    let target = Target::start("counter");
    let out = Command::new(binary())
        .args(["count", "-p", &target.pid().to_string(), "wrok", "-o", "table"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(4), "{out:?}");
    assert!(out.stdout.is_empty(), "stdout is data: {out:?}");
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(
        stderr.matches("wrok").count().min(2),
        stderr.matches("wrok").count(),
        "once or twice: {stderr}"
    );
    assert!(stderr.contains("work") && stderr.lines().count() <= 6, "{stderr}");
}
