//! The failures that every host crate speaks: a cause, what was tried, the next command, and which of the
//! documented exit statuses the command ends with.

use std::fmt;

/// What kind of trouble it is. Each has an exit status (CLI.md, "Exit status") and a stable code in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// A bug of ours.
    Bug,
    /// The words of the command are wrong.
    Usage,
    /// Policy or a signature forbids it.
    Denied,
    /// Nothing could be patched: unknown or ambiguous point, another tool, an unsupported target.
    NothingPatched,
    /// There is no such process, or the target ended.
    NoProcess,
    /// The system does not permit it.
    NotPermitted,
    /// The probe is not acceptable, or it was quarantined.
    BadProbe,
}

impl FailureKind {
    /// The exit status of the command.
    #[must_use]
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Bug => 1,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::NothingPatched => 4,
            Self::NoProcess => 5,
            Self::NotPermitted => 7,
            Self::BadProbe => 8,
        }
    }

    /// The `code` of an `error` object in JSON.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Bug => "bug",
            Self::Usage => "usage",
            Self::Denied => "denied",
            Self::NothingPatched => "nothing_patched",
            Self::NoProcess => "no_process",
            Self::NotPermitted => "not_permitted",
            Self::BadProbe => "bad_probe",
        }
    }
}

/// A failure, as the user reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which kind, and so which exit status.
    pub kind: FailureKind,
    /// Cause, place, and what was tried: one sentence without a final period.
    pub message: String,
    /// The next command or step, if there is one.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same failure with the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
