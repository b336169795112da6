//! What /proc says about processes that the tests start themselves.
//!
//! - facts:   this process; a child; a thread's id; a pid that was never used
//! - refused: a zombie; a kernel thread; ourselves; another user's
//! - modules: the test binary, libc, the vdso; a program replaced on disk; a pipe instead of a file; debug sections
//! - names:   resolve_target by number, list, comm, file name; aliases by symlink and by exec path; the listing
//! - gaps:    a real address space

#![expect(clippy::unwrap_used, reason = "helpers of tests: what cannot be set up fails the test")]

mod facts;
mod modules;
mod names;
mod refused;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A child that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    /// Starts a copy of `cat`; it waits for input that never comes.
    fn start(program: &Path) -> Self {
        Self::spawn(Command::new(program))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // spawn returns while the exec is still under way: /proc shows the new program for certain once it echoes.
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Self(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// A copy of `cat` under another path, world readable.
fn copy_of_cat(folder: &Path, name: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::copy("/bin/cat", &path).unwrap();
    path
}
