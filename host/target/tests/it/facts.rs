//! Facts of processes.

use std::path::Path;

use trocar_target::{FailureKind, Process, Seccomp, free_gap_near, maps};

use crate::{Sleeper, own_pid};

#[test]
fn a_child_is_seen_with_its_program_parent_and_words() {
    let sleeper = Sleeper::start(Path::new("/bin/cat"));
    let process = Process::open(sleeper.pid()).unwrap();
    assert_eq!(process.name, "cat");
    assert_eq!(process.parent, own_pid());
    assert_eq!(process.command, ["/bin/cat"]);
    assert_eq!(process.exe.as_deref(), Some(Path::new("/bin/cat").canonicalize().unwrap().as_path()));
    assert!(!process.exe_deleted && !process.ended && !process.kernel_thread);
    assert_eq!((process.threads.as_slice(), process.pid_inside > 0), (&[process.pid][..], true));
    assert_eq!(process.tracer, None);
    process.still_there().unwrap();
}

#[test]
fn every_thread_of_this_process_is_listed_with_its_name() {
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("trocar-second".into())
        .spawn(move || {
            ready.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = wait.recv();
        })
        .unwrap();
    let tid = is_ready.recv().unwrap();
    let process = Process::inspect(own_pid()).unwrap();
    assert!(process.threads.contains(&tid) && process.threads.contains(&process.pid));
    let threads = process.threads().unwrap();
    let second = threads.iter().find(|t| t.tid == tid).unwrap();
    assert_eq!((second.name.as_str(), second.tracer), ("trocar-second", 0));
    assert!(second.seccomp == Seccomp::Off || process.seccomp != Seccomp::Off);

    let failure = Process::open(tid).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoProcess);
    assert!(failure.message.contains(&format!("is a thread of process {}", own_pid())), "{failure}");
    assert_eq!(failure.hint.unwrap(), format!("use: -p {}", own_pid()));
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn ignored_signals_of_a_child_are_known() {
    // A shell told to ignore SIGUSR1 (10) passes that on through exec.
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "trap '' USR1; exec /bin/cat"]);
    let sleeper = Sleeper::spawn(command);
    let process = Process::inspect(sleeper.pid()).unwrap();
    assert!(process.signals.ignored.contains(10));
    assert!(!process.signals.ignored.contains(12) && process.signals.caught.is_empty());
}

#[test]
fn a_pid_that_is_not_there_is_no_process() {
    for pid in [i32::MAX, -1, 0] {
        let failure = Process::open(pid).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NoProcess, "{failure}");
        assert!(failure.hint.unwrap().contains("trocar ps"));
    }
    assert_eq!(maps(i32::MAX).unwrap_err().kind, FailureKind::NoProcess);
}

#[test]
fn a_process_that_ended_is_told_from_the_next_one_with_its_id() {
    let mut sleeper = Sleeper::start(Path::new("/bin/cat"));
    let process = Process::open(sleeper.pid()).unwrap();
    let other = Process { start_time: process.start_time + 1, ..process.clone() };
    assert!(other.still_there().unwrap_err().message.contains("its id now belongs to cat"));
    sleeper.0.kill().unwrap();
    sleeper.0.wait().unwrap();
    assert_eq!(process.still_there().unwrap_err().kind, FailureKind::NoProcess);
}

#[test]
fn a_real_address_space_has_room_near_every_module() {
    let maps = maps(own_pid()).unwrap();
    for module in trocar_target::modules(&maps).iter().filter(|m| !m.is_vdso()) {
        let range = module.range();
        let at = free_gap_near(&maps, &range, 4 << 20).unwrap();
        let end = at + (4 << 20);
        assert!(range.end.max(end) - range.start.min(at) <= trocar_target::REACH, "{}", module.name);
        assert!(maps.iter().all(|m| m.end <= at || end <= m.start), "{}", module.name);
    }
}
