//! The benchmark measures what it says: variants agree, every call is counted, nothing is left. No figure is judged.
//!
//! - the target program alone: variants, busy threads
//! - small runs of each part through the session API: rows, attaching, memory, a share of a core

use std::sync::{Mutex, MutexGuard, PoisonError};

use clap::Parser;
use trocar_perf::machine::Machine;
use trocar_perf::options::{Options, Part};
use trocar_perf::output::{Line, table};
use trocar_perf::program::{Binary, Program, Variant};
use trocar_perf::{attaching, hits, share};

const QUIET: &dyn Fn(&str) = &|_| {};

/// One at a time: a measurement is not to be disturbed by the others, and keeps both processors busy.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn options(words: &[&str]) -> Options {
    let small = ["bench", "--rounds", "1", "--batches", "5", "--attaches", "1"];
    Options::parse_from(small.iter().chain(words))
}

#[test]
fn all_variants_of_the_function_return_the_same() {
    let _alone = alone();
    let binary = Binary::build().unwrap();
    for threads in [1, 2] {
        let mut program = Program::start(&binary, threads);
        let all =
            [Variant::Work, Variant::WorkPush, Variant::WorkNop5, Variant::FloorBare, Variant::FloorFull];
        for variant in all {
            let pairs = program.run(variant, 3, 100).unwrap();
            assert_eq!((pairs.pairs, pairs.wrong), (3 * threads as u64, 0), "{variant:?}");
            assert_eq!(pairs.calls, (300 + 64) * threads as u64, "{variant:?}");
        }
    }
}

#[test]
fn threads_that_share_processors_measure_their_own_time() {
    let _alone = alone();
    let binary = Binary::build().unwrap();
    for threads in [1, 64] {
        let pairs = Program::start(&binary, threads).run(Variant::Work, 3, 100).unwrap();
        assert_eq!(pairs.processor_time, threads > Machine::processors(), "{threads}: {pairs:?}");
        assert_eq!((pairs.pairs, pairs.wrong), (3 * threads as u64, 0), "{pairs:?}");
    }
}

#[test]
fn a_busy_program_still_answers() {
    let _alone = alone();
    let binary = Binary::build().unwrap();
    let mut program = Program::start(&binary, 2);
    program.keep_busy();
    assert_eq!(program.run(Variant::Work, 2, 10).unwrap().wrong, 0);
    assert!(program.is_original(Variant::Work));
}

#[test]
fn every_row_of_ours_counts_every_call() {
    let _alone = alone();
    let binary = Binary::build().unwrap();
    let names = ["nothing", "closed gate", "empty probe", "counter", "update", "read", "event", "histogram"];
    let words: Vec<&str> = names.iter().flat_map(|name| ["--row", name]).collect();
    let options = options(&words);
    let rows: Vec<_> =
        [1, 2].iter().flat_map(|n| hits::measure(&options, &binary, *n, QUIET).unwrap()).collect();
    for row in &rows {
        assert_eq!(row.absent, None, "{row:?}");
        let pairs = row.pairs.unwrap();
        assert_eq!(pairs.wrong, 0, "{row:?}");
        if !(row.what.starts_with("nothing") || row.what.starts_with("closed")) {
            // The batch before the timed ones is counted too.
            assert!(row.hits.unwrap() > pairs.calls, "{row:?}");
            assert_eq!(row.hits, row.calls, "{row:?}");
            assert!(row.losses.is_empty(), "the reader keeps up: {row:?}");
        }
        let events = if row.what.starts_with("event") { row.hits.unwrap() } else { 0 };
        assert_eq!(row.events, events, "{row:?}");
    }
    assert_eq!(rows.len(), 2 * 14);
}

#[test]
fn attaching_is_measured_beside_a_bare_stop() {
    let _alone = alone();
    let binary = Binary::build().unwrap();
    let options = options(&["--only", "attach"]);
    assert!(options.wants(Part::Attach) && !options.wants(Part::Redis));
    let all = attaching::measure(&options, &binary, QUIET).unwrap();
    assert_eq!(all.len(), 4);
    for one in &all {
        assert!(!one.stops_us.is_empty(), "{one:?}");
        let all_stops = one.stops_us.iter().map(|s| s.max).fold(0.0, f64::max);
        assert!((one.longest_stop_us.max - all_stops).abs() < 1e-9, "{one:?}");
    }
    let text = table(&all.into_iter().map(Line::Attach).collect::<Vec<_>>());
    assert_eq!(text.matches("bare stop").count(), 4 + 1, "{text}");
}

#[test]
fn memory_that_came_with_a_probe_goes_with_it() {
    let _alone = alone();
    let binary = Binary::build().unwrap();
    for one in attaching::memory(&binary, QUIET).unwrap() {
        assert!(one.attached.total_kib() > 0, "{one:?}");
        assert!(one.after_hits.total_kib() >= one.attached.total_kib(), "{one:?}");
        assert!(one.after_detach.shared_kib <= 0, "{one:?}");
    }
}

#[test]
fn a_probe_that_burns_its_fuel_is_suspended_and_says_why() {
    let _alone = alone();
    // It is suspended when somebody has looked at what it takes. On a busy machine a short load is over before: a longer
    // one then.
    let mut requests = 100_000;
    let all = loop {
        let number = requests.to_string();
        let options = options(&["--only", "share", "--share-pairs", "1", "--share-requests", &number]);
        match share::measure(&options, QUIET) {
            Ok(all) if all.iter().all(|one| one.suspended > 0) || requests >= 400_000 => break all,
            Err(trouble) if !trouble.contains("never suspended") || requests >= 400_000 => {
                panic!("{trouble}")
            }
            _ => requests *= 2,
        }
    };
    assert_eq!(all.len(), 2);
    for one in &all {
        assert!(one.why.contains("% of a core") && one.why.contains("limit 5 %"), "{one:?}");
        // Every GET is a command; what redis-benchmark asks besides is a few.
        assert!((requests..requests + 100).contains(&one.hits), "{one:?}");
        assert_eq!(
            one.executed + one.suspended,
            one.hits,
            "it never trapped, and nothing was lost otherwise: {one:?}"
        );
        assert!(one.executed > 0 && one.suspended > 0, "{one:?}");
    }
    assert!(table(&all.into_iter().map(Line::Share).collect::<Vec<_>>()).contains("found it suspended"));
}
