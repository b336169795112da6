//! For tests: one reply of each kind, and ways to vary them.

use std::collections::BTreeMap;

use trocar_session::reply::{
    Armed, Attached, Event, Evidence, Exited, Frame, Limits, LogLine, MapRows, Receipt, Refused, Replay,
    Reply, Retired, Row, Site, StateChange, Stats, Value,
};

fn s(text: &str) -> String {
    text.to_owned()
}

/// An attachment with two sites and one refusal.
pub(crate) fn attached() -> Attached {
    let site = |site, symbol: Option<&str>, offset, rung: &str| Site {
        site,
        point: s("redis-server:processCommand"),
        module: s("redis-server"),
        function: None,
        role: None,
        marker: None,
        import: None,
        symbol: symbol.map(s),
        offset,
        address: s("0x55d0c0ffee10"),
        rung: s(rung),
    };
    Attached {
        v: 1,
        pid: 812,
        session: s("amber-heron"),
        probe: s("redis-commands"),
        limits: Limits::default(),
        sites: vec![
            site(0, Some("processCommand"), 0, "one_instruction"),
            site(1, Some("call"), 28, "window"),
        ],
        refusals: vec![Refused {
            point: s("redis-server:lookupKey"),
            address: s("0x55d0c0ffee99"),
            reason: s("branch_into_window"),
            detail: s("0x55d0c0ffeea0 is the target of a branch"),
        }],
        pending: Vec::new(),
        attach_ns: 12_345_678,
        pause_ns: 310_000,
        threads: 5,
        tier: 1,
    }
}

/// Counters of a site.
pub(crate) fn stats(site: u32, hits: u64, losses: &[(&'static str, u64)], is_final: bool) -> Reply {
    let losses: BTreeMap<_, _> = losses.iter().copied().collect();
    Reply::Stats(Stats {
        pid: 812,
        session: s("amber-heron"),
        probe: s("redis-commands"),
        site,
        hits,
        executed: hits - losses.values().sum::<u64>(),
        condition_false: 0,
        losses,
        ns_per_hit: (hits > 0).then_some(41.26),
        core_share: (hits > 0).then_some(0.0123),
        state: s("armed"),
        is_final,
    })
}

/// An event with these fields.
pub(crate) fn event(fields: &[(&str, Value)]) -> Reply {
    Reply::Event(Event {
        pid: 812,
        session: s("amber-heron"),
        probe: s("redis-commands"),
        site: 0,
        tid: 4242,
        name: s("large_command"),
        fields: fields.iter().map(|(name, value)| (s(name), value.clone())).collect(),
    })
}

/// A log line.
pub(crate) fn log(level: &str, message: &str) -> Reply {
    Reply::Log(LogLine {
        pid: 812,
        session: s("amber-heron"),
        probe: s("redis-commands"),
        site: 1,
        tid: 4242,
        level: s(level),
        message: s(message),
    })
}

/// A map.
pub(crate) fn map(name: &str, map_type: &str, rows: Vec<Row>, dropped: u64) -> Reply {
    Reply::Map(MapRows {
        pid: 812,
        session: s("amber-heron"),
        probe: s("redis-commands"),
        name: s(name),
        map_type: s(map_type),
        rows,
        dropped,
    })
}

/// A row of a hash map with one text as its key.
pub(crate) fn row(key: &str, value: i64) -> Row {
    Row::Keyed { key: vec![(s("command"), Value::Text(s(key)))], value }
}

/// A change of state.
pub(crate) fn quarantined() -> Reply {
    Reply::State(StateChange {
        pid: 812,
        session: s("amber-heron"),
        probe: s("redis-commands"),
        state: s("quarantined"),
        why: s("integer divide by zero at site 1"),
        evidence: None,
    })
}

/// The same with what is known of the hit, whose trap went as given when it was tried again.
pub(crate) fn quarantined_with_evidence(same: bool) -> Reply {
    let Reply::State(mut change) = quarantined() else { unreachable!() };
    let frame = |function: &str, inlined: bool, source: Option<&str>, offset: Option<&str>| Frame {
        function: s(function),
        index: 5,
        offset: offset.map(s),
        inlined,
        source: source.map(s),
    };
    let backtrace = vec![
        frame("orders::share", true, Some("src/\x1b[31morders.rs:42"), Some("0x1a3")),
        frame("orders::split", false, Some("src/orders.rs:50"), Some("0x1a3")),
        frame("again", false, None, Some("0x200")),
        frame("again", false, None, Some("0x200")),
        frame("function 5", false, None, None),
    ];
    change.evidence = Some(Box::new(Evidence {
        trap: s("integer divide by zero"),
        place: backtrace.first().cloned(),
        backtrace,
        site: 1,
        point: s("call"),
        tid: 4242,
        handler: s("on_hit"),
        args: vec![s("0x1"), s("0x2a")],
        replay: Some(Replay { command: s("trocar test slow.wasm --hit @/state/hit.json"), same }),
        hit: None,
        go: false,
    }));
    Reply::State(change)
}

/// A receipt.
pub(crate) fn receipt(restored: bool, residue: &[&str]) -> Reply {
    Reply::Receipt(Receipt {
        pid: 812,
        session: s("amber-heron"),
        sites: 2,
        retired: 0,
        restored,
        text_sha256_before: s("0123456789abcdef0123456789abcdef"),
        text_sha256_after: s(if restored { "0123456789abcdef0123456789abcdef" } else { "fedcba9876543210" }),
        mappings_left: residue.len(),
        residue: residue.iter().map(|what| s(what)).collect(),
        restored_ns: 400_000,
        detach_ns: 3_200_000,
        pause_ns: 95_000,
    })
}

/// A module that was loaded, with one site that is known and one that is refused.
pub(crate) fn armed() -> Reply {
    let Attached { pid, session, probe, mut sites, refusals, attach_ns, pause_ns, threads, .. } = attached();
    sites.remove(0);
    Reply::Armed(Armed { pid, session, probe, sites, refusals, attach_ns, pause_ns, threads })
}

/// A module that was unloaded, with its one site.
pub(crate) fn retired() -> Reply {
    Reply::Retired(Retired {
        pid: 812,
        session: s("amber-heron"),
        probe: s("redis-commands"),
        module: s("libplug.so"),
        sites: vec![1],
    })
}

/// The end of the target.
pub(crate) fn exited() -> Reply {
    Reply::Exited(Exited { pid: 812, session: s("amber-heron"), how: s("killed") })
}

/// One reply of each kind.
pub(crate) fn one_of_each() -> Vec<Reply> {
    vec![
        Reply::Attached(attached()),
        event(&[("argc", Value::Uint(5)), ("delta", Value::Int(-3)), ("share", Value::Float(0.5))]),
        log("warn", "large"),
        map("commands", "hash", vec![row("get", 3)], 2),
        map("sizes", "hist", vec![Row::Bucket { entry: None, name: None, lo: 1, hi: 1, count: 2 }], 0),
        stats(0, 10, &[("ring_full", 2)], true),
        quarantined(),
        armed(),
        retired(),
        receipt(true, &[]),
        exited(),
    ]
}
