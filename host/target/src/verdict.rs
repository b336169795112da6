//! May this process be probed? The reasons against it, each with its cause and the next step.
//!
//! Pure decisions over facts, so that every case is tested without having to bring it about. Where the facts come
//! from is the business of `process.rs`.

use crate::{Failure, FailureKind, Process};

/// Who asks, who is asked for, and what stands between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The target.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// Its user's number.
    pub uid: u32,
    /// Its user's name.
    pub user: String,
    /// Our effective user.
    pub our_uid: u32,
    /// Whether we hold `CAP_SYS_PTRACE`.
    pub may_trace_all: bool,
    /// `kernel.yama.ptrace_scope`, if there is one.
    pub ptrace_scope: Option<u8>,
}

/// Why the system does not let us trace a process, and the command that changes it.
#[must_use]
pub fn explain_denied(access: &Access) -> Failure {
    let Access { pid, name, uid, user, our_uid, may_trace_all, ptrace_scope } = access;
    let denied = |why: String| {
        Failure::new(
            FailureKind::NotPermitted,
            format!("not permitted to trace process {pid} ({name}): {why}"),
        )
    };
    if *ptrace_scope == Some(3) {
        return denied("kernel.yama.ptrace_scope is 3, which forbids tracing to everyone".into()).hint(
            "it can only be lowered by a reboot: set kernel.yama.ptrace_scope to 1 in /etc/sysctl.d and restart",
        );
    }
    if *may_trace_all {
        return denied(
            "CAP_SYS_PTRACE is there, so a security module or the target's user namespace forbids it".into(),
        )
        .hint("look for the denial with: journalctl -k | grep -i -e denied -e ptrace");
    }
    if *our_uid == 0 {
        return denied("this root has no CAP_SYS_PTRACE (a container's?)".into())
            .hint("start the container with: --cap-add=SYS_PTRACE");
    }
    if uid != our_uid {
        return denied(format!(
            "it belongs to {user}, and tracing another user's process needs CAP_SYS_PTRACE"
        ))
        .hint("run the same command with sudo");
    }
    match ptrace_scope {
        Some(1) => denied("kernel.yama.ptrace_scope is 1, so only a parent may trace it".into()).hint(
            "sudo sysctl kernel.yama.ptrace_scope=0, or sudo for this command, or start it with: trocar VERB -- COMMAND",
        ),
        Some(2) => denied("kernel.yama.ptrace_scope is 2, so tracing needs CAP_SYS_PTRACE".into())
            .hint("run the same command with sudo"),
        _ => denied("it forbids tracing (set-user-id, file capabilities, or PR_SET_DUMPABLE 0)".into())
            .hint("run the same command with sudo"),
    }
}

/// What in a process itself forbids to probe it, apart from permission: the first reason that holds.
pub(crate) fn obstacle(process: &Process, machine: Result<(), String>) -> Option<Failure> {
    let Process { pid, name, .. } = process;
    let refuse = |why: String| Some(Failure::new(FailureKind::NothingPatched, why));
    if let Some(tracer) = &process.tracer {
        return refuse(format!(
            "process {pid} ({name}) is already traced by process {} ({})",
            tracer.pid, tracer.name
        ))
        .map(|f| f.hint(format!("end or detach {} first, then try again", tracer.name)));
    }
    if let Err(what) = machine {
        return refuse(format!("the program of process {pid} ({name}) is {what}"))
            .map(|f| f.hint("trocar probes 64-bit x86 programs"));
    }
    if process.shadow_stack {
        return refuse(format!(
            "process {pid} ({name}) runs with a shadow stack (CET), which a probe's trap cannot unwind"
        ))
        .map(|f| f.hint("start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off"));
    }
    None
}

/// What makes it no process to probe at all, whoever asks.
pub(crate) fn not_a_target(process: &Process) -> Option<Failure> {
    let Process { pid, name, parent, .. } = process;
    if process.kernel_thread {
        return Some(
            Failure::new(
                FailureKind::NothingPatched,
                format!("process {pid} ({name}) is a thread of the kernel and has no program to probe"),
            )
            .hint("list the processes with: trocar ps"),
        );
    }
    if process.ended {
        return Some(
            Failure::new(
                FailureKind::NoProcess,
                format!(
                    "process {pid} ({name}) has ended; it is a zombie until process {parent} collects it"
                ),
            )
            .hint("list the processes with: trocar ps"),
        );
    }
    if u32::try_from(*pid) == Ok(std::process::id()) {
        return Some(
            Failure::new(FailureKind::NothingPatched, format!("process {pid} is trocar itself"))
                .hint("name another process; see: trocar ps"),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access {
            pid: 812,
            name: "postgres".into(),
            uid: 1000,
            user: "ann".into(),
            our_uid: 1000,
            may_trace_all: false,
            ptrace_scope: Some(0),
        }
    }

    #[test]
    fn every_denial_names_what_is_missing_and_the_next_step() {
        let cases = [
            (
                Access { ptrace_scope: Some(1), ..access() },
                "ptrace_scope is 1",
                "sysctl kernel.yama.ptrace_scope=0",
            ),
            (Access { ptrace_scope: Some(2), ..access() }, "needs CAP_SYS_PTRACE", "sudo"),
            (Access { ptrace_scope: Some(3), ..access() }, "ptrace_scope is 3", "reboot"),
            (Access { uid: 112, user: "pg".into(), ..access() }, "belongs to pg", "sudo"),
            (Access { our_uid: 0, uid: 0, ..access() }, "root has no CAP_SYS_PTRACE", "--cap-add=SYS_PTRACE"),
            (Access { our_uid: 0, may_trace_all: true, ..access() }, "security module", "journalctl"),
            (access(), "PR_SET_DUMPABLE", "sudo"),
            (Access { ptrace_scope: None, ..access() }, "PR_SET_DUMPABLE", "sudo"),
        ];
        for (access, cause, step) in cases {
            let failure = explain_denied(&access);
            assert_eq!(failure.kind, FailureKind::NotPermitted);
            assert!(failure.message.contains(cause), "{failure}");
            assert!(failure.message.contains("812 (postgres)"), "{failure}");
            assert!(failure.hint.as_deref().unwrap().contains(step), "{failure:?}");
        }
    }

    #[test]
    fn a_tracer_a_foreign_machine_and_a_shadow_stack_are_obstacles() {
        let own = i32::try_from(std::process::id()).unwrap();
        let plain = Process::inspect(own).unwrap();
        assert_eq!(obstacle(&plain, Ok(())), None);

        let failure = obstacle(&plain, Err("a 32-bit program".into())).unwrap();
        assert_eq!(failure.kind, FailureKind::NothingPatched);
        assert!(failure.message.ends_with("is a 32-bit program"), "{failure}");

        let shadow = Process { shadow_stack: true, ..plain.clone() };
        assert!(obstacle(&shadow, Ok(())).unwrap().message.contains("shadow stack"));

        let tracer = Some(crate::Tracer { pid: 7, name: "gdb".into() });
        let traced = obstacle(&Process { tracer, ..plain }, Ok(())).unwrap();
        assert!(traced.message.contains("process 7 (gdb)"), "{traced}");
    }
}
