//! `/proc/PID/maps` as data.
//!
//! The kernel writes a newline in a path as `\012` and leaves every other byte as it is, so that a path may hold
//! spaces, and a file that was deleted gets " (deleted)" at its end (proc_pid_maps(5); seq_path with "\n").
//! A path that really contains `\012` or ends in " (deleted)" cannot be told apart from those: whoever opens a
//! mapped file compares device and inode. Lines that are not understood fail the whole file: a mapping
//! that we do not know of could be overwritten.

use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::procfs::{self, MAPS_BYTES};
use crate::{Failure, FailureKind};

const DELETED: &[u8] = b" (deleted)";

/// One mapping. Addresses are those of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
    /// Writes reach other processes or the file (`s`), instead of a private copy (`p`).
    pub shared: bool,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Device of the file: major and minor number.
    pub device: (u32, u32),
    /// Inode of the file; zero where there is none.
    pub inode: u64,
    /// Path of the file, or a name such as `[heap]`; `None` for anonymous memory.
    pub path: Option<PathBuf>,
    /// Whether the file was deleted or replaced.
    pub deleted: bool,
}

impl Mapping {
    /// The addresses.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Whether a file backs it.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        self.inode != 0
    }

    /// Whether it is the one that the kernel calls `name` (`[heap]`, `[stack]`, `[vdso]`, ...).
    #[must_use]
    pub fn is_special(&self, name: &str) -> bool {
        self.inode == 0 && self.path.as_deref() == Some(Path::new(name))
    }
}

/// The mappings of a process in ascending order. They are read page by page while the process runs, so that only
/// those of a stopped process are one moment's.
///
/// # Errors
/// `NoProcess`, `NotPermitted`; `NothingPatched` when there are more than 256 MiB of them.
pub fn maps(pid: i32) -> Result<Vec<Mapping>, Failure> {
    parse_maps(&procfs::read(pid, "maps", MAPS_BYTES)?)
}

/// Parses the text of a maps file.
///
/// # Errors
/// `Bug` with the line that is not in the documented format.
pub fn parse_maps(text: &[u8]) -> Result<Vec<Mapping>, Failure> {
    let mut maps: Vec<Mapping> = Vec::new();
    for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let mapping = parse_line(line).ok_or_else(|| {
            Failure::new(
                FailureKind::Bug,
                format!("a line of /proc/PID/maps is not understood: {}", String::from_utf8_lossy(line)),
            )
        })?;
        // Between two reads of the file the process may have changed a mapping that was already told of.
        if maps.last().is_none_or(|last| last.end <= mapping.start) {
            maps.push(mapping);
        } else if let Some(last) = maps.last_mut() {
            last.end = last.end.max(mapping.end);
        }
    }
    Ok(maps)
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let end = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
        let (field, tail) = rest.split_at_checked(end)?;
        rest = tail.strip_prefix(b" ").unwrap_or(tail);
        std::str::from_utf8(field).ok().filter(|f| !f.is_empty())
    };
    let (start, end) = field()?.split_once('-')?;
    let [r, w, x, s] = *field()?.as_bytes() else { return None };
    let offset = field()?;
    let (major, minor) = field()?.split_once(':')?;
    let inode = field()?;
    let path = rest.trim_ascii_start();
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (hex(start)?, hex(end)?);
    let inode: u64 = inode.parse().ok()?;
    if start >= end || !matches!(s, b'p' | b's') {
        return None;
    }
    let (path, deleted) = if path.is_empty() {
        (None, false)
    } else {
        let path = PathBuf::from(OsString::from_vec(unescape(path)));
        let (path, deleted) = if inode == 0 { (path, false) } else { without_deleted(path) };
        (Some(path), deleted)
    };
    Some(Mapping {
        start,
        end,
        read: r == b'r',
        write: w == b'w',
        execute: x == b'x',
        shared: s == b's',
        offset: hex(offset)?,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode,
        path,
        deleted,
    })
}

/// Takes the kernel's mark of a deleted file off a path.
pub(crate) fn without_deleted(path: PathBuf) -> (PathBuf, bool) {
    match path.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(plain) => (PathBuf::from(OsString::from_vec(plain.to_vec())), true),
        None => (path, false),
    }
}

fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b"\\012") {
            plain.push(b'\n');
            rest = tail;
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Mapping {
        let mut maps = parse_maps(line.as_bytes()).unwrap();
        assert_eq!(maps.len(), 1);
        maps.remove(0)
    }

    #[test]
    fn a_file_mapping_has_all_its_parts() {
        let m =
            one("563af8f30000-563af8f36000 r-xp 00002000 fe:1f 247282                     /usr/bin/head\n");
        assert_eq!((m.start, m.end, m.offset), (0x563a_f8f3_0000, 0x563a_f8f3_6000, 0x2000));
        assert_eq!((m.read, m.write, m.execute, m.shared), (true, false, true, false));
        assert_eq!((m.device, m.inode), ((0xfe, 0x1f), 247_282));
        assert_eq!(m.path.as_deref(), Some(Path::new("/usr/bin/head")));
        assert!(m.is_file() && !m.deleted);
    }

    #[test]
    fn paths_keep_spaces_and_newlines_and_lose_the_deleted_mark() {
        let m = one("1000-2000 rw-s 00000000 00:01 7    /tmp/a b\\012c d (deleted)");
        assert_eq!(m.path.as_deref(), Some(Path::new("/tmp/a b\nc d")));
        assert!(m.deleted && m.shared && m.write);
    }

    #[test]
    fn anonymous_memory_has_no_path_and_names_are_no_files() {
        assert_eq!(one("1000-2000 ---p 00000000 00:00 0").path, None);
        assert_eq!(one("1000-2000 ---p 00000000 00:00 0 ").path, None);
        let m = one("1000-2000 rw-p 00000000 00:00 0    [anon:x (deleted)]");
        assert!(!m.deleted && !m.is_file() && m.is_special("[anon:x (deleted)]"));
        assert!(one("1000-2000 rw-p 00000000 00:00 0  [stack]").is_special("[stack]"));
    }

    #[test]
    fn damaged_lines_are_refused() {
        for line in [
            "x",
            "1000 r-xp 0 00:00 0",
            "2000-1000 r-xp 0 00:00 0",
            "1000-2000 r-x 0 00:00 0",
            "1000-2000 r-xq 0 00:00 0",
            "1000-2000 r-xp 0 0000 0",
            "1000-2000 r-xp 0 00:00",
            "1000-2000 r-xp zz 00:00 0",
            "-2000 r-xp 0 00:00 0",
        ] {
            assert!(parse_maps(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_mapping_told_twice_is_one() {
        let maps =
            parse_maps(b"1000-3000 r--p 0 00:00 0\n2000-4000 r--p 0 00:00 0\n4000-5000 r--p 0 00:00 0")
                .unwrap();
        let ranges: Vec<_> = maps.iter().map(Mapping::range).collect();
        assert_eq!(ranges, [0x1000..0x4000, 0x4000..0x5000]);
    }
}
