//! `trocar test`: outcomes, fuel, maps, events and logs of made-up and recorded hits; hostile hits.

use std::fs;

use tempfile::TempDir;

use crate::run::{Said, run};

/// Runs `trocar test` on a probe in WAT.
fn test(text: &str, args: &[&str]) -> Said {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("p.wat");
    fs::write(&path, text).unwrap();
    run(&[&["test", path.to_str().unwrap()], args].concat())
}

#[test]
fn made_up_hits_run_and_their_maps_are_shown() {
    let said = run(&["test", "call-count", "--count", "25"]);
    assert_eq!(said.status, 0, "{said:?}");
    let hits = said.all("hit");
    assert_eq!(hits.len(), 25);
    assert!(hits.iter().all(|h| h["outcome"] == "executed" && h["fuel"].as_u64() > Some(0)), "{said:?}");
    assert_eq!(said.one("map")["rows"][0]["value"], 25);
}

#[test]
fn a_recorded_hit_gives_arguments_registers_and_memory() {
    // A client of redis 7.0.15: argc at 72, argv at 80, length of all arguments at 104; see the probe's source.
    let hit = r#"{"args":["0x5000"],"tid":7,"memory":[
        {"address":"0x5048","hex":"0500000000000000 0060000000000000 00000000000000000000000000000000 0008000000000000 0000000000000000 0000000000000000 0000000000000000"},
        {"address":"0x6000","hex":"0070000000000000"},
        {"address":"0x7000","hex":"00000000 00000000 1370000000000000 04 04 01 4d534554 00 00000000000000000000000000000000000000000000000000000000000000"}]}"#;
    let said = run(&["test", "redis-commands", "--hit", &hit.replace('\n', ""), "--set", "large_argc=5"]);
    assert_eq!(said.status, 0, "{said:?}");
    let maps = said.all("map");
    let commands = maps.iter().find(|m| m["name"] == "commands").unwrap();
    assert_eq!(commands["rows"], serde_json::json!([{"key":{"command":"mset"},"value":1}]), "{said:?}");
    let event = said.one("event");
    assert_eq!((event["name"].as_str(), event["tid"].as_u64()), (Some("large_command"), Some(7)));
    assert_eq!(event["fields"]["argc"], 5);
    assert_eq!(said.one("hit")["reads"], 3);
}

#[test]
fn hits_are_read_from_a_file_line_by_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("hits.jsonl");
    fs::write(&path, "{\"args\":[1]}\n\n{\"regs\":{\"rdi\":\"0x2\"}}\n").unwrap();
    let text = r#"(module (import "trocar" "arg" (func $arg (param i32) (result i64)))
        (func (export "on_hit") (result i32) (i64.eq (call $arg (i32.const 0)) (i64.const 2))))"#;
    let said = test(text, &["--hit", &format!("@{}", path.display()), "--count", "2"]);
    let outcomes: Vec<_> =
        said.all("hit").iter().map(|h| h["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["condition_false", "executed", "condition_false", "executed"], "{said:?}");
}

#[test]
fn hits_that_are_none_are_refused_with_their_place() {
    let probe = r#"(module (func (export "on_hit")))"#;
    for (hit, word) in [
        ("{", "not a hit"),
        (r#"{"argz":[]}"#, "argz"),
        (r#"{"args":[1,2,3,4,5,6,7]}"#, "six"),
        (r#"{"args":["ten"]}"#, "no number"),
        (r#"{"regs":{"eax":1}}"#, "eax"),
        (r#"{"memory":[{"address":1,"hex":"0"}]}"#, "odd"),
        (r#"{"memory":[{"address":1,"hex":"zz"}]}"#, "hexadecimal"),
        (r#"{"memory":[{"address":1}]}"#, "either"),
        (r#"{"handler":"on_his"}"#, "on_his"),
    ] {
        test(probe, &["--hit", hit]).refused(&["--hit", word]);
    }
    test(probe, &["--hit", "@/no/such/file"]).refused(&["/no/such/file"]);
}

#[test]
fn a_hit_that_is_stopped_ends_with_status_8() {
    for (body, outcome, why) in [
        ("(loop (br 0))", "out_of_fuel", "out of fuel"),
        ("unreachable", "trap", "unreachable"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "trap", "divide by zero"),
    ] {
        let said = test(&format!(r#"(module (func (export "on_hit") {body}))"#), &["--count", "2"]);
        said.failed(8, &[why]);
        assert!(said.all("hit").iter().all(|h| h["outcome"] == outcome), "{said:?}");
    }
}

#[test]
fn a_hit_that_traps_says_where() {
    let text = r#"(module (import "trocar" "arg" (func $arg (param i32) (result i64)))
        (func $split (param i64) (result i64) (i64.div_u (i64.const 100) (local.get 0)))
        (func (export "on_hit") (drop (call $split (call $arg (i32.const 0))))))"#;
    let hit = r#"{"args":["0x0",7],"tid":812,"site":3}"#;
    let said = test(text, &["--hit", hit, "--hit", r#"{"args":[1]}"#]);
    said.failed(8, &["divide by zero"]);
    let hits = said.all("hit");
    let evidence = &hits[0]["evidence"];
    assert_eq!((&evidence["function"], &evidence["index"]), (&"split".into(), &1.into()), "{said:?}");
    assert_eq!(evidence["backtrace"][1]["function"], "on_hit", "{said:?}");
    assert_eq!((&evidence["tid"], &evidence["args"][1]), (&812.into(), &"0x7".into()), "{said:?}");
    assert_eq!(hits[1].get("evidence"), None, "{said:?}");
    // The offset is that of the instruction: i64.div_u is 0x80.
    let offset = evidence["offset"].as_str().and_then(|o| usize::from_str_radix(&o[2..], 16).ok()).unwrap();
    assert_eq!(wat::parse_str(text).unwrap()[offset], 0x80, "{said:?}");
    let table = test(text, &["--hit", hit, "-o", "table"]);
    assert!(table.stdout.contains("  in      split (function 1, offset 0x"), "{table:?}");
    assert!(table.stdout.contains("  hit     thread 812, handler on_hit, arguments 0x0 0x7"), "{table:?}");
}

#[test]
fn fuel_and_memory_can_be_given() {
    let text = r#"(module (memory (export "memory") 40) (func (export "on_hit") (local i32)
        (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 9000))))))"#;
    test(text, &[]).failed(8, &["40 pages"]);
    test(text, &["--memory", "4MiB"]).failed(8, &["out of fuel"]);
    assert_eq!(test(text, &["--memory", "4MiB", "--fuel", "1000000"]).status, 0);
}

#[test]
fn what_is_printed_through_wasi_is_a_log_line() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
        (func (export "on_hit") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#;
    let said = test(text, &["--count", "1"]);
    assert_eq!(said.status, 0, "{said:?}");
    let line = said.one("log");
    assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some("info"), Some("hello")), "{line}");
}

#[test]
fn logs_are_shown_with_their_level() {
    let text = r#"(module (import "trocar" "log" (func $log (param i32 i32 i32)))
        (memory (export "memory") 1 1) (data (i32.const 0) "tab\09and \1b[31m")
        (func (export "on_hit") (call $log (i32.const 1) (i32.const 0) (i32.const 13))))"#;
    let said = test(text, &["--count", "1"]);
    let log = said.one("log");
    assert_eq!(
        (log["level"].as_str(), log["message"].as_str()),
        (Some("warn"), Some("tab\tand \x1b[31m")),
        "{said:?}"
    );
    let table = test(text, &["--count", "1", "-o", "table"]);
    assert!(table.stdout.contains("tab\\tand \\x1b[31m"), "harmless on a terminal: {table:?}");
}

/// The rows of hostile hits as kind, hits that were stopped, and the first one's reason.
fn hostile(said: &Said) -> Vec<(String, u64, Option<String>)> {
    let text = |v: &serde_json::Value| v.as_str().map(str::to_owned);
    let stopped = |r: &serde_json::Value| r["traps"].as_u64().unwrap() + r["out_of_fuel"].as_u64().unwrap();
    said.all("hostile").iter().map(|r| (text(&r["input"]).unwrap(), stopped(r), text(&r["why"]))).collect()
}

#[test]
fn bundled_probes_bear_hostile_hits_within_their_bound() {
    for probe in ["call-count", "redis-commands"] {
        let said = run(&["test", probe, "--hostile"]);
        assert_eq!(said.status, 0, "{said:?}");
        let rows = said.all("hostile");
        assert!(rows.len() >= 14, "{said:?}");
        let check = run(&["check", probe]).one("check");
        for row in rows {
            assert_eq!((row["hits"].as_u64(), row["why"].as_str()), (Some(16), None), "{row}");
            if let Some(bound) = check["worst_fuel"].as_u64() {
                assert!(row["worst_fuel"].as_u64().unwrap() <= bound, "{row}");
            }
        }
    }
}

#[test]
fn a_probe_that_believes_a_length_is_found_out() {
    let careless = r#"(module (import "trocar" "arg" (func $arg (param i32) (result i64)))
        (import "trocar" "read" (func $read (param i64 i32 i32) (result i32))) (memory (export "memory") 1)
        (func (export "on_hit")
          (if (call $read (call $arg (i32.const 0)) (i32.const 0) (i32.const 4)) (then (return)))
          (drop (call $read (i64.add (call $arg (i32.const 0)) (i64.const 4)) (i32.const 8) (i32.load (i32.const 0))))))"#;
    let said = test(careless, &["--hostile", "--count", "5", "--fuel", "1000000000"]);
    said.failed(8, &["quarantined", "on_hit", "bad range", "every length"]);
    let rows = hostile(&said);
    let of = |kind: &str| rows.iter().find(|(k, ..)| k == kind).unwrap_or_else(|| panic!("{kind}: {rows:?}"));
    for kind in ["null", "all-ones", "dangling", "not-canonical", "empty"] {
        assert_eq!((of(kind).1, &of(kind).2), (0, &None), "{kind}");
    }
    assert_eq!(of("huge").1, 5, "{rows:?}");
}

#[test]
fn a_walk_without_an_end_is_found_out_and_two_stopped_hits_are_not_yet_three() {
    let walk = r#"(module (import "trocar" "arg" (func $arg (param i32) (result i64)))
        (import "trocar" "read" (func $read (param i64 i32 i32) (result i32))) (memory (export "memory") 1)
        (func (export "on_hit") (local $at i64)
          (local.set $at (call $arg (i32.const 0)))
          (loop $next
            (if (call $read (local.get $at) (i32.const 0) (i32.const 8)) (then (return)))
            (br_if $next (i64.ne (local.tee $at (i64.load (i32.const 0))) (i64.const 0))))))"#;
    let said = test(walk, &["--hostile", "--fuel", "400000"]);
    let rows = hostile(&said);
    let stopped: Vec<&str> = rows.iter().filter(|r| r.1 > 0).map(|r| r.0.as_str()).collect();
    assert_eq!(stopped, ["loops"], "{rows:?}");
    said.failed(8, &["16 hits were stopped", "out of fuel", "loops"]);
    let few = test(walk, &["--hostile", "--fuel", "400000", "--count", "2"]);
    assert_eq!((few.status, hostile(&few).iter().map(|r| r.1).sum::<u64>()), (0, 2), "{few:?}");
    let table = test(walk, &["--hostile", "--fuel", "400000", "--count", "2", "-o", "table"]);
    assert!(table.stdout.contains("2 stopped: out of fuel") && table.stdout.contains("2 hits were stopped"));
    run(&["test", "call-count", "--hostile", "--hit", "{}"]).refused(&["--hostile", "--hit"]);
}

#[test]
fn what_a_probe_prints_is_a_log_line_and_with_all_of_wasi_goes_to_standard_error() {
    let prints = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 8) "\10\00\00\00\0c\00\00\00sheep again\n")
        (func (export "on_hit") (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 64)))))"#;
    let said = test(prints, &["--count", "1"]);
    assert_eq!((said.status, said.one("log")["message"].as_str()), (0, Some("sheep again")), "{said:?}");
    assert!(!said.stderr.contains("sheep"), "{said:?}");
    let said = test(prints, &["--count", "1", "--wasi"]);
    assert_eq!((said.status, said.all("log").len()), (0, 0), "{said:?}");
    assert!(said.stderr.contains("sheep again"), "{said:?}");
}
