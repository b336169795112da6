//! The target programs of `tests/targets`: built once, started, spoken to, ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::lines::{Lines, PATIENCE, readable};

/// Folder of the sources of the targets.
#[must_use]
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../targets")
}

/// Folder that the running test's target directory has for built targets.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = profile_folder().with_file_name("test-targets");
        fs::create_dir_all(&folder).expect("the target directory is writable");
        // One builder at a time: test binaries may run side by side.
        let lock = File::create(folder.join("lock")).expect("the target directory is writable");
        lock.lock().expect("the file system has locks");
        let script = sources().join("build");
        let out = Command::new("sh").arg(&script).arg(&folder).output().expect("sh runs");
        assert!(
            out.status.success(),
            "{} failed:\n{}{}",
            script.display(),
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        folder
    })
}

/// `target/release` (or the folder of the profile in use) of what runs: where a program lies, and two above a test, which
/// lies in `deps`.
#[must_use]
pub(crate) fn profile_folder() -> PathBuf {
    let exe = std::env::current_exe().expect("/proc/self/exe is readable");
    let folder = exe.parent().expect("a program lies in a folder");
    let profile = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    profile.expect("cargo puts test binaries into PROFILE/deps").to_owned()
}

/// Path of a built target.
///
/// # Panics
/// If it could not be built, with the package that is missing.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    let path = built().join(name);
    let skipped = fs::read_to_string(built().join("skipped")).unwrap_or_default();
    assert!(path.exists(), "there is no target {name}; not built here:\n{skipped}");
    path
}

/// A running target. Killed and waited for when dropped.
#[derive(Debug)]
pub struct Target {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<ChildStdout>,
    facts: BTreeMap<String, String>,
}

impl Target {
    /// Starts a target of `tests/targets` and waits until it is ready.
    ///
    /// # Panics
    /// If it cannot be built or started, or does not say `ready`.
    #[must_use]
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// The same with arguments.
    ///
    /// # Panics
    /// As [`Target::start`].
    #[must_use]
    pub fn start_with(name: &str, args: &[&str]) -> Self {
        Self::spawn(Command::new(path(name)).args(args))
    }

    /// Starts `loop.py` under the system's interpreter, not the one that comes first in `PATH`.
    ///
    /// # Panics
    /// As [`Target::start`].
    #[must_use]
    pub fn python() -> Self {
        let interpreter = Path::new("/usr/bin/python3.11");
        assert!(interpreter.exists(), "no {} (Debian package python3.11)", interpreter.display());
        Self::spawn(Command::new(interpreter).arg("-u").arg(path("loop.py")))
    }

    /// Starts any program that speaks the line protocol.
    ///
    /// # Panics
    /// If it cannot be started or does not say `ready`.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} cannot be started: {e}"));
        let stdin = child.stdin.take();
        let mut lines = Lines::new(child.stdout.take().expect("stdout is a pipe"));
        let first = lines.next_line().unwrap_or_default();
        let mut words = first.split_whitespace();
        assert_eq!(words.next(), Some("ready"), "{command:?} said {first:?} instead of ready");
        let facts = words.filter_map(|w| w.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
        Self { child, stdin, lines, facts }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A number that it said with `ready`, such as `port`.
    ///
    /// # Panics
    /// If it said no such number.
    #[must_use]
    pub fn fact(&self, name: &str) -> u32 {
        let text = self.facts.get(name).unwrap_or_else(|| panic!("the target said no {name}"));
        text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}"))
    }

    /// Sends a command and returns its answer.
    ///
    /// # Panics
    /// If the target is gone, with how it ended.
    pub fn ask(&mut self, command: &str) -> String {
        let sent = self.stdin.as_mut().map(|to| to.write_all(format!("{command}\n").as_bytes()));
        let answer = if matches!(sent, Some(Ok(()))) { self.lines.next_line() } else { None };
        answer.unwrap_or_else(|| {
            panic!("the target ended at `{command}`: {}", wait(&mut self.child));
        })
    }

    /// Asks again and again until the answer is such a one, and returns it.
    ///
    /// # Panics
    /// If none is within [`PATIENCE`], with the last one, or if the target is gone.
    pub fn ask_until(&mut self, command: &str, is: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(command);
            if is(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "`{command}` goes on being answered with `{answer}`");
            // What is waited for needs a turn on a processor.
            std::thread::yield_now();
        }
    }

    /// Sends a line that has no answer.
    ///
    /// # Panics
    /// If the target is gone.
    pub fn ask_nothing(&mut self, line: &str) {
        let to = self.stdin.as_mut().expect("stdin is open until `finish`");
        to.write_all(format!("{line}\n").as_bytes()).expect("the target reads its stdin");
    }

    /// The answer to a command that was sent without waiting for it.
    ///
    /// # Panics
    /// If the target ends before that.
    pub fn answer(&mut self) -> String {
        self.lines.next_line().unwrap_or_else(|| panic!("the target ended: {}", wait(&mut self.child)))
    }

    /// Sends a command whose answer is `done N …` and returns `N`.
    ///
    /// # Panics
    /// If the answer is another one: `wrong` says that the target saw its own results change.
    pub fn done(&mut self, command: &str) -> u64 {
        let answer = self.ask(command);
        let mut words = answer.split_whitespace();
        let number = words.next().filter(|w| *w == "done").and(words.next()).and_then(|n| n.parse().ok());
        number.unwrap_or_else(|| panic!("`{command}` was answered with `{answer}`"))
    }

    /// The number after `NAME=` in an answer.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn field(answer: &str, name: &str) -> u64 {
        let found = answer.split_whitespace().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
        found.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no {name}= in `{answer}`"))
    }

    /// Closes its stdin, so that it ends by itself, and returns its status.
    ///
    /// # Panics
    /// If it does not end within [`PATIENCE`].
    pub fn finish(mut self) -> ExitStatus {
        drop(self.stdin.take());
        wait(&mut self.child)
    }

    /// Kills it now, as `kill -9` does.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill(&mut self) -> ExitStatus {
        drop(self.child.kill());
        wait(&mut self.child)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits for the end of a child with a limit.
///
/// # Panics
/// If it does not end within [`PATIENCE`]; it is killed first.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    if let Ok(Some(status)) = child.try_wait() {
        return status;
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).expect("Linux 5.3 or newer has pidfd_open");
    if !readable(&descriptor, Instant::now() + PATIENCE) {
        drop(child.kill());
        panic!("process {} did not end within {} s", child.id(), PATIENCE.as_secs());
    }
    child.wait().expect("the child is ours")
}
