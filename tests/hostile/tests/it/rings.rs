//! A target that writes into our memory ends the session that the memory belongs to: not the host, and not itself.

use std::fs::File;
use std::os::unix::fs::FileExt;

use trocar_abi::shared::Layout;
use trocar_test_support::command::text;
use trocar_test_support::process::mappings;
use trocar_test_support::{Live, Snapshot, Target};

#[test]
fn a_ring_that_the_target_breaks_ends_the_session_with_its_reason() {
    let mut target = Target::start("counter");
    let before = Snapshot::of(target.pid());
    let folder = tempfile::TempDir::new().unwrap();
    let probe = folder.path().join("probe.wat");
    let wat = r#"(module (import "trocar" "emit" (func $emit (param i32 i32 i32))) (memory (export "memory") 1)
        (func (export "on_hit") (call $emit (i32.const 0) (i32.const 0) (i32.const 8))))"#;
    std::fs::write(&probe, wat).unwrap();
    let pid = target.pid().to_string();
    let mut live = Live::attached(&["load", probe.to_str().unwrap(), "-p", &pid, "--at", "work"]);
    target.done("run 1 10");
    // The one part of our memory that is shared.
    let shared = mappings(target.pid())
        .into_iter()
        .find(|m| m.name.starts_with("/memfd:trocar") && m.permissions == "rw-s")
        .expect("the session's shared memory");
    let layout = Layout { sites: 1, contexts: 1, maps: 0, ring: 256 << 10 };
    let memory = File::options().write(true).open(format!("/proc/{pid}/mem")).unwrap();
    memory.write_all_at(&[0xff; 8], shared.start + layout.context(0)).unwrap();
    let state = live.until("state");
    assert!(text(&state, "why").contains("ring"), "{state}");
    let outcome = live.finish();
    assert_eq!(outcome.status, 8, "{outcome}");
    assert_eq!(outcome.one("receipt").get("restored"), Some(&serde_json::Value::Bool(true)), "{outcome}");
    before.assert_same();
    assert_eq!(target.done("run 2 100"), 200);
}
