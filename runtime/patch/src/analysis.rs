//! Everything that planning needs to know of a module, found once.
//!
//! It relies on [`Image`] being true. It does not decide anything: `plan.rs` asks it where control can
//! arrive and which parts of text belong to one function.

use std::sync::OnceLock;

use crate::image::{Image, Segment, find};
use crate::marks::Marks;
use crate::sweep::{Sweep, TextPart, part_of};
use crate::tables::{Wide, mark_pointers, mark_tables, walk};

/// An analysed module. Its memory is that of the image plus about the size of the text.
#[derive(Debug)]
pub struct Analysis {
    pub(crate) image: Image,
    pub(crate) sweep: Sweep,
    /// Symbols, landing pads, relocation addends and function starts.
    pub(crate) entries: Marks,
    /// Text addresses that bytes of the module hold.
    pub(crate) pointers: Marks,
    /// Pointers that are known to be called through, and global symbols.
    pub(crate) called: Marks,
    /// Targets of self-relative tables.
    pub(crate) tables: Marks,
    /// For each run of padding, where its dead bytes end; proven when first asked for.
    pub(crate) dead: Vec<OnceLock<u64>>,
    /// All addresses that code takes, sorted.
    all_bases: Vec<u64>,
    /// For each group, by its first part, what its tables may reach; read when first asked for.
    wide: Vec<OnceLock<Wide>>,
    /// `(part that is jumped to, part that jumps there)`, sorted; made when first asked for.
    arrivals: OnceLock<Vec<(usize, usize)>>,
    /// Parts that make one function: `group[part]` names the group by its first part.
    group: Vec<usize>,
    /// `(group, part)`, sorted.
    members: Vec<(usize, usize)>,
}

/// What an analysis found, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes of text.
    pub text_bytes: u64,
    /// Instructions decoded.
    pub instructions: u64,
    /// Functions and gaps.
    pub parts: usize,
    /// Parts of a function that do not decode to their end.
    pub undecodable_functions: usize,
    /// Different targets of direct jumps.
    pub jump_targets: u64,
    /// Different targets of direct calls.
    pub call_targets: u64,
    /// Different text addresses held in bytes of the module.
    pub code_pointers: u64,
    /// Different targets of jump tables.
    pub table_targets: u64,
}

impl Analysis {
    /// Decodes the whole text and collects every way control can arrive.
    #[must_use]
    pub fn new(mut image: Image) -> Self {
        tidy(&mut image.text);
        tidy(&mut image.data);
        let sweep = Sweep::new(&image);
        let mut entries = Marks::new(&image.text);
        image.entries.iter().for_each(|e| entries.mark(*e));
        image.functions.iter().for_each(|f| entries.mark(f.start));
        let mut called = Marks::new(&image.text);
        image.called.iter().for_each(|e| called.mark(*e));
        let mut pointers = Marks::new(&image.text);
        mark_pointers(&image, &mut pointers);
        let mut tables = Marks::new(&image.text);
        let mut bases: Vec<u64> = sweep.bases.iter().map(|b| b.1).collect();
        bases.sort_unstable();
        bases.dedup();
        mark_tables(&image, &bases, &mut tables);
        let group = group(&sweep);
        let mut members: Vec<_> = group.iter().enumerate().map(|(part, root)| (*root, part)).collect();
        members.sort_unstable();
        let wide = group.iter().map(|_| OnceLock::new()).collect();
        let dead = vec![OnceLock::new(); sweep.padding.len()];
        Self {
            image,
            sweep,
            entries,
            pointers,
            called,
            wide,
            arrivals: OnceLock::new(),
            all_bases: bases,
            tables,
            dead,
            group,
            members,
        }
    }

    /// The module this is about.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// What was found.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let bad = |p: &&TextPart| p.function && p.bad.is_some();
        Statistics {
            text_bytes: self.image.text.iter().map(|s| s.bytes.len() as u64).sum(),
            instructions: self.sweep.instructions,
            parts: self.sweep.parts.len(),
            undecodable_functions: self.sweep.parts.iter().filter(bad).count(),
            jump_targets: self.sweep.jumps.count(),
            call_targets: self.sweep.calls.count(),
            code_pointers: self.pointers.count(),
            table_targets: self.tables.count(),
        }
    }

    /// Whether an instruction of the linear reading starts here.
    #[must_use]
    pub fn is_instruction(&self, vaddr: u64) -> bool {
        self.sweep.boundaries.has(vaddr)
    }

    /// The text segment that holds an address.
    pub(crate) fn text_at(&self, vaddr: u64) -> Option<&Segment> {
        find(&self.image.text, vaddr)
    }

    /// The part that holds an address, with its index.
    pub(crate) fn part_at(&self, vaddr: u64) -> Option<(usize, &TextPart)> {
        let index = part_of(&self.sweep.parts, vaddr)?;
        Some((index, self.sweep.parts.get(index)?))
    }

    /// The parts that make one function with this one, itself included.
    pub(crate) fn family(&self, part: usize) -> impl Iterator<Item = (usize, &TextPart)> {
        let root = self.group.get(part).copied().unwrap_or(part);
        let from = self.members.partition_point(|m| m.0 < root);
        let members = self.members.get(from..).unwrap_or(&[]);
        members
            .iter()
            .take_while(move |m| m.0 == root)
            .filter_map(|m| Some((m.1, self.sweep.parts.get(m.1)?)))
    }

    /// What the tables of the function that this part belongs to may reach.
    pub(crate) fn wide(&self, part: usize) -> &Wide {
        const NOTHING: &Wide = &Wide { own: None, targets: Vec::new() };
        let root = self.group.get(part).copied().unwrap_or(part);
        self.wide.get(root).map_or(NOTHING, |w| w.get_or_init(|| self.read_tables(root)))
    }

    fn read_tables(&self, root: usize) -> Wide {
        let mut wide = Wide::default();
        if !self.family(root).any(|(_, p)| p.indirect_jump) {
            return wide;
        }
        // The function's parts, and the padding behind each.
        let ours = |target: u64| {
            let Some((index, part)) = self.part_at(target) else { return false };
            let gap = (!part.function).then(|| index.checked_sub(1)).flatten();
            [Some(index), gap].into_iter().flatten().any(|i| self.group.get(i) == Some(&root))
        };
        for (index, _) in self.family(root) {
            for base in self.bases(index) {
                if self.family(root).any(|(_, p)| base > p.start && base < p.end) {
                    wide.own = Some(base);
                }
                walk(&self.image, base, None, |target| {
                    if ours(target) {
                        wide.targets.push((target, base));
                    }
                    true
                });
            }
        }
        wide.targets.sort_unstable();
        wide.targets.dedup_by_key(|t| t.0);
        wide
    }

    /// The parts from which a jump leads into a part, from outside of it.
    pub(crate) fn arrivals(&self, part: usize) -> impl Iterator<Item = usize> {
        let all = self.arrivals.get_or_init(|| {
            let into = |c: &(usize, u64)| Some((part_of(&self.sweep.parts, c.1)?, c.0));
            let mut all: Vec<_> = self.sweep.crossings.iter().filter_map(into).collect();
            all.sort_unstable();
            all.dedup();
            all
        });
        let from = all.partition_point(|a| a.0 < part);
        all.get(from..).unwrap_or(&[]).iter().take_while(move |a| a.0 == part).map(|a| a.1)
    }

    /// The targets of the jumps that leave a part.
    pub(crate) fn crossings(&self, part: usize) -> impl Iterator<Item = u64> {
        let from = self.sweep.crossings.partition_point(|c| c.0 < part);
        let rest = self.sweep.crossings.get(from..).unwrap_or(&[]);
        rest.iter().take_while(move |c| c.0 == part).map(|c| c.1)
    }

    /// The next address after `base` that code takes: a table at `base` ends there at the latest.
    pub(crate) fn next_base(&self, base: u64) -> Option<u64> {
        let after = self.all_bases.partition_point(|b| *b <= base);
        self.all_bases.get(after).copied()
    }

    /// Addresses that a part takes: possible bases of its jump tables.
    pub(crate) fn bases(&self, part: usize) -> impl Iterator<Item = u64> {
        let from = self.sweep.bases.partition_point(|b| b.0 < part);
        let bases = self.sweep.bases.get(from..).unwrap_or(&[]);
        bases.iter().take_while(move |b| b.0 == part).map(|b| b.1)
    }
}

/// Sorts segments and drops what overlaps an earlier one: a hostile file may say so, and each address must
/// have one byte.
fn tidy(segments: &mut Vec<Segment>) {
    segments.retain(|s| !s.bytes.is_empty() && s.vaddr.checked_add(s.bytes.len() as u64).is_some());
    segments.sort_by_key(|s| s.vaddr);
    let mut end = 0;
    segments.retain(|s| {
        let keep = s.vaddr >= end;
        end = if keep { s.end() } else { end };
        keep
    });
}

/// Joins parts into functions: overlapping ranges, and parts between which a direct jump goes to an
/// address that is not a part's start (a jump to a start may be a tail call; joining those would make one
/// group of half the program).
fn group(sweep: &Sweep) -> Vec<usize> {
    let mut parent: Vec<usize> = (0..sweep.parts.len()).collect();
    for (index, part) in sweep.parts.iter().enumerate() {
        if part.joined && index > 0 {
            join(&mut parent, index - 1, index);
        }
    }
    for (from, target) in &sweep.crossings {
        let Some(to) = part_of(&sweep.parts, *target) else { continue };
        if sweep.parts.get(to).is_some_and(|p| p.function && p.start != *target) {
            join(&mut parent, *from, to);
        }
    }
    (0..parent.len()).map(|i| root(&mut parent, i)).collect()
}

fn root(parent: &mut [usize], mut i: usize) -> usize {
    while let Some(up) = parent.get(i).copied() {
        if up == i {
            break;
        }
        let above = parent.get(up).copied().unwrap_or(up);
        if let Some(slot) = parent.get_mut(i) {
            *slot = above;
        }
        i = above;
    }
    i
}

fn join(parent: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parent, a), root(parent, b));
    if let Some(slot) = parent.get_mut(a.max(b)) {
        *slot = a.min(b);
    }
}
