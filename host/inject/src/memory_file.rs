//! Memory files that a helper makes in the target, and that we open here.
#![expect(unsafe_code, reason = "seals have no safe interface in std")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use libc::pid_t;
use trocar_target::Failure;

/// Makes a memory file by this call with these flags. Before Linux 6.3 there was no MFD_NOEXEC_SEAL.
pub(crate) fn make_file(mut call: impl FnMut(u64) -> Result<u64, Failure>) -> Result<u64, Failure> {
    let flags = u64::from(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
    call(flags | u64::from(libc::MFD_NOEXEC_SEAL)).or_else(|_| call(flags))
}

/// Opens a memory file here that a helper has made. Works across mount and pid namespaces.
///
/// The number may lead to something else (a program that shares the memory could forge it), which must not be touched, not
/// even opened, with our rights: so it is first looked at through a descriptor that can do nothing, and then opened
/// through that one. A file of ours is new, nameless and in memory.
pub(crate) fn open_memory_file(pid: pid_t, tid: pid_t, fd: u64) -> io::Result<File> {
    let path = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(format!("/proc/{pid}/task/{tid}/fd/{fd}"))?;
    let facts = path.metadata()?;
    if !facts.is_file() || facts.len() != 0 || facts.nlink() != 0 {
        return Err(io::Error::other("the descriptor is not the memory file that was made"));
    }
    let file =
        OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{}", path.as_raw_fd()))?;
    if !can_be_sealed(&file) {
        return Err(io::Error::other("the descriptor is not a memory file"));
    }
    Ok(file)
}

fn can_be_sealed(file: &File) -> bool {
    // SAFETY: a request on a descriptor of ours, without an argument. Only memory files answer it.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) >= 0 }
}
