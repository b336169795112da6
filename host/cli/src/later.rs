//! Words of the contract that this version does not know yet: named, so that nobody has to guess, and refused, so that
//! nothing is silently ignored.

use clap::Args;
use trocar_target::Failure;

use crate::trouble::usage;

/// Verbs of later versions, and what does the nearest thing now.
const VERBS: [(&str, &str); 27] = [
    ("lines", "name an instruction: NAME+0xOFFSET; list functions: trocar points -p PID '*NAME*'"),
    ("vars", "read arguments raw, for example: trocar count -p PID POINT --by '$arg0'"),
    (
        "log",
        "count by an expression: trocar count -p PID POINT --by EXPR; or a probe of your own: trocar new wat NAME",
    ),
    ("snap", "read arguments raw, for example: trocar count -p PID POINT --by '$arg0'"),
    ("stacks", "count by caller: trocar count -p PID POINT --by '*(u64*)($reg.rsp)'"),
    ("ls", "a session lives as long as its command: pgrep -a trocar"),
    ("show", "a session lives as long as its command: pgrep -a trocar"),
    ("tail", "a session prints where it was started"),
    ("rm", "end a session with Ctrl-C or SIGTERM: pkill trocar"),
    ("keygen", "probes are not signed in this version"),
    ("sign", "probes are not signed in this version"),
    ("verify", "look into a probe with: trocar check PROBE.wasm"),
    ("publish", "copy the .wasm file; it is whole by itself"),
    ("search", "list the probes that are here: trocar probes"),
    ("info", "look into a probe with: trocar check PROBE.wasm"),
    ("install", "load a probe by its path: trocar load PROBE.wasm -p PID"),
    ("yank", "there is no marketplace in this version"),
    ("mirror", "there is no marketplace in this version"),
    ("market", "there is no marketplace in this version"),
    ("policy", "see what a probe could do: trocar check PROBE.wasm"),
    ("approve", "see what a probe could do: trocar check PROBE.wasm"),
    ("audit", "keep the JSON lines: trocar load … -o json"),
    ("assert", "count the hits that break it: trocar count -p PID POINT --if '!(EXPR)' --for 60s"),
    ("login", "there is no marketplace in this version"),
    ("logout", "there is no marketplace in this version"),
    ("mcp", "call the commands themselves, with -o json"),
    ("daemon", "a foreground command needs no daemon: trocar count, trocar load"),
];

/// Why a verb of the contract cannot be run; `None` if the contract has no such verb.
pub(crate) fn verb(word: &str) -> Option<Failure> {
    let (verb, instead) = VERBS.iter().find(|(verb, _)| *verb == word)?;
    Some(usage(format!("`trocar {verb}` is not in this version")).hint(*instead))
}

/// Options of the contract that arming commands do not have yet.
#[derive(Args, Debug)]
pub(crate) struct LaterOptions {
    #[arg(long, hide = true)]
    yes: bool,
    #[arg(short = 'd', long, hide = true)]
    detach: bool,
}

/// Ways to name a target that are not there yet.
#[derive(Args, Debug)]
pub(crate) struct LaterTargets {
    #[arg(long, hide = true, value_name = "ID")]
    container: Option<String>,
    #[arg(long, hide = true, value_name = "PATH")]
    cgroup: Option<String>,
}

fn refuse(options: &[(bool, &str, &str)]) -> Result<(), Failure> {
    match options.iter().find(|(given, _, _)| *given) {
        Some((_, option, instead)) => Err(usage(format!("{option} is not in this version")).hint(*instead)),
        None => Ok(()),
    }
}

impl LaterOptions {
    /// Fails if one of them was given.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        refuse(&[
            (self.yes, "--yes", "leave it out: no command of this version asks"),
            (
                self.detach,
                "-d",
                "leave it out: the probe stays as long as the command runs; use nohup or a terminal multiplexer",
            ),
        ])
    }
}

impl LaterTargets {
    /// Fails if one of them was given.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        refuse(&[
            (
                self.container.is_some(),
                "--container",
                "name the process as this system sees it: trocar ps, then -p PID",
            ),
            (self.cgroup.is_some(), "--cgroup", "name the processes with -p $(paste -sd, PATH/cgroup.procs)"),
        ])
    }
}
