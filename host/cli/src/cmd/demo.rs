//! `trocar demo`: the main job, on a server that comes along as source text and is compiled here.
//!
//! The server is a child of ours, so that an ordinary user may trace it; it ends when its standard input closes, so
//! that it does not outlive us, whatever happens.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::Args;
use trocar_session::{Prepared, Request, RequestedPoint};
use trocar_target::{Failure, FailureKind};

use super::arming::expression;
use crate::interrupt::Interrupt;
use crate::live::{self, Ends};
use crate::out::Out;
use crate::quantity;
use crate::replay::Again;
use crate::trouble::Outcome;

/// The server: a key-value store with four workers and a load generator. Its head says more.
const SERVER: &str = include_str!("../../../../tests/targets/server.c");
/// Requests per second that it sends to itself.
const LOAD: &str = "20000";
/// What is counted, and by which key: the kind of each request is the first field of its argument.
const POINT: &str = "handle_request";
const BY: &str = "*(u32*)$arg0";

const EXAMPLES: &str = "\
Examples:
  trocar demo
  trocar demo --for 30s
  trocar demo -o json";

/// Shows the main job on a real server: put a probe into a busy process, watch it, take it out, prove it.
///
/// A small multi-threaded key-value server, which comes along as source text, is compiled with the C compiler of this
/// machine (`cc`) and started; it serves 20000 requests a second of its own. Then `trocar count` is what happens:
/// every call of `handle_request` is counted by the kind of request, which the probe reads out of the server's memory.
/// At the end the server says whether all its answers were right. No root is needed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Demo {
    /// How long to watch
    #[arg(long = "for", value_name = "DURATION", value_parser = quantity::duration, default_value = "5s")]
    time: Duration,
}

impl Demo {
    /// Runs it.
    pub(crate) fn run(self, out: &mut Out) -> Outcome {
        let interrupt = Interrupt::listen()?;
        let folder = tempfile::tempdir().map_err(|e| {
            Failure::new(FailureKind::NotPermitted, format!("no temporary folder: {e}"))
                .hint("set TMPDIR to a folder")
        })?;
        out.note("compiling a small server (tests/targets/server.c) …");
        let program = compile(folder.path())?;
        let mut server = Server::start(&program)?;
        let (pid, seconds) = (server.pid, self.time.as_secs_f64());
        out.note(&format!(
            "it runs as process {pid}, with 7 threads and {LOAD} requests a second; nobody will restart it"
        ));
        out.note(&format!(
            "$ trocar count -p {pid} {POINT} --by '{BY}' --for {seconds}s        # key: 0 PING, 1 GET, 2 SET"
        ));
        let by = trocar_expr::parse(BY).map_err(|e| expression("--by", &e))?;
        let probe = trocar_expr::compile_count(Some(&by), None).map_err(|e| expression("--by", &e))?;
        let request = Request {
            pid,
            wasm: probe.wasm,
            name: "count".into(),
            points: vec![RequestedPoint { text: POINT.into(), handler: None }],
            sets: Vec::new(),
            fuel: None,
            memory: None,
            ttl: None,
            rate: None,
            max_core: None,
            sample: 1,
            native: true,
            strict: false,
            pending: false,
            functions_max: None,
        };
        let session = Prepared::new(&request)?.attach()?;
        let ends =
            Ends { hits: None, time: Some(self.time), target_ended: FailureKind::NoProcess.exit_status() };
        let status =
            live::run(vec![session], &ends, &Again { word: None, request: &request }, &interrupt, out)?;
        match server.ask("stats") {
            Some(answer) => {
                let count = |name: &str| {
                    let word =
                        answer.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
                    word.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
                };
                let (requests, wrong) = (count("requests"), count("wrong"));
                out.note(&format!(
                    "the server served on: {requests} requests since its start, {wrong} wrong answers"
                ));
                if wrong > 0 {
                    return Err(Failure::new(
                        FailureKind::Bug,
                        format!("the server gave {wrong} wrong answers"),
                    )
                    .into());
                }
                out.note(
                    "next: trocar ps, then trocar count -p PID FUNCTION on a process of yours; trocar --help",
                );
                Ok(status)
            }
            None => Err(Failure::new(FailureKind::Bug, "the server does not answer any more").into()),
        }
    }
}

fn compile(folder: &Path) -> Result<std::path::PathBuf, Failure> {
    let source = folder.join("server.c");
    let program = folder.join("server");
    fs::write(&source, SERVER).map_err(|e| {
        Failure::new(FailureKind::NotPermitted, format!("{} cannot be written: {e}", source.display()))
    })?;
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(&compiler);
    command.args(["-std=gnu11", "-O2", "-g1", "-pthread", "-o"]).arg(&program).arg(&source);
    let install = "sudo apt-get install gcc libc6-dev (or set CC)";
    let missing = |what: String| Failure::new(FailureKind::NotPermitted, what).hint(install);
    let output = command.stdin(Stdio::null()).output().map_err(|e| {
        missing(format!(
            "the demonstration needs a C compiler; {} cannot be started: {e}",
            compiler.display()
        ))
    })?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first =
        said.lines().find(|line| line.contains("error")).unwrap_or("it says nothing").trim().to_owned();
    Err(missing(format!("{} cannot compile the server: {first}", compiler.display())))
}

/// The running server. Ends with us.
struct Server {
    child: Child,
    pid: i32,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Server {
    fn start(program: &Path) -> Result<Self, Failure> {
        let failed = |what: String| {
            Failure::new(FailureKind::NotPermitted, format!("the server cannot be started: {what}"))
        };
        let mut command = Command::new(program);
        command.args(["--self-load", LOAD, "--control"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| {
            failed(e.to_string()).hint("is the folder for temporary files mounted noexec? set TMPDIR")
        })?;
        let (commands, answers) = (child.stdin.take(), child.stdout.take());
        let pid = i32::try_from(child.id()).map_err(|e| failed(e.to_string()))?;
        let answers = BufReader::new(answers.ok_or_else(|| failed("it has no output".into()))?);
        let mut server = Self { child, pid, commands, answers };
        match server.answer() {
            Some(line) if line.starts_with("ready") => Ok(server),
            other => Err(failed(format!("it said {other:?}"))),
        }
    }

    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).ok()?;
        (read > 0).then_some(line)
    }

    fn ask(&mut self, command: &str) -> Option<String> {
        writeln!(self.commands.as_mut()?, "{command}").ok()?;
        self.answer()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.commands.take());
        // It ends by itself when its input closes; this is for one that hangs. Both fail only if it is gone.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
