//! Resident memory of a process, by kind.

use std::fs::read_to_string;

use serde::Serialize;

use crate::Trouble;

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resident {
    /// Anonymous pages.
    pub anonymous_kib: i64,
    /// Pages of files.
    pub file_kib: i64,
    /// Shared memory.
    pub shared_kib: i64,
}

impl Resident {
    /// Of a process, now.
    ///
    /// # Errors
    /// It is gone, or its status has no such lines.
    pub fn of(pid: u32) -> Result<Self, Trouble> {
        let path = format!("/proc/{pid}/status");
        let status = read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok()).ok_or(format!("{path}: no {name}"))
        };
        Ok(Self {
            anonymous_kib: field("RssAnon")?,
            file_kib: field("RssFile")?,
            shared_kib: field("RssShmem")?,
        })
    }

    /// All kinds together.
    #[must_use]
    pub fn total_kib(&self) -> i64 {
        self.anonymous_kib + self.file_kib + self.shared_kib
    }

    /// What came since an earlier moment.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            anonymous_kib: self.anonymous_kib - before.anonymous_kib,
            file_kib: self.file_kib - before.file_kib,
            shared_kib: self.shared_kib - before.shared_kib,
        }
    }
}
