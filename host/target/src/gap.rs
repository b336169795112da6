//! Where in a target there is room for our pages: near enough for 32-bit jumps, and in nobody's way.
//!
//! ```text
//!   0 ─ low memory, where a null pointer plus an offset must go on faulting
//!       ▒▒ free ▒▒   ◀─ first choice: below the module
//!       module (PIE) or program at 0x400000
//!       [heap] ─▶ grows up:   at least 64 MiB are left to it
//!       ▒▒ free ▒▒   ◀─ second choice
//!       libraries, thread stacks, mmap area
//!       256 MiB that [stack] may grow into ◀─ never
//!       [stack]
//! ```
//! Pure arithmetic over mappings. The result may be taken by the target before it is used: whoever maps there does
//! so with `MAP_FIXED_NOREPLACE` and asks again.

use std::ops::Range;

use crate::Mapping;

/// How far a byte of ours may be from a byte of the module: 2 GiB less 64 KiB, so that displacements have slack.
pub const REACH: u64 = (1 << 31) - (64 << 10);

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
/// `vm.mmap_min_addr` as every distribution sets it.
const LOWEST: u64 = 0x1_0000;
/// End of the lower half with four-level page tables, less the kernel's guard page.
const HIGHEST: u64 = 0x7fff_ffff_f000;
/// Room below a stack that the kernel grows: `ulimit -s` is 8 MiB as a rule, the stack guard gap 1 MiB.
const BELOW_STACK: u64 = 256 * MIB;
const ABOVE_STACK: u64 = MIB;

/// What is kept free around other mappings, from the most polite to the least.
struct Manners {
    /// Lowest address.
    lowest: u64,
    /// Bytes between us and any mapping.
    margin: u64,
    /// Bytes left above the heap.
    above_heap: u64,
}

const MANNERS: [Manners; 3] = [
    Manners { lowest: MIB, margin: 2 * MIB, above_heap: 64 * MIB },
    Manners { lowest: MIB, margin: PAGE, above_heap: 64 * MIB },
    Manners { lowest: LOWEST, margin: PAGE, above_heap: PAGE },
];

/// A page-aligned free address such that every byte of `len` bytes there is within [`REACH`] of every byte of
/// `range`; `None` if there is none. `len` is rounded up to pages. `maps` are all mappings, in ascending order.
#[must_use]
pub fn free_gap_near(maps: &[Mapping], range: &Range<u64>, len: u64) -> Option<u64> {
    let len = len.checked_next_multiple_of(PAGE).filter(|len| *len != 0)?;
    let reach_low = range.end.saturating_sub(REACH).checked_next_multiple_of(PAGE)?;
    let reach_high = range.start.saturating_add(REACH).min(HIGHEST) / PAGE * PAGE;
    MANNERS.iter().find_map(|manners| {
        let low = reach_low.max(manners.lowest);
        let free = gaps(maps, range, manners, low, reach_high);
        let fits = |gap: &&Range<u64>| gap.end.checked_sub(gap.start).is_some_and(|size| size >= len);
        let below = free.iter().filter(fits).rfind(|gap| gap.end <= range.start).map(|gap| gap.end - len);
        below.or_else(|| free.iter().filter(fits).find(|gap| gap.start >= range.end).map(|gap| gap.start))
    })
}

/// The free ranges in `low..high`, page aligned, in ascending order.
fn gaps(maps: &[Mapping], range: &Range<u64>, manners: &Manners, low: u64, high: u64) -> Vec<Range<u64>> {
    let mut taken: Vec<Range<u64>> = maps.iter().map(|mapping| keep_out(mapping, manners)).collect();
    taken.push(range.clone());
    taken.sort_unstable_by_key(|r| r.start);
    let mut free = Vec::new();
    let mut at = low;
    for taken in taken {
        let end = taken.start.min(high) / PAGE * PAGE;
        if at < end {
            free.push(at..end);
        }
        at = at.max(taken.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX));
    }
    if at < high {
        free.push(at..high);
    }
    free
}

/// A mapping and the room around it that is not ours to take.
fn keep_out(mapping: &Mapping, manners: &Manners) -> Range<u64> {
    let (below, above) = if mapping.is_special("[stack]") {
        (BELOW_STACK, ABOVE_STACK)
    } else if mapping.is_special("[heap]") {
        (manners.margin, manners.above_heap)
    } else {
        (manners.margin, manners.margin)
    };
    mapping.start.saturating_sub(below)..mapping.end.saturating_add(above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_maps;

    const GIB: u64 = 1 << 30;

    fn check(text: &str, range: Range<u64>, len: u64) -> Option<u64> {
        let maps = parse_maps(text.as_bytes()).unwrap();
        let at = free_gap_near(&maps, &range, len)?;
        let end = at + len;
        assert_eq!(at % PAGE, 0);
        assert!(at >= LOWEST && end <= HIGHEST, "{at:#x}");
        assert!(maps.iter().all(|m| m.end < at || end < m.start), "touches a mapping: {at:#x}");
        assert!(range.end.max(end) - range.start.min(at) <= REACH, "too far: {at:#x}");
        for stack in maps.iter().filter(|m| m.is_special("[stack]")) {
            assert!(end + BELOW_STACK <= stack.start || at >= stack.end + MIB, "in the stack's way: {at:#x}");
        }
        Some(at)
    }

    #[test]
    fn below_a_position_independent_program_is_first() {
        let text =
            "555500000000-555500100000 r-xp 0 00:01 1 /a\n555500200000-555500300000 rw-p 0 00:00 0 [heap]\n";
        let at = check(text, 0x5555_0000_0000..0x5555_0010_0000, MIB).unwrap();
        assert!(at < 0x5555_0000_0000);
    }

    #[test]
    fn above_a_fixed_program_the_heap_keeps_its_room() {
        // 4 MiB below 0x400000 are not enough, so that it has to go above.
        let text = "400000-500000 r-xp 0 00:01 1 /a\n600000-700000 rw-p 0 00:00 0 [heap]\n";
        let at = check(text, 0x40_0000..0x50_0000, 8 * MIB).unwrap();
        assert!(at >= 0x70_0000 + 64 * MIB);
    }

    #[test]
    fn a_heap_that_fills_the_reach_is_met_closely_only_as_the_last_choice() {
        let text =
            format!("400000-500000 r-xp 0 00:01 1 /a\n600000-{:x} rw-p 0 00:00 0 [heap]\n", REACH - 20 * MIB);
        let at = check(&text, 0x40_0000..0x50_0000, 8 * MIB).unwrap();
        assert!(at > REACH - 20 * MIB);
    }

    #[test]
    fn room_below_the_stack_is_never_taken() {
        let module = 0x7fff_0000_0000;
        let text = format!(
            "{:x}-{:x} rw-p 0 00:00 0\n{module:x}-{:x} r-xp 0 00:01 1 /a\n7fff0fe00000-7fff10000000 rw-p 0 00:00 0 [stack]\n",
            module - 3 * GIB,
            module,
            module + MIB
        );
        let at = check(&text, module..module + MIB, MIB).unwrap();
        assert!(at >= 0x7fff_1000_0000 + MIB, "only above the stack is free: {at:#x}");
    }

    #[test]
    fn nothing_within_reach_is_none() {
        let module = 0x7f00_0000_0000u64;
        let text = format!(
            "{:x}-{module:x} rw-p 0 00:00 0\n{module:x}-{:x} r-xp 0 00:01 1 /a\n{:x}-{:x} rw-p 0 00:00 0\n",
            module - 3 * GIB,
            module + MIB,
            module + MIB,
            module + 3 * GIB
        );
        assert_eq!(check(&text, module..module + MIB, PAGE), None);
    }

    #[test]
    fn a_module_longer_than_the_reach_has_no_place() {
        assert_eq!(check("", 0x1_0000_0000..0x1_0000_0000 + 3 * GIB, PAGE), None);
        assert_eq!(check("", 0x1_0000_0000..0x1_0000_1000, 0), None);
        assert_eq!(check("", 0x1_0000_0000..0x1_0000_1000, u64::MAX), None);
    }

    #[test]
    fn any_layout_gives_a_place_that_keeps_the_rules_or_none() {
        // A thousand made-up address spaces from a fixed seed; `check` holds the rules.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        let mut placed = 0;
        for _ in 0..1000 {
            let mut at = (1 + next(64)) * MIB;
            let mut text = String::new();
            let mut ranges = Vec::new();
            for n in 0..1 + next(12) {
                let end = at + (1 + next(400)) * MIB;
                let name = match n {
                    3 => "[heap]",
                    7 => "[stack]",
                    _ => "",
                };
                text += &format!("{at:x}-{end:x} r-xp 0 00:00 0 {name}\n");
                ranges.push(at..end);
                at = end + next(300) * MIB;
            }
            let range = ranges[usize::try_from(next(ranges.len() as u64)).unwrap()].clone();
            placed += u32::from(check(&text, range, (1 + next(64)) * MIB).is_some());
        }
        assert!(placed > 900, "{placed}");
    }
}
