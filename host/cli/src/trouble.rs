//! Why a command ends early: a failure that is told, or an output that nobody reads any more.

use std::io;

use trocar_target::{Failure, FailureKind};

use crate::out::Out;

/// Standard output did not take what was written.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) io::Error);

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Told to the user, with the exit status of its kind.
    Failure(Failure),
    /// Quiet if the reader has gone (`trocar ps | head`).
    Output(Broken),
}

/// The exit status of a command, or why it ended early.
pub(crate) type Outcome = Result<u8, Trouble>;

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Broken> for Trouble {
    fn from(broken: Broken) -> Self {
        Self::Output(broken)
    }
}

impl Trouble {
    /// Says it, and gives the exit status.
    pub(crate) fn tell(self, out: &mut Out) -> u8 {
        let failure = match self {
            Self::Failure(failure) => failure,
            Self::Output(Broken(error)) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
            Self::Output(Broken(error)) => {
                Failure::new(FailureKind::NotPermitted, format!("standard output cannot be written: {error}"))
            }
        };
        let status = failure.kind.exit_status();
        out.fail(&failure);
        status
    }
}

/// A failure whose cause is in the words of the command.
pub(crate) fn usage(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Usage, message)
}

/// A failure that lies in the probe.
pub(crate) fn bad_probe(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::BadProbe, message)
}
