//! Exact counts: hits that `trocar count` reports equal the calls that the target made, on the same program
//! built in a dozen ways, and for every way to name a point.

use std::process::Command;

use trocar_test_support::command::{count, text};
use trocar_test_support::process::{assert_mappings_equal, mappings};
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Snapshot, Target, target};

/// Counts the calls of four threads through `point`, and proves that nothing is left afterwards.
fn counts_exactly(name: &str, point: &str) {
    let mut target = Target::start(name);
    target.done("run 4 100"); // its threads are there, its libraries are bound
    let (before, memory) = (Snapshot::of(target.pid()), mappings(target.pid()));
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), point]);
    let calls = target.done(&format!("run 4 {}", scaled(2_500_000)));
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "{outcome}");
    assert_eq!(outcome.lost(), 0, "{outcome}");
    before.assert_same();
    assert_mappings_equal(&memory, &mappings(target.pid()));
    assert_eq!(target.done("run 4 1000"), 4000, "the target goes on");
    assert!(target.finish().success());
}

macro_rules! variants {
    ($($test:ident: $target:literal,)*) => {$(
        #[test]
        fn $test() {
            counts_exactly($target, "work");
        }
    )*};
}

variants! {
    counts_in_a_position_independent_program: "counter",
    counts_in_a_program_at_fixed_addresses: "counter-nopie",
    counts_in_a_static_glibc_program: "counter-static",
    counts_in_a_static_position_independent_program: "counter-static-pie",
    counts_in_a_static_musl_program: "counter-musl",
    counts_in_a_stripped_program_with_dynamic_symbols: "counter-dynsym",
    counts_behind_an_endbr64: "counter-cet",
    counts_in_a_five_byte_sled: "counter-sled5",
    counts_in_a_sixteen_byte_sled: "counter-sled16",
    counts_in_a_program_with_frame_pointers: "counter-frame",
}

/// ELF virtual address of `work` in a built target, as `nm` tells it.
fn address_of_work(name: &str) -> u64 {
    let out = Command::new("nm").arg(target::path(name)).output().expect("nm runs (Debian package binutils)");
    let symbols = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = symbols.lines().find(|l| l.ends_with(" work")).expect("work is a symbol");
    u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap()
}

#[test]
fn counts_by_elf_address_in_a_program_without_symbols() {
    // The stripped file has the code of the other one: only the symbols are gone.
    let address = address_of_work("counter");
    counts_exactly("counter-stripped", &format!("counter-stripped:{address:#x}"));
}

#[test]
fn counts_by_address_in_the_process() {
    let mut target = Target::start("counter");
    let base = mappings(target.pid()).iter().find(|m| m.name.ends_with("/counter")).unwrap().start;
    let point = format!("{:#x}", base + address_of_work("counter"));
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), &point]);
    let calls = target.done("run 2 5000");
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!(outcome.hits(), calls, "{outcome}");
    let attached = outcome.one("attached");
    let site = attached.get("sites").and_then(|s| s.get(0)).unwrap();
    assert_eq!((text(site, "symbol"), text(site, "address")), ("work", point.as_str()), "{attached}");
}

#[test]
fn counts_by_module_and_name_and_by_glob() {
    for point in ["counter:work", "count*:work", "counter:wor*"] {
        let mut target = Target::start("counter");
        let live = Live::attached(&["count", "-p", &target.pid().to_string(), point]);
        let calls = target.done("run 2 500");
        let outcome = live.interrupt();
        outcome.assert_clean();
        // `wor*` finds `worker` too, which each thread entered before.
        let work: Vec<_> = outcome.final_stats();
        assert!(work.iter().any(|s| count(s, "hits") == calls), "{point}: {outcome}");
    }
}

#[test]
fn counts_several_points_of_a_server_under_load() {
    let mut server = Target::start_with("server", &["--control", "--self-load", "20000"]);
    let pid = server.pid().to_string();
    let points = ["handle_request", "lookup", "store", "hash_key"];
    let live = Live::attached(&[&["count", "-p", &pid][..], &points].concat());
    // Seen from within the time that the probe is in place, so the hits are at least the difference.
    let before = server.ask("stats");
    let mut live = live;
    live.until_that("stats", |s| s.get("final") == Some(&false.into()) && count(s, "hits") > 0);
    let requests = Target::field(&before, "requests");
    let after = server.ask_until("stats", |s| Target::field(s, "requests") > requests);
    let outcome = live.interrupt();
    outcome.assert_clean();
    let hits = |name: &str| {
        let sites = outcome.one("attached").get("sites").unwrap().as_array().unwrap();
        let site = sites.iter().find(|s| text(s, "symbol") == name).unwrap();
        let of_site = |s: &&&serde_json::Value| s.get("site") == site.get("site");
        outcome.final_stats().iter().filter(of_site).map(|s| count(s, "hits")).sum::<u64>()
    };
    let seen = |field| Target::field(&after, field) - Target::field(&before, field);
    assert!(seen("requests") > 0, "{before} {after}");
    assert!(hits("handle_request") >= seen("requests"), "{outcome}");
    assert!(hits("lookup") >= seen("gets") && hits("store") >= seen("sets"), "{outcome}");
    // Every look-up and every store hashes one key; at the edges of the session a few may be in between.
    let hashed = hits("hash_key").abs_diff(hits("lookup") + hits("store"));
    assert!(hashed <= 4, "four workers can each be between two points, not {hashed}\n{outcome}");
    assert_eq!(Target::field(&server.ask("stats"), "wrong"), 0, "every answer was right");
}

#[test]
fn counts_every_call_of_threads_that_are_born_while_attached() {
    let mut target = Target::start("counter");
    let before = Snapshot::of(target.pid());
    let live = Live::attached(&["count", "-p", &target.pid().to_string(), "work"]);
    let mut calls = 0;
    for _ in 0..scaled(1000) {
        calls += target.done("fresh 8 100");
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    // Threads may outrun the pool of contexts: then their hits are counted as such, and none is missing.
    assert_eq!(outcome.hits(), calls, "{outcome}");
    assert_eq!(outcome.lost(), outcome.lost_as("no_context"), "{outcome}");
    before.assert_same();
}

#[test]
fn ends_by_itself_after_the_hits_that_were_asked_for() {
    let mut target = Target::start("counter");
    let before = Snapshot::of(target.pid());
    target.ask("spin 3");
    let outcome =
        Live::attached(&["count", "-p", &target.pid().to_string(), "work", "--hits", "1000"]).finish();
    outcome.assert_clean();
    assert!(outcome.hits() >= 1000, "{outcome}");
    before.assert_same();
    assert!(target.done("halt") > 1000);
}

#[test]
fn ends_by_itself_after_the_time_that_was_asked_for() {
    let mut target = Target::start("counter");
    target.ask("spin 2");
    let has_hits = || {
        let outcome =
            Live::attached(&["count", "-p", &target.pid().to_string(), "work", "--for", "300ms"]).finish();
        outcome.assert_clean();
        outcome.hits() > 0
    };
    // On a busy machine the target may have no turn in one of them.
    assert!((0..50).any(|_| has_hits()), "hits in none of 50 sessions");
    target.done("halt");
}

#[test]
fn a_dry_run_touches_nothing() {
    let mut target = Target::start("counter");
    let memory = mappings(target.pid());
    let before = Snapshot::of(target.pid());
    let outcome = trocar_test_support::run(&["count", "-p", &target.pid().to_string(), "work", "--dry-run"]);
    assert_eq!(outcome.status, 0, "{outcome}");
    assert_eq!(outcome.all("attached").count(), 0, "{outcome}");
    before.assert_same();
    assert_mappings_equal(&memory, &mappings(target.pid()));
    assert_eq!(target.done("run 2 10"), 20);
}
