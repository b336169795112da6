//! Where a user's sessions are written down, so that all of them can be switched off at once, and how one is.
//!
//! One empty file for each session, whose name is the target's process id and the address of the shared memory there, and
//! what tells it from a later session at the same place; it goes with the session, whose host holds a lock on it. A name is
//! only believed as far as that memory begins as ours does, so one that a killed host has left does no harm; it is removed
//! when it is met. Nothing is asked of the hosts: they may hang, and the probes stop all the same.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use trocar_abi::control::{Control, MAGIC};
use trocar_abi::shared::{self, ProbeState, SharedHead};
use trocar_target::{Failure, FailureKind};

use crate::memory::{RemoteAddress, RemoteMemory};
use crate::plain::from_bytes;

/// Most gates of a session that are closed: one for each module with sites.
const GATES_MAX: u32 = 1 << 16;

/// How long switching off waits for a command that is attaching to the process, or leaving it.
const LOCK_PATIENCE: Duration = Duration::from_millis(5);

/// A session that is written down until this is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    path: PathBuf,
    /// Locked as long as the session lives.
    _file: File,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // If it stays, whoever meets it finds no such session and removes it.
        drop(fs::remove_file(&self.path));
    }
}

/// The folders, the best first. All are looked through: a session's host may have another environment than we.
fn folders() -> Vec<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute());
    let mut all: Vec<PathBuf> = given
        .into_iter()
        .chain([PathBuf::from(format!("/run/user/{user}"))])
        .map(|p| p.join("trocar"))
        .collect();
    all.push(PathBuf::from(format!("/tmp/trocar-{user}")));
    all.dedup();
    all
}

/// Whether it is a folder of ours in which nobody else can write.
fn is_ours(folder: &Path) -> bool {
    fs::symlink_metadata(folder)
        .is_ok_and(|m| m.is_dir() && m.uid() == rustix::process::getuid().as_raw() && m.mode() & 0o022 == 0)
}

/// Writes a session down.
pub(crate) fn register(pid: i32, shared: u64) -> Result<Registered, Failure> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{pid}-{shared:x}-{}-{number}", std::process::id());
    for folder in folders() {
        // It may be there already, and where it is not it may not be makeable: the file tells.
        drop(DirBuilder::new().mode(0o700).create(&folder));
        let path = folder.join(&name);
        // A new one: what a link in a folder of somebody else's would lead to is not touched.
        let file = if is_ours(&folder) { File::create_new(&path).ok() } else { None };
        if let Some(file) = file.filter(|f| flock(f, FlockOperation::NonBlockingLockExclusive).is_ok()) {
            return Ok(Registered { path, _file: file });
        }
    }
    Err(Failure::new(
        FailureKind::NotPermitted,
        "there is no folder to write sessions down in, so that `trocar off` can find them",
    )
    .hint("set XDG_RUNTIME_DIR to a folder of yours"))
}

/// A session that was switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchedOff {
    /// The target.
    pub pid: i32,
    /// Gates that were closed.
    pub gates: usize,
    /// Nanoseconds from the look at its memory to the last gate.
    pub off_ns: u64,
}

/// Switches off every session of this user, or those in `only` these processes: from now on no probe of theirs runs. Their
/// hosts find out and leave.
///
/// # Errors
/// For each session that could not be reached, with what was in the way; all others are off.
pub fn switch_off_all(only: Option<&[i32]>) -> Vec<Result<SwitchedOff, Failure>> {
    let mut done = Vec::new();
    for folder in folders().iter().filter(|f| is_ours(f)) {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((pid, shared)) = name.to_str().and_then(place) else { continue };
            if only.is_some_and(|pids| !pids.contains(&pid)) {
                continue;
            }
            match switch_off(pid, shared) {
                Ok(Some(off)) => done.push(Ok(off)),
                Ok(None) => remove_abandoned(&entry.path()),
                Err(error) => done.push(Err(Failure::new(
                    FailureKind::NotPermitted,
                    format!("the probe in process {pid} cannot be switched off: {error}"),
                )
                .hint("as the user who put it there, or as root: trocar off"))),
            }
        }
    }
    done
}

/// Removes what a killed host has left; not what a session that is about to begin or to end still holds.
fn remove_abandoned(path: &Path) {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    if file.is_ok_and(|f| flock(&f, FlockOperation::NonBlockingLockExclusive).is_ok()) {
        // If it stays, the next one removes it.
        drop(fs::remove_file(path));
    }
}

fn place(name: &str) -> Option<(i32, u64)> {
    let mut parts = name.split('-');
    let (pid, shared) = (parts.next()?, parts.next()?);
    let ours = parts.count() == 2;
    Some((pid.parse().ok()?, u64::from_str_radix(shared, 16).ok()?)).filter(|_| ours)
}

/// Switches one session off; `None` if there is no such session (any more). First the gates, so that the agent is not
/// entered; then the state, which every hit of every thread looks at, and which makes the host leave.
///
/// While we write, nobody unmaps: that is done under the lock that we take. Its holder may hang; then we go on without it,
/// unless all gates are closed, as they are before anything is unmapped.
fn switch_off(pid: i32, shared: u64) -> io::Result<Option<SwitchedOff>> {
    let began = Instant::now();
    let memory = match RemoteMemory::open(pid) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let lock = memory.lock_within(pid, LOCK_PATIENCE);
    let at = |field: usize| RemoteAddress(shared).plus(field as u64);
    let is_there = || memory.word(at(offset_of!(SharedHead, magic))).ok() == Some(shared::MAGIC);
    if !is_there() {
        return Ok(None);
    }
    let control = RemoteAddress(memory.word(at(offset_of!(SharedHead, control)))?);
    let bytes = memory.bytes(control, size_of::<Control>())?;
    // What the target's memory says can only make us write a zero into that same memory.
    let control = from_bytes::<Control>(&bytes).filter(|c| c.magic == MAGIC && c.gate_count <= GATES_MAX);
    let gates = control.map_or_else(Vec::new, |c| {
        memory.some(RemoteAddress(c.gates), usize::try_from(c.gate_count).unwrap_or(0) * 8)
    });
    let gates: Vec<_> =
        gates.as_chunks::<8>().0.iter().map(|g| RemoteAddress(u64::from_le_bytes(*g))).collect();
    let is_closed = |gate: &RemoteAddress| memory.word(*gate).is_ok_and(|word| word == 0);
    let mut closed = 0;
    if lock.is_ok() || !gates.iter().all(is_closed) {
        let off = (ProbeState::Off as u32).to_le_bytes();
        let closing = gates.iter().try_for_each(|gate| {
            closed += 1;
            memory.write_word(*gate, 0)
        });
        let written = closing.and_then(|()| memory.write(at(offset_of!(SharedHead, state)), &off));
        // It has gone meanwhile, and with it the probe.
        if written.is_err() && is_there() {
            written?;
        }
    }
    let off_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Some(SwitchedOff { pid, gates: closed, off_ns }))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_name_says_which_process_and_where_in_it() {
        assert_eq!(place("812-7f00deadb000-900-0"), Some((812, 0x7f00_dead_b000)));
        for other in ["", "812", "812-", "-812-1-1", "x-1-1-1", "812-zz-1-1", "812-1-2", "99999999999-1-1-1"]
        {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
