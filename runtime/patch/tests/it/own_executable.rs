//! Every function of this test binary, planned, emitted near it, decoded back and compared.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};
use trocar_patch::{
    Analysis, Placement, Reason, Rung, SitePlan, Template, Trampoline, jump_target, recognise,
};

use crate::elf;
use crate::support::BIAS;

fn analysis() -> Analysis {
    let path = std::env::current_exe().unwrap();
    Analysis::new(elf::image(&std::fs::read(path).unwrap()))
}

fn decode(bytes: &[u8], ip: u64) -> Vec<Instruction> {
    Decoder::with_ip(64, bytes, ip, DecoderOptions::NONE).into_iter().collect()
}

/// The copy of the window does what the window did.
fn same_meaning(plan: &SitePlan, t: &Trampoline) {
    let originals = decode(&plan.original, t.window.start);
    assert_eq!(originals.last().unwrap().next_ip(), t.window.end);
    assert_eq!(t.twins.len(), originals.len() + 1);
    for (original, (from, to)) in originals.iter().zip(&t.twins) {
        assert_eq!(original.ip(), *from);
        let offset = usize::try_from(to - t.address).unwrap();
        let copy = Decoder::with_ip(64, &t.bytes[offset..], *to, DecoderOptions::NONE).decode();
        match original.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => call(original, t, offset),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                assert_eq!(copy.mnemonic(), original.mnemonic());
                assert_eq!(copy.near_branch_target(), original.near_branch_target());
            }
            _ => {
                assert_eq!((copy.code(), copy.len()), (original.code(), original.len()));
                if original.is_ip_rel_memory_operand() {
                    assert_eq!(copy.ip_rel_memory_address(), original.ip_rel_memory_address());
                } else {
                    assert_eq!(&t.bytes[offset..offset + copy.len()], original_bytes(plan, t, original));
                }
            }
        }
    }
}

fn original_bytes<'a>(plan: &'a SitePlan, t: &Trampoline, i: &Instruction) -> &'a [u8] {
    let from = usize::try_from(i.ip() - t.window.start).unwrap();
    &plan.original[from..from + i.len()]
}

/// A displaced call: the literal is the original return address, the jump's operand that of the call.
fn call(original: &Instruction, t: &Trampoline, offset: usize) {
    let literal = u64::from_le_bytes(t.bytes[t.bytes.len() - 8..].try_into().unwrap());
    assert_eq!(literal, original.next_ip());
    // The call that keeps the return predictor in step, and what it leads over.
    let at = offset + 17;
    let jump = Decoder::with_ip(64, &t.bytes[at..], t.address + at as u64, DecoderOptions::NONE).decode();
    match original.op0_kind() {
        OpKind::NearBranch64 => assert_eq!(jump.near_branch_target(), original.near_branch_target()),
        OpKind::Register => assert_eq!(jump.op0_register(), original.op0_register()),
        _ if original.is_ip_rel_memory_operand() => {
            assert_eq!(jump.ip_rel_memory_address(), original.ip_rel_memory_address());
        }
        _ => assert_eq!(
            (jump.memory_base(), jump.memory_index()),
            (original.memory_base(), original.memory_index())
        ),
    }
}

/// The text, once patched, leads to the trampoline; the hit comes right before the site's copy.
fn same_way(plan: &SitePlan, t: &Trampoline) {
    let mut at = t.window.start;
    for patch in t.undo() {
        assert_eq!(patch.bytes.len(), patch.original.len());
        let from = usize::try_from(at - patch.address).unwrap();
        // Whoever runs through the slack comes to its end.
        assert!(from == 0 || jump_target(patch.address, &patch.bytes) == Some(patch.range().end));
        at = jump_target(at, &patch.bytes[from..]).unwrap();
    }
    assert_eq!(at, t.address);
    let site = t.twins.iter().find(|twin| twin.0 == t.site_address).unwrap().1;
    let read = recognise(t.address, &t.bytes).unwrap();
    assert_eq!(read.position, plan.position);
    let hit = if plan.window.start < plan.site { t.twin_of(t.site_address).unwrap() } else { t.address };
    assert_eq!(t.original_of(hit), Some(t.site_address));
    assert_eq!(t.original_of(site), Some(t.site_address));
    assert!(hit < site, "the hit comes first");
}

#[test]
fn every_entry_and_every_seventh_instruction_keep_their_meaning() {
    let analysis = analysis();
    let text = analysis.image().text.iter().flat_map(|t| t.vaddr..t.end());
    let mut sites: Vec<u64> = text.filter(|a| analysis.is_instruction(*a)).step_by(7).collect();
    sites.extend(analysis.image().functions.iter().map(|f| f.start));
    let low = 0x4000_0000;
    let (mut planned, mut calls, mut inside, mut short) = (0usize, 0usize, 0usize, 0usize);
    for (index, site) in sites.iter().enumerate() {
        let Ok(plan) = analysis.plan(*site) else { continue };
        let site_index = u32::try_from(index).unwrap();
        let placement = Placement {
            bias: BIAS,
            trampoline: BIAS + low + 13 * u64::from(site_index % 1000),
            agent_cell: BIAS + low + 0x10_0000,
            gate: BIAS + low + 0x10_0008,
            site_index,
            red_zone: !plan.red_zone_dead,
            skipped_cell: None,
        };
        let t = Template::make(&plan, &placement).unwrap().emit().unwrap();
        same_meaning(&plan, &t);
        same_way(&plan, &t);
        assert_eq!(recognise(t.address, &t.bytes).map(|r| r.site_index), Some(site_index));
        assert!(t.matches(&t.bytes));
        planned += 1;
        calls += usize::from(plan.notes.call);
        inside += usize::from(plan.window.start < plan.site);
        short += usize::from(plan.rung == Rung::ShortJump);
    }
    assert!(planned > sites.len() / 2, "{planned} of {}", sites.len());
    assert!(calls > 100, "{calls} displaced calls");
    assert!(inside > 100 && short > 100, "{inside} hits inside a window, {short} short jumps");
}

#[test]
fn most_functions_can_be_patched_at_their_entry() {
    let analysis = analysis();
    let mut starts: Vec<u64> = analysis.image().functions.iter().map(|f| f.start).collect();
    starts.sort_unstable();
    starts.dedup();
    let refused: Vec<_> = starts.iter().filter_map(|s| analysis.plan(*s).err()).collect();
    assert!(refused.len() * 10 < starts.len(), "{} of {}", refused.len(), starts.len());
    assert!(refused.iter().all(|r| r.reason != Reason::MiddleOfInstruction), "a start is always a boundary");
}
