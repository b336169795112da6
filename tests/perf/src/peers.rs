//! Peers on the same function: a kernel uprobe with an eBPF counter (bpftrace), and Frida's C callback.
//!
//! Each says why it is absent where it is. A tracefs uprobe is no stand-in for the first: it has no counter in eBPF and
//! writes a trace record or nothing at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Trouble;
use crate::program::{Binary, Program, Variant};

/// How many fifths of a second a peer may take to get in place, or out.
const TRIES: usize = 150;

/// The script that puts a C callback on a function by Frida's Python module.
const SCRIPT: &str = include_str!("../frida_callback.py");

/// bpftrace with a counter on a variant.
#[derive(Debug)]
pub struct Uprobe {
    child: Child,
}

impl Uprobe {
    /// Starts it and waits until the function's first bytes are the uprobe's.
    ///
    /// # Errors
    /// It is not installed, may not, or does not get there.
    pub fn start(binary: &Binary, program: &mut Program, variant: Variant) -> Result<Self, Trouble> {
        let text = format!("uprobe:{}:{} {{ @ = count(); }}", binary.path().display(), variant.name());
        let child = Command::new("bpftrace")
            .args(["-e", &text])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("absent: bpftrace: {e} (Debian package bpftrace)"))?;
        let mut uprobe = Self { child };
        for _ in 0..TRIES {
            if program.is_changed(variant) {
                return Ok(uprobe);
            }
            if matches!(uprobe.child.try_wait(), Ok(Some(_))) {
                return Err(format!("absent: bpftrace: {}", uprobe.said().trim()));
            }
        }
        Err("absent: bpftrace did not get in place within 30 s".into())
    }

    /// Ends it as Ctrl-C does, and returns what it counted.
    ///
    /// # Errors
    /// It does not say, or its trap stays.
    pub fn stop(mut self, program: &mut Program, variant: Variant) -> Result<u64, Trouble> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("bpftrace has no id")?;
        kill_process(pid, Signal::INT).map_err(|e| format!("bpftrace: {e}"))?;
        let said = self.said();
        let count = said.lines().find_map(|l| l.strip_prefix("@: ")?.trim().parse().ok());
        if !(0..TRIES).any(|_| program.is_original(variant)) {
            return Err("bpftrace ended, its trap did not".into());
        }
        count.ok_or_else(|| format!("bpftrace said no count: {said:?}"))
    }

    /// All that it says, to its end.
    fn said(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut from) = self.child.stdout.take() {
            drop(from.read_to_string(&mut text));
        }
        if let Some(mut from) = self.child.stderr.take() {
            drop(from.read_to_string(&mut text));
        }
        drop(self.child.wait());
        text
    }
}

impl Drop for Uprobe {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How Frida calls a C function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FridaCallback {
    /// As a probe: `Interceptor.attach(address, function)`.
    Probe,
    /// As a listener's `onEnter`.
    Listener,
}

/// Frida with a C callback on a function.
#[derive(Debug)]
pub struct Frida {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Frida {
    /// Starts it and waits until the callback is in place. The interpreter is `TROCAR_BENCH_PYTHON`, else `python3`.
    ///
    /// # Errors
    /// There is no interpreter, no Frida for it, or it does not get in.
    pub fn start(pid: u32, variant: Variant, callback: FridaCallback) -> Result<Self, Trouble> {
        let python = std::env::var("TROCAR_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
        let how = match callback {
            FridaCallback::Probe => "probe",
            FridaCallback::Listener => "listener",
        };
        let mut child = Command::new(&python)
            .args(["-c", SCRIPT, &pid.to_string(), variant.name(), how])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("absent: {python}: {e}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a pipe is missing")?;
        let mut frida = Self { child, stdin, stdout: BufReader::new(stdout) };
        match frida.line()?.as_str() {
            "ready" => Ok(frida),
            said => {
                let mut text = said.to_owned();
                if let Some(mut from) = frida.child.stderr.take() {
                    drop(from.read_to_string(&mut text));
                }
                let last = text.lines().last().unwrap_or_default();
                Err(format!(
                    "absent: {python}: {last} (TROCAR_BENCH_PYTHON names a python with the module frida)"
                ))
            }
        }
    }

    /// Takes the callback out, and returns what it counted.
    ///
    /// # Errors
    /// It does not say.
    pub fn stop(mut self) -> Result<u64, Trouble> {
        if let Some(mut stdin) = self.stdin.take() {
            writeln!(stdin, "stop").map_err(|e| format!("frida: {e}"))?;
        }
        let said = self.line()?;
        drop(self.child.wait());
        said.parse().map_err(|e| format!("frida said {said:?}: {e}"))
    }

    fn line(&mut self) -> Result<String, Trouble> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|e| format!("frida: {e}"))?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Frida {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
