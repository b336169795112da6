//! Modules that go and come while they are probed: `dlclose` and `dlopen` of a library of our own.

use trocar_test_support::command::{count, text};
use trocar_test_support::{Live, Snapshot, Target, run};

/// The sites of an object that lists them by index.
fn indexes(object: &serde_json::Value) -> Vec<u64> {
    let sites = object.get("sites").and_then(serde_json::Value::as_array).expect("a list of sites");
    sites.iter().filter_map(serde_json::Value::as_u64).collect()
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
    let mut clean = 0;
    for _ in 0..25 {
        let outcome = run(&["count", "-p", &pid, "plug-?.so:plug_work", "--for", "30ms"]);
        // Where there is no library at the moment, or it goes before it is patched, nothing is.
        assert!([0, 4].contains(&outcome.status), "{outcome}");
        if outcome.status == 0 {
            outcome.assert_receipt();
            assert!(outcome.hits() < u64::MAX, "counters that add up");
            clean += 1;
        }
    }
    assert!(clean > 5, "{clean} of 25 sessions came in");
    assert!(target.done("call 10") > 1000, "the churn's calls");
    assert_eq!(target.done("unload"), 10);
    assert_eq!(target.ask("call 1"), "done 0");
    before.assert_same();
}
