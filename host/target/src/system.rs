//! What the machine permits: capabilities of ours, yama's ptrace scope, the kernel, names of users.
//!
//! Everything is read from files, so that nothing is tried to find out whether it would work.

use std::path::Path;

use crate::procfs;
use crate::status::Status;

/// The capabilities that matter here, with their numbers (include/uapi/linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Trace any process.
    SysPtrace = 19,
    /// Many things, among them to suspend a seccomp filter while tracing.
    SysAdmin = 21,
    /// Real-time priority.
    SysNice = 23,
    /// Open what a process has mapped (`/proc/PID/map_files`), since Linux 5.9.
    CheckpointRestore = 40,
}

/// Whether this process holds a capability now (`CapEff`). In a user namespace it holds there only.
#[must_use]
pub fn has_capability(capability: Capability) -> bool {
    procfs::read_up_to(Path::new("/proc/self/status"), procfs::STATUS_BYTES)
        .is_ok_and(|(bytes, _)| Status::parse(&bytes).capabilities >> (capability as u8) & 1 == 1)
}

/// `kernel.yama.ptrace_scope`: 0 own processes, 1 own descendants, 2 with `CAP_SYS_PTRACE`, 3 nobody; `None`
/// where the kernel has no yama.
#[must_use]
pub fn ptrace_scope() -> Option<u8> {
    let (bytes, _) = procfs::read_up_to(Path::new("/proc/sys/kernel/yama/ptrace_scope"), 16).ok()?;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
}

/// The kernel's release as `uname -r` prints it; empty if unknown.
#[must_use]
pub fn kernel_release() -> String {
    procfs::read_up_to(Path::new("/proc/sys/kernel/osrelease"), 256)
        .map(|(bytes, _)| String::from_utf8_lossy(&bytes).trim().to_owned())
        .unwrap_or_default()
}

/// The name of a user from /etc/passwd, or the number where it has none there.
#[must_use]
pub fn user_name(uid: u32) -> String {
    Users::load().name(uid)
}

/// /etc/passwd, read once for a listing.
pub(crate) struct Users(Vec<(u32, String)>);

impl Users {
    pub fn load() -> Self {
        let bytes = procfs::read_up_to(Path::new("/etc/passwd"), 4 << 20).map(|(b, _)| b).unwrap_or_default();
        Self(parse_passwd(&String::from_utf8_lossy(&bytes)))
    }

    pub fn name(&self, uid: u32) -> String {
        self.0.iter().find(|(id, _)| *id == uid).map_or_else(|| uid.to_string(), |(_, name)| name.clone())
    }
}

fn parse_passwd(text: &str) -> Vec<(u32, String)> {
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_and_unknown_ones_numbered() {
        let users = Users(parse_passwd("root:x:0:0:root:/:/bin/sh\nbad\npg:x:112:1::/:/bin/sh\n"));
        assert_eq!(users.name(112), "pg");
        assert_eq!(users.name(4711), "4711");
    }

    #[test]
    fn the_kernel_has_a_release() {
        assert!(kernel_release().starts_with(|c: char| c.is_ascii_digit()));
    }
}
