//! Debian's redis-server 7.0.15, stripped, single-threaded and under load: the case the first issue is about.

use std::collections::BTreeMap;

use trocar_test_support::command::text;
use trocar_test_support::redis::Reply;
use trocar_test_support::scale::scaled;
use trocar_test_support::{Live, Outcome, Redis, Snapshot};

/// Calls of each command between two readings.
fn deltas(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since =
        |(name, n): (&String, &u64)| (name.clone(), n - before.get(name).copied().unwrap_or_default());
    after.iter().map(since).filter(|(_, n)| *n > 0).collect()
}

/// Sums of the hash map of a probe by the first part of its key, in lower case.
fn by_name(outcome: &Outcome) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    // Maps may be printed along the way: the last one of each name counts.
    let last: BTreeMap<&str, _> = outcome.all("map").map(|m| (text(m, "name"), m)).collect();
    for map in last.values().filter(|m| text(m, "type") == "hash") {
        for row in map.get("rows").and_then(|r| r.as_array()).into_iter().flatten() {
            let key = row.get("key").and_then(|k| k.as_object()).and_then(|k| k.values().next());
            let name = key.and_then(|k| k.as_str()).unwrap_or_default().to_lowercase();
            *sums.entry(name).or_default() += row.get("value").and_then(|v| v.as_u64()).unwrap_or_default();
        }
    }
    sums
}

#[test]
fn counts_equal_commandstats_when_attached_before_the_load() {
    let mut redis = Redis::start();
    let pid = redis.pid().to_string();
    let snapshot = Snapshot::of(redis.pid());
    for point in ["processCommand", "redis-server:processCommand"] {
        let before = redis.commandstats();
        let live = Live::attached(&["count", "-p", &pid, point]);
        let rates = redis.benchmark("get,set,lpush", scaled(1_000_000)).finish();
        assert_eq!(rates.len(), 3, "{rates:?}");
        let after = redis.commandstats();
        let outcome = live.interrupt();
        outcome.assert_clean();
        // An INFO counts itself after its answer is made: the first is in the deltas and not in the hits,
        // the second the other way round.
        let calls: u64 = deltas(&before, &after).values().sum();
        assert_eq!(outcome.hits(), calls, "{point}: {after:?} {outcome}");
        assert_eq!(outcome.lost(), 0, "{outcome}");
        snapshot.assert_same();
    }
    assert_eq!(redis.call(&["PING"]), Reply::Text("PONG".into()));
}

#[test]
fn the_redis_commands_probe_equals_commandstats() {
    let mut redis = Redis::start();
    let snapshot = Snapshot::of(redis.pid());
    let before = redis.commandstats();
    let live =
        Live::attached(&["load", "redis-commands", "-p", &redis.pid().to_string(), "--max-core", "100"]);
    drop(redis.benchmark("get,set,lpush", scaled(1_000_000)).finish());
    let after = redis.commandstats();
    let outcome = live.interrupt();
    outcome.assert_clean();
    let (seen, told) = (by_name(&outcome), deltas(&before, &after));
    for command in ["get", "set", "lpush"] {
        assert_eq!(seen.get(command), told.get(command), "{command}: {seen:?} {told:?}\n{outcome}");
    }
    assert_eq!(seen.values().sum::<u64>(), outcome.hits(), "{seen:?} {outcome}");
    assert_eq!(outcome.lost(), 0, "{outcome}");
    snapshot.assert_same();
    assert_eq!(redis.call(&["PING"]), Reply::Text("PONG".into()));
}

#[test]
fn attach_and_detach_in_mid_load_drop_nothing() {
    let mut redis = Redis::start();
    let pid = redis.pid().to_string();
    let load = redis.benchmark("get,set,lpush", scaled(5_000_000));
    for _ in 0..5 {
        let live = Live::attached(&["count", "-p", &pid, "processCommand", "--hits", "500"]);
        // The hits come in any case, also if attaching took so long that the load is over.
        for _ in 0..500 {
            assert_eq!(redis.call(&["PING"]), Reply::Text("PONG".into()));
        }
        let outcome = live.finish();
        outcome.assert_clean();
        assert!(outcome.hits() >= 500, "{outcome}");
    }
    // An error reply or a dropped connection ends redis-benchmark with an error.
    drop(load.finish());
    assert!(trocar_test_support::process::text_differences(redis.pid()).is_empty());
    assert_eq!(redis.call(&["PING"]), Reply::Text("PONG".into()));
}

#[test]
fn large_commands_are_told_one_by_one() {
    let mut redis = Redis::start();
    let live = Live::attached(&["load", "redis-commands", "-p", &redis.pid().to_string()]);
    let mut large = vec!["MSET".to_owned()];
    for i in 0..500 {
        large.extend([format!("key:{i}"), "value".to_owned()]);
    }
    let words: Vec<&str> = large.iter().map(String::as_str).collect();
    assert_eq!(redis.call(&words), Reply::Text("OK".into()));
    assert_eq!(redis.call(&["GET", "key:1"]), Reply::Text("value".into()));
    let outcome = live.interrupt();
    outcome.assert_clean();
    let events: Vec<_> = outcome.all("event").collect();
    let fields = |e: &&serde_json::Value| e.get("fields").map(ToString::to_string).unwrap_or_default();
    let told: Vec<String> = events.iter().map(fields).collect();
    assert_eq!(told.len(), 1, "one event for the MSET, none for the GET: {outcome}");
    assert!(told.iter().all(|t| t.to_lowercase().contains("mset") && t.contains("1001")), "{told:?}");
}

#[test]
fn every_function_at_once_under_every_benchmark() {
    let mut redis = Redis::start();
    let snapshot = Snapshot::of(redis.pid());
    // Its own module, by the name under which it is mapped: the command is a symbolic link.
    let program = std::fs::read_link(format!("/proc/{}/exe", redis.pid())).unwrap();
    let all = format!("{}:*", program.file_name().unwrap().to_str().unwrap());
    let live = Live::attached(&["count", "-p", &redis.pid().to_string(), &all]);
    let tests = "ping_inline,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset";
    let rates = redis.benchmark(tests, scaled(200_000)).finish();
    assert!(rates.len() >= 15, "{rates:?}");
    let outcome = live.interrupt();
    outcome.assert_clean();
    let sites = outcome.one("attached").get("sites").and_then(|s| s.as_array()).map_or(0, Vec::len);
    assert!(sites > 3000, "{sites}");
    assert!(outcome.hits() > 100 * scaled(200_000), "{}", outcome.hits());
    assert_eq!(outcome.lost(), 0);
    snapshot.assert_same();
    assert_eq!(redis.call(&["PING"]), Reply::Text("PONG".into()));
}
