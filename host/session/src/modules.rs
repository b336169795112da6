//! The modules of a process, read once and shared by everything that asks for names or plans.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use trocar_abi::operand::Operand;
use trocar_inject::{GoProgram, Goroutines, Head, RemoteAddress, RemoteMemory};
use trocar_patch::{Analysis, FunctionRange, Image, Segment, data_named};
use trocar_symbols::{Elf, LoadedModule, MappedRange, Origin, Point, ResolveError, Resolved, Resolver};
use trocar_target::{Failure, Mapping, Module, Process, aliases, maps, modules};

/// A process and its modules.
#[derive(Debug)]
pub struct Loaded {
    /// The process.
    pub process: Process,
    /// Names and addresses.
    pub resolver: Resolver,
    /// Modules that could not be read, and why: their names cannot be found.
    pub unread: Vec<(String, Failure)>,
    /// Other modules, which `import:` points may name as those that provide a function.
    pub(crate) providers: Vec<LoadedModule>,
    /// As they are mapped, also those that are not in the resolver.
    pub(crate) found: Vec<Module>,
    ranges: Vec<std::ops::Range<u64>>,
    heads: Vec<Option<Head>>,
    /// What is never to be patched because of how it is mapped, for each module, at the addresses of its file.
    never: Vec<Vec<Never>>,
    analyses: HashMap<usize, Analysis>,
    /// These are all modules: the first one is the program itself.
    whole: bool,
    goroutines: OnceLock<Result<Goroutines, &'static str>>,
    throws_faults: OnceLock<bool>,
}

impl Loaded {
    /// Reads the modules of a process that can be probed.
    ///
    /// # Errors
    /// The process cannot be probed, or it ended.
    pub fn open(pid: i32) -> Result<Self, Failure> {
        let process = Process::open(pid)?;
        let map_list = maps(pid)?;
        let found = modules(&map_list);
        Ok(Self { whole: true, ..Self::of(process, &map_list, &found) })
    }

    /// Reads some modules of a process.
    #[must_use]
    pub(crate) fn of(process: Process, map_list: &[Mapping], found: &[Module]) -> Self {
        let names = aliases(&process, found);
        let (mut loaded, mut ranges, mut never, mut unread) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut heads = Vec::new();
        let memory = RemoteMemory::open(process.pid).ok();
        for ((module, aliases), file) in found.iter().zip(names).zip(read_all(&process, found)) {
            match file {
                Ok(Some((elf, bias))) => {
                    let path = module.path.display().to_string();
                    heads.push(memory.as_ref().and_then(|memory| head(memory, module, &elf)));
                    loaded.push(LoadedModule { name: module.name.clone(), path, aliases, elf, bias });
                    ranges.push(module.range());
                    never.push(by_mapping(module, map_list, bias));
                }
                // A file that is mapped executable but is no ELF module (a JIT's cache) has no names to find.
                Ok(None) => {}
                Err(failure) => unread.push((module.name.clone(), failure)),
            }
        }
        Self {
            process,
            resolver: Resolver::new(loaded),
            unread,
            providers: Vec::new(),
            found: found.to_vec(),
            ranges,
            heads,
            never,
            analyses: HashMap::new(),
            whole: false,
            goroutines: OnceLock::new(),
            throws_faults: OnceLock::new(),
        }
    }

    /// A module by its index in the resolver.
    #[must_use]
    pub fn module(&self, index: usize) -> Option<&LoadedModule> {
        self.resolver.modules().get(index)
    }

    /// All places of a point in these modules.
    ///
    /// # Errors
    /// As [`Resolver::resolve`].
    pub(crate) fn resolve(&self, point: &Point) -> Result<Vec<Resolved>, ResolveError> {
        if self.providers.is_empty() || !matches!(point, Point::Import { .. }) {
            return self.resolver.resolve(point);
        }
        let own = self.resolver.modules();
        let all = own.iter().chain(&self.providers).cloned().collect();
        let mut places = Resolver::new(all).resolve(point)?;
        places.retain(|place| place.module < own.len());
        Ok(places)
    }

    /// Addresses that the module occupies in the process.
    #[must_use]
    pub fn range(&self, index: usize) -> std::ops::Range<u64> {
        self.ranges.get(index).cloned().unwrap_or(0..0)
    }

    /// The page that the module begins with, if it is there as it is in the file.
    #[must_use]
    pub fn head(&self, index: usize) -> Option<Head> {
        self.heads.get(index).cloned().flatten()
    }

    /// The planner's view of a module; made when it is first asked for.
    #[must_use]
    pub fn analysis(&mut self, index: usize) -> Option<&Analysis> {
        if !self.analyses.contains_key(&index) {
            let elf = Arc::clone(&self.module(index)?.elf);
            let mut image = planner_image(&elf);
            image.throws_faults = self.throws_faults();
            if self.whole && index == 0 && image.go {
                let goroutines = self.goroutines();
                image.goroutines_searched = goroutines.is_ok();
                image.unsearched = goroutines.err().unwrap_or_default();
            }
            image.never.extend(self.never.get(index).into_iter().flatten());
            image.never.sort_unstable();
            // Nobody calls them functions, and `import:` points name them.
            image
                .functions
                .extend(elf.stubs().into_iter().map(|r| FunctionRange { start: r.start, end: r.end }));
            image.functions.sort_by_key(|f| f.start);
            self.analyses.insert(index, Analysis::new(image));
        }
        self.analyses.get(&index)
    }

    /// Where the arguments of the marker are that a point has named there; `None` if it named none.
    #[must_use]
    pub fn operands(&self, place: &Resolved) -> Option<Vec<Operand>> {
        let Origin::Marker(marker) = &place.origin else { return None };
        self.module(place.module).map(|module| module.elf.operands(marker, module.bias))
    }

    /// The program is made by the Go toolchain.
    #[must_use]
    pub fn is_go(&self) -> bool {
        self.whole && self.resolver.modules().first().is_some_and(|m| m.elf.is_go())
    }

    /// Where the goroutines of a Go program are, for as long as it runs.
    ///
    /// # Errors
    /// Why they cannot be searched, as people read it.
    pub fn goroutines(&self) -> Result<&Goroutines, &'static str> {
        self.goroutines.get_or_init(|| self.find_goroutines()).as_ref().map_err(|why| *why)
    }

    fn find_goroutines(&self) -> Result<Goroutines, &'static str> {
        let module = self.module(0).ok_or("the program itself cannot be read")?;
        let runtime = module.elf.go_runtime()?;
        let here =
            |range: &Range<u64>| range.start.wrapping_add(module.bias)..range.end.wrapping_add(module.bias);
        let code = module.elf.code(&runtime.adds);
        let memory = RemoteMemory::open(self.process.pid).map_err(|_| "its memory cannot be read")?;
        Goroutines::find(
            &memory,
            GoProgram {
                named: data_named(code, here(&runtime.adds).start),
                preempted: runtime.preempted.iter().map(here).collect(),
                text: self.range(0),
            },
        )
    }

    /// Faults become exceptions in the target, as one of these modules tells: they may come out of any other.
    #[must_use]
    pub fn throws_faults(&self) -> bool {
        *self.throws_faults.get_or_init(|| {
            let elves: Vec<_> = self.resolver.modules().iter().map(|m| &*m.elf).collect();
            in_parallel(&elves, |elf| elf.throws_faults()).contains(&true)
        })
    }

    /// The modules that are not among these have told that faults become exceptions.
    pub(crate) fn set_throws_faults(&mut self) {
        self.throws_faults = OnceLock::from(true);
    }

    /// The target holds a collector that stops threads by signal and scans their stacks: such a collector must find
    /// the stack pointer in the stack that it knows.
    #[must_use]
    pub fn has_scanning_collector(&self) -> bool {
        const LIBRARIES: [&str; 5] =
            ["libgc.so", "libdruntime-", "libphobos2", "libmonosgen-", "libmonoboehm-"];
        const STATIC: [&str; 3] = ["GC_push_all_stacks", "thread_suspendAll", "mono_gc_collect"];
        self.resolver.modules().iter().any(|m| {
            LIBRARIES.iter().any(|l| m.name.starts_with(l))
                || m.elf.symbols().iter().any(|s| STATIC.contains(&&*m.elf.name(s)))
        })
    }
}

/// What the module begins with, to know it again by.
fn head(memory: &RemoteMemory, module: &Module, elf: &Elf) -> Option<Head> {
    const BYTES: usize = 4096;
    let first = module.mappings.first().filter(|m| m.offset == 0)?;
    let bytes = elf.bytes();
    let bytes = bytes.get(..BYTES).unwrap_or(bytes);
    let live = memory.some(RemoteAddress(first.start), bytes.len());
    (live == bytes).then_some(Head { address: first.start, bytes: live })
}

/// Start, end and reason.
type Never = (u64, u64, &'static str);

/// What is never to be patched in a module because of how it is mapped.
fn by_mapping(module: &Module, all: &[Mapping], bias: u64) -> Vec<Never> {
    if module.is_vdso() {
        return vec![(0, u64::MAX, "the vdso: it is the kernel's, and a hit itself reads the clock there")];
    }
    let range = module.range();
    let inside = all.iter().filter(|m| m.execute && range.contains(&m.start));
    let never = inside.filter_map(|m| {
        let is_other = m.is_file() && (m.device, m.inode) != (module.device, module.inode);
        let reason = match (m.shared, is_other) {
            (true, _) => "mapped shared: a patch would reach the file, and others",
            (false, true) => "not of this file: another one, or a huge page, is mapped there",
            (false, false) => return None,
        };
        Some((m.start.wrapping_sub(bias), m.end.wrapping_sub(bias), reason))
    });
    never.collect()
}

/// A module's file and its bias; `None` if it is no ELF module.
type ReadModule = Result<Option<(Arc<Elf>, u64)>, Failure>;

/// Reads and parses all files: most of an attach's time goes here.
fn read_all(process: &Process, found: &[Module]) -> Vec<ReadModule> {
    in_parallel(found, |module| read(process, module))
}

/// What a function makes of each item, on as many threads as there are processors.
fn in_parallel<T: Sync, R: Send>(items: &[T], make: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((index, item)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            items.get(index).map(|item| (index, item))
        } {
            done.push((index, make(item)));
        }
        done
    };
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let own = work();
        own.into_iter().chain(others.into_iter().flat_map(|o| o.join().unwrap_or_default())).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, made)| made).collect()
}

fn read(process: &Process, module: &Module) -> ReadModule {
    let file = module.open(process)?;
    let mapped: Vec<MappedRange> = module.mappings.iter().map(mapped_range).collect();
    let Ok(elf) = Elf::parse(file.bytes) else { return Ok(None) };
    Ok(elf.bias(&mapped).map(|bias| (Arc::new(elf), bias)))
}

fn mapped_range(mapping: &Mapping) -> MappedRange {
    MappedRange { start: mapping.start, end: mapping.end, offset: mapping.offset, execute: mapping.execute }
}

/// What the planner is told of a module.
#[must_use]
pub fn planner_image(elf: &Elf) -> Image {
    let code = elf.code_image();
    let segments = |parts: &[(u64, &[u8])]| {
        parts.iter().map(|(vaddr, bytes)| Segment { vaddr: *vaddr, bytes: Arc::from(*bytes) }).collect()
    };
    Image {
        text: segments(&code.text),
        data: segments(&code.data),
        functions: code.functions.iter().map(|&(start, end)| FunctionRange { start, end }).collect(),
        entries: code.entries,
        called: code.called,
        never: code.never,
        // This is the process's affair, and so is the search for goroutines.
        throws_faults: false,
        go: code.go,
        compiled: code.compiled,
        goroutines_searched: false,
        unsearched: "",
        pie: code.pie,
    }
}
