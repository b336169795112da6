//! The bytes of a module, from the very file that the process has mapped.
//!
//! `/proc/PID/map_files` leads to the mapped file itself, even if it was deleted or replaced, but takes
//! `CAP_CHECKPOINT_RESTORE`. `/proc/PID/exe` does the same for the program and takes no more than tracing does. A
//! path may lead to another file by now: then device and inode differ. Some file systems (overlayfs, btrfs) show
//! other numbers in maps than in stat, so that unequal numbers alone are not yet a refusal: the first page in memory,
//! where headers and as a rule the build id are, decides.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::memory::Memory;
use crate::module::under;
use crate::{Failure, FailureKind, Module, Process, elf, procfs};

/// Most bytes of a module's file.
const FILE_BYTES: u64 = 4 << 30;
/// Most bytes of the vdso.
const VDSO_BYTES: usize = 64 << 10;
/// Bytes that are compared between file and memory.
const HEAD_BYTES: usize = 4096;

/// How the bytes of a module were come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `/proc/PID/map_files`: the mapped file itself.
    MapFiles,
    /// `/proc/PID/exe`: the mapped file itself.
    Exe,
    /// The path in the target's mount namespace, with equal device and inode, or an equal first page.
    Path,
    /// The target's memory (the vdso).
    Memory,
}

/// The bytes of a module.
#[derive(Clone, Debug)]
pub struct ModuleFile {
    /// The whole file in length. Sections of a megabyte or more that only debuggers read are zeros.
    pub bytes: Vec<u8>,
    /// How they were come by.
    pub source: Source,
}

impl Module {
    /// Reads the module's file.
    ///
    /// # Errors
    /// `NothingPatched` when the file on disk is no longer the mapped one and the mapped one cannot be had, or when
    /// it is no 64-bit x86 ELF file; `NoProcess`, `NotPermitted`.
    pub fn open(&self, process: &Process) -> Result<ModuleFile, Failure> {
        self.open_from(process, &[Source::MapFiles, Source::Exe, Source::Path])
    }

    /// Reads the module's file by the first of `sources` that works.
    ///
    /// # Errors
    /// As [`Module::open`].
    pub fn open_from(&self, process: &Process, sources: &[Source]) -> Result<ModuleFile, Failure> {
        if self.is_vdso() {
            let start = self.range().start;
            let bytes = Memory::open(process.pid)
                .and_then(|memory| memory.read(start, VDSO_BYTES.min(self.len())))
                .map_err(|e| procfs::failure(process.pid, &procfs::path(process.pid, "mem"), &e))?;
            return Ok(ModuleFile { bytes, source: Source::Memory });
        }
        for &source in sources {
            if let Some(file) = self.try_source(process, source) {
                let bytes = read(&file).map_err(|e| {
                    Failure::new(
                        FailureKind::NothingPatched,
                        format!("cannot read {}: {e}", self.path.display()),
                    )
                })?;
                elf::check_machine(&bytes).map_err(|what| {
                    Failure::new(FailureKind::NothingPatched, format!("{} is {what}", self.path.display()))
                })?;
                return Ok(ModuleFile { bytes, source });
            }
        }
        process.still_there()?;
        Err(self.replaced(process))
    }

    fn len(&self) -> usize {
        let range = self.range();
        usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
    }

    fn try_source(&self, process: &Process, source: Source) -> Option<File> {
        match source {
            Source::MapFiles => {
                let first = self.mappings.first()?;
                let name = format!("map_files/{:x}-{:x}", first.start, first.end);
                open_regular(&procfs::path(process.pid, &name)).ok()
            }
            Source::Exe => {
                let is_program = process.exe.as_deref() == Some(&self.path);
                let file = open_regular(&procfs::path(process.pid, "exe")).ok().filter(|_| is_program)?;
                self.is_same(process, &file).then_some(file)
            }
            Source::Path => {
                let file = open_regular(&self.path_seen_from_here(process)).ok()?;
                self.is_same(process, &file).then_some(file)
            }
            Source::Memory => None,
        }
    }

    fn path_seen_from_here(&self, process: &Process) -> PathBuf {
        under(&procfs::path(process.pid, "root"), &self.path)
    }

    /// Whether an opened file is the mapped one.
    fn is_same(&self, process: &Process, file: &File) -> bool {
        let Ok(meta) = file.metadata() else { return false };
        let device = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
        if meta.ino() == self.inode && device == self.device {
            return true;
        }
        let mut head = vec![0; HEAD_BYTES];
        let Ok(read) = file.read_at(&mut head, 0) else { return false };
        head.truncate(read);
        let mapped = self
            .mappings
            .iter()
            .find(|m| m.offset == 0 && !m.write)
            .and_then(|m| Memory::open(process.pid).ok()?.read(m.start, head.len()).ok());
        // Without a build id the first page could be equal by chance: headers of equal sizes.
        elf::build_id(&head).is_some() && mapped.as_deref() == Some(&head)
    }

    fn replaced(&self, process: &Process) -> Failure {
        let path = self.path.display();
        let pid = process.pid;
        let on_disk = std::fs::metadata(self.path_seen_from_here(process));
        let why = match on_disk {
            Ok(meta) => format!(
                "{path} on disk is not the file that process {pid} has mapped (inode {} on disk, {} mapped): it was \
                 replaced after the process started",
                meta.ino(),
                self.inode
            ),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                format!("{path}, which process {pid} has mapped, was deleted")
            }
            Err(e) => format!("{path}, which process {pid} has mapped, cannot be opened: {e}"),
        };
        Failure::new(FailureKind::NothingPatched, why).hint(
            "run the same command with sudo, which can read the mapped file itself, or restart the process",
        )
    }
}

/// Opens a file only if it is a regular one: a path of the target may lead to a pipe or a device, which would block
/// or act.
fn open_regular(path: &Path) -> io::Result<File> {
    let regular = |meta: std::fs::Metadata| {
        if meta.is_file() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::InvalidInput)) }
    };
    regular(std::fs::metadata(path)?)?;
    let file = File::from(rustix::fs::open(
        path,
        // Not blocking, in case it was exchanged for a pipe between the two steps.
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK,
        rustix::fs::Mode::empty(),
    )?);
    regular(file.metadata()?)?;
    Ok(file)
}

/// Reads a file, but leaves long debug sections as zeros: untouched pages of a fresh allocation cost nothing.
fn read(file: &File) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    if len > FILE_BYTES {
        return Err(io::Error::other(format!("{len} bytes are more than the {FILE_BYTES} that are read")));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let mut header = vec![0; elf::HEADER_BYTES];
    let got = file.read_at(&mut header, 0)?;
    header.truncate(got);
    let table = |place: Option<(u64, usize)>| -> Vec<u8> {
        let Some((offset, size)) = place else { return Vec::new() };
        let mut table = vec![0; size];
        file.read_exact_at(&mut table, offset).map_or(Vec::new(), |()| table)
    };
    let skip = elf::debug_ranges(&table(elf::program_table(&header)), &table(elf::section_table(&header)));
    let mut at = 0;
    for (start, end) in skip.into_iter().chain([(len, len)]) {
        let (start, end) = (start.clamp(at, len), end.clamp(at, len));
        if let (Ok(from), Ok(to)) = (usize::try_from(at), usize::try_from(start)) {
            // A file that shrinks meanwhile leaves zeros, which no later step mistakes for code.
            fill(file, bytes.get_mut(from..to).unwrap_or_default(), at)?;
        }
        at = end;
    }
    Ok(bytes)
}

fn fill(file: &File, mut into: &mut [u8], mut at: u64) -> io::Result<()> {
    while !into.is_empty() {
        match file.read_at(into, at) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                into = into.get_mut(n..).unwrap_or_default();
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
