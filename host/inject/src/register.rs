//! Where a user's sessions are written down, so that all of them can be switched off at once, and how one is.
//!
//! One empty file for each session, whose name is the target's process id and the address of the shared memory there; it
//! goes with the session. A name is only believed as far as that memory begins as ours does, so one that a killed host
//! has left does no harm; it is removed when it is met. Nothing is asked of the hosts: they may hang, and the probes
//! stop all the same.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use trocar_abi::control::{Control, MAGIC};
use trocar_abi::shared::{self, ProbeState, SharedHead};
use trocar_target::{Failure, FailureKind};

use crate::memory::{RemoteAddress, RemoteMemory};
use crate::plain::from_bytes;

/// Most gates of a session that are closed: one for each module with sites.
const GATES_MAX: u32 = 1 << 16;

/// A session that is written down until this is dropped.
#[derive(Debug)]
pub(crate) struct Registered(PathBuf);

impl Drop for Registered {
    fn drop(&mut self) {
        // If it stays, whoever meets it finds no such session and removes it.
        drop(fs::remove_file(&self.0));
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
    for folder in folders() {
        // It may be there already, and where it is not it may not be makeable: the file tells.
        drop(DirBuilder::new().mode(0o700).create(&folder));
        let path = folder.join(format!("{pid}-{shared:x}"));
        if is_ours(&folder) && File::create(&path).is_ok() {
            return Ok(Registered(path));
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
                Ok(None) => drop(fs::remove_file(entry.path())),
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

fn place(name: &str) -> Option<(i32, u64)> {
    let (pid, shared) = name.split_once('-')?;
    Some((pid.parse().ok()?, u64::from_str_radix(shared, 16).ok()?))
}

/// Switches one session off; `None` if there is no such session (any more). First the state, which every hit of every
/// thread looks at; then the gates, so that not even the agent is entered.
fn switch_off(pid: i32, shared: u64) -> io::Result<Option<SwitchedOff>> {
    let began = Instant::now();
    let memory = match RemoteMemory::open(pid) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let at = |field: usize| RemoteAddress(shared).plus(field as u64);
    if memory.word(at(offset_of!(SharedHead, magic))).ok() != Some(shared::MAGIC) {
        return Ok(None);
    }
    memory.write(at(offset_of!(SharedHead, state)), &(ProbeState::Off as u32).to_le_bytes())?;
    let control = RemoteAddress(memory.word(at(offset_of!(SharedHead, control)))?);
    let bytes = memory.bytes(control, size_of::<Control>())?;
    // What the target's memory says can only make us write a zero into that same memory.
    let control = from_bytes::<Control>(&bytes).filter(|c| c.magic == MAGIC && c.gate_count <= GATES_MAX);
    let gates = control.map_or_else(Vec::new, |c| {
        memory.some(RemoteAddress(c.gates), usize::try_from(c.gate_count).unwrap_or(0) * 8)
    });
    let mut closed = 0;
    for gate in gates.as_chunks::<8>().0 {
        memory.write_word(RemoteAddress(u64::from_le_bytes(*gate)), 0)?;
        closed += 1;
    }
    let off_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Some(SwitchedOff { pid, gates: closed, off_ns }))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_name_says_which_process_and_where_in_it() {
        assert_eq!(place("812-7f00deadb000"), Some((812, 0x7f00_dead_b000)));
        for other in ["", "812", "812-", "-812", "x-1", "812-zz", "812-1-2", "99999999999-1"] {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
