//! What the patch planner needs to know of a module, as plain data.
//!
//! Functions come from symbols, unwind tables and Go's table together; entries are all addresses at which control can
//! arrive without a direct branch. What no source names is not in here: the planner does not assume it away.

use crate::elf::Elf;
use crate::symbols::SymbolKind;

/// A module's code and what is known of it. Addresses are the file's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeImage<'a> {
    /// Code, in ascending order of address, not overlapping.
    pub text: Vec<(u64, &'a [u8])>,
    /// Everything else that the file loads, in ascending order, not overlapping `text`.
    pub data: Vec<(u64, &'a [u8])>,
    /// Functions and parts of functions: start and end; in ascending order, one for each start.
    pub functions: Vec<(u64, u64)>,
    /// Addresses where control can arrive from elsewhere: symbols, functions, the program's entry, landing pads,
    /// pointers that relocations make, initialisers; in ascending order.
    pub entries: Vec<u64>,
    /// Of the entries, those at which a call from elsewhere may arrive: global symbols, pointers that relocations
    /// make, initialisers, the program's entry.
    pub called: Vec<u64>,
    /// Made by the Go toolchain.
    pub go: bool,
    /// Starts of the functions that Go's compiler made, in ascending order; its assembler made others.
    pub compiled: Vec<u64>,
    /// Position independent.
    pub pie: bool,
    /// Start, end and reason of what is never to be patched, in ascending order.
    pub never: Vec<(u64, u64, &'static str)>,
}

impl Elf {
    /// What the patch planner needs.
    #[must_use]
    pub fn code_image(&self) -> CodeImage<'_> {
        let text: Vec<(u64, &[u8])> = self.text.iter().map(|r| (r.start, self.range(r))).collect();
        CodeImage {
            data: self.data(),
            functions: self.functions().to_vec(),
            entries: self.entries(),
            called: self.called(),
            go: self.is_go(),
            compiled: self
                .go_table()
                .map(|go| go.functions.iter().filter(|f| f.compiled).map(|f| f.start).collect())
                .unwrap_or_default(),
            pie: self.is_pie(),
            never: self.never(),
            text,
        }
    }

    /// What the file loads that is not code.
    fn data(&self) -> Vec<(u64, &[u8])> {
        let mut data = Vec::new();
        for segment in self.segments() {
            let end = segment.vaddr + segment.file_size;
            let mut at = segment.vaddr;
            for text in self.text.iter().filter(|r| r.start < end && r.end > segment.vaddr) {
                if at < text.start {
                    data.push((at, self.range(&(at..text.start))));
                }
                at = at.max(text.end);
            }
            if at < end {
                data.push((at, self.range(&(at..end))));
            }
        }
        data
    }

    /// Functions and parts of functions in ascending order, one for each start; entries of procedure linkage tables
    /// are left out. A function whose size nothing tells ends where the next one starts.
    #[must_use]
    pub fn functions(&self) -> &[(u64, u64)] {
        self.functions.get_or_init(|| {
            let frames = self.frames();
            let mut all = Vec::with_capacity(frames.functions.len() + self.symbols().len());
            all.extend_from_slice(&frames.functions);
            if let Some(go) = self.go_table() {
                all.extend(go.functions.iter().map(|f| (f.start, f.end)));
            }
            for symbol in self.symbols().iter().filter(|s| s.kind != SymbolKind::Label || s.size != 0) {
                all.push((symbol.address, symbol.address.saturating_add(symbol.size)));
            }
            let linkage: Vec<_> =
                self.sections.iter().filter(|s| is_linkage(s.name(&self.bytes))).map(|s| s.range()).collect();
            all.retain(|(start, _)| !linkage.iter().any(|r| r.contains(start)));
            all.sort_unstable_by_key(|(start, end)| (*start, std::cmp::Reverse(*end)));
            all.dedup_by_key(|(start, _)| *start);
            for at in 0..all.len() {
                let next = all.get(at + 1).map_or(u64::MAX, |(start, _)| *start);
                if let Some((start, end)) = all.get_mut(at) {
                    let limit = self.text.iter().find(|r| r.contains(start)).map_or(*start, |r| r.end);
                    *end = if *end <= *start { next.min(limit) } else { (*end).min(limit) };
                }
            }
            all.retain(|(start, end)| start < end);
            all
        })
    }

    fn called(&self) -> Vec<u64> {
        let mut called = self.code_pointers();
        called.extend(self.symbols().iter().filter(|s| s.is_global()).map(|s| s.address));
        called.push(self.entry());
        called.retain(|at| self.is_text(*at));
        called.sort_unstable();
        called.dedup();
        called
    }

    fn entries(&self) -> Vec<u64> {
        let mut entries = self.code_pointers();
        entries.extend(self.symbols().iter().map(|s| s.address));
        let frames = self.frames();
        entries.extend(frames.functions.iter().map(|(start, _)| *start));
        entries.extend_from_slice(&frames.landing_pads);
        entries.extend(self.restarts().iter().map(|r| r.abort));
        if let Some(go) = self.go_table() {
            entries.extend(go.functions.iter().flat_map(|f| [f.start, f.resume]));
        }
        entries.push(self.entry());
        entries.retain(|at| self.is_text(*at));
        entries.sort_unstable();
        entries.dedup();
        entries
    }
}

/// Whether a section of that name holds stubs of a procedure linkage table.
pub(crate) fn is_linkage(section: &[u8]) -> bool {
    section.starts_with(b".plt") || section == b".iplt"
}
