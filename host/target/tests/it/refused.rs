//! Processes that cannot be probed, and what is said about them.

use std::path::Path;
use std::process::{Command, Stdio};

use trocar_target::{FailureKind, Process, list_processes, resolve_target};

use crate::{Sleeper, own_pid};

/// Set for the copy of this test binary that runs as another user.
const AS_NOBODY: &str = "TROCAR_TEST_TARGET_PID";

#[test]
fn a_zombie_has_ended() {
    let mut child = Command::new("/bin/true").stdin(Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    // Until wait() below, the child stays a zombie once it has ended.
    let process = loop {
        let process = Process::inspect(pid).unwrap();
        if process.ended {
            break process;
        }
        std::thread::yield_now();
    };
    let failure = Process::open(pid).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoProcess);
    assert!(failure.message.contains("is a zombie until process"), "{failure}");
    assert_eq!(process.still_there().unwrap_err().kind, FailureKind::NoProcess);
    child.wait().unwrap();
}

#[test]
fn a_kernel_thread_has_no_program() {
    // In a container's pid namespace there is none to be seen, and then no listed process may be called one.
    let kernel: Vec<_> = list_processes().unwrap().into_iter().filter(|p| p.kernel_thread).collect();
    let process_2_is_one = std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n");
    assert_eq!(!kernel.is_empty(), process_2_is_one);
    for process in kernel {
        assert!(process.command.is_empty());
        let failure = process.obstacle.unwrap();
        assert_eq!(failure.kind, FailureKind::NothingPatched);
        assert!(failure.message.contains("thread of the kernel"), "{failure}");
    }
}

#[test]
fn this_process_is_not_its_own_target() {
    let failure = Process::open(own_pid()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NothingPatched);
    assert!(failure.message.contains("trocar itself"), "{failure}");
}

#[test]
fn another_users_process_is_not_permitted() {
    if let Ok(pid) = std::env::var(AS_NOBODY) {
        // The copy, without privileges.
        let failure = Process::open(pid.parse().unwrap()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotPermitted, "{failure}");
        assert!(failure.hint.is_some());
        return;
    }
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        let failure = Process::open(1).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotPermitted, "{failure}");
        return;
    }
    let sleeper = Sleeper::start(Path::new("/bin/cat"));
    let folder = tempfile::Builder::new().permissions(readable()).tempdir().unwrap();
    let copy = folder.path().join("copy");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let status = Command::new(&copy)
        .args(["--exact", "refused::another_users_process_is_not_permitted"])
        .env(AS_NOBODY, sleeper.pid().to_string())
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

#[test]
fn words_that_are_no_target_are_refused() {
    for text in ["", ",", "1,", "0", "99999999999999999999"] {
        assert_eq!(resolve_target(text).unwrap_err().kind, FailureKind::Usage, "{text}");
    }
    let failure = resolve_target("no-such-process-of-ours").unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoProcess);
}
