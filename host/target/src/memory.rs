//! Reading a process' memory through `/proc/PID/mem`, for the few places here that need it.
//!
//! Opening that file asks the kernel the same question as a ptrace attach would (`PTRACE_MODE_ATTACH`, security
//! modules and yama included: mm_access() in kernel/fork.c), but does nothing to the process. That makes it the
//! way to learn whether attaching is permitted. Writing is the business of `trocar-inject`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::procfs;

/// A process' memory, for reading.
pub(crate) struct Memory(File);

impl Memory {
    pub fn open(pid: i32) -> io::Result<Self> {
        File::open(procfs::path(pid, "mem")).map(Self)
    }

    /// Reads `len` bytes at `address`, or fewer if mapped memory ends before.
    pub fn read(&self, address: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = address.saturating_add(done as u64);
            match self.0.read_at(rest, at) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }
}
