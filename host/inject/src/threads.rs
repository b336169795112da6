//! Threads and their contexts: registering those that are there, and those that come.

use std::collections::{HashMap, HashSet};
use std::mem::offset_of;
use std::ops::Range;

use libc::pid_t;
use trocar_abi::control::Control;
use trocar_abi::hit::{ContextHead, ThreadSlot, first_slot, inside};
use trocar_abi::shared::{ContextShared, Layout, SharedHead};
use trocar_ring::SharedView;
use trocar_target::{Failure, FailureKind, Mapping, Process, maps};

use crate::load::lost;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::plain::bytes_of;
use crate::stop::Stopped;

/// Longest stack that is believed. A larger mapping is something else.
const STACK_MAX: u64 = 1 << 30;

/// More than any libc's thread control block has above the address that the thread pointer holds.
const CONTROL_BLOCK_MAX: u64 = 16 << 10;

/// Range of a thread's own stack, where hits may run in place.
///
/// Proven for two shapes: the first thread's `[stack]`, and a mapping that holds both the stack pointer and the thread
/// control block and has a guard right below it, as glibc and musl make them. Anything else (a coroutine's stack, one
/// that the program carved out of a larger block) gets no range, and its hits run on the spare stack.
pub(crate) fn stack_range(maps: &[Mapping], sp: u64, thread_pointer: u64) -> Option<(u64, u64)> {
    let at = maps.iter().position(|m| m.range().contains(&sp))?;
    let mapping = maps.get(at)?;
    if !mapping.write || mapping.shared || mapping.end - mapping.start > STACK_MAX {
        return None;
    }
    if mapping.is_special("[stack]") {
        return Some((mapping.start, mapping.end));
    }
    let guard = at.checked_sub(1).and_then(|i| maps.get(i))?;
    let guarded = guard.end == mapping.start && !guard.read && !guard.write && !guard.execute;
    let own = mapping.range().contains(&thread_pointer) && mapping.path.is_none();
    // The thread control block is on top of the stack; what lies further above may be another mapping that the kernel
    // has merged with it.
    let end = mapping.end.min(thread_pointer.saturating_add(CONTROL_BLOCK_MAX));
    (guarded && own).then_some((mapping.start, end))
}

/// A thread as it was seen in a stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) tid: pid_t,
    /// Its thread pointer.
    pub(crate) pointer: u64,
    pub(crate) sp: u64,
}

impl Seen {
    /// A thread that was stopped; one that only sleeps shows no thread pointer.
    pub(crate) fn of(thread: &Stopped) -> Option<Self> {
        let registers = thread.registers?;
        Some(Self { tid: thread.tid, pointer: registers.fs_base, sp: registers.rsp })
    }
}

/// The threads by the ids that they have in the process's own pid namespace: so they name themselves at a first hit, and
/// so the program names them in what it writes.
pub(crate) fn named_inside(process: &Process, seen: &[Seen]) -> Result<Vec<Seen>, Failure> {
    if process.pid_inside == process.pid {
        return Ok(seen.to_vec());
    }
    let inside: HashMap<pid_t, pid_t> =
        process.threads()?.into_iter().map(|t| (t.tid, t.tid_inside)).collect();
    // One that has ended since needs no name.
    Ok(seen.iter().filter_map(|t| Some(Seen { tid: *inside.get(&t.tid)?, ..*t })).collect())
}

/// The pool as the host sees it.
#[derive(Debug)]
pub(crate) struct Pool {
    pid: pid_t,
    view: SharedView,
    layout: Layout,
    contexts: Vec<u64>,
    table: u64,
    table_len: u32,
    /// Contexts whose thread's stack has been looked for, with the id of that thread.
    known: HashMap<u32, u32>,
    /// By context, the stacks of threads that were gone when a hit was inside it still. Each holds its thread's control block.
    ended: HashMap<u64, Range<u64>>,
}

impl Pool {
    pub(crate) fn new(
        pid: pid_t,
        memory: &RemoteMemory,
        view: SharedView,
        layout: Layout,
        control: &Control,
    ) -> Result<Self, Failure> {
        let expected = layout.contexts.saturating_mul(4).next_power_of_two();
        if control.table_len != expected {
            return Err(Failure::new(FailureKind::Bug, "the control block is not as the agent leaves it"));
        }
        let mut pool = Self {
            pid,
            view,
            layout,
            contexts: Vec::new(),
            table: control.table,
            table_len: control.table_len,
            known: HashMap::new(),
            ended: HashMap::new(),
        };
        pool.refresh(memory, control)?;
        Ok(pool)
    }

    /// Learns the addresses of contexts that were added.
    pub(crate) fn refresh(&mut self, memory: &RemoteMemory, control: &Control) -> Result<(), Failure> {
        let count = control.contexts.min(self.layout.contexts);
        let bytes = memory
            .bytes(RemoteAddress(control.context_list), count as usize * 8)
            .map_err(|e| lost(self.pid, &e))?;
        self.contexts = bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
        Ok(())
    }

    /// By context, the stacks of threads that seem to have ended in a hit.
    pub(crate) fn ended(&self) -> &HashMap<u64, Range<u64>> {
        &self.ended
    }

    /// Whether a hit is inside some context, which was not found to have been left.
    pub(crate) fn is_any_inside(&self, memory: &RemoteMemory) -> bool {
        self.contexts.iter().any(|context| memory.word(RemoteAddress(*context)).is_ok_and(inside::is_hit))
    }

    /// Contexts that exist.
    pub(crate) fn contexts(&self) -> &[u64] {
        &self.contexts
    }

    /// Contexts that threads have claimed.
    pub(crate) fn claimed(&self) -> u32 {
        self.view.load_u32(offset_of!(SharedHead, claimed) as u64).unwrap_or(0)
    }

    /// Gives every thread that was seen a context, before any gate is open. One that came since claims its own.
    pub(crate) fn register(
        &mut self,
        memory: &RemoteMemory,
        threads: &[Seen],
        maps: &[Mapping],
    ) -> Result<(), Failure> {
        let mut taken: HashSet<u32> = HashSet::new();
        let mut pointers: HashSet<u64> = HashSet::new();
        let mut index = self.claimed();
        for thread in threads {
            let pointer = thread.pointer;
            let Some(&context) = self.contexts.get(index as usize) else { break };
            if pointer < 2 || !pointers.insert(pointer) {
                continue;
            }
            let mut slot = first_slot(pointer, self.table_len);
            while !taken.insert(slot) {
                slot = (slot + 1) & (self.table_len - 1);
            }
            let range = stack_range(maps, thread.sp, pointer);
            self.write_stack(memory, context, range.unwrap_or((0, 0)))?;
            self.note(index, pointer, thread.sp, thread.tid);
            let tid = thread.tid.cast_unsigned();
            let at = RemoteAddress(context + offset_of!(ContextHead, tid) as u64);
            memory.write(at, &tid.to_le_bytes()).map_err(|e| lost(self.pid, &e))?;
            let entry = ThreadSlot { key: pointer, context };
            let at = RemoteAddress(self.table + u64::from(slot) * size_of::<ThreadSlot>() as u64);
            memory.write(at, bytes_of(&entry)).map_err(|e| lost(self.pid, &e))?;
            self.known.insert(index, tid);
            index += 1;
        }
        self.view
            .store_u32(offset_of!(SharedHead, claimed) as u64, index)
            .ok_or_else(|| Failure::new(FailureKind::Bug, "the shared memory is too short"))
    }

    fn note(&self, index: u32, pointer: u64, sp: u64, tid: pid_t) {
        let at = self.layout.context(index);
        // The view covers the layout, so these stores have a place.
        let _ = self.view.store_u64_release(at + offset_of!(ContextShared, first_sp) as u64, sp);
        let _ = self.view.store_u32(at + offset_of!(ContextShared, tid) as u64, tid.cast_unsigned());
        let _ = self.view.store_u64_release(at + offset_of!(ContextShared, thread_pointer) as u64, pointer);
    }

    fn write_stack(
        &self,
        memory: &RemoteMemory,
        context: u64,
        (low, high): (u64, u64),
    ) -> Result<(), Failure> {
        let field = |offset: usize| RemoteAddress(context + offset as u64);
        memory
            .write_word(field(offset_of!(ContextHead, stack_high)), 0) // no range while it changes
            .and_then(|()| memory.write_word(field(offset_of!(ContextHead, stack_low)), low))
            .and_then(|()| memory.write_word(field(offset_of!(ContextHead, stack_high)), high))
            .map_err(|e| lost(self.pid, &e))
    }

    /// Finds the stacks of threads that claimed a context since, and marks contexts whose thread is gone.
    /// `tids`: the threads that there are.
    pub(crate) fn tend(
        &mut self,
        memory: &RemoteMemory,
        same_namespace: bool,
        tids: &HashSet<u32>,
    ) -> Result<(), Failure> {
        let claimed = self.claimed().min(self.layout.contexts);
        let load = |index: u32, offset: usize| {
            self.view.load_u64_acquire(self.layout.context(index) + offset as u64)
        };
        let tid_of = |index: u32| {
            let at = self.layout.context(index) + offset_of!(ContextShared, tid) as u64;
            self.view.load_u32(at).unwrap_or(0)
        };
        let mut found = Vec::new();
        let mut gone = Vec::new();
        let mut map_list = None;
        for index in 0..claimed {
            let pointer = load(index, offset_of!(ContextShared, thread_pointer)).unwrap_or(0);
            let sp = load(index, offset_of!(ContextShared, first_sp)).unwrap_or(0);
            let tid = tid_of(index);
            if pointer == 0 {
                continue;
            }
            if same_namespace && tid != 0 && !tids.contains(&tid) {
                gone.push(index);
            } else if self.known.get(&index) != Some(&tid) {
                if map_list.is_none() {
                    map_list = Some(maps(self.pid)?);
                }
                found.push((index, tid, map_list.as_deref().and_then(|m| stack_range(m, sp, pointer))));
            }
        }
        for (index, tid, range) in found {
            self.known.insert(index, tid);
            // Also where there is none: it may have been copied from a context of the same thread pointer.
            if let Some(&context) = self.contexts.get(index as usize) {
                self.write_stack(memory, context, range.unwrap_or((0, 0)))?;
                // Another thread has the thread pointer since the mappings were read: this is not its stack.
                if tid_of(index) != tid {
                    self.write_stack(memory, context, (0, 0))?;
                    self.known.remove(&index);
                }
            }
        }
        for index in gone {
            self.known.remove(&index);
            let Some(&context) = self.contexts.get(index as usize) else { continue };
            let within = memory.word(RemoteAddress(context + offset_of!(ContextHead, inside) as u64));
            if within.is_ok_and(inside::is_hit) && !self.ended.contains_key(&context) {
                if map_list.is_none() {
                    map_list = Some(maps(self.pid)?);
                }
                let pointer = load(index, offset_of!(ContextShared, thread_pointer)).unwrap_or(0);
                let sp = load(index, offset_of!(ContextShared, first_sp)).unwrap_or(0);
                // The libc keeps it for the next thread; where it is gone, so is the hit's frame.
                let stack = map_list.as_deref().and_then(|m| stack_range(m, sp, pointer));
                let stack = stack.filter(|(low, high)| (*low..*high).contains(&pointer)).unwrap_or((0, 0));
                self.ended.insert(context, stack.0..stack.1);
            }
            self.write_stack(memory, context, (0, 0))?;
            let at = RemoteAddress(context + offset_of!(ContextHead, stale) as u64);
            memory.write(at, &1u32.to_le_bytes()).map_err(|e| lost(self.pid, &e))?;
        }
        Ok(())
    }
}
