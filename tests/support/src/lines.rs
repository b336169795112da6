//! Lines from a pipe or socket, each awaited with a limit by `poll`: no thread, no sleep.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a test waits for the next line. Far above what anything takes, so that a loaded machine does not
/// fail a test; reached only when something hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Longest line that is kept, in bytes: a line without end is a fault, not a reason to fill the memory.
const LINE_MAX: usize = 16 << 20;

/// Reads lines from `R`.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    kept: Vec<u8>,
    ended: bool,
}

impl<R: Read + AsFd> Lines<R> {
    /// Lines of `from`.
    pub const fn new(from: R) -> Self {
        Self { from, kept: Vec::new(), ended: false }
    }

    /// The next line without its end, or `None` when the other side closed. What is left without a newline
    /// at the end is a line too.
    ///
    /// # Panics
    /// If none comes within [`PATIENCE`], or the line is longer than 16 MiB.
    pub fn next_line(&mut self) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.kept.iter().position(|b| *b == b'\n') {
                let rest = self.kept.split_off(end + 1);
                let line = std::mem::replace(&mut self.kept, rest);
                return Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.ended {
                let line = std::mem::take(&mut self.kept);
                return (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned());
            }
            assert!(self.kept.len() < LINE_MAX, "a line of more than {LINE_MAX} bytes came in");
            self.fill(deadline);
        }
    }

    /// Exactly `n` bytes, for protocols that say how many follow.
    ///
    /// # Panics
    /// If they do not come within [`PATIENCE`], or the other side closes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.kept.len() < n {
            assert!(!self.ended, "the other side closed before {n} bytes had come");
            self.fill(deadline);
        }
        let rest = self.kept.split_off(n);
        std::mem::replace(&mut self.kept, rest)
    }

    /// The side that is read from.
    pub const fn get_mut(&mut self) -> &mut R {
        &mut self.from
    }

    fn fill(&mut self, deadline: Instant) {
        assert!(readable(&self.from, deadline), "no line came within {} s", PATIENCE.as_secs());
        let mut chunk = [0; 16384];
        match self.from.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(n) => self.kept.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A socket whose other side was killed is at its end, too.
            Err(_) => self.ended = true,
        }
    }
}

/// Waits until something can be read (or the other side closed); `false` at the deadline.
pub fn readable(from: &impl AsFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut fds = [PollFd::new(from, PollFlags::IN)];
        match poll(&mut fds, Some(&limit)) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}
