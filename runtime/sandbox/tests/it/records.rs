//! Events and log lines, and the ring when it is full.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use trocar_abi::record::{PAYLOAD_MAX, RecordHead, RecordKind};
use trocar_abi::shared::TrapCode;
use trocar_sandbox::Outcome;

use crate::rig::{Rig, SITE, Setup, THREAD, module, on_hit};

#[test]
fn a_record_says_what_wrote_it_and_where() {
    let data = r#"(data (i32.const 100) "hello, ring")"#;
    let mut rig = Rig::of(&module(&format!(
        r#"{data} (func (export "on_hit")
           (call $emit (i32.const 5) (i32.const 100) (i32.const 5))
           (call $log (i32.const 2) (i32.const 107) (i32.const 4))
           (call $emit (i32.const 65535) (i32.const 0) (i32.const 0)))"#
    )));
    assert_eq!(rig.hit(), Outcome::Executed);
    let head =
        |kind: RecordKind, tag, len| RecordHead { len, kind: kind as u16, tag, site: SITE, tid: THREAD };
    assert_eq!(
        rig.records(),
        [
            (head(RecordKind::Event, 5, 5), b"hello".to_vec()),
            (head(RecordKind::Log, 2, 4), b"ring".to_vec()),
            (head(RecordKind::Event, u16::MAX, 0), Vec::new()),
        ]
    );
}

#[test]
fn the_longest_record_goes_out_whole_and_a_longer_one_traps() {
    for call in ["emit", "log"] {
        let code = |len| format!("(call ${call} (i32.const 1) (i32.const 0) (i32.const {len}))");
        let fill = "(memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 5000))";
        let mut rig = Rig::of(&on_hit(&format!("{fill} {}", code(PAYLOAD_MAX))));
        assert_eq!(rig.hit(), Outcome::Executed);
        assert_eq!(rig.payload(), vec![0xa5; PAYLOAD_MAX as usize]);
        let mut rig = Rig::of(&on_hit(&code(PAYLOAD_MAX + 1)));
        rig.traps(TrapCode::HostCall);
        assert!(rig.records().is_empty());
    }
}

#[test]
fn a_schema_or_level_over_16_bits_traps() {
    for call in ["emit", "log"] {
        for tag in [65_536, -1] {
            let mut rig =
                Rig::of(&on_hit(&format!("(call ${call} (i32.const {tag}) (i32.const 0) (i32.const 0))")));
            rig.traps(TrapCode::HostCall);
            assert!(rig.records().is_empty());
        }
    }
}

#[test]
fn a_full_ring_is_told_and_the_next_hit_starts_anew() {
    // A record of eight bytes takes 24: two fit into 64.
    let setup = Setup { ring: 64, ..Setup::default() };
    let mut rig = setup.start(&on_hit("(call $emit (i32.const 0) (i32.const 0) (i32.const 8))"));
    assert_eq!([rig.hit(), rig.hit(), rig.hit()], [Outcome::Executed, Outcome::Executed, Outcome::RingFull]);
    assert_eq!(rig.hit(), Outcome::RingFull);
    assert_eq!(rig.records().len(), 2);
    assert_eq!(rig.hit(), Outcome::Executed);
    assert_eq!(rig.records().len(), 1);
}

#[test]
fn records_that_fit_stay_when_a_later_one_of_the_hit_does_not() {
    let setup = Setup { ring: 64, ..Setup::default() };
    let mut rig = setup.start(&on_hit(
        "(call $emit (i32.const 1) (i32.const 0) (i32.const 8))
         (call $emit (i32.const 2) (i32.const 0) (i32.const 48))
         (call $emit (i32.const 3) (i32.const 0) (i32.const 8))",
    ));
    assert_eq!(rig.hit(), Outcome::RingFull);
    let tags: Vec<u16> = rig.records().iter().map(|(head, _)| head.tag).collect();
    assert_eq!(tags, [1, 3], "the handler ran on, and what had room went out");
}

#[test]
fn a_full_ring_counts_before_the_condition_and_after_a_trap() {
    let emit = "(call $emit (i32.const 0) (i32.const 0) (i32.const 100))";
    let ring = || Setup { ring: 64, ..Setup::default() };
    let handler =
        |result: &str, end: &str| module(&format!(r#"(func (export "on_hit") {result} {emit} {end})"#));
    let mut condition = ring().start(&handler("(result i32)", "(i32.const 0)"));
    assert_eq!(condition.hit(), Outcome::RingFull);
    let mut trap = ring().start(&handler("", "unreachable"));
    trap.traps(TrapCode::Unreachable);
}

#[test]
fn records_of_a_hit_that_traps_later_have_gone_out() {
    let mut rig = Rig::of(&on_hit("(call $emit (i32.const 9) (i32.const 0) (i32.const 4)) unreachable"));
    rig.traps(TrapCode::Unreachable);
    assert_eq!(rig.records().len(), 1);
}

#[test]
fn records_over_the_rate_are_dropped_and_what_is_granted_later_goes_out() {
    let records: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(12)));
    let emit = "(call $emit (i32.const 0) (i32.const 0) (i32.const 8))";
    let mut rig = Setup { records: Some(records), ..Setup::default() }.start(&on_hit(emit));
    let went = (0..20).filter(|_| rig.hit() == Outcome::Executed).count();
    assert_eq!(
        (went, rig.records().len(), records.load(Relaxed)),
        (12, 12, 0),
        "in batches of ten, to the last"
    );
    assert_eq!(rig.hit(), Outcome::RateLimited);
    records.store(1, Relaxed);
    assert_eq!([rig.hit(), rig.hit()], [Outcome::Executed, Outcome::RateLimited]);
    // Nobody can make it a large number by taking from nothing.
    records.store(i64::MIN, Relaxed);
    assert_eq!(rig.hit(), Outcome::RateLimited);
}

#[test]
fn a_large_record_takes_as_much_of_the_rate_as_several() {
    let records: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(6)));
    let emit = format!("(call $emit (i32.const 0) (i32.const 0) (i32.const {PAYLOAD_MAX}))");
    let mut rig = Setup { records: Some(records), ..Setup::default() }.start(&on_hit(&emit));
    assert_eq!([rig.hit(), rig.hit()], [Outcome::Executed, Outcome::RateLimited]);
    // Two were kept, and are not lost.
    records.store(2, Relaxed);
    assert_eq!(rig.hit(), Outcome::Executed);
    assert_eq!(rig.records().len(), 2);
}

#[test]
fn the_fuel_that_a_hit_used_is_known_in_both_ways_of_entering() {
    let mut rig = Rig::of(&on_hit("(drop (call $time_ns))"));
    let used = 1 + 1 + trocar_abi::import::known("time_ns").fuel;
    for _ in 0..4 {
        assert_eq!((rig.hit(), rig.instance.fuel_used()), (Outcome::Executed, used));
    }
}
