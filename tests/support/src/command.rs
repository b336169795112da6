//! The `trocar` command: started, read line by line, interrupted, and what it said.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lines::Lines;
use crate::target::{profile_folder, wait};

/// How long something is waited for while other lines come. As [`crate::lines::PATIENCE`], far above what anything takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// The built `trocar`: `TROCAR_BIN`, or the one beside the running test.
///
/// # Panics
/// If there is none, with the command that builds it.
#[must_use]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("TROCAR_BIN").map_or_else(|| profile_folder().join("trocar"), PathBuf::from);
    assert!(path.exists(), "no {} (cargo build --release -p trocar-cli, or set TROCAR_BIN)", path.display());
    path
}

/// A finished command.
#[derive(Debug)]
pub struct Outcome {
    /// The command, for messages.
    pub command: String,
    /// Exit status, or 128 and the signal that killed it.
    pub status: i32,
    /// Every JSON object of stdout.
    pub lines: Vec<Value>,
    /// Everything on stderr.
    pub stderr: String,
}

/// Runs `trocar ARGS… -o json` to its end.
///
/// # Panics
/// If a line of stdout is not a JSON object with `kind` and `ts`.
#[must_use]
pub fn run(args: &[&str]) -> Outcome {
    Live::start(args).finish()
}

/// A running `trocar`. Killed and waited for when dropped.
#[derive(Debug)]
pub struct Live {
    command: String,
    child: Child,
    stdout: Lines<ChildStdout>,
    stderr: File,
    lines: Vec<Value>,
}

impl Live {
    /// Starts `trocar ARGS… -o json`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(binary());
        // `-o` goes before `--`, after which everything belongs to the command to be started.
        let at = args.iter().position(|a| *a == "--").unwrap_or(args.len());
        let (own, rest) = args.split_at(at);
        command.args(own).args(["-o", "json"]).args(rest);
        // What a quarantine leaves for its user would else come to lie in the home of whoever runs the tests.
        command.env("XDG_STATE_HOME", profile_folder().join("test-state"));
        Self::spawn(&mut command)
    }

    /// Starts a command that is `trocar` in some other dress (another user, a copy elsewhere).
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        let stderr = tempfile::tempfile().expect("the temporary folder is writable");
        let theirs = stderr.try_clone().expect("descriptors are left");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(theirs);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?} cannot be started: {e}"));
        let stdout = Lines::new(child.stdout.take().expect("stdout is a pipe"));
        Self { command: format!("{command:?}"), child, stdout, stderr, lines: Vec::new() }
    }

    /// Starts it and waits until the probe is in place.
    ///
    /// # Panics
    /// If it ends before that, with all it said.
    #[must_use]
    pub fn attached(args: &[&str]) -> Self {
        let mut live = Self::start(args);
        live.until("attached");
        live
    }

    /// Reads on until an object of this kind comes, and returns it.
    ///
    /// # Panics
    /// If the command ends before that, with all it said.
    pub fn until(&mut self, kind: &str) -> Value {
        self.until_that(kind, |_| true)
    }

    /// Reads on until an object of this kind comes for which `is` holds.
    ///
    /// # Panics
    /// If the command ends before that, or none comes for minutes, with all it said.
    pub fn until_that(&mut self, kind: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        while let Some(line) = self.stdout.next_line() {
            let object = parse(&self.command, &line);
            self.lines.push(object.clone());
            if text(&object, "kind") == kind && is(&object) {
                return object;
            }
            self.assert_before(deadline, &format!("say the `{kind}` that is waited for"));
        }
        let status = wait(&mut self.child);
        let said = self.said();
        panic!("{} ended ({status}) before it said `{kind}`\n{said}", self.command);
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it where it stands (SIGSTOP), until [`Live::go_on`]: every thread, when this returns.
    ///
    /// # Panics
    /// If it has ended.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let stands = |stat: &str| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
        let all_stand = || {
            let tasks = std::fs::read_dir(&tasks).unwrap_or_else(|e| panic!("{tasks}: {e}"));
            let stats = tasks.flatten().filter_map(|t| std::fs::read_to_string(t.path().join("stat")).ok());
            stats.into_iter().all(|stat| stands(&stat))
        };
        while !all_stand() {
            std::thread::yield_now();
        }
    }

    /// Lets it go on after [`Live::stop`].
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
        // It fails only if the command has ended already; then `finish` tells how.
        let _ = kill_process(pid, signal);
    }

    /// Ends it as Ctrl-C does and returns what it said.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn interrupt(self) -> Outcome {
        self.signal(Signal::INT);
        self.finish()
    }

    /// Kills it as `kill -9` does: no receipt, no undo.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill(mut self) {
        drop(self.child.kill());
        wait(&mut self.child);
    }

    /// Reads until it ends by itself.
    ///
    /// # Panics
    /// If it does not within minutes, or a line is not a JSON object with `kind` and `ts`.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while let Some(line) = self.stdout.next_line() {
            self.lines.push(parse(&self.command, &line));
            self.assert_before(deadline, "end");
        }
        let status = wait(&mut self.child);
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let mut stderr = String::new();
        self.stderr.rewind().expect("a file can be read from its start");
        self.stderr.read_to_string(&mut stderr).expect("stderr is UTF-8");
        Outcome {
            command: std::mem::take(&mut self.command),
            status,
            lines: std::mem::take(&mut self.lines),
            stderr,
        }
    }

    fn assert_before(&mut self, deadline: Instant, what: &str) {
        if Instant::now() > deadline {
            let said = self.said();
            panic!("{} did not {what} within {} s\n{said}", self.command, PATIENCE.as_secs());
        }
    }

    fn said(&mut self) -> String {
        let mut stderr = String::new();
        drop(self.stderr.rewind().and_then(|()| self.stderr.read_to_string(&mut stderr)));
        self.lines.iter().map(|l| format!("{l}\n")).collect::<String>() + &stderr
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn parse(command: &str, line: &str) -> Value {
    let object: Value = serde_json::from_str(line)
        .unwrap_or_else(|e| panic!("{command}: stdout is data, but this is no JSON object ({e}): {line}"));
    assert!(object.get("kind").is_some_and(Value::is_string), "{command}: no kind in {line}");
    assert!(object.get("ts").is_some_and(Value::is_string), "{command}: no ts in {line}");
    object
}

/// A text field, empty if there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A count, zero if there is none.
#[must_use]
pub fn count(object: &Value, field: &str) -> u64 {
    object.get(field).and_then(Value::as_u64).unwrap_or_default()
}

impl Outcome {
    /// All objects of a kind.
    pub fn all<'a, 'k>(&'a self, kind: &'k str) -> impl DoubleEndedIterator<Item = &'a Value> + use<'a, 'k> {
        self.lines.iter().filter(move |l| text(l, "kind") == kind)
    }

    /// The one object of a kind.
    ///
    /// # Panics
    /// If there are none or several.
    #[must_use]
    pub fn one(&self, kind: &str) -> &Value {
        let mut all = self.all(kind);
        match (all.next(), all.next()) {
            (Some(only), None) => only,
            (first, _) => {
                panic!("{} `{kind}` objects\n{self}", if first.is_none() { "no" } else { "several" })
            }
        }
    }

    /// The final counters of each site.
    #[must_use]
    pub fn final_stats(&self) -> Vec<&Value> {
        self.all("stats").filter(|s| s.get("final") == Some(&Value::Bool(true))).collect()
    }

    /// Hits of all sites together, after every site's counters are proven to add up, and none to have been abandoned.
    ///
    /// # Panics
    /// If there are no final counters, or `hits` is not `executed + condition_false + losses` for one site, or some hit never
    /// came to its end.
    #[must_use]
    pub fn hits(&self) -> u64 {
        assert_eq!(self.lost_as("abandoned"), 0, "law 5, nothing is silently lost\n{self}");
        self.hits_with_abandoned()
    }

    /// The same where the program leaves hits.
    ///
    /// # Panics
    /// As [`Outcome::hits`], but for those.
    #[must_use]
    pub fn hits_with_abandoned(&self) -> u64 {
        let stats = self.final_stats();
        assert!(!stats.is_empty(), "no final stats\n{self}");
        for one in &stats {
            let parts = count(one, "executed") + count(one, "condition_false") + losses(one);
            assert_eq!(count(one, "hits"), parts, "law 5, nothing is silently lost: {one}");
        }
        stats.iter().map(|s| count(s, "hits")).sum()
    }

    /// Losses of all sites together.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.final_stats().into_iter().map(losses).sum()
    }

    /// Losses of all sites for one reason.
    #[must_use]
    pub fn lost_as(&self, reason: &str) -> u64 {
        self.final_stats().into_iter().filter_map(|s| s.get("losses")).map(|l| count(l, reason)).sum()
    }

    /// Exit status 0 and a receipt that says: all as before, nothing left.
    ///
    /// # Panics
    /// If it says anything else.
    pub fn assert_clean(&self) {
        assert_eq!(self.status, 0, "{self}");
        self.assert_receipt();
    }

    /// A receipt that says: all as before, nothing left, whatever the exit status.
    ///
    /// # Panics
    /// If it says anything else.
    pub fn assert_receipt(&self) {
        let receipt = self.one("receipt");
        assert_eq!(receipt.get("restored"), Some(&Value::Bool(true)), "{receipt}");
        assert_eq!(text(receipt, "text_sha256_before"), text(receipt, "text_sha256_after"), "{receipt}");
        assert_eq!(text(receipt, "text_sha256_before").len(), 64, "a SHA-256 has 64 digits: {receipt}");
        assert_eq!(count(receipt, "mappings_left"), 0, "{receipt}");
        assert_eq!(receipt.get("residue"), Some(&Value::Array(Vec::new())), "{receipt}");
    }
}

/// Sum of the losses of a `stats` object.
fn losses(stats: &Value) -> u64 {
    let reasons = stats.get("losses").and_then(Value::as_object);
    reasons.into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum()
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: exit status {}", self.command, self.status)?;
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        f.write_str(&self.stderr)
    }
}
