//! Functions, landing pads and signal returns from the unwind tables (`.eh_frame`): there in stripped files too.
//!
//! It relies on gimli for the format. A part that is damaged ends the reading; what was read before counts.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{
    BaseAddresses, CieOrFde, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, Pointer, UnwindSection,
};

use crate::elf::Elf;
use crate::faults::has_no_call;
use crate::lsda;

/// Most call sites read in all, so that tables which point at each other's bytes cannot cost more.
const CALL_SITES: usize = 4 << 20;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// What unwind tables say.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Functions and parts of functions: start and end, as found.
    pub functions: Vec<(u64, u64)>,
    /// Addresses where the unwinder enters, as found.
    pub landing_pads: Vec<u64>,
    /// Where signal handlers return to.
    pub signal_returns: Vec<(u64, u64)>,
    /// Something may throw that is no call.
    pub throws_faults: bool,
}

impl Frames {
    pub fn read(elf: &Elf) -> Self {
        let mut frames = Self::default();
        if let Some(table) = find(elf) {
            frames.read_table(elf, &table);
        }
        frames
    }

    fn read_table(&mut self, elf: &Elf, table: &Range<u64>) {
        let bytes = elf.range(table);
        let section = EhFrame::new(bytes, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(table.start);
        let mut common = HashMap::new();
        let mut budget = CALL_SITES;
        // Call sites do not overlap, unless they mean to cost time.
        let mut code: u64 = elf.text.iter().map(|r| r.end - r.start).sum();
        let mut entries = section.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let fde =
                partial.parse(|section: &EhFrame<Slice<'_>>, bases, offset| match common.get(&offset) {
                    Some(cie) => Ok(gimli::CommonInformationEntry::clone(cie)),
                    None => {
                        let cie = section.cie_from_offset(bases, offset)?;
                        common.insert(offset, cie.clone());
                        Ok(cie)
                    }
                });
            let Ok(fde) = fde else { continue };
            let start = fde.initial_address();
            let Some(end) = start.checked_add(fde.len()) else { continue };
            if start >= end || !elf.is_text(start) {
                continue;
            }
            if fde.is_signal_trampoline() {
                self.signal_returns.push((start, end));
            }
            self.functions.push((start, end));
            let Some(Pointer::Direct(lsda)) = fde.lsda() else { continue };
            // A function without a table has a zero there, which becomes an address within .eh_frame.
            if let Some(table) = elf.at(lsda).filter(|_| !table.contains(&lsda)) {
                lsda::call_sites(table, start, &mut budget, |site| {
                    self.landing_pads.extend(site.pad.filter(|pad| elf.is_text(*pad)));
                    if !self.throws_faults {
                        code = code.saturating_sub(site.length);
                        self.throws_faults = code > 0 && may_throw_without_call(elf, start..end, &site);
                    }
                });
            }
        }
    }
}

/// Whether nothing in a call site of this function is a call. One that is not in the function is not believed.
fn may_throw_without_call(elf: &Elf, function: Range<u64>, site: &lsda::CallSite) -> bool {
    let Some(end) = site.start.checked_add(site.length).filter(|end| *end <= function.end) else {
        return false;
    };
    site.start >= function.start && has_no_call(elf.range(&(site.start..end)), site.start, &function)
}

fn find(elf: &Elf) -> Option<Range<u64>> {
    if let Some(section) = elf.section(b".eh_frame").filter(|s| s.is_loaded() && s.size > 0) {
        return Some(section.range());
    }
    let header = elf.at(elf.eh_frame_hdr).filter(|_| elf.eh_frame_hdr != 0)?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(elf.eh_frame_hdr);
    let parsed = EhFrameHdr::new(header, LittleEndian).parse(&bases, 8).ok()?;
    let Pointer::Direct(start) = parsed.eh_frame_ptr() else { return None };
    // Its length is nowhere: it ends with a zero, or with what the file has.
    let rest = elf.at(start)?;
    Some(start..start.checked_add(rest.len() as u64)?)
}
