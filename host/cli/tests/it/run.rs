//! Runs the built `trocar`, and reads what it says.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command, not yet started.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trocar"));
    command.args(args).stdin(Stdio::null()).env_remove("NO_COLOR").env("TERM", "dumb");
    command
}

/// Runs it in a folder.
pub(crate) fn run_in(folder: &Path, args: &[&str]) -> Said {
    said(command(args).current_dir(folder).output().unwrap())
}

/// Runs it.
pub(crate) fn run(args: &[&str]) -> Said {
    said(command(args).output().unwrap())
}

fn said(out: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { status: out.status.code().unwrap(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

impl Said {
    /// Every line of standard output as an object with `kind` and `ts`.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let parse = |line: &str| {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(object["kind"].is_string() && object["ts"].is_string(), "{line}");
            object
        };
        self.stdout.lines().map(parse).collect()
    }

    /// The objects of a kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        self.objects().into_iter().filter(|o| o["kind"] == kind).collect()
    }

    /// The one object of a kind.
    pub(crate) fn one(&self, kind: &str) -> Value {
        let mut all = self.all(kind);
        assert_eq!(all.len(), 1, "{self:?}");
        all.remove(0)
    }

    /// It failed with this status; JSON and people were told the same, with every one of these words.
    pub(crate) fn failed(&self, status: i32, words: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        let error = self.one("error");
        let message = error["message"].as_str().unwrap();
        assert!(self.stderr.contains(message), "people are told the same: {self:?}");
        let told = format!("{message} {}", error["hint"].as_str().unwrap_or_default()).to_lowercase();
        for word in words {
            assert!(told.contains(&word.to_lowercase()), "`{word}` is said: {told}");
        }
    }

    /// The words were wrong: nothing on standard output, and this on standard error.
    pub(crate) fn refused(&self, words: &[&str]) {
        assert_eq!((self.status, self.stdout.as_str()), (2, ""), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is said: {self:?}");
        }
    }
}
