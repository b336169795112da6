//! Names and source lines of a module: from its name section, its exports, and its DWARF.
//!
//! All of it is the probe author's and may be wrong or hostile; what cannot be read is not there.

use std::collections::BTreeMap;

use gimli::{EndianSlice, LittleEndian};
use trocar_symbols::demangle;
use wasmparser::{ExternalKind, KnownCustom, Name, Parser, Payload};

use crate::code_map::Spot;

/// Most characters of a name or of a path that are kept.
const TEXT_MAX: usize = 512;
/// Most functions that are inlined into one another at one place.
const INLINED_MAX: usize = 16;

type Lines<'a> = addr2line::Context<EndianSlice<'a, LittleEndian>>;

/// What a module says of its own source.
pub struct Source<'a> {
    names: BTreeMap<u32, String>,
    lines: Option<Lines<'a>>,
    /// Where the contents of the code section begin: DWARF counts from there.
    code_start: u32,
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("names", &self.names.len()).finish_non_exhaustive()
    }
}

/// A function at a place in a module, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The function's name, demangled; `function N` if it has none.
    pub function: String,
    /// File and line, if the module has DWARF.
    pub source: Option<String>,
}

impl<'a> Source<'a> {
    /// Reads a module.
    #[must_use]
    pub fn of(wasm: &'a [u8]) -> Self {
        let mut source = Self { names: BTreeMap::new(), lines: None, code_start: 0 };
        let mut exports = Vec::new();
        let mut sections: BTreeMap<&str, &'a [u8]> = BTreeMap::new();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload {
                Ok(Payload::ExportSection(reader)) => {
                    let functions = reader.into_iter().flatten().filter(|e| e.kind == ExternalKind::Func);
                    exports.extend(functions.map(|e| (e.index, e.name)));
                }
                Ok(Payload::CodeSectionStart { range, .. }) => {
                    source.code_start = u32::try_from(range.start).unwrap_or(0);
                }
                Ok(Payload::CustomSection(section)) => match section.as_known() {
                    KnownCustom::Name(reader) => {
                        let maps = reader.into_iter().flatten();
                        let functions = maps
                            .filter_map(|map| if let Name::Function(map) = map { Some(map) } else { None });
                        let names = functions.flat_map(|map| map.into_iter().flatten());
                        source.names.extend(names.map(|name| (name.index, cut(&demangle(name.name)))));
                    }
                    _ if section.name().starts_with(".debug_") => {
                        sections.insert(section.name(), section.data());
                    }
                    _ => {}
                },
                Ok(_) => {}
                Err(_) => break,
            }
        }
        for (index, name) in exports {
            source.names.entry(index).or_insert_with(|| cut(&demangle(name)));
        }
        if sections.contains_key(".debug_info") {
            source.lines = lines(&sections);
        }
        source
    }

    /// The function of a spot, last, and before it those that the probe's compiler inlined there, innermost first.
    #[must_use]
    pub fn places(&self, spot: Spot) -> Vec<Place> {
        let mut places = self.inlined(spot).unwrap_or_default();
        // The name section is right about the function itself; DWARF may lack it.
        let name = self.names.get(&spot.function).cloned();
        let function = name.unwrap_or_else(|| format!("function {}", spot.function));
        let source = places.pop().and_then(|own| own.source);
        places.push(Place { function, source });
        places
    }

    /// What DWARF knows of a spot: functions inlined there, and the function itself.
    fn inlined(&self, spot: Spot) -> Option<Vec<Place>> {
        let address = spot.offset?.checked_sub(self.code_start)?;
        let mut frames = self.lines.as_ref()?.find_frames(u64::from(address)).skip_all_loads().ok()?;
        let mut places = Vec::new();
        while let Ok(Some(frame)) = frames.next()
            && places.len() < INLINED_MAX
        {
            let location = frame.location.as_ref();
            let source = location.and_then(|l| Some((cut(l.file?), l.line)));
            let source = source.map(|(file, line)| match line {
                Some(line) => format!("{file}:{line}"),
                None => file,
            });
            let name = frame.function.as_ref().and_then(|f| f.raw_name().ok());
            let function = name.map_or_else(|| "?".to_owned(), |name| cut(&demangle(&name)));
            places.push(Place { function, source });
        }
        Some(places)
    }
}

fn lines<'a>(sections: &BTreeMap<&str, &'a [u8]>) -> Option<Lines<'a>> {
    let load = |id: gimli::SectionId| {
        let bytes = sections.get(id.name()).copied().unwrap_or_default();
        Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
    };
    addr2line::Context::from_dwarf(gimli::Dwarf::load(load).ok()?).ok()
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}
