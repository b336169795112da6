//! Modules that go and come while they are probed: `dlclose` and `dlopen` of libraries of our own, and of
//! python's.

use std::process::Command;

use trocar_test_support::command::{count, text};
use trocar_test_support::process::text_differences;
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Snapshot, Target, run};

/// The sites of an object that lists them by index.
fn indexes(object: &serde_json::Value) -> Vec<u64> {
    let sites = object.get("sites").and_then(serde_json::Value::as_array).expect("a list of sites");
    sites.iter().filter_map(serde_json::Value::as_u64).collect()
}

/// The indexes of an object's sites, where each is an object.
fn numbers(object: &serde_json::Value) -> Vec<u64> {
    let sites = object.get("sites").and_then(serde_json::Value::as_array).expect("a list of sites");
    sites.iter().map(|s| count(s, "site")).collect()
}

#[test]
fn sites_of_a_module_that_goes_are_retired_and_keep_their_counts() {
    let mut target = Target::start("plugin");
    let before = Snapshot::of(target.pid());
    assert_eq!(target.done("load plug-a.so"), 0);
    let pid = target.pid().to_string();
    let mut live = Live::attached(&["count", "-p", &pid, "plug-a.so:plug_work", "plug-a.so:plug_twice"]);
    target.done("call 1000");
    target.done("unload");
    let retired = live.until("retired");
    assert_eq!((text(&retired, "module"), indexes(&retired)), ("plug-a.so", vec![0, 1]), "{retired}");
    // Another file in the same place is none of ours.
    assert_eq!(target.done("load plug-b.so"), 1, "the second library lies where the first one lay");
    target.done("call 500");
    let outcome = live.interrupt();
    outcome.assert_clean();
    let mut hits: Vec<u64> = outcome.final_stats().into_iter().map(|s| count(s, "hits")).collect();
    hits.sort_unstable();
    assert_eq!(hits, [1000, 2000], "{outcome}");
    assert!(outcome.final_stats().iter().all(|s| text(s, "state") == "retired"), "{outcome}");
    assert_eq!(count(outcome.one("receipt"), "retired"), 2, "{outcome}");
    target.done("call 500");
    target.done("unload");
    before.assert_same();
}

#[test]
fn sessions_that_begin_and_end_while_their_module_comes_and_goes_leave_nothing() {
    let mut target = Target::start("plugin");
    let before = Snapshot::of(target.pid());
    target.done("load plug-a.so");
    let pid = target.pid().to_string();
    // Its answer is read when it is over.
    target.ask_nothing("churn 3 300");
    let (mut tried, mut clean) = (0, 0);
    // After the churn the library stays, so that sessions come in at last.
    while tried < 25 || (clean <= 5 && tried < 250) {
        tried += 1;
        let outcome = run(&["count", "-p", &pid, "plug-?.so:plug_work", "--for", "30ms"]);
        // Where there is no library at the moment, or it goes before it is patched, nothing is.
        assert!([0, 4].contains(&outcome.status), "{outcome}");
        if outcome.status == 0 {
            outcome.assert_receipt();
            assert!(outcome.hits() < u64::MAX, "counters that add up");
            clean += 1;
        }
    }
    assert!(clean > 5, "{clean} of {tried} sessions came in");
    assert!(target.done("call 10") > 1000, "the churn's calls");
    assert_eq!(target.done("unload"), 10);
    assert_eq!(target.ask("call 1"), "done 0");
    before.assert_same();
}

#[test]
fn a_module_that_comes_again_is_armed_again_and_counted_on() {
    let mut target = Target::start("plugin");
    let before = Snapshot::of(target.pid());
    target.done("load plug-a.so");
    let pid = target.pid().to_string();
    let mut live = Live::attached(&["count", "-p", &pid, "plug-?.so:plug_work", "plug-?.so:plug_twice"]);
    target.done("call 1000");
    for round in 1..=3 {
        target.done("unload");
        live.until("retired");
        // In the place where it lay before.
        assert_eq!(target.done("load plug-a.so"), 1);
        let armed = live.until("armed");
        assert_eq!(numbers(&armed), [0, 1], "round {round}: {armed}");
        target.done("call 100");
    }
    // Another file has sites of its own.
    target.done("unload");
    live.until("retired");
    target.done("load plug-b.so");
    assert_eq!(numbers(&live.until("armed")), [2, 3]);
    target.done("call 10");
    let outcome = live.interrupt();
    outcome.assert_clean();
    let hits: Vec<u64> = outcome.final_stats().into_iter().map(|s| count(s, "hits")).collect();
    let symbols: Vec<u64> = hits.chunks(2).map(|both| both.iter().sum()).collect();
    assert_eq!(symbols, [1300 * 3, 10 * 3], "{outcome}");
    assert_eq!(count(outcome.one("receipt"), "retired"), 2, "{outcome}");
    target.done("call 10");
    target.done("unload");
    before.assert_same();
}

#[test]
fn a_point_that_names_nothing_yet_waits_for_its_module_if_that_is_asked_for() {
    let mut target = Target::start("plugin");
    let before = Snapshot::of(target.pid());
    let pid = target.pid().to_string();
    assert_eq!(run(&["count", "-p", &pid, "plug_work"]).status, 4);
    let mut live = Live::start(&["count", "-p", &pid, "plug_work", "--pending"]);
    let attached = live.until("attached");
    assert!(numbers(&attached).is_empty(), "{attached}");
    assert_eq!(attached["pending"][0]["point"], "plug_work", "{attached}");
    before.assert_same();
    target.done("load plug-a.so");
    assert_eq!(numbers(&live.until("armed")), [0]);
    target.done("call 10");
    // A name without a module stands for one place, as long as that is there.
    target.done("also plug-b.so");
    let second = live.until("armed");
    assert_eq!(second["refusals"][0]["reason"], "ambiguous", "{second}");
    target.done("call 10");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), 40, "{outcome}");
    target.done("unload");
}

#[test]
fn calls_are_timed_on_when_their_module_comes_again() {
    let mut target = Target::start("plugin");
    let before = Snapshot::of(target.pid());
    let pid = target.pid().to_string();
    let mut live = Live::attached(&["time", "-p", &pid, "plug_twice", "plug_work", "--pending"]);
    for _ in 0..3 {
        target.done("load plug-a.so");
        live.until("armed");
        target.done("call 100");
        target.done("unload");
        live.until("retired");
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    let map = outcome.all("map").rfind(|m| text(m, "type") == "hist").expect("a histogram");
    let rows = map["rows"].as_array().unwrap();
    let calls = |name: &str| -> u64 {
        rows.iter().filter(|r| text(r, "name") == name).map(|r| count(r, "count")).sum()
    };
    assert_eq!((calls("plug_twice"), calls("plug_work")), (300, 600), "{outcome}");
    before.assert_same();
}

#[test]
fn a_library_that_comes_and_goes_under_load_is_followed_and_its_callers_do_not_notice() {
    let mut target = Target::start("plugin");
    let before = Snapshot::of(target.pid());
    target.done("load plug-a.so");
    let pid = target.pid().to_string();
    let mut live = Live::attached(&["count", "-p", &pid, "plug-?.so:plug_*"]);
    let mut calls = 0;
    for _ in 0..scaled(250) {
        calls += target.done("follow 3 100");
        // What it says is read, so that it never waits for that.
        live.until("map");
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert!(outcome.hits() > 0 && outcome.hits() < 2 * calls, "{calls} calls\n{outcome}");
    let armed = outcome.all("armed").filter(|a| !numbers(a).is_empty()).count();
    assert!(armed > 5, "armed {armed} times\n{outcome}");
    target.done("call 10");
    target.done("unload");
    before.assert_same();
}

#[test]
fn what_a_killed_host_has_armed_in_several_steps_is_removed_by_the_next_command() {
    let mut target = Target::start("plugin");
    let before = Snapshot::of(target.pid());
    target.done("load plug-a.so");
    let pid = target.pid().to_string();
    let mut live = Live::attached(&["count", "-p", &pid, "plug-?.so:plug_work"]);
    target.done("also plug-b.so");
    live.until("armed");
    live.kill();
    target.done("unload");
    let outcome = run(&["count", "-p", &pid, "plug-b.so:plug_work", "--for", "10ms"]);
    outcome.assert_clean();
    let reaped = outcome.one("reaped");
    assert_eq!(reaped["restored"], true, "{reaped}");
    assert_eq!((count(reaped, "sites"), count(reaped, "mappings_left")), (2, 0), "{reaped}");
    target.done("load plug-a.so");
    target.done("call 10");
    drop(before);
    assert_eq!(text_differences(target.pid()), Vec::<String>::new());
}

#[test]
fn pythons_extension_modules_are_probed_when_they_are_imported() {
    let script = "import os, sys\n\
                  print(f'ready pid={os.getpid()}', flush=True)\n\
                  for line in sys.stdin:\n\
                  \x20   import _json\n\
                  \x20   n = int(line)\n\
                  \x20   ok = all(_json.encode_basestring_ascii(f'{i}') == f'\"{i}\"' for i in range(n))\n\
                  \x20   print('done' if ok else 'wrong', n, flush=True)\n";
    let mut target = Target::spawn(Command::new("/usr/bin/python3.11").args(["-u", "-c", script]));
    let pid = target.pid().to_string();
    let mut live = Live::attached(&["count", "-p", &pid, "import:_json*:PyUnicode_New", "--pending"]);
    assert_eq!(target.done("1"), 1);
    live.until("armed");
    assert_eq!(target.done("1000"), 1000);
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), 1000, "{outcome}");
    assert_eq!(target.done("10"), 10);
    assert_eq!(text_differences(target.pid()), Vec::<String>::new());
}
