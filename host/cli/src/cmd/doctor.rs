//! `trocar doctor`: what works on this machine, what does not, and the fix.
//!
//! Facts are read; the only things tried are a child of ours that is traced for a moment, a memory file, and a file in
//! the cache folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde::Serialize;
use trocar_sinks::{Align, Grid, Line, Tone};
use trocar_target::{Capability, Failure, Process, Seccomp, has_capability, kernel_release, ptrace_scope};

use crate::guest;
use crate::guest::languages::{self, Compiler};
use crate::out::Out;
use crate::start::Started;
use crate::trouble::Outcome;

const EXAMPLES: &str = "\
Examples:
  trocar doctor
  trocar doctor -o json | grep -v '\"state\":\"works\"'";

/// Says what works on this machine and what does not: kernel, permissions, compilers for probes; with the fix for each.
///
/// Ends with status 0 unless no process at all can be probed here.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Doctor {}

/// Oldest kernel that has what attaching needs: PTRACE_SEIZE, memfd seals, process_vm_readv, pidfd (Linux 5.4).
const KERNEL: (u32, u32) = (5, 4);
/// Key of the auxiliary vector, and its bit that says that `rdfsbase` may be used (getauxval(3), asm/hwcap2.h).
const AT_HWCAP2: u64 = 26;
const FSGSBASE: u64 = 1 << 1;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// All of it.
    Works,
    /// Enough to go on.
    Limited,
    /// Not here; other things work.
    Missing,
    /// Without it nothing works.
    Fatal,
}

/// A row.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    detail: String,
    fix: Option<String>,
}

fn finding(what: &'static str, state: State, detail: impl Into<String>, fix: Option<&str>) -> Finding {
    Finding { what, state, detail: detail.into(), fix: fix.map(str::to_owned) }
}

impl Doctor {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let findings = [
            machine(),
            kernel(),
            tracing(),
            others(),
            filters(),
            priority(),
            memory_files(),
            thread_pointer(),
            cache(),
        ];
        let compilers = [
            rust(),
            c(),
            other("probes in Zig", languages::zig()),
            other("probes in AssemblyScript", languages::assemblyscript(Path::new("."))),
            other("probes in Go", languages::go()),
            wat(),
        ];
        let mut grid = Grid::new(&[
            ("WHAT", Align::Left),
            ("STATE", Align::Left),
            ("DETAIL", Align::Left),
            ("FIX", Align::Left),
        ]);
        let mut fatal = false;
        for found in findings.iter().chain(&compilers) {
            fatal |= found.state == State::Fatal;
            out.row("doctor", found)?;
            let state = match found.state {
                State::Works => Line::new().with(Tone::Good, "works"),
                State::Limited => Line::new().with(Tone::Warning, "limited"),
                State::Missing => Line::new().with(Tone::Warning, "missing"),
                State::Fatal => Line::new().with(Tone::Bad, "fatal"),
            };
            grid.row(vec![
                Line::new().with(Tone::Strong, found.what),
                state,
                Line::new().with(Tone::Plain, &found.detail),
                Line::new().with(Tone::Plain, found.fix.as_deref().unwrap_or_default()),
            ]);
        }
        out.grid(grid)?;
        Ok(if fatal { trocar_target::FailureKind::NotPermitted.exit_status() } else { 0 })
    }
}

fn machine() -> Finding {
    match std::env::consts::ARCH {
        "x86_64" => finding("machine", State::Works, "x86_64", None),
        other => finding(
            "machine",
            State::Fatal,
            format!("{other}; processes of x86_64 only"),
            Some("use an x86-64 machine"),
        ),
    }
}

fn kernel() -> Finding {
    let release = kernel_release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL {
        return finding("kernel", State::Works, release, None);
    }
    let (major, minor) = KERNEL;
    finding(
        "kernel",
        State::Fatal,
        format!("{release}; {major}.{minor} is the oldest that will do"),
        Some("boot a newer kernel"),
    )
}

/// Tracing a child, as `demo` and `-- COMMAND` do: the least that can be permitted.
fn tracing() -> Finding {
    match Started::start(&["/bin/true".into()]) {
        Ok(_) => {
            finding("trace a child", State::Works, "a command can be started with probes in place", None)
        }
        Err(failure) => finding(
            "trace a child",
            State::Fatal,
            failure.message,
            Some("in a container: --cap-add=SYS_PTRACE and a seccomp profile that allows ptrace"),
        ),
    }
}

/// Tracing a process that is not a child.
fn others() -> Finding {
    let all = has_capability(Capability::SysPtrace);
    let scope = ptrace_scope();
    let scope_text = scope
        .map_or_else(|| "the kernel has no yama".to_owned(), |n| format!("kernel.yama.ptrace_scope is {n}"));
    let (state, detail, fix) = match (scope, all) {
        (Some(3), _) => (
            State::Limited,
            "nobody may trace",
            Some("set kernel.yama.ptrace_scope=1 in /etc/sysctl.d and reboot"),
        ),
        (_, true) => (State::Works, "processes of every user (CAP_SYS_PTRACE)", None),
        (Some(0) | None, false) => {
            (State::Limited, "your own processes only", Some("sudo, for those of others"))
        }
        (Some(1), false) => (
            State::Limited,
            "only commands that trocar starts",
            Some("sudo sysctl kernel.yama.ptrace_scope=0, or sudo trocar …"),
        ),
        (Some(_), false) => (State::Limited, "only with CAP_SYS_PTRACE", Some("sudo trocar …")),
    };
    finding("trace others", state, format!("{detail}; {scope_text}"), fix)
}

/// Remote system calls in a process with a seccomp filter.
fn filters() -> Finding {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.is_empty() {
        return finding("seccomp filters", State::Works, "the kernel has none", None);
    }
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let own = Process::inspect(me).is_ok_and(|p| p.seccomp != Seccomp::Off);
    let (state, detail, fix) = match (has_capability(Capability::SysAdmin), own) {
        (true, false) => (State::Works, "can be read, and suspended while attaching (CAP_SYS_ADMIN)", None),
        (true, true) => (
            State::Limited,
            "a process with a filter cannot be probed: trocar has one itself",
            Some("outside of the container, or in one with --security-opt seccomp=unconfined"),
        ),
        (false, _) => (
            State::Limited,
            "a process with a filter cannot be probed without CAP_SYS_ADMIN",
            Some("sudo trocar …"),
        ),
    };
    finding("seccomp filters", state, detail, fix)
}

fn priority() -> Finding {
    if has_capability(Capability::SysNice) {
        return finding("short stops", State::Works, "the tracer runs at real-time priority", None);
    }
    let detail = "no CAP_SYS_NICE: on a busy machine a stop may take longer";
    finding("short stops", State::Limited, detail, Some("sudo trocar …"))
}

/// Code pages from a sealed memory file; else they are anonymous pages written through /proc/PID/mem.
fn memory_files() -> Finding {
    use rustix::fs::{MemfdFlags, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let setting = fs::read_to_string("/proc/sys/vm/memfd_noexec").unwrap_or_default();
    match (memfd_create("trocar-doctor", flags), setting.trim()) {
        (Ok(_), "2") => finding(
            "memory files",
            State::Limited,
            "vm.memfd_noexec is 2: none may hold code",
            Some("sudo sysctl vm.memfd_noexec=1"),
        ),
        (Ok(_), _) => finding("memory files", State::Works, "memfd with seals", None),
        (Err(error), _) => finding(
            "memory files",
            State::Fatal,
            format!("memfd_create: {error}"),
            Some("a kernel with CONFIG_MEMFD_CREATE, a seccomp profile that allows it"),
        ),
    }
}

/// Go programs have no self pointer at `fs:0`; their threads are told apart by `rdfsbase`.
fn thread_pointer() -> Finding {
    let bytes = fs::read("/proc/self/auxv").unwrap_or_default();
    let (words, _) = bytes.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    let found = pairs.iter().find(|[key, _]| u64::from_ne_bytes(*key) == AT_HWCAP2);
    if found.is_some_and(|[_, value]| u64::from_ne_bytes(*value) & FSGSBASE != 0) {
        return finding("rdfsbase", State::Works, "Go programs and threads without libc", None);
    }
    let detail = "the processor or the kernel (before 5.9) does not allow it: no Go programs";
    finding("rdfsbase", State::Limited, detail, Some("a kernel of 5.9 or later, without nofsgsbase"))
}

fn cache() -> Finding {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let folder =
        set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).map(|p| p.join("trocar"));
    let Some(folder) = folder else {
        let detail = "neither HOME nor XDG_CACHE_HOME is set: each probe is compiled anew";
        return finding("compile cache", State::Limited, detail, Some("set HOME"));
    };
    let try_it = fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder).map(drop));
    match try_it {
        Ok(()) => finding("compile cache", State::Works, folder.display().to_string(), None),
        Err(error) => finding(
            "compile cache",
            State::Limited,
            format!("{}: {error}: each probe is compiled anew", folder.display()),
            Some("set XDG_CACHE_HOME to a folder where you may write"),
        ),
    }
}

fn first_line(command: &str) -> String {
    let out = Command::new(command).arg("--version").output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

fn rust() -> Finding {
    if guest::has_rust() {
        return finding(
            "probes in Rust",
            State::Works,
            format!("{}, target {}", first_line("rustc"), guest::RUST_TARGET),
            None,
        );
    }
    if fs::exists("/usr/lib/rustlib/src/rust/library/Cargo.lock").unwrap_or(false) {
        let detail = "from Debian's sources; the first `trocar build` makes the library (about 90 s)";
        return finding("probes in Rust", State::Works, detail, None);
    }
    let missing = guest::missing_rust("");
    finding(
        "probes in Rust",
        State::Missing,
        format!("no library for {}", guest::RUST_TARGET),
        missing.hint.as_deref(),
    )
}

fn c() -> Finding {
    match guest::clang() {
        Ok(clang) => finding("probes in C, C++", State::Works, first_line(&clang.to_string_lossy()), None),
        Err(failure) => finding("probes in C, C++", State::Missing, failure.message, failure.hint.as_deref()),
    }
}

fn other(what: &'static str, found: Result<Compiler, Failure>) -> Finding {
    match found {
        Ok(compiler) => {
            let detail = format!("{} ({})", compiler.version, compiler.shown());
            finding(what, State::Works, detail, None)
        }
        Err(failure) => finding(what, State::Missing, failure.message, failure.hint.as_deref()),
    }
}

fn wat() -> Finding {
    finding("probes in WAT", State::Works, "built in", None)
}
