//! Facts of a live process, read from `/proc`: what must be the same before and after a probe.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use crate::lines::PATIENCE;

/// How the names of our mappings in a target begin.
const OURS: &str = "/memfd:trocar-";

/// A mapping, as `/proc/PID/maps` has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// `rwxp` and the like.
    pub permissions: String,
    /// Offset in the file.
    pub offset: u64,
    /// Path or name in brackets; empty for anonymous memory.
    pub name: String,
}

impl Mapping {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let permissions = words.next()?.to_owned();
        let offset = u64::from_str_radix(words.next()?, 16).ok()?;
        let name = words.nth(2).unwrap_or_default().trim().to_owned();
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        Some(Self { start, end, permissions, offset, name })
    }

    fn executable(&self) -> bool {
        self.permissions.contains('x')
    }
}

/// All mappings of a process, by address.
///
/// # Panics
/// If the process is gone or not ours to read.
#[must_use]
pub fn mappings(pid: u32) -> Vec<Mapping> {
    let text = read(&format!("/proc/{pid}/maps"));
    let all: Vec<_> = text.lines().filter_map(Mapping::parse).collect();
    assert!(!all.is_empty(), "process {pid} has no memory: a zombie or a kernel thread");
    all
}

/// Every place where executable memory of a process differs from the file it is mapped from, as
/// `FILE+OFFSET: file XX, memory YY`. Empty is what a receipt promises.
///
/// # Panics
/// If the process or one of its files cannot be read.
#[must_use]
pub fn text_differences(pid: u32) -> Vec<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap_or_else(|e| panic!("/proc/{pid}/mem: {e}"));
    let mut found = Vec::new();
    let mut compared = 0;
    for mapping in mappings(pid).iter().filter(|m| m.executable() && m.name.starts_with('/')) {
        let length = usize::try_from(mapping.end - mapping.start).expect("a mapping fits into memory");
        let (mut live, mut kept) = (vec![0; length], vec![0; length]);
        memory.read_exact_at(&mut live, mapping.start).unwrap_or_else(|e| panic!("{mapping:?}: {e}"));
        // Through the mapping itself, so that a file that was replaced meanwhile is still the right one.
        let file = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
        let file = File::open(&file).or_else(|_| File::open(&mapping.name));
        let file = file.unwrap_or_else(|e| panic!("{}: {e}", mapping.name));
        // The last page of a file is padded with zeros in memory.
        let mut have = 0;
        while let Some(rest) = kept.get_mut(have..).filter(|r| !r.is_empty()) {
            match file.read_at(rest, mapping.offset + have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) => panic!("{}: {e}", mapping.name),
            }
        }
        for (at, (in_memory, in_file)) in live.iter().zip(&kept).enumerate().filter(|(_, (a, b))| a != b) {
            let offset = mapping.offset + at as u64;
            found.push(format!("{}+{offset:#x}: file {in_file:02x}, memory {in_memory:02x}", mapping.name));
        }
        compared += length;
    }
    assert!(compared > 0, "process {pid} has no text that comes from a file");
    found
}

/// A field of `/proc/PID/status`, such as `SigCgt`.
///
/// # Panics
/// If the process is gone, or has no such field.
#[must_use]
pub fn status(pid: u32, field: &str) -> String {
    field_of(&read(&format!("/proc/{pid}/status")), field)
}

/// A mask of signals without the two that libc keeps for itself (32 and 33): it begins to catch them when the program
/// makes its first thread, which is none of our doing.
fn without_libc_signals(mask: &str) -> String {
    let bits = u64::from_str_radix(mask, 16).unwrap_or(0);
    format!("{:016x}", bits & !(0b11 << 31))
}

/// Threads of a process.
///
/// # Panics
/// If the process is gone.
#[must_use]
pub fn threads(pid: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|e| panic!("process {pid}: {e}"));
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// All signals that can be blocked, as libc has it while a thread is being made.
const EVERYTHING: &str = "fffffffffffbfeff";

/// SigBlk of each thread, seen while none was being born: for a moment those block every signal, which is not how they will
/// stay.
///
/// # Panics
/// If the process is gone, or a thread goes on blocking everything.
pub(crate) fn masks(pid: u32) -> BTreeMap<u32, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mask = |tid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
            Some((tid, field_of(&text, "SigBlk")))
        };
        // The same look that finds no newborn gives the masks: in a second one there may be others.
        let masks: BTreeMap<u32, String> = threads(pid).into_iter().filter_map(mask).collect();
        if masks.values().all(|mask| mask != EVERYTHING) {
            return masks;
        }
        assert!(Instant::now() < deadline, "a thread of {pid} goes on blocking everything: {masks:?}");
        std::thread::yield_now();
    }
}

/// Resident memory in KiB.
///
/// # Panics
/// If the process is gone.
#[must_use]
pub fn resident_kib(pid: u32) -> u64 {
    let text = status(pid, "VmRSS");
    text.trim_end_matches(" kB").parse().unwrap_or_else(|e| panic!("VmRSS {text}: {e}"))
}

/// What must not change: taken before a probe comes, compared after it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pid: u32,
    /// Number of mappings for each (permissions, name) that is executable or has a name. Anonymous data comes
    /// and goes with the target's own heap and threads.
    mappings: BTreeMap<(String, String), usize>,
    /// SigCgt, SigIgn and Seccomp of the process.
    process: Vec<String>,
    /// SigBlk of each thread.
    blocked: BTreeMap<u32, String>,
    /// What each descriptor is.
    descriptors: BTreeMap<String, String>,
}

impl Snapshot {
    /// The facts of now.
    ///
    /// # Panics
    /// If the process is gone or not ours to read.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let blocked = masks(pid);
        let mut kinds = BTreeMap::new();
        for m in mappings(pid) {
            let of_target =
                m.name.starts_with("[stack") || m.name == "[heap]" || m.name.starts_with("[anon:");
            if m.executable() || !(m.name.is_empty() || of_target) {
                *kinds.entry((m.permissions, m.name)).or_insert(0) += 1;
            }
        }
        let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap_or_else(|e| panic!("process {pid}: {e}"));
        let descriptors = links.flatten().filter_map(|link| {
            let to = fs::read_link(link.path()).ok()?;
            Some((link.file_name().to_string_lossy().into_owned(), to.to_string_lossy().into_owned()))
        });
        Self {
            pid,
            mappings: kinds,
            process: ["SigCgt", "SigIgn", "Seccomp"].map(|f| without_libc_signals(&status(pid, f))).to_vec(),
            blocked,
            descriptors: descriptors.collect(),
        }
    }

    /// The facts of now of a program whose runtime makes threads whenever it likes: not those of a moment in which one is
    /// being made, which libc does with every signal blocked.
    ///
    /// # Panics
    /// As [`Snapshot::of`], and if there is no other moment.
    #[must_use]
    pub fn at_rest(pid: u32) -> Self {
        /// All but SIGKILL, SIGSTOP and libc's own two, as `pthread_create` blocks them.
        const ALL: &str = "fffffffe7ffbfeff";
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Self::of(pid);
            if !now.blocked.values().any(|mask| mask == ALL) {
                return now;
            }
            assert!(Instant::now() < deadline, "a thread of {pid} blocks every signal for good");
            std::thread::yield_now();
        }
    }

    /// Proves that the process is as it was: text equals its files, no mapping and no descriptor more, the same
    /// signal dispositions and masks, no tracer. Threads, descriptors and mappings that the target itself ended
    /// meanwhile may be missing. What the target itself does for a moment, such as to block a signal while it handles it or
    /// to open a file, is waited for to pass.
    ///
    /// # Panics
    /// With what differs.
    pub fn assert_same(&self) {
        let pid = self.pid;
        let differences = text_differences(pid);
        assert!(differences.is_empty(), "text of {pid} differs from its files: {differences:#?}");
        let deadline = Instant::now() + PATIENCE;
        while let Some(difference) = self.assert_same_but_for(Self::of(pid)) {
            assert!(Instant::now() < deadline, "{difference}");
            std::thread::yield_now();
        }
        assert_eq!(status(pid, "TracerPid"), "0", "somebody still traces {pid}");
    }

    /// Proves what no target changes for a moment, and gives the first difference of what it may.
    fn assert_same_but_for(&self, now: Self) -> Option<String> {
        let pid = self.pid;
        for (kind, n) in &now.mappings {
            let before = self.mappings.get(kind).copied().unwrap_or_default();
            assert!(*n <= before, "process {pid} has {n} mappings {kind:?}, it had {before}");
        }
        // By the name of the memory file: a path says nothing, since the targets may be built below a folder of ours.
        for m in mappings(pid) {
            assert!(!m.name.starts_with(OURS), "a mapping of ours is left in {pid}: {m:?}");
        }
        assert_eq!(now.process, self.process, "SigCgt, SigIgn, Seccomp of {pid}");
        for (tid, mask) in &self.blocked {
            if let Some(other) = now.blocked.get(tid).filter(|other| *other != mask) {
                return Some(format!("SigBlk of thread {tid} of {pid} is {other}, it was {mask}"));
            }
        }
        // A server's own connections come and go.
        let mut open = now.descriptors.iter().filter(|(_, what)| !what.starts_with("socket:"));
        let (number, what) = open.find(|(number, what)| self.descriptors.get(*number) != Some(*what))?;
        let before = self.descriptors.get(number);
        Some(format!("descriptor {number} of {pid} is {what}, it was {before:?}"))
    }
}

/// Proves that two lists of mappings are the same, anonymous ones too: for targets that allocate nothing.
///
/// # Panics
/// With the mappings that came and went.
pub fn assert_mappings_equal(before: &[Mapping], after: &[Mapping]) {
    let missing = |from: &[Mapping], other: &[Mapping]| -> Vec<Mapping> {
        from.iter().filter(|m| !other.contains(m)).cloned().collect()
    };
    let (gone, new) = (missing(before, after), missing(after, before));
    assert!(gone.is_empty() && new.is_empty(), "mappings gone: {gone:#?}\nmappings new: {new:#?}");
}

fn field_of(text: &str, field: &str) -> String {
    let found = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {field} in the status of the process")).trim().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}
