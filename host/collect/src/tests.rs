//! The collector by behaviour: sums over threads, state, records of several rings, merged maps, names, and memory
//! that lies.

use std::mem::offset_of;

use trocar_abi::evidence::{Evidence, FRAMES_MAX, STACK_WORDS, Which, offset};
use trocar_abi::loss::{COUNTED, Loss};
use trocar_abi::map::{HIST_BUCKETS, MapKind, MapSpec, hist_bucket};
use trocar_abi::record::{RecordHead, RecordKind};
use trocar_abi::shared::{
    ContextShared, Layout, ProbeState, SLOW_PARTS, SharedHead, SiteStats, TrapCode, UNIT_SCALE,
};
use trocar_package::{FieldValue, Manifest};
use trocar_ring::Corrupt;

use crate::fake::{Fake, event};
use crate::{BadShared, Collector, Decoded, MergedMap, NamedRow, SiteTotals, decode, named_rows};

const LAYOUT: Layout = Layout { sites: 40, contexts: 4, maps: 8192, ring: 1024 };
const COUNTER: MapSpec = MapSpec { kind: MapKind::Counter as u32, entries: 600, key_bytes: 0, offset: 0 };
const HIST: MapSpec = MapSpec { kind: MapKind::Hist as u32, entries: 2, key_bytes: 0, offset: 4800 };
const HASH: MapSpec = MapSpec { kind: MapKind::Hash as u32, entries: 8, key_bytes: 12, offset: 5840 };

fn collector(fake: &Fake) -> Collector {
    Collector::new(fake.view, fake.layout, vec![COUNTER, HIST, HASH], 2.0).unwrap()
}

fn head_field(fake: &Fake, offset: usize, value: u32) {
    fake.view.store_u32(offset as u64, value).unwrap();
}

#[test]
fn totals_are_the_sum_over_threads_and_the_slow_path() {
    let fake = Fake::new(LAYOUT);
    let (a, _) = fake.claim(0x7000, 11);
    let (b, _) = fake.claim(0x8000, 12);
    let mut losses = [0; COUNTED];
    losses[Loss::RingFull as usize] = 2;
    let one =
        SiteStats { hits: 10, executed: 7, condition_false: 1, losses, ticks: 300, timed: 90 << 32 | 3 };
    fake.stats(LAYOUT.context_stats(a), 39, one);
    fake.stats(LAYOUT.context_stats(b), 39, SiteStats { ticks: 100, timed: 40 << 32 | 2, ..one });
    let mut slow = [0; COUNTED];
    slow[Loss::NoContext as usize] = 5;
    let (last, lost) = (SLOW_PARTS - 1, SiteStats { hits: 5, losses: slow, ..SiteStats::default() });
    for part in [0, last, 7] {
        fake.stats(LAYOUT.slow_stats(part), 39, lost);
    }
    // The third is not said to be in use, and not read.
    fake.view.store_u64_release(offset_of!(SharedHead, slow) as u64, 1 | 1 << last).unwrap();

    let collector = collector(&fake);
    let totals = collector.totals();
    assert_eq!(totals.len(), 40);
    assert_eq!(totals[0], SiteTotals::default());
    let site = totals[39];
    assert_eq!((site.hits, site.executed, site.condition_false, site.lost()), (30, 14, 2, 14));
    assert_eq!(site.accounted(), site.hits);
    assert_eq!(site.losses_by_name().collect::<Vec<_>>(), [("ring_full", 4), ("no_context", 10)]);
    assert_eq!((site.ticks, site.timed, site.ticks_min), (400, 5, 40));
    assert_eq!(collector.ns_per_hit(&site), Some(40.0));
    assert_eq!(collector.ns_min(&site), Some(20.0));
    assert_eq!(collector.ns_per_hit(&totals[0]), None);
}

#[test]
fn totals_saturate_on_nonsense_and_settle() {
    let fake = Fake::new(LAYOUT);
    let most = SiteStats {
        hits: 3,
        executed: u64::MAX,
        condition_false: 9,
        losses: [u64::MAX; COUNTED],
        ticks: u64::MAX,
        timed: u64::MAX,
    };
    for _ in 0..2 {
        let (context, _) = fake.claim(0x7000, 1);
        fake.stats(LAYOUT.context_stats(context), 0, most);
    }
    let site = collector(&fake).totals()[0];
    assert_eq!((site.hits, site.executed, site.accounted()), (6, u64::MAX, u64::MAX));
    assert_eq!(site.settled().hits, u64::MAX);
}

#[test]
fn hits_that_have_not_ended_are_abandoned_where_the_context_is_retired_and_once_all_is_over() {
    let fake = Fake::new(LAYOUT);
    let [a, b] = [0x7000, 0x7000].map(|pointer| fake.claim(pointer, 11).0);
    let one = SiteStats { hits: 10, executed: 8, condition_false: 1, ..SiteStats::default() };
    for context in [a, b] {
        fake.stats(LAYOUT.context_stats(context), 3, one);
    }
    let collector = collector(&fake);
    let lost = |site: SiteTotals| site.losses_by_name().collect::<Vec<_>>();
    assert_eq!(lost(collector.totals()[3]), [], "both may go on");
    let retired = LAYOUT.context(a) + offset_of!(ContextShared, retired) as u64;
    fake.view.store_u32(retired, 1).unwrap();
    let site = collector.totals()[3];
    assert_eq!((lost(site), site.hits, site.settled().hits), (vec![("abandoned", 1)], 20, 19));
    assert_eq!((lost(site.over()), site.over().accounted()), (vec![("abandoned", 2)], 20));
    // One that has ended after all is what it is.
    fake.stats(LAYOUT.context_stats(a), 3, SiteStats { executed: 9, ..one });
    assert_eq!(lost(collector.totals()[3]), []);
}

#[test]
fn contexts_that_nobody_claimed_are_not_read() {
    let fake = Fake::new(LAYOUT);
    let (_, mut ring) = fake.claim(0x7000, 11);
    ring.push(event(0, 11), b"x").unwrap();
    // Values that would show up if the second context were looked at.
    fake.stats(LAYOUT.context_stats(1), 0, SiteStats { hits: 99, ..SiteStats::default() });
    fake.map_word(1, &COUNTER, 0, 99);
    fake.view.store_u64(LAYOUT.context(1), 16).unwrap();
    let mut collector = collector(&fake);
    assert_eq!(collector.totals()[0].hits, 0);
    assert_eq!(collector.map(0), Some(MergedMap::Counter(vec![])));
    assert_eq!(collector.records(|_| {}).records, 1);
    assert_eq!(collector.contexts().len(), 1);
    assert_eq!(collector.contexts()[0].first_sp, 0x7000 - 64);
}

#[test]
fn a_nonsense_number_of_claimed_contexts_is_cut_to_what_there_is() {
    let fake = Fake::new(LAYOUT);
    let (_, mut ring) = fake.claim(0x7000, 11);
    let mut collector = collector(&fake);
    head_field(&fake, offset_of!(SharedHead, claimed), u32::MAX);
    assert_eq!(collector.status().claimed, 4);
    assert_eq!(collector.totals().len(), 40);
    assert_eq!(collector.records(|_| {}), crate::Drained::default());
    // And one that sinks is not believed: the rings that were found are still read.
    head_field(&fake, offset_of!(SharedHead, claimed), 0);
    ring.push(event(0, 11), b"still here").unwrap();
    assert_eq!(collector.records(|_| {}).records, 1);
}

#[test]
fn status_names_state_and_last_trap() {
    let fake = Fake::new(LAYOUT);
    let collector = collector(&fake);
    assert_eq!(collector.status().state, ProbeState::Armed);
    head_field(&fake, offset_of!(SharedHead, state), 2);
    head_field(&fake, offset_of!(SharedHead, traps), 3);
    head_field(&fake, offset_of!(SharedHead, trap_code), 5);
    head_field(&fake, offset_of!(SharedHead, trap_site), 7);
    head_field(&fake, offset_of!(SharedHead, trap_tid), 812);
    let status = collector.status();
    assert_eq!((status.state, status.traps), (ProbeState::Quarantined, 3));
    assert_eq!((status.trap_code, status.trap_site, status.trap_tid), (TrapCode::DivideByZero, 7, 812));
    head_field(&fake, offset_of!(SharedHead, state), 77);
    assert_eq!(collector.status().state, ProbeState::Disarmed);
}

#[test]
fn records_of_all_threads_come_in_each_threads_order() {
    let fake = Fake::new(LAYOUT);
    let mut collector = collector(&fake);
    let threads = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u32)
            .map(|thread| {
                let (_, mut ring) = fake.claim(0x7000 + u64::from(thread), 100 + thread);
                scope.spawn(move || {
                    for n in 0..5_000u32 {
                        while ring.push(event(0, 100 + thread), &n.to_le_bytes()).is_err() {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0u32; 3];
        while next != [5_000; 3] {
            let drained = collector.records(|record| {
                let thread = record.context as usize;
                assert_eq!(record.head.tid, 100 + record.context);
                assert_eq!(record.payload, next[thread].to_le_bytes());
                next[thread] += 1;
            });
            assert_eq!(drained.faults, []);
            if drained.records == 0 {
                std::thread::yield_now();
            }
        }
        writers.into_iter().map(|w| w.join().unwrap()).count()
    });
    assert_eq!(threads, 3);
}

#[test]
fn a_corrupt_ring_is_reported_once_and_the_others_go_on() {
    let fake = Fake::new(LAYOUT);
    let (bad, _) = fake.claim(0x7000, 1);
    let (_, mut good) = fake.claim(0x8000, 2);
    let mut collector = collector(&fake);
    let head = LAYOUT.context(bad) + offset_of!(ContextShared, head) as u64;
    fake.view.store_u64(head, 1 << 40).unwrap();
    good.push(event(0, 2), b"one").unwrap();
    let drained = collector.records(|record| assert_eq!(record.payload, b"one"));
    assert_eq!(drained.records, 1);
    assert_eq!(drained.faults.len(), 1);
    assert_eq!(drained.faults[0].context, bad);
    assert!(
        matches!(drained.faults[0].fault, Corrupt::Head { head, tail: 0, capacity: 1024 } if head == 1 << 40)
    );
    good.push(event(0, 2), b"two").unwrap();
    let drained = collector.records(|record| assert_eq!(record.payload, b"two"));
    assert_eq!((drained.records, drained.faults.len()), (1, 0));
}

#[test]
fn counters_and_histograms_are_summed_place_by_place() {
    let fake = Fake::new(LAYOUT);
    for context in [fake.claim(0x7000, 1).0, fake.claim(0x8000, 2).0] {
        fake.map_word(context, &COUNTER, 0, 5);
        fake.map_word(context, &COUNTER, 599, (-7i64).cast_unsigned());
        let second = HIST_BUCKETS as u64;
        fake.map_word(context, &HIST, hist_bucket(1000, 0) as u64, 3);
        fake.map_word(context, &HIST, second + hist_bucket(u64::MAX, 0) as u64, 1);
    }
    let collector = collector(&fake);
    assert_eq!(collector.map(0), Some(MergedMap::Counter(vec![(0, 10), (599, -14)])));
    assert_eq!(collector.map(1), Some(MergedMap::Hist(vec![(0, 10, 6), (1, 64, 2)])));
    assert_eq!(collector.map(3), None);
    assert_eq!(collector.map_count(), 3);
}

#[test]
fn hash_maps_are_merged_by_key_and_bad_entries_are_counted() {
    let fake = Fake::new(LAYOUT);
    let (a, _) = fake.claim(0x7000, 1);
    let (b, _) = fake.claim(0x8000, 2);
    // The same key in different slots, a key that is a prefix of another, an empty key, one of full length.
    fake.hash_slot(a, &HASH, 1, b"get", 10);
    fake.hash_slot(b, &HASH, 6, b"get", 5);
    fake.hash_slot(a, &HASH, 2, b"get\0", 1);
    fake.hash_slot(b, &HASH, 0, b"", 2);
    fake.hash_slot(b, &HASH, 7, b"twelve bytes", 3);
    // Longer than the map's keys: the slot that follows must not be taken for a part of it.
    fake.hash_slot(a, &HASH, 5, b"x", 99);
    let stride = MapSpec::hash_stride(12) / 8;
    fake.map_word(a, &HASH, 2 + 5 * stride + 2, 13);
    fake.map_word(a, &HASH, 1, 4);
    let rows =
        vec![(b"".to_vec(), 2), (b"get".to_vec(), 15), (b"get\0".to_vec(), 1), (b"twelve bytes".to_vec(), 3)];
    let merged = collector(&fake).map(2).unwrap();
    assert_eq!(merged, MergedMap::Hash { rows, dropped: 4, corrupt: 1, cut: 0 });
}

#[test]
fn memory_that_does_not_fit_is_refused_by_name() {
    let fake = Fake::new(LAYOUT);
    let new = |layout, maps| Collector::new(fake.view, layout, maps, 1.0).map(|_| ()).unwrap_err();
    let more = Layout { contexts: 5, ..LAYOUT };
    assert_eq!(new(more, vec![]), BadShared::Short { need: more.total(), have: LAYOUT.total() });
    for layout in [
        Layout { ring: 1000, ..LAYOUT },
        Layout { ring: 8, ..LAYOUT },
        Layout { ring: 1 << 63, ..LAYOUT },
        Layout { maps: u64::MAX, ..LAYOUT },
        Layout { contexts: u32::MAX, ..LAYOUT },
        Layout { sites: u32::MAX, ..LAYOUT },
    ] {
        assert_eq!(new(layout, vec![]), BadShared::Layout(layout));
    }
    for spec in [
        MapSpec { kind: 3, ..COUNTER },
        MapSpec { offset: 8192 - 8, ..COUNTER },
        MapSpec { offset: 4, ..COUNTER },
        MapSpec { offset: !7, ..COUNTER },
        MapSpec { entries: u32::MAX, ..HIST },
        MapSpec { key_bytes: 257, entries: 1, ..HASH },
    ] {
        assert_eq!(new(LAYOUT, vec![COUNTER, spec]), BadShared::Map { index: 1, spec });
    }
    head_field(&fake, offset_of!(SharedHead, version), 2);
    assert_eq!(new(LAYOUT, vec![]), BadShared::Version { found: 2 });
    fake.view.store_u64(0, 7).unwrap();
    assert_eq!(new(LAYOUT, vec![]), BadShared::Magic { found: 7 });
}

#[test]
fn random_shared_memory_is_read_without_a_panic() {
    // xorshift64 (Marsaglia, "Xorshift RNGs", 2003)
    let mut state = 0x5eed_0000_0000_0002u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..40 {
        let fake = Fake::new(LAYOUT);
        for offset in (16..LAYOUT.total()).step_by(8) {
            let value = next();
            // Small numbers now and then, so that lengths are sometimes believable.
            fake.view.store_u64(offset, if value.is_multiple_of(2) { value % 40 } else { value }).unwrap();
        }
        let mut collector = collector(&fake);
        let mut bytes = 0;
        let drained = collector.records(|record| bytes += record.payload.len());
        assert!(bytes <= 4 * 1024 && drained.faults.len() <= 4);
        assert_eq!(collector.totals().len(), 40);
        assert!(collector.contexts().len() <= 4);
        let Some(MergedMap::Hash { rows, corrupt, .. }) = collector.map(2) else { panic!("a hash map") };
        assert!(rows.len() as u64 + corrupt <= 4 * 8);
        assert!(rows.iter().all(|(key, _)| key.len() <= 12));
    }
}

const MANIFEST: &str = r#"
    abi = 1
    name = "commands"
    [[events]]
    name = "large"
    fields = [{ name = "argc", type = "u64" }, { name = "command", type = "str", bytes = 8 }]
    [[maps]]
    name = "totals"
    kind = "counter"
    entries = 2
    labels = ["calls"]
    [[maps]]
    name = "sizes"
    kind = "hist"
    entries = 2
    [[maps]]
    name = "commands"
    kind = "hash"
    entries = 8
    key = [{ name = "command", type = "str", bytes = 8 }]
"#;

#[test]
fn events_and_log_lines_get_their_names() {
    let manifest = Manifest::from_toml(MANIFEST).unwrap();
    let Decoded::Event { name, fields } = decode(&manifest, &event(0, 1), b"\x05\0\0\0\0\0\0\0lpush\0\0\0")
    else {
        panic!("an event");
    };
    assert_eq!(name, "large");
    assert_eq!(
        fields,
        [
            ("argc".to_owned(), FieldValue::Uint(5)),
            ("command".to_owned(), FieldValue::Text("lpush".to_owned()))
        ]
    );
    let log = RecordHead { kind: RecordKind::Log as u16, tag: 1, ..event(0, 1) };
    let warn = Decoded::Log { level: "warn", message: "half \u{fffd}".to_owned() };
    assert_eq!(decode(&manifest, &log, b"half \xff"), warn);
    let beyond = decode(&manifest, &RecordHead { tag: 900, ..log }, b"");
    assert_eq!(beyond, Decoded::Log { level: "trace", message: String::new() });
}

#[test]
fn what_does_not_fit_its_schema_is_passed_on_as_bytes() {
    let manifest = Manifest::from_toml(MANIFEST).unwrap();
    for (head, wanted) in [
        (event(0, 1), "large"),
        (event(9, 1), "event_9"),
        (RecordHead { kind: 77, ..event(0, 1) }, "record_77"),
    ] {
        let Decoded::Event { name, fields } = decode(&manifest, &head, b"\x01\xfe") else {
            panic!("an event")
        };
        assert_eq!(name, wanted);
        assert_eq!(fields[0], ("payload".to_owned(), FieldValue::Text("01fe".to_owned())));
        assert_eq!(fields[1].0, "problem");
    }
}

#[test]
fn rows_get_labels_ranges_and_keys() {
    let manifest = Manifest::from_toml(MANIFEST).unwrap();
    let keyed =
        |name: &str, key: FieldValue, value| NamedRow::Keyed { key: vec![(name.to_owned(), key)], value };
    let text = |t: &str| FieldValue::Text(t.to_owned());
    assert_eq!(
        named_rows(&manifest.maps[0], &MergedMap::Counter(vec![(0, 3), (1, 4)])),
        [keyed("name", text("calls"), 3), keyed("index", FieldValue::Uint(1), 4)]
    );
    assert_eq!(
        named_rows(&manifest.maps[1], &MergedMap::Hist(vec![(1, 10, 6)])),
        [NamedRow::Bucket { entry: Some(1), lo: 512, hi: 1023, count: 6 }]
    );
    let rows = vec![(b"get".to_vec(), 3), (b"longer than eight".to_vec(), 1)];
    assert_eq!(
        named_rows(&manifest.maps[2], &MergedMap::Hash { rows, dropped: 0, corrupt: 0, cut: 0 }),
        [keyed("command", text("get"), 3), keyed("key", text("6c6f6e676572207468616e206569676874"), 1)]
    );
}

#[test]
fn fuel_is_summed_over_threads_and_a_unit_is_priced_by_the_cheapest_hit() {
    let fake = Fake::new(LAYOUT);
    let put = |context: u32, field: usize, value: u64| {
        fake.view.store_u64(LAYOUT.context(context) + field as u64, value).unwrap();
    };
    let (fuel, unit) = (offset_of!(ContextShared, fuel), offset_of!(ContextShared, unit_ticks));
    let collector = collector(&fake);
    assert_eq!((collector.fuel(), collector.unit_ns()), (0, None));
    for (tp, used, ticks) in [(0x7000, 100, 0), (0x8000, 20, 3 * UNIT_SCALE), (0x9000, 3, 2 * UNIT_SCALE)] {
        let (context, _) = fake.claim(tp, 1);
        put(context, fuel, used);
        put(context, unit, ticks);
    }
    // A context that nobody has claimed is not read.
    put(3, fuel, 1000);
    assert_eq!((collector.fuel(), collector.unit_ns()), (123, Some(1.0)), "two ticks in a nanosecond");
    put(0, fuel, u64::MAX);
    assert_eq!(collector.fuel(), u64::MAX, "numbers of the target saturate");
}

#[test]
fn a_probe_is_suspended_and_let_go_on_only_from_the_other_state() {
    let fake = Fake::new(LAYOUT);
    let collector = collector(&fake);
    assert_eq!((collector.resume(), collector.suspend()), (false, true));
    assert_eq!((collector.status().state, collector.suspend()), (ProbeState::Suspended, false));
    assert_eq!((collector.resume(), collector.status().state), (true, ProbeState::Armed));
    for state in [ProbeState::Quarantined, ProbeState::Off] {
        head_field(&fake, offset_of!(SharedHead, state), state as u32);
        assert_eq!(
            (collector.suspend(), collector.resume(), collector.status().state),
            (false, false, state)
        );
    }
}

#[test]
fn records_are_granted_up_to_what_may_be_written_at_once() {
    let fake = Fake::new(LAYOUT);
    let collector = collector(&fake);
    let left = || fake.view.load_u64(offset_of!(SharedHead, records) as u64).unwrap();
    for (n, expected) in [(7, 7), (2, 9), (u32::MAX, 10)] {
        collector.grant_records(n, 10);
        assert_eq!(left(), expected);
    }
}

#[test]
fn evidence_is_read_once_it_is_whole_and_never_longer_than_it_can_be() {
    let fake = Fake::new(LAYOUT);
    let collector = collector(&fake);
    let at = |field: usize| offset(Which::Last) + field as u64;
    let half = |field, value| fake.view.store_u32(at(field), value).unwrap();
    let word = |field, value| fake.view.store_u64(at(field), value).unwrap();
    half(offset_of!(Evidence, trap_code), TrapCode::Table as u32);
    half(offset_of!(Evidence, tid), 812);
    word(offset_of!(Evidence, registers) + 8 * 7, 0x7fff_0000);
    word(offset_of!(Evidence, stack), 0x1234);
    half(offset_of!(Evidence, frames), 0x40);
    assert_eq!(collector.evidence(Which::Last), None, "not written yet");
    half(offset_of!(Evidence, written), 1);
    assert_eq!(collector.evidence(Which::First), None, "another one");
    let bare = collector.evidence(Which::Last).unwrap();
    assert_eq!((bare.trap, bare.tid, bare.registers[7]), (TrapCode::Table, 812, 0x7fff_0000));
    assert!(bare.stack.is_empty() && bare.frames.is_empty());
    // Counts are the target's: nothing is read past what there is.
    word(offset_of!(Evidence, stack_count), u64::MAX);
    half(offset_of!(Evidence, frame_count), u32::MAX);
    half(offset_of!(Evidence, trap_code), 12345);
    let full = collector.evidence(Which::Last).unwrap();
    assert_eq!((full.stack.len(), full.frames.len(), full.trap), (STACK_WORDS, FRAMES_MAX, TrapCode::Other));
    assert_eq!((full.stack[0], full.frames[0]), (0x1234, 0x40));
}
