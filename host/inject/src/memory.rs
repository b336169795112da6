//! The target's memory, through `/proc/PID/mem`. Reads and writes go past page protections, which is how text is
//! written without ever making a page writable: the kernel copies a private page on such a write (FOLL_FORCE).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use trocar_target::{Failure, FailureKind, Mapping};

use crate::ahead::Ahead;

/// An address in the target. It cannot be dereferenced here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteAddress(pub u64);

impl RemoteAddress {
    /// The address `bytes` further.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// How long another trocar may be at work before we give up.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);

/// The right to change the process; see [`RemoteMemory::lock`].
#[derive(Debug)]
pub(crate) struct Lock<'a>(&'a RemoteMemory);

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // It cannot fail for a descriptor of ours, and ends with it anyway.
        let _ = flock(&self.0.file, FlockOperation::Unlock);
    }
}

/// The target's memory. It stays that of the program that ran when it was opened: after an exec, reads and
/// writes fail.
#[derive(Debug)]
pub struct RemoteMemory {
    file: File,
    ahead: Option<Ahead>,
}

impl RemoteMemory {
    /// Opens the memory of a process.
    ///
    /// # Errors
    /// The process is gone, or not ours to trace.
    pub fn open(pid: i32) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        Ok(Self { file, ahead: None })
    }

    /// The same memory, for the checks of one stop, which may read [`RemoteMemory::ahead`].
    ///
    /// # Errors
    /// There are too many open files.
    pub(crate) fn in_stop(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, ahead: Some(Ahead::new()) })
    }

    /// Reads those of these pieces at once, by address and length, that lie in files by these mappings; what is read from
    /// now on comes from there where it lies in one of them. To be used in a stop, and where nobody writes.
    pub(crate) fn ahead(&mut self, pid: i32, maps: &[Mapping], pieces: impl Iterator<Item = (u64, usize)>) {
        if let Some(ahead) = &mut self.ahead {
            ahead.read(pid, maps, pieces);
        }
    }

    /// Keeps every other trocar from changing the process until the lock is dropped. All take it on the same file of
    /// /proc, and the kernel gives it back when its holder ends.
    ///
    /// # Errors
    /// Another trocar is at work for too long.
    pub(crate) fn lock(&self, pid: i32) -> Result<Lock<'_>, Failure> {
        self.lock_within(pid, LOCK_DEADLINE)
    }

    /// The same with a deadline of the caller's.
    ///
    /// # Errors
    /// As [`RemoteMemory::lock`].
    pub(crate) fn lock_within(&self, pid: i32, deadline: Duration) -> Result<Lock<'_>, Failure> {
        let until = Instant::now() + deadline;
        while let Err(error) = flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK || Instant::now() > until {
                return Err(Failure::new(
                    FailureKind::NothingPatched,
                    format!("another trocar is attaching to or leaving process {pid}: {error}"),
                )
                .hint("try again when it is done; nothing was touched"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Lock(self))
    }

    /// Whether the program that ran when this was opened still has its memory. The kernel reads nothing, without an error,
    /// from memory that has no user any more (`mem_rw` in `fs/proc/base.c`); where nothing is mapped is an error.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.file.read_at(&mut [0], 0), Ok(0))
    }

    /// Fills `to` from `at`.
    ///
    /// # Errors
    /// A byte is not mapped, or the process is gone.
    pub fn read(&self, at: RemoteAddress, to: &mut [u8]) -> io::Result<()> {
        if let Some(known) = self.known(at, to.len()) {
            to.copy_from_slice(known);
            return Ok(());
        }
        self.file.read_exact_at(to, at.0)
    }

    /// `len` bytes at `at`.
    ///
    /// # Errors
    /// As [`RemoteMemory::read`].
    pub fn bytes(&self, at: RemoteAddress, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// A word at `at`.
    ///
    /// # Errors
    /// As [`RemoteMemory::read`].
    pub fn word(&self, at: RemoteAddress) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// As many bytes at `at` as can be read, up to `len`.
    #[must_use]
    pub fn some(&self, at: RemoteAddress, len: usize) -> Vec<u8> {
        if let Some(known) = self.known(at, len) {
            return known.to_vec();
        }
        let mut bytes = vec![0; len];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|r| !r.is_empty()) {
            match self.file.read_at(rest, at.0.wrapping_add(done as u64)) {
                Ok(n) if n > 0 => done += n,
                _ => break,
            }
        }
        bytes.truncate(done);
        bytes
    }

    /// What was read of it ahead.
    fn known(&self, at: RemoteAddress, len: usize) -> Option<&[u8]> {
        self.ahead.as_ref()?.bytes(at.0, len)
    }

    /// Writes `bytes` at `at`, whatever the page's protection.
    ///
    /// # Errors
    /// As [`RemoteMemory::read`].
    pub fn write(&self, at: RemoteAddress, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at.0)
    }

    /// Writes a word at `at`. Aligned words are written whole by every kernel that copies forward by words.
    ///
    /// # Errors
    /// As [`RemoteMemory::read`].
    pub fn write_word(&self, at: RemoteAddress, word: u64) -> io::Result<()> {
        self.write(at, &word.to_le_bytes())
    }
}
