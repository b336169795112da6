//! A target in a container: user, mount and pid namespaces of its own, and a file system that holds nothing but what
//! is put there (`tests/targets/contain.c`).

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::target::{self, Target};

/// A running target in a container. Ends when dropped.
#[derive(Debug)]
pub struct Container {
    /// The target. Its [`Target::pid`] is that of the process that made the container.
    pub target: Target,
    pid: u32,
    root: TempDir,
}

impl Container {
    /// Starts a built target there, as the file `path`, which may be the name of quite another file outside.
    ///
    /// # Panics
    /// If the system lets nobody make namespaces, or as [`Target::start`].
    #[must_use]
    pub fn start(name: &str, path: &str) -> Self {
        Self::with(name, path, &[], &[])
    }

    /// The same, with arguments, and with further programs in its root folder.
    ///
    /// # Panics
    /// As [`Container::start`].
    #[must_use]
    pub fn with(name: &str, path: &str, args: &[&str], programs: &[&Path]) -> Self {
        let root = TempDir::with_prefix("trocar-container-").expect("the temporary folder is writable");
        for folder in ["proc", "tmp", "dev"] {
            fs::create_dir(root.path().join(folder)).expect("a new folder is empty");
        }
        fs::write(root.path().join("dev/null"), "").expect("a new folder is writable");
        install(root.path(), &target::path(name), path);
        for program in programs {
            let name = program.file_name().expect("a program has a name").to_string_lossy();
            install(root.path(), program, &format!("/{name}"));
        }
        let mut command = Command::new(target::path("contain"));
        let target = Target::spawn(command.arg(root.path()).arg(path).args(args));
        let pid = child_of(target.pid());
        Self { target, pid, root }
    }

    /// The process id of the target, as it is outside.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Where its root folder is outside.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

/// Copies a program and the libraries that it is linked with.
fn install(root: &Path, program: &Path, path: &str) {
    let copy = |from: &Path, to: &str| {
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a file lies in a folder")).expect("the folder is ours");
        fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    };
    copy(program, path);
    // A static program has none, and ldd says so by its status.
    let listed = Command::new("ldd").arg(program).output().expect("ldd comes with libc");
    for library in String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|w| w.starts_with('/')) {
        copy(Path::new(library), library);
    }
}

/// The one child of a process.
fn child_of(parent: u32) -> u32 {
    let is_child = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|l| l.strip_prefix("PPid:").is_some_and(|p| p.trim() == parent.to_string()))
    };
    let all = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.into_iter().find(is_child).unwrap_or_else(|| panic!("process {parent} has no child"))
}
