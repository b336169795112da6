//! A thread ends, and the next one has its thread pointer, but not its stack. The probe takes more of a stack than the second
//! one has left, so that a hit in place would leave it.

use trocar_test_support::{Container, Live, Snapshot, Target};

use crate::probe::Probe;

/// Calls itself three hundred and fifty times at each hit: some nineteen KiB.
fn deep() -> Probe {
    Probe::of_wat(
        r#"(module
            (import "trocar" "counter_add" (func $add (param i32 i32 i64)))
            (func $down (param i32 i64 i64) (result i64)
              (if (result i64) (i32.eqz (local.get 0))
                (then (local.get 1))
                (else (i64.add (i64.mul (local.get 1) (local.get 2))
                  (call $down (i32.sub (local.get 0) (i32.const 1)) (local.get 2) (local.get 1))))))
            (func (export "on_hit")
              (drop (call $down (i32.const 350) (i64.const 3) (i64.const 5)))
              (call $add (i32.const 0) (i32.const 0) (i64.const 1)))
            (@custom "trocar.manifest"
              "{\"abi\":1,\"name\":\"deep\",\"maps\":[{\"name\":\"calls\",\"kind\":\"counter\"}]}"))"#,
    )
}

/// So many calls of the first thread that the host has found its stack meanwhile.
const LARGE: u64 = 150;
const SMALL: u64 = 40;

/// Threads come after one another, with the same thread pointer; each call is a hit that ran to its end.
fn one_after_another(target: &mut Target, pid: u32) {
    let before = Snapshot::of(pid);
    let (probe, pid) = (deep(), pid.to_string());
    let live = Live::attached(&["load", probe.path(), "-p", &pid, "--at", "work", "--max-core", "100"]);
    for _ in 0..2 {
        let large = target.ask(&format!("large {LARGE}"));
        let small = target.ask(&format!("small {SMALL}"));
        assert!(large.starts_with("done 0x"), "{large}");
        assert_eq!(large, small, "both have the same thread pointer");
    }
    let outcome = live.interrupt();
    outcome.assert_clean();
    assert_eq!((outcome.hits(), outcome.lost()), (2 * (LARGE + SMALL), 0), "{outcome}");
    before.assert_same();
}

#[test]
fn a_thread_does_not_inherit_the_stack_of_one_that_had_its_thread_pointer() {
    for name in ["reused", "reused-musl"] {
        let mut target = Target::start(name);
        let pid = target.pid();
        one_after_another(&mut target, pid);
    }
}

#[test]
fn so_it_is_in_a_container_where_it_has_another_id() {
    for name in ["reused", "reused-musl"] {
        let mut container = Container::start(name, "/app");
        let pid = container.pid();
        one_after_another(&mut container.target, pid);
    }
}
