//! The support crate itself: every target speaks its protocol, and every check that e2e tests rely on can fail.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use trocar_test_support::process::{assert_mappings_equal, mappings, text_differences};
use trocar_test_support::redis::Reply;
use trocar_test_support::{Container, Redis, Snapshot, Target};

/// The calls in which `blocked` sleeps.
const BLOCKED: &str = "blocked read futex nanosleep epoll_wait poll sigwaitinfo recv epoll_pwait ppoll select \
    sigtimedwait semop semtimedop msgrcv io_getevents futex_timed clock_nanosleep waitpid flock accept send recvmsg \
    inotify sigsuspend";

/// One command and its answer.
fn says(name: &str, command: &str, answer: &str) {
    let mut target = Target::start(name);
    assert_eq!(target.ask(command), answer, "{name}");
    assert!(target.ask("nonsense").starts_with("error"), "{name}");
    assert!(target.finish().success(), "{name}");
}

#[test]
fn every_variant_of_the_counter_counts() {
    let variants = "counter counter-nopie counter-static counter-static-pie counter-musl counter-dynsym \
                    counter-stripped counter-cet counter-sled5 counter-sled16 counter-frame";
    for name in variants.split_whitespace() {
        says(name, "run 3 1000", "done 3000");
        says(name, "fresh 3 1000", "done 3000");
        says(name, "alone 2 1000", "done 1000");
    }
}

#[test]
fn the_other_targets_say_what_they_promise() {
    says("faults", "run 3 1001", "done 9009 caught=4500");
    says("throw", "run 3 1001", "done 3003 caught=1500");
    says("fork", "fork 3 100", "done 300");
    says("fork", "exec 3", "done 3");
    says("ucontext", "run 8 100", "done 800");
    says("bare", "run 10", "done 10");
    says("markers", "run 2 10", "done 20 prepared=0");
    says("twins", "run 2 10", "done 20");
    says("malloc_storm", "run 3 100", "done 300");
    says("malloc_storm-musl", "run 3 100", "done 300");
    says("redzone", "run 1000 1", "done 1000");
    says("stuck", "beat 10", "done 10");
    says("polled", "wake", "done 1");
    says("first", "wide 10", "done 10");
    says("first", "narrow 10", "done 10");
    says("blocked", "check", BLOCKED);
    says("blocked", "release", "released 24");
    says("panics", "run 4 100", "done 400 caught=200");
    says("held", "run 1 10", "done 10");
    says("plugin", "load plug-b.so", "done 0");
    says("cancel", "start", "started 8");
    says("cancel-musl", "start", "started 8");
    says("filtered", "worker calls", "done 1");
    says("relaid", "lay copy", "done 1");
    says("server-go", "run 4 100", "done 400");
    says("server-go", "deep 4 1000", "done 4000");
    says("preempt", "churn 4 1000 2", "done 4");
    says("preempt-stripped", "churn 4 1000 2", "done 4");
}

#[test]
fn libraries_come_and_go_under_those_who_call_them() {
    let mut target = Target::start("plugin");
    for name in ["plug-a.so", "plug-b.so"] {
        target.done(&format!("load {name}"));
        assert_eq!(target.done("call 100"), 100);
        target.done("unload");
    }
    target.done("load plug-a.so");
    // On a busy machine the threads may have no turn in ten cycles.
    let mut calls = 0;
    while calls <= 100 {
        calls += target.done("churn 3 10");
    }
    target.done("follow 3 2");
}

#[test]
fn a_prefork_server_keeps_its_children() {
    let mut target = Target::start("fork");
    assert_eq!(target.ask("prefork 3 10"), "ready-made 3");
    assert_eq!(target.done("job 100"), 300);
    assert_eq!(target.done("dismiss"), 3);
}

#[test]
fn handlers_sleep_and_return_and_threads_are_cancelled() {
    for way in 1..=4 {
        let mut target = Target::start("held");
        assert_eq!(target.ask(&format!("hold {way}")), format!("held {way}"));
        assert_eq!(target.done("release"), 1, "{way}");
    }
    for name in ["cancel", "cancel-musl"] {
        let mut target = Target::start(name);
        target.ask("start");
        assert_eq!(target.done("cancel"), 8, "{name}");
        assert_eq!(target.done("churn 100 1"), 100, "{name}");
    }
}

#[test]
fn a_collector_collects_and_restartable_sequences_add_up() {
    let mut target = Target::start("collector");
    for command in ["run 2 10", "carved 2 10"] {
        let answer = target.ask(command);
        assert!(answer.starts_with("done 1280 ") && Target::field(&answer, "collections") > 0, "{answer}");
    }
    let mut target = Target::start("rseq");
    let answer = target.ask("run 4 100000");
    assert!(answer.starts_with("done 400000 counted=400000 "), "{answer}");
}

#[test]
fn a_program_finds_its_own_frames() {
    let mut target = Target::start("unwinds");
    assert!(target.ask("record").starts_with("recorded "));
    let answer = target.ask("run 2 1000");
    assert!(answer.starts_with("done ") && answer.ends_with(" cut=0 lost=0"), "{answer}");
}

#[test]
fn signal_handlers_call_the_function_too() {
    for mode in ["plain", "altstack", "small"] {
        let mut target = Target::start_with("signals", &[mode]);
        let answer = target.ask("run 2 1000");
        assert!(answer.starts_with("done ") && Target::field(&answer, "handler") >= 200, "{mode}: {answer}");
    }
}

#[test]
fn no_call_is_left_where_nothing_of_ours_runs() {
    for mode in [&[][..], &["altstack"]] {
        let mut target = Target::start_with("left", mode);
        for command in ["jump 9", "jump 9 heap", "storm 9", "quit 9", "switch 9 3 heap", "switch 9 3 frame"] {
            assert_eq!(target.ask(command), "done 9 left=0");
        }
    }
}

#[test]
fn servers_serve() {
    for name in ["server", "server-musl"] {
        let mut server = Target::start_with(name, &["--control", "--self-load", "5000"]);
        server.ask_until("stats", |s| Target::field(s, "requests") >= 100);
        assert_eq!(Target::field(&server.ask("stats"), "wrong"), 0, "{name}");
        assert!(server.fact("port") > 0);
    }
}

#[test]
fn the_python_of_the_system_runs_the_script() {
    let mut target = Target::python();
    assert_eq!(target.done("run 100 1"), 100);
    assert!(mappings(target.pid()).iter().any(|m| m.name == "/usr/bin/python3.11"));
}

#[test]
fn a_32_bit_process_starts() {
    assert!(Target::start("narrow").finish().success());
}

#[test]
fn a_container_has_ids_and_files_of_its_own() {
    let mut container = Container::start("counter", "/usr/bin/env");
    assert_eq!(container.target.done("run 2 10"), 20);
    let status = trocar_test_support::process::status(container.pid(), "NSpid");
    assert!(container.pid() > 1 && status.split_whitespace().last() == Some("1"), "{status}");
    assert!(mappings(container.pid()).iter().any(|m| m.name == "/usr/bin/env"));
    assert!(text_differences(container.pid()).is_empty());
    assert!(container.root().join("usr/bin/env").exists());
}

#[test]
fn a_traced_process_and_a_zombie_are_what_they_say() {
    let target = Target::start("traced");
    let (traced, zombie) = (target.fact("traced"), target.fact("zombie"));
    assert_eq!(trocar_test_support::process::status(traced, "TracerPid"), target.pid().to_string());
    assert!(trocar_test_support::process::status(zombie, "State").starts_with('Z'));
}

#[test]
fn a_changed_byte_of_text_is_found_by_the_snapshot_and_by_the_target() {
    let mut target = Target::start("counter-nopie");
    target.done("run 2 10");
    let before = Snapshot::of(target.pid());
    before.assert_same();
    // The first byte of the text segment: crt code that runs once and never again.
    let text = mappings(target.pid()).into_iter().find(|m| m.permissions == "r-xp").unwrap();
    let memory = File::options().read(true).write(true).open(format!("/proc/{}/mem", target.pid())).unwrap();
    let mut byte = [0];
    memory.read_exact_at(&mut byte, text.start).unwrap();
    memory.write_all_at(&[byte[0] ^ 1], text.start).unwrap();
    assert_eq!(text_differences(target.pid()).len(), 1);
    let failed = std::panic::catch_unwind(|| before.assert_same());
    assert!(failed.is_err(), "a snapshot that cannot fail is none");
    memory.write_all_at(&byte, text.start).unwrap();
    before.assert_same();
}

#[test]
fn a_new_mapping_is_found() {
    let mut target = Target::start("counter");
    let before = mappings(target.pid());
    target.done("run 2 10"); // two threads: two stacks
    let after = mappings(target.pid());
    assert!(std::panic::catch_unwind(|| assert_mappings_equal(&before, &after)).is_err());
    target.done("run 2 10");
    assert_mappings_equal(&after, &mappings(target.pid()));
}

#[test]
fn redis_answers_counts_and_ends_with_the_test() {
    let mut redis = Redis::start();
    assert_eq!(redis.call(&["SET", "a", "line\r\nbreak"]), Reply::Text("OK".into()));
    assert_eq!(redis.call(&["GET", "a"]), Reply::Text("line\r\nbreak".into()));
    assert_eq!(redis.call(&["GET", "b"]), Reply::Nil);
    assert_eq!(redis.call(&["RPUSH", "l", "1", "2"]), Reply::Number(2));
    let one = |t: &str| Reply::Text(t.into());
    assert_eq!(redis.call(&["LRANGE", "l", "0", "-1"]), Reply::Many(vec![one("1"), one("2")]));
    assert!(matches!(redis.call(&["NO"]), Reply::Error(_)));
    let before = redis.commandstats();
    assert_eq!(redis.benchmark("get,set", 500).finish().len(), 2);
    let after = redis.commandstats();
    assert_eq!(after.get("get").unwrap() - before.get("get").unwrap(), 500);
    assert!(text_differences(redis.pid()).is_empty());
}

#[test]
fn a_target_that_dies_is_told_by_name() {
    let mut target = Target::spawn(Command::new("/bin/sh").args(["-c", "echo ready; read x; exit 3"]));
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target.ask("go"))).unwrap_err();
    assert!(told.downcast_ref::<String>().unwrap().contains("exit status: 3"));
}

#[test]
fn a_thread_is_awakened_from_each_call_by_its_signal() {
    let mut target = Target::start("awakened");
    assert_eq!(target.ask("storm"), "storming");
    let answer = target.ask("halt");
    assert!(answer.starts_with("done ") && answer.ends_with(" wrong=0 lost=0"), "{answer}");
}
