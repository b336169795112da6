//! Who runs in a process's memory without being a thread of it: children of `vfork` and `posix_spawn` until they exec, and
//! those of `clone` with CLONE_VM alone, for as long as they like, whosever children they are by now.
#![expect(unsafe_code, reason = "kcmp(2) has no safe interface in std")]

use std::fs;

use libc::pid_t;

use crate::stop::{is_gone, tasks};

/// Other processes that share the memory of this one. One that somebody of them starts from now on is not among them.
pub(crate) fn of(pid: pid_t) -> Vec<pid_t> {
    let Some(task) = living(pid) else { return Vec::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let others = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(|other| *other != pid);
    others.filter(|other| compare(task, *other) == 0).collect()
}

/// Processes that a thread has made by vfork and that still run in its memory.
pub(crate) fn children(tid: pid_t) -> Vec<pid_t> {
    let children = fs::read_to_string(format!("/proc/{tid}/task/{tid}/children")).unwrap_or_default();
    let all = children.split_whitespace().filter_map(|c| c.parse().ok());
    // A kernel that cannot say is taken to say that they do.
    all.filter(|child| compare(tid, *child) <= 0).collect()
}

/// Whether this is no thread of the process, and does not run in its memory any more.
pub(crate) fn has_left(pid: pid_t, tid: pid_t) -> bool {
    let is_thread = fs::exists(format!("/proc/{pid}/task/{tid}")).unwrap_or(true);
    !is_thread && living(pid).is_none_or(|task| compare(task, tid) > 0)
}

/// A thread of the process that has memory: the first one may have ended before the others, and has none, as threads of
/// the kernel have none.
fn living(pid: pid_t) -> Option<pid_t> {
    // One that is just ending has none either, long before it is gone.
    let has_memory =
        |tid: &pid_t| fs::read_to_string(format!("/proc/{tid}/statm")).is_ok_and(|s| !s.starts_with("0 "));
    tasks(pid).ok()?.into_iter().find(|tid| !is_gone(*tid) && has_memory(tid))
}

/// Zero: they have the same memory. One to three: they do not. Below zero: it is not told.
fn compare(pid: pid_t, other: pid_t) -> libc::c_long {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: takes numbers.
    unsafe { libc::syscall(libc::SYS_kcmp, pid, other, KCMP_VM, 0, 0) }
}
