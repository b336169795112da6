//! What is known of a hit that trapped: where in the probe, at which hit, and how to see it again.

use serde::Serialize;
use trocar_abi::evidence::Which;
use trocar_abi::hit::{HitFrame, REGISTERS};
use trocar_collect::TrapEvidence;
use trocar_compile::{CodeMap, Source, Spot};

use crate::live::site;
use crate::part::Part;
use crate::reply::Site;

/// A hit that trapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Why it trapped.
    pub trap: String,
    /// The function that trapped, and the innermost line there that is the author's own; absent if nothing is known.
    #[serde(flatten)]
    pub place: Option<Frame>,
    /// That function, and those that called it, innermost first.
    pub backtrace: Vec<Frame>,
    /// Index of the site.
    pub site: u32,
    /// The point as the user wrote it.
    pub point: String,
    /// Thread.
    pub tid: u32,
    /// Export name of the handler.
    pub handler: String,
    /// The integer arguments, hexadecimal, as the target's calling convention passes them in registers.
    pub args: Vec<String>,
    /// How to see it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// The hit itself, for who replays it.
    #[serde(skip)]
    pub hit: Option<TrapEvidence>,
    /// Whether arguments are where Go puts them.
    #[serde(skip)]
    pub go: bool,
}

/// A function of the probe, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// Its name, demangled; `function N` if it has none.
    pub function: String,
    /// Its index; imported functions come first.
    pub index: u32,
    /// Offset of the instruction in the module's bytes, hexadecimal, as `wasm-tools print --print-offsets` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<String>,
    /// The probe's compiler put it into the next one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inlined: bool,
    /// File and line, if the module has DWARF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// How to see a hit again, outside the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// The command.
    pub command: String,
    /// It was tried: the same trap in the same functions. Otherwise it depended on what earlier hits had left in the probe's
    /// memory, or on memory of the target that has changed since.
    pub same: bool,
}

/// The frames of these places, and what stands for all of them.
#[must_use]
pub fn frames(wasm: &[u8], spots: impl IntoIterator<Item = Spot>) -> (Option<Frame>, Vec<Frame>) {
    let source = Source::of(wasm);
    let mut all = Vec::new();
    for spot in spots {
        let places = source.places(spot);
        let own = places.len().saturating_sub(1);
        all.extend(places.into_iter().enumerate().map(|(n, place)| Frame {
            function: place.function,
            index: spot.function,
            offset: spot.offset.map(|offset| format!("{offset:#x}")),
            inlined: n < own,
            source: place.source,
        }));
    }
    let function = all.iter().position(|frame| !frame.inlined);
    let innermost = function.and_then(|n| all.get(..=n)).unwrap_or_default();
    let lines = || innermost.iter().filter_map(|frame| frame.source.as_ref());
    let line = lines().find(|line| !is_library(line)).or_else(|| lines().next()).cloned();
    let place = innermost.last().map(|frame| Frame { source: line, ..frame.clone() });
    (place, all)
}

/// Whether a file belongs to Rust itself.
fn is_library(file: &str) -> bool {
    file.starts_with("/rustc/")
        || ["core", "alloc", "std"].iter().any(|l| file.contains(&format!("/library/{l}/src/")))
}

/// What it takes to read evidence.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) wasm: Vec<u8>,
    /// What was compiled from it.
    pub(crate) code: Vec<u8>,
    pub(crate) handlers: Vec<String>,
    pub(crate) go: bool,
}

impl Reader {
    /// The evidence of a hit that trapped.
    pub(crate) fn of(&self, which: Which, part: &Part, sites: &[Site]) -> Option<Evidence> {
        let hit = part.collector.evidence(which)?;
        // Without a map there are no places, and everything else is still worth telling.
        let map = CodeMap::of(&self.wasm, &self.code).ok();
        let spots = hit.frames.iter().filter_map(|address| map.as_ref()?.caller(*address));
        let (place, backtrace) = frames(&self.wasm, spots);
        let named = |index: u32| usize::try_from(index).ok();
        let number = part.site(hit.site);
        let site = site(sites, number);
        let handler = named(hit.handler).and_then(|i| self.handlers.get(i));
        Some(Evidence {
            trap: hit.trap.text().into(),
            place,
            backtrace,
            site: number,
            point: site.map_or_else(String::new, |s| s.point.clone()),
            tid: hit.tid,
            handler: handler.cloned().unwrap_or_default(),
            // A marker's are not in these registers.
            args: if site.is_some_and(|s| s.marker.is_some()) {
                Vec::new()
            } else {
                arguments(&hit.registers, self.go)
            },
            replay: None,
            go: self.go,
            hit: Some(hit),
        })
    }
}

/// The registers of integer arguments.
#[must_use]
pub fn arguments(registers: &[u64; 17], go: bool) -> Vec<String> {
    let order: &[&str] = if go { &HitFrame::GO_ARGUMENTS } else { &HitFrame::ARGUMENTS };
    let value = |name: &&str| REGISTERS.iter().position(|r| r == name).and_then(|n| registers.get(n));
    order.iter().filter_map(value).map(|value| format!("{value:#x}")).collect()
}
