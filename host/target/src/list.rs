//! Which processes there are, and which of them a name or a list of numbers means.
//!
//! A listing is a series of moments: a process that ends while it is made is left out. It does not know
//! containers or cgroups.

use std::path::Path;

use crate::procfs;
use crate::system::Users;
use crate::{Failure, FailureKind, Process};

/// Most characters of a command line in a summary.
const COMMAND_CHARS: usize = 160;

/// A line of `trocar ps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSummary {
    /// Its id.
    pub pid: i32,
    /// Its name, not escaped.
    pub name: String,
    /// Name of its effective user.
    pub user: String,
    /// Its command line, words joined by spaces, at most 160 characters, not escaped; empty for kernel threads.
    pub command: String,
    /// Whether it is a thread of the kernel; a listing for people leaves these out.
    pub kernel_thread: bool,
    /// Why it cannot be probed; `None` if it can.
    pub obstacle: Option<Failure>,
}

/// Every process that can be seen, in ascending order of id.
///
/// # Errors
/// `NotPermitted` when /proc cannot be read.
pub fn list_processes() -> Result<Vec<ProcessSummary>, Failure> {
    let users = Users::load();
    Ok(all(&users)?.iter().map(summary).collect())
}

fn summary(process: &Process) -> ProcessSummary {
    let mut command = process.command.join(" ");
    if let Some((at, _)) = command.char_indices().nth(COMMAND_CHARS) {
        command.truncate(at);
        command.push('…');
    }
    ProcessSummary {
        pid: process.pid,
        name: process.name.clone(),
        user: process.user.clone(),
        command,
        kernel_thread: process.kernel_thread,
        obstacle: process.obstacle(),
    }
}

/// What `-p` means: a number, several with commas, or the name of a process (its `comm`, the file name of its
/// program, or that of its first word). All matches of a name are returned, in ascending order; kernel threads,
/// zombies and trocar itself never match a name.
///
/// # Errors
/// `Usage` for an empty or impossible word, `NoProcess` when nothing has that name.
pub fn resolve_target(text: &str) -> Result<Vec<i32>, Failure> {
    let mut pids = Vec::new();
    let mut processes = None;
    for word in text.split(',').map(str::trim) {
        if word.is_empty() {
            return Err(usage(text));
        }
        if word.bytes().all(|b| b.is_ascii_digit()) {
            match word.parse() {
                Ok(0) | Err(_) => return Err(usage(text)),
                Ok(pid) => pids.push(pid),
            }
            continue;
        }
        if processes.is_none() {
            processes = Some(all(&Users::load())?);
        }
        let found: Vec<i32> = processes
            .iter()
            .flatten()
            .filter(|p| is_candidate(p) && is_named(p, word))
            .map(|p| p.pid)
            .collect();
        if found.is_empty() {
            return Err(Failure::new(FailureKind::NoProcess, format!("no process is named {word}"))
                .hint("list the processes with: trocar ps"));
        }
        pids.extend(found);
    }
    let mut seen = std::collections::HashSet::new();
    pids.retain(|pid| seen.insert(*pid));
    Ok(pids)
}

fn usage(text: &str) -> Failure {
    Failure::new(
        FailureKind::Usage,
        format!("-p takes a process id, several with commas, or a name, not \"{text}\""),
    )
    .hint("for example: -p 812, -p 812,813 or -p redis-server; see: trocar ps")
}

fn all(users: &Users) -> Result<Vec<Process>, Failure> {
    let folder = Path::new("/proc");
    let ids = procfs::ids(folder)
        .map_err(|e| Failure::new(FailureKind::NotPermitted, format!("cannot list /proc: {e}")))?;
    Ok(ids.into_iter().filter_map(|pid| Process::inspect_with(pid, users).ok()).collect())
}

fn is_candidate(process: &Process) -> bool {
    !process.kernel_thread && !process.ended && u32::try_from(process.pid) != Ok(std::process::id())
}

fn is_named(process: &Process, name: &str) -> bool {
    let file_name = |path: &Path| path.file_name().is_some_and(|file| file == name);
    process.name == name
        || process.exe.as_deref().is_some_and(file_name)
        || process.command.first().is_some_and(|word| file_name(Path::new(word)))
}
