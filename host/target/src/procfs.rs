//! Bounded reads of files under /proc, and what their errors mean.
//!
//! A file of /proc has no size of its own and can be as long as the process wants (names of mappings, command
//! lines): every read here stops at a limit. It relies on proc being mounted at /proc, and does not know what is
//! in the files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::{Failure, FailureKind};

/// Most bytes of a status file: a process may be in 65 536 groups of up to ten digits.
pub(crate) const STATUS_BYTES: u64 = 1 << 20;
/// Most bytes of a maps file: 65 530 mappings by default, raised by some servers to a few hundred thousand.
pub(crate) const MAPS_BYTES: u64 = 256 << 20;
/// Most bytes of a command line that we keep; the rest is cut off.
pub(crate) const CMDLINE_BYTES: u64 = 128 << 10;
/// Most threads of one process: the kernel's own limit for ids.
const ID_LIMIT: usize = 1 << 22;

/// `/proc/PID/NAME`.
pub(crate) fn path(pid: i32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

/// Reads at most `limit` bytes of a file; the flag says whether there was more.
pub(crate) fn read_up_to(path: &Path, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = bytes.len() > limit;
    bytes.truncate(limit);
    Ok((bytes, more))
}

/// Reads the whole of `/proc/PID/NAME`.
///
/// # Errors
/// `NoProcess` when the process is gone, `NotPermitted` when the kernel says so, `NothingPatched` when the file
/// is longer than `limit` bytes.
pub(crate) fn read(pid: i32, name: &str, limit: u64) -> Result<Vec<u8>, Failure> {
    let path = path(pid, name);
    let (bytes, more) = read_up_to(&path, limit).map_err(|e| failure(pid, &path, &e))?;
    if more {
        return Err(Failure::new(
            FailureKind::NothingPatched,
            format!("{} is longer than {limit} bytes, the most that is read", path.display()),
        ));
    }
    Ok(bytes)
}

/// What an error of a file under `/proc/PID` means for the process.
pub(crate) fn failure(pid: i32, path: &Path, error: &io::Error) -> Failure {
    if is_gone(error) {
        return gone(pid);
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Failure::new(
            FailureKind::NotPermitted,
            format!("not permitted to read {} of process {pid}", path.display()),
        )
        .hint("run the same command with sudo");
    }
    Failure::new(FailureKind::NothingPatched, format!("cannot read {}: {error}", path.display()))
}

/// Whether an error of a file under `/proc/PID` says that the process is not there (any more).
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// The failure for a process that is not there.
pub(crate) fn gone(pid: i32) -> Failure {
    Failure::new(FailureKind::NoProcess, format!("there is no process {pid}, or it has ended"))
        .hint("list the processes with: trocar ps")
}

/// The numeric names in a folder of /proc (`/proc`, `/proc/PID/task`), in ascending order.
pub(crate) fn ids(folder: &Path) -> io::Result<Vec<i32>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(ID_LIMIT) {
        // A thread that ends while the folder is read makes the kernel skip it, not fail.
        if let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}
