//! A process to do things to: `cat`, which answers what it is sent, so that a test knows when it runs and that it still
//! does. No test waits by the clock.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// `cat`, running. It ends with the value.
pub struct Cat {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    sent: u32,
}

impl Cat {
    /// Starts it, and waits until it has answered once: from then on it sleeps in `read`, and its mappings stay.
    pub fn start() -> Self {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut cat = Self { child, input, output, sent: 0 };
        cat.answers();
        cat
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Sends a line of its own and waits for it to come back.
    pub fn answers(&mut self) {
        self.sent += 1;
        let line = format!("line {}\n", self.sent);
        self.input.write_all(line.as_bytes()).unwrap();
        let mut back = String::new();
        self.output.read_line(&mut back).unwrap();
        assert_eq!(back, line);
    }

    /// Kills it and waits for its end.
    pub fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it and waits until it is a zombie, which nobody has waited for.
    pub fn become_a_zombie(&mut self) {
        self.child.kill().unwrap();
        self.wait_for_state('Z');
    }

    /// Sends a signal, by the name that `kill` knows.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Its state, as the kernel says it: R, S, T, Z and others.
    pub fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap()
    }

    /// Waits until it is in this state.
    pub fn wait_for_state(&self, state: char) {
        while self.state() != state {
            std::thread::yield_now();
        }
    }

    /// A field of its status.
    pub fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.trim().to_owned()
    }

    /// Its mappings: start, end, permissions, name.
    pub fn maps(&self) -> Vec<(u64, u64, String, String)> {
        let text = fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap();
        let parse = |line: &str| {
            let mut words = line.split_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            let number = |n| u64::from_str_radix(n, 16).ok();
            let permissions = words.next()?.to_owned();
            Some((number(start)?, number(end)?, permissions, words.nth(3).unwrap_or("").to_owned()))
        };
        text.lines().map(|line| parse(line).unwrap()).collect()
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
