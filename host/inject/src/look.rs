//! A look at a process's threads, for the housekeeping of all attachments in it.

use std::cell::OnceCell;
use std::collections::HashSet;

use libc::pid_t;
use trocar_target::Failure;

use crate::filters::counts;
use crate::stop::tasks;

/// Threads whose filters are looked at in one round of housekeeping.
const LOOKS: usize = 64;

/// The threads as they are at one moment.
#[derive(Debug)]
pub struct Look {
    pid: pid_t,
    tids: Vec<pid_t>,
    /// Where in the list of threads this round begins.
    first: usize,
    filters: OnceCell<Vec<(pid_t, Option<u32>)>>,
}

impl Look {
    /// Looks for the first time.
    ///
    /// # Errors
    /// The process ended.
    pub fn at(pid: i32) -> Result<Self, Failure> {
        Ok(Self { pid, tids: tasks(pid)?, first: 0, filters: OnceCell::new() })
    }

    /// Looks again: at the filters of those threads whose turn it is.
    ///
    /// # Errors
    /// The process ended.
    pub fn again(&mut self) -> Result<(), Failure> {
        self.first += LOOKS.min(self.tids.len());
        self.tids = tasks(self.pid)?;
        self.first %= self.tids.len().max(1);
        self.filters = OnceCell::new();
        Ok(())
    }

    /// Their ids.
    pub(crate) fn tids(&self) -> HashSet<u32> {
        self.tids.iter().map(|tid| tid.cast_unsigned()).collect()
    }

    /// The number of seccomp filters of some of them, as [`counts`] tells it; read when it is first asked for.
    pub(crate) fn filters(&self) -> &[(pid_t, Option<u32>)] {
        self.filters.get_or_init(|| {
            let turn: Vec<pid_t> =
                self.tids.iter().cycle().skip(self.first).take(LOOKS.min(self.tids.len())).copied().collect();
            counts(self.pid, &turn)
        })
    }
}
