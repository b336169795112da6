//! Finding the helper that a thread of the target has created for us.

use std::fs;

use libc::pid_t;
use trocar_target::{Failure, FailureKind};

use crate::asked::{tracer_in, tracer_thread};
use crate::stop::{is_no_thread, tasks};
use crate::tracer;

/// A thread of the process that this thread traces and did not seize: one that a tracee has created for us. `known`: those
/// that are certainly not it. A thread that is there may be missing in a list, where others ended while it was made.
pub(crate) fn newborn(pid: pid_t, known: &[pid_t]) -> Result<Option<pid_t>, Failure> {
    newborn_of(pid, known, &tasks(pid)?)
}

fn newborn_of(pid: pid_t, known: &[pid_t], tids: &[pid_t]) -> Result<Option<pid_t>, Failure> {
    for &tid in tids {
        // Not the first thread either, which one that execs becomes.
        if tid == pid || known.contains(&tid) || tracer::was_seized(tid) {
            continue;
        }
        match fs::read_to_string(format!("/proc/{tid}/status")) {
            Ok(status) if tracer_in(&status) == tracer_thread() => return Ok(Some(tid)),
            Ok(_) => {}
            Err(error) if is_no_thread(&error) => {}
            Err(error) => {
                let doing = format!("looking for our helper in process {pid}: {error}");
                return Err(Failure::new(FailureKind::Bug, doing));
            }
        }
    }
    Ok(None)
}

/// The same for certain: in a list that holds as many threads as there are, before and after.
pub(crate) fn newborn_for_certain(pid: pid_t, known: &[pid_t]) -> Result<Option<pid_t>, Failure> {
    const LISTS: u32 = 200;
    let count = || -> Option<usize> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("Threads:")?.trim().parse().ok())
    };
    for _ in 0..LISTS {
        let before = count();
        let tids = tasks(pid)?;
        if let Some(tid) = newborn_of(pid, known, &tids)? {
            return Ok(Some(tid));
        }
        if before == Some(tids.len()) && count() == before {
            return Ok(None);
        }
    }
    Err(Failure::new(
        FailureKind::NothingPatched,
        format!("the threads of process {pid} come and go too fast to tell them apart"),
    )
    .hint("some bytes of ours stay in it until the next command; try again when it is less busy"))
}
