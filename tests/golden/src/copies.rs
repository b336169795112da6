//! What a copy of a whole function would add: the last rung that one could think of.
//!
//! A loop near a function's start jumps into the five bytes that are needed. If the function were copied whole, with the
//! jump at its start to the copy, the loop would stay in the copy. That works only for functions without calls (a return
//! address of ours would be on the stack), without indirect jumps (they lead to the old code), and to whose middle nobody
//! else jumps. These are counted here; addresses that data holds are not looked at, so that it is an upper bound.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use trocar_patch::Image;

/// Bytes of a function that would be worth a copy.
const LONGEST: u64 = 512;

/// Starts and ends of the functions that could be copied whole.
pub fn candidates(image: &Image) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    let mut entered = BTreeSet::new();
    for (at, function) in image.functions.iter().enumerate() {
        let next = image.functions.get(at + 1).map_or(u64::MAX, |f| f.start);
        let (start, end) = (function.start, function.end.min(next));
        let Some(bytes) = image.text.iter().find_map(|t| t.slice(start, end)) else { continue };
        let mut fit = end - start <= LONGEST;
        for i in Decoder::with_ip(64, bytes, start, DecoderOptions::NONE) {
            match i.flow_control() {
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                    let to = i.near_branch_target();
                    if to < start || to >= end {
                        entered.insert(to);
                    }
                }
                FlowControl::Next | FlowControl::Return => fit &= !i.is_invalid(),
                _ => fit = false,
            }
        }
        if fit {
            found.insert(start, end);
        }
    }
    found.retain(|start, end| entered.range(*start + 1..*end).next().is_none());
    found
}
