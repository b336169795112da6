//! Tables by behaviour, as golden text: the live view, lines, maps, receipts, hostile text, a terminal's block.

use std::time::{Duration, SystemTime};

use trocar_session::reply::{Reply, Row, Value};
use trocar_target::{Failure, FailureKind};

use super::{Style, TableSink};
use crate::{Sink, escape, replies};

thread_local! {
    static SECONDS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// 2026-11-23 12:00:00.25 and the seconds that the test let pass.
fn test_clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_795_435_200 + SECONDS.get(), 250_000_000)
}

fn pass(seconds: u64) {
    SECONDS.set(SECONDS.get() + seconds);
}

type TestSink = TableSink<Vec<u8>, Vec<u8>>;

fn sink(style: Style) -> TestSink {
    SECONDS.set(0);
    TableSink { clock: test_clock, ..TableSink::new(Vec::new(), Vec::new(), style) }
}

fn live(width: usize, height: usize) -> Style {
    Style { live: true, width, height, progress: true, ..Style::plain() }
}

/// What was written since the last call.
fn out(sink: &mut TestSink) -> String {
    String::from_utf8(std::mem::take(&mut sink.screen.out)).unwrap()
}

/// What these replies look like in a pipe.
fn shown(replies: &[Reply]) -> String {
    let mut sink = sink(Style::plain());
    for reply in replies {
        sink.write(reply).unwrap();
    }
    sink.flush().unwrap();
    out(&mut sink)
}

#[test]
fn attached_lists_sites_and_refusals() {
    assert_eq!(
        shown(&[Reply::Attached(replies::attached())]),
        "\
attached amber-heron: redis-commands in process 812 at 2 sites (1 refused), in 12.3 ms; 5 threads stopped for at most 310 µs
limits: 10000 fuel a hit, 1.06 MiB of memory, 3 traps to quarantine, 10000 records a second, 5 % of a core, 1h 0m to live
SITE  POINT                        MODULE        SYMBOL          ADDRESS         RUNG
   0  redis-server:processCommand  redis-server  processCommand  0x55d0c0ffee10  one_instruction
   1  redis-server:processCommand  redis-server  call+0x1c       0x55d0c0ffee10  window
REFUSED                 ADDRESS         REASON              DETAIL
redis-server:lookupKey  0x55d0c0ffee99  branch_into_window  0x55d0c0ffeea0 is the target of a branch
"
    );
}

#[test]
fn counters_are_a_table_for_each_complete_round() {
    let mut sink = sink(Style::plain());
    sink.write(&Reply::Attached(replies::attached())).unwrap();
    out(&mut sink);
    pass(2);
    sink.write(&replies::stats(0, 1000, &[], false)).unwrap();
    assert_eq!(out(&mut sink), "", "the second site has not reported yet");
    sink.write(&replies::stats(1, 0, &[], false)).unwrap();
    assert_eq!(
        out(&mut sink),
        "\
SITE                         STATE  HITS  HITS/S  LOST  NS/HIT  %CORE      TTL  WHY
redis-server:processCommand  armed  1000     500     0    41.3   1.23  59m 58s
redis-server:call+0x1c       armed     0    0.00     0       -      -  59m 58s
"
    );
    pass(1);
    sink.write(&replies::stats(0, 3500, &[("ring_full", 12), ("trap", 1)], true)).unwrap();
    sink.write(&replies::stats(1, 0, &[], true)).unwrap();
    assert_eq!(
        out(&mut sink),
        "\
SITE                         STATE  HITS  HITS/S  LOST  NS/HIT  %CORE  TTL  WHY
redis-server:processCommand  armed  3500    1167    13    41.3   1.23    -  12 ring_full, 1 trap
redis-server:call+0x1c       armed     0    0.00     0       -      -    -  never reached while attached
"
    );
}

#[test]
fn an_incomplete_round_is_shown_at_the_flush() {
    let mut sink = sink(Style::plain());
    sink.write(&Reply::Attached(replies::attached())).unwrap();
    sink.write(&replies::stats(0, 1, &[], false)).unwrap();
    out(&mut sink);
    sink.flush().unwrap();
    assert!(out(&mut sink).contains("redis-server:processCommand  armed"));
    sink.flush().unwrap();
    assert_eq!(out(&mut sink), "", "nothing new");
}

#[test]
fn a_quarantined_probe_says_why_in_its_line_and_in_the_table() {
    let mut sink = sink(Style::plain());
    sink.write(&Reply::Attached(replies::attached())).unwrap();
    out(&mut sink);
    sink.write(&replies::quarantined()).unwrap();
    sink.write(&replies::stats(0, 5, &[("suspended", 5)], false)).unwrap();
    sink.write(&replies::receipt(true, &[])).unwrap();
    assert_eq!(
        out(&mut sink),
        "\
amber-heron: redis-commands is quarantined: integer divide by zero at site 1
SITE                         STATE        HITS  HITS/S  LOST  NS/HIT  %CORE    TTL  WHY
redis-server:processCommand  quarantined     5       -     5    41.3   1.23  1h 0m  integer divide by zero at site 1, 5 suspended
detached amber-heron from process 812: 2 sites, text as before (sha256 0123456789ab…), nothing of ours left in it, in 3.20 ms; stopped for at most 95.0 µs
"
    );
}

#[test]
fn sites_of_a_module_that_came_or_went_say_so_in_a_line_in_the_table_and_in_the_receipt() {
    let mut sink = sink(Style::plain());
    sink.write(&Reply::Attached(replies::attached())).unwrap();
    out(&mut sink);
    sink.write(&replies::armed()).unwrap();
    sink.write(&replies::retired()).unwrap();
    let Reply::Stats(mut gone) = replies::stats(1, 5, &[], false) else { unreachable!() };
    gone.state = "retired".to_owned();
    sink.write(&replies::stats(0, 5, &[], false)).unwrap();
    sink.write(&Reply::Stats(gone)).unwrap();
    let Reply::Receipt(mut receipt) = replies::receipt(true, &[]) else { unreachable!() };
    receipt.retired = 1;
    sink.write(&Reply::Receipt(receipt)).unwrap();
    assert_eq!(
        out(&mut sink),
        "\
amber-heron: modules were loaded: 1 site armed (1 refused), in 12.3 ms; 5 threads stopped for at most 310 µs
SITE  POINT                        MODULE        SYMBOL     ADDRESS         RUNG
   1  redis-server:processCommand  redis-server  call+0x1c  0x55d0c0ffee10  window
REFUSED                 ADDRESS         REASON              DETAIL
redis-server:lookupKey  0x55d0c0ffee99  branch_into_window  0x55d0c0ffeea0 is the target of a branch
amber-heron: libplug.so was unloaded: 1 site retired, what was counted stays
SITE                         STATE    HITS  HITS/S  LOST  NS/HIT  %CORE    TTL  WHY
redis-server:processCommand  armed       5       -     0    41.3   1.23  1h 0m
redis-server:call+0x1c       retired     5       -     0    41.3   1.23  1h 0m  its module was unloaded
detached amber-heron from process 812: 2 sites (1 went with its module), text as before (sha256 0123456789ab…), nothing of ours left in it, in 3.20 ms; stopped for at most 95.0 µs
"
    );
}

#[test]
fn a_quarantine_says_where_the_probe_trapped_and_how_to_see_it_again() {
    let mut sink = sink(Style::plain());
    sink.write(&replies::quarantined_with_evidence(true)).unwrap();
    assert_eq!(
        out(&mut sink),
        "\
amber-heron: redis-commands is quarantined: integer divide by zero at site 1
  trap    integer divide by zero
  in      orders::share at src/\\x1b[31morders.rs:42 (inlined)
  from    orders::split at src/orders.rs:50 (function 5, offset 0x1a3)
  from    again (function 5, offset 0x200), 2 times
  from    function 5 (function 5)
  hit     call in thread 4242, handler on_hit, arguments 0x1 0x2a
  again   trocar test slow.wasm --hit @/state/hit.json
"
    );
    sink.write(&replies::quarantined_with_evidence(false)).unwrap();
    let said = out(&mut sink);
    assert!(said.contains("  retry   trocar test slow.wasm --hit"), "{said}");
    assert!(said.ends_with("memory that has changed since\n"), "{said}");
}

#[test]
fn events_and_log_lines_are_one_line_each() {
    assert_eq!(
        shown(&[
            replies::event(&[("argc", Value::Uint(5)), ("command", Value::Text("lpush".into()))]),
            replies::log("warn", "argc is large"),
        ]),
        "\
12:00:00.250 4242 large_command argc=5 command=\"lpush\" at site 0
12:00:00.250 4242 warn  argc is large at site 1
"
    );
}

#[test]
fn a_receipt_says_what_is_left_and_what_is_not_restored() {
    assert_eq!(
        shown(&[replies::receipt(false, &["trampolines at 0x7f00: thread 4242 sleeps in a handler"]), replies::exited()]),
        "\
detached amber-heron from process 812: 2 sites, TEXT NOT RESTORED (sha256 0123456789ab… before, fedcba987654… after), 1 mapping left in it, in 3.20 ms; stopped for at most 95.0 µs
left: trampolines at 0x7f00: thread 4242 sleeps in a handler
amber-heron: process 812 ended (killed), and the probe with it
"
    );
}

#[test]
fn a_hash_map_is_sorted_by_value_with_bars() {
    let rows = vec![
        replies::row("get", 100),
        replies::row("", -4),
        replies::row("lpush", 1),
        replies::row("東京", 400),
    ];
    assert_eq!(
        shown(&[replies::map("commands", "hash", rows, 7)]),
        "\
commands (hash, 4 rows, sum 497)
COMMAND  VALUE
東京       400  ██████████████████████████████
get        100  ███████▌
lpush        1  ▏
(empty)     -4
7 updates found no slot: the table is full, raise its entries
"
    );
}

#[test]
fn a_long_table_is_cut_and_says_what_is_missing() {
    let rows = (0..60).map(|n| replies::row(&format!("key{n:02}"), 60 - n)).collect();
    let text = shown(&[replies::map("commands", "hash", rows, 0)]);
    assert_eq!(text.lines().count(), 1 + 1 + 40 + 1);
    assert!(text.ends_with("20 rows more, sum 210 (all of them with -o json)\n"), "{text}");
    assert_eq!(shown(&[replies::map("commands", "hash", vec![], 0)]), "commands (hash, 0 rows, sum 0)\n");
}

#[test]
fn a_histogram_shows_its_ranges_and_the_gaps_between() {
    let bucket = |lo, hi, count| Row::Bucket { entry: None, name: None, lo, hi, count };
    let rows = vec![bucket(512, 1023, 90), bucket(4096, 8191, 9), bucket(0, 0, 0), bucket(16384, 32767, 1)];
    let rows = rows.into_iter().filter(|row| !matches!(row, Row::Bucket { count: 0, .. })).collect();
    assert_eq!(
        shown(&[replies::map("latency", "hist", rows, 0)]),
        "\
latency (hist, 100 values)
 FROM     TO  COUNT
  512   1023     90  ██████████████████████████████
 1024   2047      0
 2048   4095      0
 4096   8191      9  ███
 8192  16383      0
16384  32767      1  ▎
half are at most 1023, 90 % at most 1023, 99 % at most 8191, 99.9 % at most 32767, all at most 32767
"
    );
    assert_eq!(shown(&[replies::map("latency", "hist", vec![], 0)]), "latency (hist, no values)\n");
}

#[test]
fn histograms_of_several_entries_and_odd_buckets_are_drawn_too() {
    let bucket = |entry, lo, hi, count| Row::Bucket { entry: Some(entry), name: None, lo, hi, count };
    let rows = vec![bucket(3, u64::MAX / 2 + 1, u64::MAX, 1), bucket(0, 5, 9, u64::MAX), bucket(0, 0, 2, 1)];
    let text = shown(&[replies::map("sizes", "hist", rows, 0)]);
    assert!(text.contains("sizes[0] (hist, 18446744073709551616 values)"), "{text}");
    assert!(text.contains("sizes[3] (hist, 1 value)"), "{text}");
    assert!(text.contains("9223372036854775808  18446744073709551615      1  ██"), "{text}");
}

#[test]
fn no_text_of_the_target_acts_on_the_terminal() {
    let hostile = "\x1b]0;owned\x07\u{9b}2J\u{202e}\n\"x";
    let mut attached = replies::attached();
    attached.sites[0].symbol = Some(hostile.into());
    attached.refusals[0].detail = hostile.into();
    let text = shown(&[
        Reply::Attached(attached),
        replies::event(&[(hostile, Value::Text(hostile.into()))]),
        replies::log(hostile, hostile),
        replies::map(hostile, "hash", vec![replies::row(hostile, 1)], 0),
        replies::stats(0, 1, &[], false),
        replies::receipt(true, &[hostile]),
    ]);
    assert!(text.contains(&*escape(hostile)));
    assert!(
        text.contains("=\"\\x1b]0;owned\\x07\\u{9b}2J\\u{202e}\\n\\\"x\""),
        "quotes inside are escaped: {text}"
    );
    assert!(!text.chars().any(|c| c != '\n' && crate::escape::is_active(c)), "{text:?}");
}

#[test]
fn a_live_block_is_drawn_in_place_below_the_lines_that_stay() {
    let mut sink = sink(live(60, 24));
    sink.write(&replies::stats(0, 10, &[], false)).unwrap();
    let block = "SITE    STATE  HITS  HITS/S  LOST  NS/HIT  %CORE  TTL  WHY\nsite 0  armed    10       -     0    41.3   1.23    -\n";
    assert_eq!(out(&mut sink), block);
    sink.write(&replies::event(&[])).unwrap();
    assert_eq!(out(&mut sink), "\x1b[2F\x1b[J12:00:00.250 4242 large_command at site 0\n");
    sink.write(&replies::map("commands", "hash", vec![replies::row("get", 2)], 0)).unwrap();
    assert_eq!(out(&mut sink), "", "maps wait for the flush");
    sink.flush().unwrap();
    let map =
        "commands (hash, 1 row, sum 2)\nCOMMAND  VALUE\nget          2  ██████████████████████████████\n";
    assert_eq!(out(&mut sink), format!("{block}{map}"));
    sink.flush().unwrap();
    assert_eq!(out(&mut sink), "", "nothing new");
    sink.progress("restoring");
    assert_eq!(out(&mut sink), "\x1b[5F\x1b[J");
    assert_eq!(sink.screen.err, b"restoring\n");
    sink.write(&replies::receipt(true, &[])).unwrap();
    let text = out(&mut sink);
    assert!(text.starts_with(&format!("{block}{map}detached amber-heron")), "{text}");
    sink.flush().unwrap();
    assert_eq!(out(&mut sink), "", "what was settled is not drawn again");
}

#[test]
fn a_live_block_is_cut_to_the_terminal_and_written_in_full_at_the_end() {
    let mut sink = sink(live(30, 5));
    for site in 0..9 {
        sink.write(&replies::stats(site, 10, &[], false)).unwrap();
    }
    out(&mut sink);
    sink.flush().unwrap();
    sink.progress("x");
    out(&mut sink);
    sink.flush().unwrap();
    assert_eq!(
        out(&mut sink),
        "SITE    STATE  HITS  HITS/S  …\nsite 0  armed    10       -  …\nsite 1  armed    10       -  …\n… 7 more lines\n"
    );
    sink.write(&replies::receipt(true, &[])).unwrap();
    let text = out(&mut sink);
    assert!(text.starts_with("\x1b[4F\x1b[JSITE    STATE  HITS  HITS/S  LOST"), "{text}");
    assert_eq!(text.lines().count(), 11);
}

#[test]
fn one_session_may_end_while_another_goes_on() {
    let mut sink = sink(live(100, 24));
    let mut other = replies::attached();
    other.session = "blue-wren".into();
    other.pid = 900;
    sink.write(&Reply::Attached(replies::attached())).unwrap();
    sink.write(&Reply::Attached(other)).unwrap();
    sink.write(&replies::stats(0, 10, &[], false)).unwrap();
    let Reply::Stats(mut stats) = replies::stats(1, 77, &[], false) else { unreachable!() };
    (stats.session, stats.pid) = ("blue-wren".into(), 900);
    sink.write(&Reply::Stats(stats)).unwrap();
    out(&mut sink);
    sink.flush().unwrap();
    let both = out(&mut sink);
    assert!(
        both.contains("PID  SITE") && both.contains("812  redis") && both.contains("900  redis"),
        "{both}"
    );
    sink.write(&replies::exited()).unwrap();
    let ended = out(&mut sink);
    assert!(ended.contains("processCommand") && !ended.contains("77"), "{ended}");
    sink.flush().unwrap();
    let rest = out(&mut sink);
    assert!(rest.contains("77") && !rest.contains("processCommand"), "{rest}");
}

#[test]
fn failures_and_progress_go_to_the_other_stream() {
    let mut sink = sink(Style::plain());
    let failure = Failure::new(FailureKind::NothingPatched, "no code at pool.c:41; \x1b[0m")
        .hint("trocar log -p 812 pool.c:43\ntrocar points -p 812 'pool*'");
    sink.fail(&failure).unwrap();
    sink.progress("not shown: standard error is no terminal");
    assert_eq!(out(&mut sink), "");
    assert_eq!(
        String::from_utf8(sink.screen.err).unwrap(),
        "\
error: no code at pool.c:41; \\x1b[0m
  try: trocar log -p 812 pool.c:43
  try: trocar points -p 812 'pool*'
"
    );
}

#[test]
fn colour_is_used_only_when_told_and_changes_no_text() {
    let coloured = {
        let mut sink = sink(Style { colour: true, ..Style::plain() });
        for reply in replies::one_of_each() {
            sink.write(&reply).unwrap();
        }
        out(&mut sink)
    };
    assert!(coloured.contains("\x1b[32mattached\x1b[0m"));
    let mut stripped = String::new();
    for (i, part) in coloured.split("\x1b[").enumerate() {
        stripped.push_str(if i == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    assert_eq!(stripped, shown(&replies::one_of_each()));
}
