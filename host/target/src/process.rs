//! A process and its threads, as /proc shows them at one moment.
//!
//! It relies on `/proc/PID/mem` to learn whether tracing is permitted (see `memory.rs`). A pid may be given to
//! another process at any time: the time of the start tells them apart. It does not know what the process runs;
//! that is `maps.rs` and `module.rs`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::memory::Memory;
use crate::procfs::{self, STATUS_BYTES};
use crate::status::{Seccomp, Signals, Stat, Status};
use crate::system::{Users, has_capability, ptrace_scope};
use crate::verdict::{self, Access};
use crate::{Capability, Failure, FailureKind, elf};

/// Who traces a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracer {
    /// Its process id.
    pub pid: i32,
    /// Its name, or `?`.
    pub name: String,
}

/// A process. Facts about signals and seccomp are those of its first thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id, as we see it.
    pub pid: i32,
    /// Its id in its own pid namespace.
    pub pid_inside: i32,
    /// Its parent.
    pub parent: i32,
    /// Its name (`comm`, at most 15 bytes), lossy UTF-8. Not escaped: it may hold control characters.
    pub name: String,
    /// Its program, if we may know it. A deleted file keeps its name without the kernel's " (deleted)".
    pub exe: Option<PathBuf>,
    /// Whether the program's file was deleted or replaced.
    pub exe_deleted: bool,
    /// Its command line, at most 128 KiB, lossy UTF-8, not escaped.
    pub command: Vec<String>,
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Name of the effective user.
    pub user: String,
    /// State letter of its first thread.
    pub state: char,
    /// Whether it has ended and waits for its parent.
    pub ended: bool,
    /// Whether it is a thread of the kernel.
    pub kernel_thread: bool,
    /// Time of its start in clock ticks after boot: with the pid it names the process for ever.
    pub start_time: u64,
    /// Who traces it.
    pub tracer: Option<Tracer>,
    /// Filter of system calls.
    pub seccomp: Seccomp,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// Whether a shadow stack is on.
    pub shadow_stack: bool,
    /// Signals.
    pub signals: Signals,
    /// Its threads in ascending order, itself among them.
    pub threads: Vec<i32>,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its id, as we see it.
    pub tid: i32,
    /// Its id in its own pid namespace.
    pub tid_inside: i32,
    /// Its name, lossy UTF-8, not escaped.
    pub name: String,
    /// State letter.
    pub state: char,
    /// Who traces it; zero for nobody.
    pub tracer: i32,
    /// Filter of system calls.
    pub seccomp: Seccomp,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// Whether a shadow stack is on.
    pub shadow_stack: bool,
    /// Signals.
    pub signals: Signals,
}

impl Process {
    /// A process that can be probed.
    ///
    /// # Errors
    /// `NoProcess` (none, ended, a zombie), `NotPermitted` (with what is missing), `NothingPatched` (a kernel
    /// thread, trocar itself, already traced, not 64-bit x86, a shadow stack).
    pub fn open(pid: i32) -> Result<Self, Failure> {
        let process = Self::inspect(pid)?;
        match process.obstacle() {
            Some(failure) => Err(failure),
            None => Ok(process),
        }
    }

    /// The facts about a process, whether it can be probed or not.
    ///
    /// # Errors
    /// `NoProcess` when there is none, or `pid` is that of a thread.
    pub fn inspect(pid: i32) -> Result<Self, Failure> {
        Self::inspect_with(pid, &Users::load())
    }

    pub(crate) fn inspect_with(pid: i32, users: &Users) -> Result<Self, Failure> {
        let stat = read_stat(pid, "stat")?;
        let status = Status::parse(&procfs::read(pid, "status", STATUS_BYTES)?);
        if status.process != pid {
            return Err(Failure::new(
                FailureKind::NoProcess,
                format!("{pid} ({}) is a thread of process {}", stat.name, status.process),
            )
            .hint(format!("use: -p {}", status.process)));
        }
        let link = std::fs::read_link(procfs::path(pid, "exe")).ok();
        let (exe, exe_deleted) = link.map_or((None, false), |path| {
            let (path, deleted) = crate::maps::without_deleted(path);
            (Some(path), deleted)
        });
        let task = procfs::path(pid, "task");
        let threads = procfs::ids(&task).map_err(|e| procfs::failure(pid, &task, &e))?;
        Ok(Self {
            pid,
            pid_inside: status.namespace_ids.last().copied().unwrap_or(pid),
            parent: stat.parent,
            ended: stat.ended(),
            kernel_thread: stat.kernel_thread,
            name: stat.name,
            exe,
            exe_deleted,
            command: command(pid),
            uid: status.uid,
            euid: status.euid,
            user: users.name(status.euid),
            state: stat.state,
            start_time: stat.start_time,
            tracer: (status.tracer != 0).then(|| Tracer { pid: status.tracer, name: name_of(status.tracer) }),
            seccomp: status.seccomp,
            no_new_privs: status.no_new_privs,
            shadow_stack: status.shadow_stack,
            signals: status.signals,
            threads,
        })
    }

    /// Why this process cannot be probed, if so: the same failures as [`Process::open`].
    #[must_use]
    pub fn obstacle(&self) -> Option<Failure> {
        if let Some(failure) = verdict::not_a_target(self) {
            return Some(failure);
        }
        if let Err(error) = Memory::open(self.pid) {
            return Some(match error.kind() {
                std::io::ErrorKind::PermissionDenied => explain(self),
                _ => procfs::failure(self.pid, &procfs::path(self.pid, "mem"), &error),
            });
        }
        verdict::obstacle(self, machine(&procfs::path(self.pid, "exe")))
    }

    /// Every thread with its own facts, in ascending order of id. Threads that end meanwhile are left out.
    ///
    /// # Errors
    /// `NoProcess` when the process has ended.
    pub fn threads(&self) -> Result<Vec<Thread>, Failure> {
        let task = procfs::path(self.pid, "task");
        let ids = procfs::ids(&task).map_err(|e| procfs::failure(self.pid, &task, &e))?;
        let mut threads = Vec::with_capacity(ids.len());
        for tid in ids {
            match thread(self.pid, tid) {
                Ok(thread) => threads.push(thread),
                Err(failure) if failure.kind == FailureKind::NoProcess => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(threads)
    }

    /// Checks that the pid still belongs to this process, and that it has not ended.
    ///
    /// # Errors
    /// `NoProcess`.
    pub fn still_there(&self) -> Result<(), Failure> {
        let stat = read_stat(self.pid, "stat")?;
        if stat.start_time != self.start_time {
            return Err(Failure::new(
                FailureKind::NoProcess,
                format!(
                    "process {} ({}) has ended; its id now belongs to {}",
                    self.pid, self.name, stat.name
                ),
            ));
        }
        if stat.ended() {
            return Err(Failure::new(
                FailureKind::NoProcess,
                format!("process {} ({}) has ended", self.pid, self.name),
            ));
        }
        Ok(())
    }
}

fn explain(process: &Process) -> Failure {
    verdict::explain_denied(&Access {
        pid: process.pid,
        name: process.name.clone(),
        uid: process.euid,
        user: process.user.clone(),
        our_uid: rustix::process::geteuid().as_raw(),
        may_trace_all: has_capability(Capability::SysPtrace),
        ptrace_scope: ptrace_scope(),
    })
}

/// Whether the program is one for us. A program that cannot be read is left to the next step, which has more to
/// say about it.
fn machine(exe: &Path) -> Result<(), String> {
    let mut header = Vec::new();
    match File::open(exe).and_then(|f| f.take(elf::HEADER_BYTES as u64).read_to_end(&mut header)) {
        Ok(_) => elf::check_machine(&header),
        Err(_) => Ok(()),
    }
}

fn thread(pid: i32, tid: i32) -> Result<Thread, Failure> {
    let stat = read_stat(pid, &format!("task/{tid}/stat"))?;
    let status = Status::parse(&procfs::read(pid, &format!("task/{tid}/status"), STATUS_BYTES)?);
    Ok(Thread {
        tid,
        tid_inside: status.namespace_ids.last().copied().unwrap_or(tid),
        name: stat.name,
        state: stat.state,
        tracer: status.tracer,
        seccomp: status.seccomp,
        no_new_privs: status.no_new_privs,
        shadow_stack: status.shadow_stack,
        signals: status.signals,
    })
}

pub(crate) fn read_stat(pid: i32, name: &str) -> Result<Stat, Failure> {
    Stat::parse(&procfs::read(pid, name, 1 << 16)?).ok_or_else(|| {
        Failure::new(FailureKind::Bug, format!("/proc/{pid}/{name} is not in the format of proc_pid_stat(5)"))
    })
}

fn name_of(pid: i32) -> String {
    read_stat(pid, "stat").map_or_else(|_| "?".into(), |stat| stat.name)
}

fn command(pid: i32) -> Vec<String> {
    let bytes =
        procfs::read_up_to(&procfs::path(pid, "cmdline"), procfs::CMDLINE_BYTES).unwrap_or_default().0;
    let text = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|&b| b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}
