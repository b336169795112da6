//! Code that must never be patched, because something compares instruction pointers with it, or because a thread in
//! it is not what it seems.
//!
//! Known by name where there are symbols, by unwind tables (signal returns are marked there), by section (restartable
//! sequences), and by the bytes of a system call where a library is stripped: `__restore_rt` and `clone3` of
//! glibc have no dynamic symbol. musl's and glibc's cancellation ranges have no mark but their names.

use std::ops::Range;

use crate::bytes::{u32_at, u64_at};
use crate::elf::Elf;

const CANCELLATION: &str = "a cancellation point: its range is compared with the instruction pointer";
const SIGNAL_RETURN: &str = "the return from a signal handler: unwinders know it by its bytes";
const CHILD_SIDE: &str = "the child side of clone or vfork runs here, on another stack or on its parent's";
const PREEMPTED: &str =
    "goroutines that were preempted come back through it, and a hit would hide where to from other sessions";
const RESOLVER: &str = "the lazy resolver of the dynamic loader: every register is an argument";
const RESTARTABLE: &str =
    "a restartable sequence: the kernel compares its range with the instruction pointer";
const ABORT_SIGNATURE: &str = "the signature before the abort address of a restartable sequence";

/// Names whose whole function is out of bounds.
const NAMES: [(&[u8], &str); 10] = [
    (b"__syscall_cancel_arch", CANCELLATION),
    (b"__restore_rt", SIGNAL_RETURN),
    (b"__restore", SIGNAL_RETURN),
    (b"clone", CHILD_SIDE),
    (b"__clone", CHILD_SIDE),
    (b"clone3", CHILD_SIDE),
    (b"__clone3", CHILD_SIDE),
    (b"vfork", CHILD_SIDE),
    (b"__vfork", CHILD_SIDE),
    (b"runtime.clone", CHILD_SIDE),
];

/// Ranges between two names: both musl's and glibc's (since 2.41) cancellable system call.
const BETWEEN: [(&[u8], &[u8]); 2] =
    [(b"__cp_begin", b"__cp_end"), (b"__syscall_cancel_arch_start", b"__syscall_cancel_arch_end")];

/// `mov $15, %eax; syscall` in its two encodings: rt_sigreturn.
const SIGRETURN: [&[u8]; 2] = [b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05", b"\xb8\x0f\0\0\0\x0f\x05"];
/// `mov $435, %eax; syscall`: clone3.
const CLONE3: &[u8] = b"\xb8\xb3\x01\0\0\x0f\x05";
/// Bytes after a clone3 within which the unwind entry of its child side starts.
const CHILD_ENTRY: u64 = 64;

/// A restartable sequence (include/uapi/linux/rseq.h, struct rseq_cs).
pub(crate) struct Restart {
    pub sequence: Range<u64>,
    pub abort: u64,
}

impl Elf {
    /// Start, end and reason, in ascending order.
    pub(crate) fn never(&self) -> Vec<(u64, u64, &'static str)> {
        let mut never = Vec::new();
        self.never_by_name(&mut never);
        never.extend(self.frames().signal_returns.iter().map(|(start, end)| (*start, *end, SIGNAL_RETURN)));
        self.never_by_bytes(&mut never);
        for restart in self.restarts() {
            never.push((restart.sequence.start, restart.sequence.end, RESTARTABLE));
            never.push((restart.abort.saturating_sub(4), restart.abort, ABORT_SIGNATURE));
        }
        never.retain(|(start, end, _)| start < end);
        never.sort_unstable();
        never.dedup();
        never
    }

    fn never_by_name(&self, never: &mut Vec<(u64, u64, &'static str)>) {
        let mut marks = [None; BETWEEN.len() * 2];
        for symbol in self.symbols() {
            let name = self.raw_name(symbol);
            let reason = NAMES.iter().find(|(known, _)| *known == name).map(|(_, reason)| *reason);
            let reason = reason.or_else(|| name.starts_with(b"_dl_runtime_resolve").then_some(RESOLVER));
            if let Some(reason) = reason {
                never.push((symbol.address, self.function_end(symbol.address), reason));
            }
            let places = BETWEEN.iter().flat_map(|(from, to)| [from, to]);
            for (mark, known) in marks.iter_mut().zip(places) {
                if *known == name {
                    *mark = Some(symbol.address);
                }
            }
        }
        if let Some(go) = self.go_table() {
            for function in &go.functions {
                let reason = match go.name(self, function) {
                    b"runtime.clone" => CHILD_SIDE,
                    b"runtime.asyncPreempt2" | b"runtime.xRegRestore" | b"runtime.xRegSave" => PREEMPTED,
                    _ => continue,
                };
                never.push((function.start, function.end, reason));
            }
        }
        for pair in marks.chunks_exact(2) {
            if let [Some(from), Some(to)] = pair {
                // The end itself is still compared with.
                never.push((*from, to.saturating_add(1), CANCELLATION));
            }
        }
    }

    fn never_by_bytes(&self, never: &mut Vec<(u64, u64, &'static str)>) {
        for text in &self.text {
            let bytes = self.range(text);
            for pattern in SIGRETURN {
                for at in memchr::memmem::find_iter(bytes, pattern) {
                    let start = text.start + at as u64;
                    never.push((start, start + pattern.len() as u64, SIGNAL_RETURN));
                }
            }
            for at in memchr::memmem::find_iter(bytes, CLONE3) {
                let call = text.start + at as u64;
                let functions = self.functions();
                let next = functions.partition_point(|(start, _)| *start <= call);
                let own = next.checked_sub(1).and_then(|own| functions.get(own));
                let start = own.map_or(call, |(start, _)| *start);
                // glibc ends the unwind entry before the system call and begins another one for the child.
                let child = functions.get(next).filter(|(start, _)| start - call <= CHILD_ENTRY);
                let end = child.or(own).map_or(call, |(_, end)| *end).max(call + CLONE3.len() as u64);
                never.push((start, end, CHILD_SIDE));
            }
        }
    }

    fn function_end(&self, start: u64) -> u64 {
        let functions = self.functions();
        let at = functions.binary_search_by_key(&start, |(start, _)| *start);
        at.ok().and_then(|at| functions.get(at)).map_or(start + 1, |(_, end)| *end)
    }

    /// The restartable sequences that the file declares.
    pub(crate) fn restarts(&self) -> Vec<Restart> {
        let Some(section) = self.section(b"__rseq_cs").filter(|s| s.is_loaded()) else { return Vec::new() };
        // Their addresses are written by relocations in position-independent files.
        let mut words = std::collections::HashMap::new();
        let range = section.range();
        self.relocations(|r| {
            if range.contains(&r.place) {
                words.insert(r.place, r.value);
            }
        });
        let word = |at: u64| words.get(&at).copied().or_else(|| u64_at(self.at(at)?, 0));
        let count = section.size / 32;
        let descriptor = |n: u64| {
            let at = range.start + n * 32;
            u32_at(self.at(at)?, 0).filter(|version| *version == 0)?;
            let start = word(at + 8)?;
            let sequence = start..start.checked_add(word(at + 16)?)?;
            let abort = word(at + 24)?;
            (self.is_text(start) && self.is_text(abort)).then_some(Restart { sequence, abort })
        };
        (0..count).map_while(|n| self.at(range.start + n * 32).map(|_| n)).filter_map(descriptor).collect()
    }
}
