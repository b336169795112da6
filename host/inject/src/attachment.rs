//! A probe in a target: from the plan to the receipt.

mod leaving;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use memmap2::MmapRaw;
use trocar_abi::control::{Control, MAGIC, Op, context_heap, context_stride, flags};
use trocar_abi::shared::{Layout, SharedHead};
use trocar_abi::{PAGE, round_up};
use trocar_patch::{Placement, Template, Trampoline};
use trocar_ring::SharedView;
use trocar_target::{Failure, FailureKind, Mapping, Process, free_gap_near, maps};

use crate::arm::{Arm, Armed, arm, open};
use crate::detach::{Detach, FileId, PATIENCE, detach, stays, take_memory};
use crate::filters::Filters;
use crate::goroutines::Goroutines;
use crate::helper::{Helper, Lenders};
use crate::image::{AGENT_IMAGE, Image};
use crate::journal::Journal;
use crate::keeper::Keeper;
use crate::load::{self, Load, borrowable, find_clock, lost, thread_ids, thread_pointers};
use crate::look::Look;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::placed::{Placed, skips_red_zone, target_flags};
use crate::proof::{self, Text};
use crate::region::{Block, ENTRY_CELL, GATE, Region, SPARE_STACK, TRAMPOLINE_MAX};
use crate::register::{Registered, register};
use crate::request::{AttachPlan, ModulePlan, Stops};
use crate::semaphores::{Raised, of_sites};
use crate::stub;
use crate::threads::{Pool, named_inside};
use crate::tracer::transaction;
use crate::watched::{Watched, of_plan};

/// Least contexts in the pool.
const CONTEXTS_MIN: u32 = 16;

/// A probe in a target.
#[derive(Debug)]
pub struct Attachment {
    pid: i32,
    memory: RemoteMemory,
    region: Range<u64>,
    layout_in_region: Region,
    blocks: Vec<Block>,
    trampolines: Vec<Trampoline>,
    modules: Vec<Watched>,
    /// The first site that is looked at next for uprobes.
    looked_at: usize,
    gates: Vec<u64>,
    semaphores: [Raised; 1],
    clean_pages: Vec<(u64, Vec<u8>)>,
    files: Vec<FileId>,
    /// Empty unless the target is a Go program.
    skipped_cells: Vec<u64>,
    turned_away: Vec<u64>,
    entry: RemoteAddress,
    control: Control,
    pool: Pool,
    layout: Layout,
    view: SharedView,
    same_namespace: bool,
    filters: Filters,
    /// Dropped before the mapping that its word lies in.
    keeper: Option<Keeper>,
    _registered: Registered,
    _mapping: MmapRaw,
    /// The text of the sites whose modules are there.
    text: Vec<Text>,
    stops: Stops,
    has_stub: bool,
    attach_ns: u64,
    threads: usize,
    left_out: Vec<u32>,
    goroutines: Option<Goroutines>,
}

/// Contexts to create at once for so many threads: a quarter more, at least sixteen.
fn wanted(threads: usize) -> u32 {
    let threads = u32::try_from(threads).unwrap_or(u32::MAX / 8);
    (threads + threads / 4).max(CONTEXTS_MIN)
}

impl Attachment {
    /// Puts a probe into a target.
    ///
    /// # Errors
    /// The target ended or cannot be stopped, no memory near a module, code that changed under us. On every error the
    /// target is left as it was.
    pub fn attach(plan: &AttachPlan) -> Result<Self, Failure> {
        let began = Instant::now();
        let pid = plan.process.pid;
        let memory = RemoteMemory::open(pid).map_err(|e| open_failure(pid, &e))?;
        let lock = memory.lock(pid)?;
        let image = Image::load(AGENT_IMAGE)?;
        let map_list = maps(pid)?;
        let (blocks, trampolines, block_code) = place(plan, &map_list)?;
        let gates: Vec<u64> = blocks.iter().map(|b| b.address + GATE).collect();
        let contexts = wanted(plan.process.threads.len());
        let layout = Layout {
            sites: u32::try_from(trampolines.len()).unwrap_or(u32::MAX),
            contexts: contexts.saturating_mul(4),
            maps: plan.probe.maps_bytes,
            ring: plan.ring_bytes,
        };
        let skipped_cells = skipped_cells(plan, &blocks);
        let semaphores = of_sites(plan, &trampolines);
        let journal = Journal::draft(&blocks, &trampolines, &semaphores)?;
        let mut placed = Placed::new(plan, &trampolines, &gates, journal);
        let heap = context_heap(plan.probe.functions);
        let context = context_stride(SPARE_STACK, heap, plan.probe.memory_max);
        let wanted_stub = plan.probe.stub.as_ref().filter(|_| stub::is_possible());
        let stub_len = wanted_stub.map_or(0, stub::length);
        let region = Region::new(&image, plan.probe.code.len(), stub_len, placed.len(), &layout, context);
        let stub = wanted_stub.and_then(|plan| stub::make(plan, &region));
        placed.settle(&region)?;
        let clock = find_clock(&memory, &map_list);
        let clean_pages = clean_pages(pid, &memory, &trampolines);
        let text = proof::before(pid, &memory, &trampolines)?;
        let modules = of_plan(plan);
        let of_site = |m: &&Mapping| m.is_file() && plan.modules.iter().any(|p| p.range.contains(&m.start));
        let files: Vec<FileId> = map_list.iter().filter(of_site).map(|m| (m.device, m.inode)).collect();
        let mut stops = Stops::default();
        let mut filters = Filters::of(pid, plan.process.pid_inside, &mut stops);
        let filtered = filters.exist();
        let known = filters.applied_to(target_flags(plan));
        let private = |base: u64, extra: u32| placed.at(plan, base, &region, &layout, clock, extra | known);
        let job = Load {
            pid,
            memory: &memory,
            image: &image,
            module: &plan.probe.code,
            stub: stub.as_ref().map_or(&[], |s| &s.bytes),
            region: &region,
            blocks: &blocks,
            block_code: &block_code,
            shared_len: layout.total(),
            contexts,
            private: &private,
            maps: &map_list,
            filtered,
        };
        let loaded = transaction(|| load::load(&job, &mut stops))?;
        let ranges =
            std::iter::once(loaded.base..loaded.base + region.len).chain(blocks.iter().map(Block::range));
        let ranges: Vec<Range<u64>> = ranges.collect();
        let count = loaded.base + region.private + std::mem::offset_of!(Control, raised) as u64;
        let semaphores = [Raised { count, semaphores }];
        let touched = AtomicBool::new(false);
        let undo = |failure: Failure| {
            // It ended or became another program, and everything went with it.
            if !memory.is_alive() {
                return failure;
            }
            let mut everything = Detach {
                pid,
                memory: &memory,
                trampolines: &trampolines,
                modules: &mut of_plan(plan),
                gates: &gates,
                ranges: &ranges,
                semaphores: &semaphores,
                contexts: &[],
                ended: &HashMap::new(),
                clean_pages: &clean_pages,
                files: &files,
                filtered,
                goroutines: plan.goroutines.as_ref(),
                patience: PATIENCE,
            };
            // The first failure is the one to report.
            let undone = transaction(|| match touched.load(Ordering::Relaxed) {
                true => detach(&mut everything, &mut Stops::default()).map(|gone| !gone.in_use),
                // No site leads to our memory, and none did.
                false => take_memory(&everything, &mut Stops::default()).map(|left| left.is_empty()),
            });
            match undone {
                Ok(true) => failure,
                Err(ended) if ended.kind == FailureKind::NoProcess => failure,
                _ => stays(pid, failure),
            }
        };
        // Before any gate opens, so that from then on it can be switched off.
        let registered = register(pid, loaded.base + region.shared).map_err(undo)?;
        let mapped = map_shared(&loaded.shared, &layout).map_err(|e| undo(shared_failure(&e)))?;
        let (mapping, view, keeper) = mapped;
        let mut pool = Pool::new(pid, &memory, view, layout, &loaded.control).map_err(undo)?;
        let what = Arm {
            trampolines: &trampolines,
            modules: &modules,
            semaphores: &semaphores,
            goroutines: plan.goroutines.as_ref(),
            touched: &touched,
        };
        let armed = transaction(|| arm(pid, &memory, &what, &mut stops)).map_err(undo)?;
        // The gates are closed: nobody claims a context, or reads the agent's flags, until this is done.
        let mut control = loaded.control;
        filters.look(&Look::at(pid).map_err(undo)?);
        filters.read(&mut stops);
        control.flags = filters.applied_to(control.flags);
        introduce(&plan.process, &memory, &armed, &mut pool, &mut control, loaded.base + region.private)
            .map_err(undo)?;
        if let Some(stub) = &stub {
            let by_fs = control.flags & flags::FS0_SELF != 0;
            let entry = loaded.base + region.stub + if by_fs { stub.by_fs } else { stub.by_base };
            enter_by(pid, &memory, &blocks, entry).map_err(undo)?;
        }
        let first = u64::from(plan.probe.first_records);
        // The view covers the layout, so the head is there.
        let _ = view.store_u64_release(std::mem::offset_of!(SharedHead, records) as u64, first);
        open(pid, &memory, &gates, 1).map_err(undo)?;
        drop(lock);
        let (mut modules, mut semaphores) = (modules, semaphores);
        leave_out(&armed.left_out, &trampolines, &mut modules, &mut semaphores);
        Ok(Self {
            pid,
            entry: RemoteAddress(loaded.base + region.text + image.entry),
            region: loaded.base..loaded.base + region.len,
            layout_in_region: region,
            blocks,
            trampolines,
            modules,
            looked_at: 0,
            gates,
            semaphores,
            clean_pages,
            files,
            turned_away: vec![0; skipped_cells.len()],
            skipped_cells,
            control,
            pool,
            layout,
            view,
            same_namespace: plan.process.pid_inside == pid,
            filters,
            keeper: Some(keeper),
            _registered: registered,
            _mapping: mapping,
            text,
            stops,
            has_stub: stub.is_some(),
            attach_ns: nanoseconds(began.elapsed()),
            threads: armed.threads,
            left_out: armed.left_out,
            goroutines: plan.goroutines.clone(),
            memory,
        })
    }

    /// The shared memory.
    #[must_use]
    pub fn view(&self) -> SharedView {
        self.view
    }

    /// The shared memory's layout.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Addresses of the sites, in the order of their indexes.
    pub fn site_addresses(&self) -> impl Iterator<Item = u64> + '_ {
        self.trampolines.iter().map(|t| t.site_address)
    }

    /// Nanoseconds that attaching took.
    #[must_use]
    pub fn attach_ns(&self) -> u64 {
        self.attach_ns
    }

    /// Whether usual hits run the native stub instead of the agent.
    #[must_use]
    pub fn has_stub(&self) -> bool {
        self.has_stub
    }

    /// The stops of the whole target so far.
    #[must_use]
    pub fn stops(&self) -> &Stops {
        &self.stops
    }

    /// Threads that were stopped when the sites were written.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Indexes of the sites that were not written: somebody would have come back into the middle of them.
    #[must_use]
    pub fn left_out(&self) -> &[u32] {
        &self.left_out
    }

    /// Hits that trampolines themselves turned away because a goroutine's stack had no room, for each site. What cannot
    /// be read any more (the target ended) is as it was read last.
    pub fn turned_away(&mut self) -> &[u64] {
        for (count, &cell) in self.turned_away.iter_mut().zip(&self.skipped_cells) {
            *count = self.memory.word(RemoteAddress(cell)).unwrap_or(*count);
        }
        &self.turned_away
    }

    /// Whether a seccomp filter of the target forbids its memory to be read in hits.
    #[must_use]
    pub fn forbids_reading(&self) -> bool {
        self.filters.forbid(flags::NO_READ)
    }

    /// Closes the gates: no hit runs any more; the sites stay patched.
    ///
    /// # Errors
    /// The target ended.
    pub fn close_gates(&self) -> Result<(), Failure> {
        open(self.pid, &self.memory, &self.gates, 0)
    }

    /// Whether the target still is the program that the probe was put into.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.memory
            .word(RemoteAddress(self.region.start + self.layout_in_region.private))
            .is_ok_and(|w| w == MAGIC)
    }

    /// Housekeeping, some times a second: the stacks of new threads, contexts of dead ones, the pool.
    ///
    /// # Errors
    /// The target ended.
    pub fn tend(&mut self, look: &Look) -> Result<(), Failure> {
        self.pool.tend(&self.memory, self.same_namespace, &look.tids())?;
        self.filters.look(look);
        // At once: while what came is read, nothing is asked of the kernel.
        self.apply_filters()?;
        if self.filters.can_read() {
            let lock = self.memory.lock(self.pid)?;
            self.filters.read(&mut self.stops);
            drop(lock);
            self.apply_filters()?;
        }
        let have = u32::try_from(self.pool.contexts().len()).unwrap_or(u32::MAX);
        let left = have.saturating_sub(self.pool.claimed());
        if left > have / 8 || have >= self.layout.contexts {
            return Ok(());
        }
        self.refill(have / 2)
    }

    /// Tells the agent what the target's filters forbid, if that has changed.
    fn apply_filters(&mut self) -> Result<(), Failure> {
        let flags = self.filters.applied_to(self.control.flags);
        if flags == self.control.flags {
            return Ok(());
        }
        self.control.flags = flags;
        let control = self.region.start + self.layout_in_region.private;
        write_flags(self.pid, &self.memory, &self.control, control)
    }

    /// Adds contexts to the pool.
    fn refill(&mut self, more: u32) -> Result<(), Failure> {
        let (pid, entry, memory, filtered) = (self.pid, self.entry, &self.memory, self.filters.exist());
        let control = RemoteAddress(self.region.start + self.layout_in_region.private);
        let stack = RemoteAddress(self.region.start + self.layout_in_region.stack_top);
        let lock = memory.lock(pid)?;
        let map_list = maps(pid)?;
        let lenders = Lenders { pid, memory, maps: &map_list, filtered };
        let stops = &mut self.stops;
        let filled = transaction(|| {
            let mut helper = Helper::start(&lenders, |t| borrowable(memory, t), stops)?;
            let wanted = control.plus(std::mem::offset_of!(Control, contexts_wanted) as u64);
            memory.write(wanted, &more.to_le_bytes()).map_err(|e| lost(pid, &e))?;
            let block = load::operate(pid, memory, &mut helper, entry, stack, control, Op::Fill);
            helper.end()?;
            block
        })?;
        drop(lock);
        self.control = filled;
        self.pool.refresh(&self.memory, &filled)
    }
}

/// Sites that were left out say nothing of their modules and semaphores. A module of which all were is not watched.
fn leave_out(sites: &[u32], trampolines: &[Trampoline], modules: &mut [Watched], semaphores: &mut [Raised]) {
    let sites: Vec<usize> = sites.iter().filter_map(|site| usize::try_from(*site).ok()).collect();
    for window in sites.iter().filter_map(|site| trampolines.get(*site)).map(|t| t.window.start) {
        semaphores.iter_mut().for_each(|s| s.forget(window));
    }
    for module in modules {
        module.gone = module.sites.clone().all(|site| sites.contains(&site));
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells the agent of the threads that arming saw: each has its context, and where all of them keep their thread pointer and their id.
fn introduce(
    process: &Process,
    memory: &RemoteMemory,
    armed: &Armed,
    pool: &mut Pool,
    control: &mut Control,
    control_at: u64,
) -> Result<(), Failure> {
    let proven = thread_pointers(memory, armed.seen.iter().map(|s| s.pointer))?;
    let threads = named_inside(process, &armed.seen)?;
    control.flags = control.flags & !flags::FS0_SELF | proven;
    if proven != 0 {
        control.flags |= thread_ids(memory, &threads);
    }
    write_flags(process.pid, memory, control, control_at)?;
    pool.register(memory, &threads, &maps(process.pid)?)
}

/// Leads the trampolines to the stub. The gates are closed, so that nobody is on the way to the agent by the same cells.
fn enter_by(pid: i32, memory: &RemoteMemory, blocks: &[Block], entry: u64) -> Result<(), Failure> {
    for block in blocks {
        memory.write_word(RemoteAddress(block.address + ENTRY_CELL), entry).map_err(|e| lost(pid, &e))?;
    }
    Ok(())
}

/// Gives the agent its flags, and the control block, from which it takes them when it is asked for contexts.
fn write_flags(pid: i32, memory: &RemoteMemory, control: &Control, control_at: u64) -> Result<(), Failure> {
    let own_copy = control_at + std::mem::offset_of!(Control, flags) as u64;
    for at in [control.flags_at, own_copy] {
        memory.write(RemoteAddress(at), &control.flags.to_le_bytes()).map_err(|e| lost(pid, &e))?;
    }
    Ok(())
}

fn skipped_cells(plan: &AttachPlan, blocks: &[Block]) -> Vec<u64> {
    if !plan.go {
        return Vec::new();
    }
    let each = plan.modules.iter().zip(blocks);
    each.flat_map(|(module, block)| (0..module.sites.len()).map(|n| block.skipped_cell(n))).collect()
}

fn open_failure(pid: i32, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) {
        return crate::stop::gone(pid);
    }
    Failure::new(FailureKind::NotPermitted, format!("the memory of process {pid} cannot be opened: {error}"))
}

fn shared_failure(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Bug, format!("the shared memory cannot be mapped here: {error}"))
}

/// Chooses a block near each module and encodes its trampolines there.
type Placing = (Vec<Block>, Vec<Trampoline>, Vec<Vec<u8>>);
fn place(plan: &AttachPlan, map_list: &[trocar_target::Mapping]) -> Result<Placing, Failure> {
    let mut taken = map_list.to_vec();
    let (mut blocks, mut trampolines, mut codes) = (Vec::new(), Vec::new(), Vec::new());
    let mut index = 0;
    for module in &plan.modules {
        let mut block = Block::sized(module.sites.len());
        block.address = free_gap_near(&taken, &module.range, block.len).ok_or_else(|| {
            Failure::new(
                FailureKind::NothingPatched,
                format!("no free memory within 2 GiB of {} ({:#x})", module.name, module.range.start),
            )
            .hint("the address space around the module is full; probe a function of another module")
        })?;
        taken.push(occupied(&block));
        taken.sort_by_key(|m| m.start);
        let mut code = Vec::new();
        encode(module, &block, &mut index, &mut code, &mut trampolines)?;
        code.resize(usize::try_from(block.len - block.gates).unwrap_or(0), 0xcc);
        blocks.push(block);
        codes.push(code);
    }
    Ok((blocks, trampolines, codes))
}

fn occupied(block: &Block) -> trocar_target::Mapping {
    trocar_target::Mapping {
        start: block.address,
        end: block.address + block.len,
        read: true,
        write: true,
        execute: true,
        shared: false,
        offset: 0,
        device: (0, 0),
        inode: 0,
        path: None,
        deleted: false,
    }
}

fn encode(
    module: &ModulePlan,
    block: &Block,
    index: &mut u32,
    code: &mut Vec<u8>,
    trampolines: &mut Vec<Trampoline>,
) -> Result<(), Failure> {
    for (n, site) in module.sites.iter().enumerate() {
        let placement = Placement {
            bias: module.bias,
            trampoline: block.code().start + code.len() as u64,
            agent_cell: block.address + ENTRY_CELL,
            gate: block.address + GATE,
            site_index: *index,
            red_zone: skips_red_zone(site),
            skipped_cell: site.plan.go.is_some().then_some(block.skipped_cell(n)),
        };
        let trampoline =
            Template::make(&site.plan, &placement).and_then(|t| t.emit()).map_err(|refusal| {
                Failure::new(FailureKind::NothingPatched, format!("{}: {refusal}", module.name))
            })?;
        if trampoline.bytes.len() as u64 > TRAMPOLINE_MAX {
            return Err(Failure::new(FailureKind::Bug, "a trampoline is longer than its place"));
        }
        code.extend_from_slice(&trampoline.bytes);
        code.resize(usize::try_from(round_up(code.len() as u64, 16)).unwrap_or(0), 0xcc);
        trampolines.push(trampoline);
        *index += 1;
    }
    Ok(())
}

/// Pages under the sites that are still their file's own: after a detach they are dropped back to it.
/// Source: `/proc/PID/pagemap`, bit 61 (file page), bit 63 (present); Documentation/admin-guide/mm/pagemap.rst.
fn clean_pages(pid: i32, memory: &RemoteMemory, trampolines: &[Trampoline]) -> Vec<(u64, Vec<u8>)> {
    let Ok(file) = File::open(format!("/proc/{pid}/pagemap")) else { return Vec::new() };
    let mut pages: Vec<u64> = trampolines
        .iter()
        .flat_map(Trampoline::overwritten)
        .flat_map(|r| [r.start, r.end - 1])
        .map(|a| a & !(PAGE - 1))
        .collect();
    pages.sort_unstable();
    pages.dedup();
    pages.retain(|page| {
        let mut entry = [0; 8];
        let read = file.read_exact_at(&mut entry, page / PAGE * 8);
        let entry = u64::from_le_bytes(entry);
        let (present, swapped, of_file) = (entry >> 63 & 1, entry >> 62 & 1, entry >> 61 & 1);
        read.is_ok() && swapped == 0 && (present == 0 || of_file == 1)
    });
    let len = usize::try_from(PAGE).unwrap_or(0);
    pages.into_iter().map(|page| (page, memory.some(RemoteAddress(page), len))).collect()
}

#[expect(
    unsafe_code,
    reason = "a view of a shared mapping, and a futex word in it, are made from raw pointers"
)]
fn map_shared(file: &File, layout: &Layout) -> io::Result<(MmapRaw, SharedView, Keeper)> {
    let len = usize::try_from(layout.total()).map_err(io::Error::other)?;
    let mapping = memmap2::MmapOptions::new().len(len).map_raw(file)?;
    // SAFETY: the mapping is `len` bytes, readable and writable, and lives in the attachment beside the view; the file
    // is sealed against shrinking. This process touches it only through views and the keeper's atomic word.
    let view = unsafe { SharedView::new(mapping.as_mut_ptr(), len) };
    let magic = trocar_abi::shared::MAGIC;
    let _ = view.store_u64_release(std::mem::offset_of!(SharedHead, magic) as u64, magic);
    let _ = view.store_u32(std::mem::offset_of!(SharedHead, version) as u64, trocar_abi::VERSION);
    // SAFETY: a field of the head, inside the first page of the mapping.
    let word = unsafe { mapping.as_mut_ptr().add(std::mem::offset_of!(SharedHead, host)) };
    // SAFETY: aligned (the mapping starts on a page, the field is a u32) and mapped until the attachment, which owns
    // both and drops the keeper first, goes.
    let keeper = unsafe { Keeper::new(word.cast()) }?;
    Ok((mapping, view, keeper))
}
