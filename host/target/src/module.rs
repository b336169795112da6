//! The ELF files that a process has mapped, and the names they go by.
//!
//! A module is a file that is mapped executable somewhere, with all its mappings, or that has executable memory of another
//! kind between them (services lay a copy of their text into huge pages); a file that is loaded twice (`dlmopen`) is two modules. Whether it is an ELF file at all shows when it is opened (`open.rs`), and the load
//! bias is computed from program headers by `trocar-symbols`.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::memory::Memory;
use crate::procfs;
use crate::{Mapping, Process};

/// Most entries of a folder that are looked at for symlinks.
const FOLDER_ENTRIES: usize = 50_000;
/// The kernel's library in every process.
const VDSO: &str = "[vdso]";

/// An ELF file in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its path in the target's mount namespace, or `[vdso]`.
    pub path: PathBuf,
    /// Its file name, lossy UTF-8.
    pub name: String,
    /// Device of the file: major and minor number.
    pub device: (u32, u32),
    /// Inode of the file; zero for the vdso.
    pub inode: u64,
    /// Whether the file was deleted or replaced.
    pub deleted: bool,
    /// Its mappings in ascending order.
    pub mappings: Vec<Mapping>,
}

impl Module {
    /// From its first to its last mapped byte; other mappings may lie between.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        let start = self.mappings.first().map_or(0, |m| m.start);
        start..self.mappings.last().map_or(start, |m| m.end)
    }

    /// Whether it is the kernel's vdso, which is never patched.
    #[must_use]
    pub fn is_vdso(&self) -> bool {
        self.inode == 0 && self.path == Path::new(VDSO)
    }
}

/// The modules among the mappings of a process, in ascending order of address.
#[must_use]
pub fn modules(maps: &[Mapping]) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    let mut newest: HashMap<((u32, u32), u64, &Path), usize> = HashMap::new();
    for mapping in maps {
        let Some(path) = mapping.path.as_deref() else { continue };
        if !mapping.is_file() && !mapping.is_special(VDSO) {
            continue;
        }
        let key = (mapping.device, mapping.inode, path);
        // The head of the file, mapped again after code of it: the file was loaded once more.
        let again = |module: &Module| {
            mapping.offset == 0 && !mapping.write && module.mappings.iter().any(|m| m.execute)
        };
        let known = newest.get(&key).and_then(|at| modules.get_mut(*at)).filter(|module| !again(module));
        if let Some(module) = known {
            module.mappings.push(mapping.clone());
            continue;
        }
        newest.insert(key, modules.len());
        modules.push(Module {
            path: path.to_owned(),
            name: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            device: mapping.device,
            inode: mapping.inode,
            deleted: mapping.deleted,
            mappings: vec![mapping.clone()],
        });
    }
    let code: Vec<&Mapping> = maps.iter().filter(|m| m.execute).collect();
    modules.retain(|module| {
        let range = module.range();
        let next = code.partition_point(|m| m.start < range.start);
        code.get(next).is_some_and(|m| m.start < range.end)
    });
    modules
}

/// Other names of modules, in the order of `modules`: symlinks in the same folder that lead to the file, and for
/// the program itself its process name and the path that it was started by. Folders are read once each; whatever
/// cannot be read adds no name.
#[must_use]
pub fn aliases(process: &Process, modules: &[Module]) -> Vec<Vec<String>> {
    let mut folders: HashMap<&Path, Vec<(String, PathBuf)>> = HashMap::new();
    let root = procfs::path(process.pid, "root");
    let mut all = Vec::with_capacity(modules.len());
    for module in modules {
        let mut names = Vec::new();
        if let (Some(folder), Some(file)) = (module.path.parent(), module.path.file_name()) {
            let links = folders.entry(folder).or_insert_with(|| symlinks(&under(&root, folder)));
            names.extend(chain(links, file));
        }
        if process.exe.as_deref() == Some(&module.path) {
            names.push(process.name.clone());
            for path in process.command.first().into_iter().cloned().chain(started_by(process.pid)) {
                names.extend(Path::new(&path).file_name().map(|f| f.to_string_lossy().into_owned()));
                names.push(path);
            }
        }
        let mut seen = HashSet::from([module.name.clone()]);
        names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
        all.push(names);
    }
    all
}

/// A path of the target below `/proc/PID/root`.
pub(crate) fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The symlinks of a folder: name and what it says.
fn symlinks(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let link = |entry: std::fs::DirEntry| {
        entry.file_type().ok().filter(std::fs::FileType::is_symlink)?;
        Some((entry.file_name().into_string().ok()?, std::fs::read_link(entry.path()).ok()?))
    };
    entries.take(FOLDER_ENTRIES).filter_map(|entry| link(entry.ok()?)).collect()
}

/// The symlinks that lead to `file`, directly or through each other, within one folder.
fn chain(links: &[(String, PathBuf)], file: &OsStr) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut looked = 0;
    loop {
        let target = match looked {
            0 => file.to_owned(),
            n => match names.get(n - 1) {
                Some(name) => name.into(),
                None => return names,
            },
        };
        looked += 1;
        for (name, to) in links {
            if to.as_os_str() == target && !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
}

/// The path that was given to `execve`, from the auxiliary vector (`AT_EXECFN`, getauxval(3)).
fn started_by(pid: i32) -> Option<String> {
    const AT_EXECFN: u64 = 31;
    let (vector, _) = procfs::read_up_to(&procfs::path(pid, "auxv"), 4096).ok()?;
    let word = |bytes: &[u8]| bytes.first_chunk().map(|w| u64::from_le_bytes(*w));
    let entry = vector.chunks_exact(16).find(|entry| word(entry) == Some(AT_EXECFN))?;
    let bytes = Memory::open(pid).ok()?.read(word(entry.get(8..)?)?, 4096).ok()?;
    let end = bytes.iter().position(|&b| b == 0)?;
    String::from_utf8(bytes.get(..end)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_maps;

    #[test]
    fn mappings_of_a_file_are_one_module_and_a_second_load_is_another() {
        let maps = parse_maps(
            b"1000-2000 r--p 00000000 08:01 5 /lib/a.so\n2000-3000 r-xp 00001000 08:01 5 /lib/a.so\n\
              3000-4000 rw-p 00000000 00:00 0\n4000-5000 rw-p 00002000 08:01 5 /lib/a.so\n\
              6000-7000 r--p 00000000 08:01 6 /etc/data\n\
              8000-9000 r--p 00000000 08:01 5 /lib/a.so\n9000-a000 r-xp 00001000 08:01 5 /lib/a.so\n\
              b000-c000 r-xp 00000000 00:00 0 [vdso]\nc000-d000 rwxp 00000000 00:00 0\n",
        )
        .unwrap();
        let modules = modules(&maps);
        let ranges: Vec<_> = modules.iter().map(|m| (m.name.as_str(), m.range())).collect();
        assert_eq!(ranges, [("a.so", 0x1000..0x5000), ("a.so", 0x8000..0xa000), ("[vdso]", 0xb000..0xc000)]);
        assert!(modules[2].is_vdso() && !modules[0].is_vdso());
    }

    #[test]
    fn a_tiny_program_whose_data_also_starts_at_offset_zero_is_one_module() {
        let maps = parse_maps(b"400000-401000 r-xp 0 08:01 5 /a\n401000-402000 rw-p 0 08:01 5 /a\n").unwrap();
        assert_eq!(modules(&maps).len(), 1);
    }

    #[test]
    fn a_program_whose_text_is_a_copy_is_a_module_and_files_beside_anonymous_code_are_none() {
        let maps = parse_maps(
            b"1000-2000 r--p 0 08:01 5 /a\n2000-4000 r-xp 0 00:00 0\n4000-5000 rw-p 3000 08:01 5 /a\n\
              6000-7000 r--p 0 08:01 6 /b\n7000-8000 r-xp 0 00:00 0\n8000-9000 r--p 0 08:01 7 /c\n",
        )
        .unwrap();
        let modules = modules(&maps);
        assert_eq!(modules.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn chains_of_symlinks_are_followed_and_loops_end() {
        let link = |from: &str, to: &str| (from.to_owned(), PathBuf::from(to));
        let links =
            [link("libx.so", "libx.so.1"), link("libx.so.1", "libx.so.1.2"), link("y", "z"), link("z", "y")];
        assert_eq!(chain(&links, OsStr::new("libx.so.1.2")), ["libx.so.1", "libx.so"]);
        assert_eq!(chain(&links, OsStr::new("y")), ["z", "y"]);
    }
}
