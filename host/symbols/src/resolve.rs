//! From what the user wrote to addresses in loaded modules.
//!
//! Order of the contract: the whole text as an exact name; then module and rest; then a pattern. An exact name must
//! be one place, save that a C++ or Rust name without parameters means all overloads, and that a pattern of modules
//! means all of them. Aliases at one address are one place. The vdso is looked at only when it is named.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::demangle::{demangle, forms, is_mangled};
use crate::elf::Elf;
use crate::glob::Glob;
use crate::imports::Import;
use crate::markers::Marker;
use crate::matching::{Fit, GlobQuery, Query, is_split_part};
use crate::nearest::Nearest;
use crate::point::{Place, Point, Spot};
use crate::resolve_error::ResolveError;
use crate::symbols::{Symbol, SymbolKind};

pub(crate) const VDSO: &str = "[vdso]";
/// Most mangled names that are demangled for a suggestion.
const SUGGESTED_FROM: usize = 20_000;
/// Most modules that are named in an error.
const MODULES_NAMED: usize = 8;

/// A module in a process.
#[derive(Clone, Debug)]
pub struct LoadedModule {
    /// File name.
    pub name: String,
    /// Path.
    pub path: String,
    /// Other names: symlinks, the name that the program was started by. The file's soname is known without.
    pub aliases: Vec<String>,
    /// The file.
    pub elf: Arc<Elf>,
    /// What to add to the file's addresses.
    pub bias: u64,
}

impl LoadedModule {
    fn is_called(&self, pattern: &str, glob: &Glob) -> bool {
        let names = [self.name.as_str(), self.path.as_str()].into_iter();
        names
            .chain(self.aliases.iter().map(String::as_str))
            .chain(self.elf.soname())
            .any(|name| name == pattern || glob.matches(name))
    }
}

/// A place that a point names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Index of the module.
    pub module: usize,
    /// The function, demangled, if one covers the place.
    pub symbol: Option<String>,
    /// Bytes behind the function's first one.
    pub offset: u64,
    /// Address in the file.
    pub vaddr: u64,
    /// Address in the process.
    pub address: u64,
    /// The function is a resolver that returns the function which calls really go to (`STT_GNU_IFUNC`).
    pub indirect: bool,
    /// What the point named there.
    pub origin: Origin,
}

/// What a point names at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A function or an instruction.
    #[default]
    Code,
    /// A marker.
    Marker(Arc<Marker>),
    /// A place where code goes through the import table, or reads it.
    Import(Arc<Import>),
}

impl Resolved {
    /// Address in the process of the semaphore of the marker that is here, if it has one.
    #[must_use]
    pub fn semaphore(&self) -> Option<u64> {
        let Origin::Marker(marker) = &self.origin else { return None };
        marker.semaphore.map(|at| at.wrapping_add(self.address.wrapping_sub(self.vaddr)))
    }
}

/// Modules of a process, to look for points in.
#[derive(Clone, Debug)]
pub struct Resolver {
    modules: Vec<LoadedModule>,
}

/// A symbol that has the name.
struct Found {
    module: usize,
    vaddr: u64,
    kind: SymbolKind,
    fit: Fit,
    name: String,
}

impl Resolver {
    /// A resolver over modules; they keep their order.
    #[must_use]
    pub const fn new(modules: Vec<LoadedModule>) -> Self {
        Self { modules }
    }

    /// The modules.
    #[must_use]
    pub fn modules(&self) -> &[LoadedModule] {
        &self.modules
    }

    /// All places of a point, in ascending order of module and address.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub fn resolve(&self, point: &Point) -> Result<Vec<Resolved>, ResolveError> {
        match point {
            Point::Place(place) => self.resolve_place(place),
            Point::Return(_) => Err(ResolveError::NotYet { kind: "return:" }),
            Point::Line { .. } => Err(ResolveError::NotYet { kind: "FILE:LINE" }),
            Point::Usdt { provider, marker } => self.resolve_markers(provider.as_deref(), marker),
            Point::Import { module, function } => self.resolve_imports(module.as_deref(), function),
        }
    }

    fn resolve_place(&self, place: &Place) -> Result<Vec<Resolved>, ResolveError> {
        let all: Vec<usize> =
            self.modules.iter().enumerate().filter(|(_, m)| m.name != VDSO).map(|(at, _)| at).collect();
        if !matches!(place.spot, Spot::Address(_)) {
            let found = self.exact(&place.text, &all);
            if !found.is_empty() {
                return self.one_place(&place.text, found, false, 0);
            }
        }
        let (modules, many) = match &place.module {
            Some(pattern) => self.called(pattern)?,
            None => (all, false),
        };
        match &place.spot {
            Spot::Address(address) if place.module.is_some() => self.by_vaddr(*address, &modules, place),
            Spot::Address(address) => self.by_address(*address).map(|resolved| vec![resolved]),
            Spot::Name { name, offset } => self.by_name(place, name, *offset, &modules, many),
        }
    }

    /// The modules that a name or pattern means.
    #[must_use]
    pub fn named(&self, pattern: &str) -> Vec<LoadedModule> {
        let named = self.called(pattern).map(|(modules, _)| modules).unwrap_or_default();
        named.into_iter().filter_map(|at| self.modules.get(at).cloned()).collect()
    }

    /// The modules that a name or pattern means, and whether it may mean several.
    pub(crate) fn called(&self, pattern: &str) -> Result<(Vec<usize>, bool), ResolveError> {
        let glob = Glob::new(pattern);
        let found: Vec<usize> = self
            .modules
            .iter()
            .enumerate()
            .filter(|(_, m)| m.is_called(pattern, &glob))
            .map(|(at, _)| at)
            .collect();
        if found.is_empty() {
            let mut nearest = Nearest::to(pattern);
            self.modules.iter().for_each(|m| nearest.offer(&m.name));
            let mut nearest = nearest.names();
            let others = self.modules.iter().map(|m| &m.name).filter(|name| !nearest.contains(name));
            let others: Vec<String> =
                others.take(MODULES_NAMED.saturating_sub(nearest.len())).cloned().collect();
            nearest.extend(others);
            return Err(ResolveError::NoModule { module: pattern.into(), nearest });
        }
        Ok((found, glob.literal().is_none()))
    }

    fn by_name(
        &self,
        place: &Place,
        name: &str,
        offset: u64,
        modules: &[usize],
        many: bool,
    ) -> Result<Vec<Resolved>, ResolveError> {
        let glob = Glob::new(name);
        let literal = glob.literal();
        let mut found = self.exact(name, modules);
        if found.is_empty() && literal.as_deref().is_some_and(|literal| literal != name) {
            found = self.exact(literal.as_deref().unwrap_or(name), modules);
        }
        if !found.is_empty() {
            return self.one_place(name, found, many, offset);
        }
        if literal.is_none() {
            found = self.matching(name, modules);
        }
        if found.is_empty() {
            return Err(self.unknown(literal.as_deref().unwrap_or(name), place.module.as_deref(), modules));
        }
        if offset != 0 && found.len() > 1 {
            return Err(self.ambiguous(name, &found));
        }
        found.iter().map(|f| self.resolved(f, offset)).collect()
    }

    /// Every place whose name is `name`: functions, or labels where no function has it.
    fn exact(&self, name: &str, modules: &[usize]) -> Vec<Found> {
        let query = Query::new(name);
        let mut found = self.search(modules, |raw| query.fit(raw));
        if found.iter().any(|f| f.kind != SymbolKind::Label) {
            found.retain(|f| f.kind != SymbolKind::Label);
        }
        if found.iter().any(|f| f.fit != Fit::Variant) {
            found.retain(|f| f.fit != Fit::Variant);
        }
        found
    }

    /// Every function whose name fits a pattern.
    fn matching(&self, pattern: &str, modules: &[usize]) -> Vec<Found> {
        let query = GlobQuery::new(pattern);
        let mut found =
            self.search(modules, |raw| (!is_split_part(raw) && query.fits(raw)).then_some(Fit::Demangled));
        found.retain(|f| f.kind != SymbolKind::Label);
        found
    }

    /// Symbols that fit, one for each address: the best fit, and of those the first.
    fn search(&self, modules: &[usize], fit: impl Fn(&[u8]) -> Option<Fit>) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for (at, module) in modules.iter().filter_map(|at| Some((*at, self.modules.get(*at)?))) {
            let elf = &module.elf;
            for symbol in elf.symbols() {
                if let Some(fit) = fit(elf.raw_name(symbol)) {
                    let name = elf.name(symbol).into_owned();
                    found.push(Found { module: at, vaddr: symbol.address, kind: symbol.kind, fit, name });
                }
            }
            let Some(table) = elf.go_table() else { continue };
            for function in &table.functions {
                let name = table.name(elf, function);
                if let Some(fit) = fit(name) {
                    let name = String::from_utf8_lossy(name).into_owned();
                    found.push(Found {
                        module: at,
                        vaddr: function.start,
                        kind: SymbolKind::Function,
                        fit,
                        name,
                    });
                }
            }
        }
        found.sort_by_key(|f| (f.module, f.vaddr, f.fit, f.kind));
        found.dedup_by_key(|f| (f.module, f.vaddr));
        found
    }

    /// Decides whether an exact name is one place, or several that belong together.
    fn one_place(
        &self,
        name: &str,
        mut found: Vec<Found>,
        many_modules: bool,
        offset: u64,
    ) -> Result<Vec<Resolved>, ResolveError> {
        let mut raw_in: BTreeMap<usize, usize> = BTreeMap::new();
        for f in found.iter().filter(|f| f.fit == Fit::Raw) {
            *raw_in.entry(f.module).or_default() += 1;
        }
        // In a module where the text is the name itself, it is not the short form of others.
        found.retain(|f| f.fit == Fit::Raw || !raw_in.contains_key(&f.module));
        let first = found.first().map(|f| f.module);
        let several_modules = found.iter().any(|f| Some(f.module) != first);
        if (several_modules && !many_modules)
            || raw_in.values().any(|count| *count > 1)
            || (offset != 0 && found.len() > 1)
        {
            return Err(self.ambiguous(name, &found));
        }
        found.iter().map(|f| self.resolved(f, offset)).collect()
    }

    fn ambiguous(&self, name: &str, found: &[Found]) -> ResolveError {
        let label = |f: &Found| format!("{}:{}", self.label(f.module), demangle(&f.name));
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for f in found {
            *seen.entry(label(f)).or_default() += 1;
        }
        // A name that is not unique in its module is told apart by its address.
        let candidate = |f: &Found| match label(f) {
            label if seen.get(&label) == Some(&1) => label,
            _ => format!("{}:{:#x}", self.label(f.module), f.vaddr),
        };
        ResolveError::Ambiguous { name: name.into(), candidates: found.iter().map(candidate).collect() }
    }

    /// The name of a module that no other has: its file name, or else its path.
    fn label(&self, module: usize) -> &str {
        let Some(m) = self.modules.get(module) else { return "?" };
        let same = self.modules.iter().filter(|other| other.name == m.name).count();
        if same > 1 { &m.path } else { &m.name }
    }

    fn resolved(&self, found: &Found, offset: u64) -> Result<Resolved, ResolveError> {
        let name = demangle(&found.name);
        let module = self.modules.get(found.module);
        if offset != 0
            && let Some(size) = module.and_then(|m| m.elf.size_from(found.vaddr))
            && offset >= size
        {
            return Err(ResolveError::OutsideFunction { name: name.into(), offset, size });
        }
        let vaddr = found.vaddr.wrapping_add(offset);
        Ok(Resolved {
            module: found.module,
            symbol: Some(name.into()),
            offset,
            vaddr,
            address: vaddr.wrapping_add(module.map_or(0, |m| m.bias)),
            indirect: found.kind == SymbolKind::Indirect,
            origin: Origin::Code,
        })
    }

    fn by_vaddr(&self, vaddr: u64, modules: &[usize], place: &Place) -> Result<Vec<Resolved>, ResolveError> {
        if modules.len() > 1 {
            let candidates = modules.iter().map(|m| format!("{}:{vaddr:#x}", self.label(*m))).collect();
            return Err(ResolveError::Ambiguous { name: place.text.clone(), candidates });
        }
        let resolved = modules.iter().map(|module| self.at(*module, vaddr, place.text.clone()));
        resolved.collect()
    }

    fn by_address(&self, address: u64) -> Result<Resolved, ResolveError> {
        let outside = |place: String| ResolveError::OutsideText { address: format!("{address:#x}"), place };
        for (at, module) in self.modules.iter().enumerate() {
            let vaddr = address.wrapping_sub(module.bias);
            let inside = |s: &crate::Segment| vaddr >= s.vaddr && vaddr - s.vaddr < s.memory_size;
            if module.elf.segments().iter().any(inside) {
                return self.at(at, vaddr, format!("{address:#x}"));
            }
        }
        Err(outside("no module is loaded there".into()))
    }

    fn at(&self, module: usize, vaddr: u64, address: String) -> Result<Resolved, ResolveError> {
        let name = self.label(module);
        let Some(m) = self.modules.get(module) else { return Err(ResolveError::NotYet { kind: "such" }) };
        if !m.elf.is_text(vaddr) {
            let inside = m.elf.segments().iter().any(|s| vaddr >= s.vaddr && vaddr - s.vaddr < s.memory_size);
            let place =
                if inside { format!("{name} has data there") } else { format!("{name} has nothing there") };
            return Err(ResolveError::OutsideText { address, place });
        }
        let functions = m.elf.functions();
        let after = functions.partition_point(|(start, _)| *start <= vaddr);
        // Functions may contain others: the last start before the address need not be the one that covers it.
        let covered = functions
            .get(..after)
            .is_some_and(|before| before.iter().rev().take(64).any(|(_, end)| vaddr < *end));
        if !covered {
            let next = functions.get(after).map(|(start, _)| format!("{name}:{start:#x}"));
            return Err(ResolveError::NoCode { address, next });
        }
        let symbol = m.elf.symbolize(vaddr);
        Ok(Resolved {
            module,
            offset: symbol.as_ref().map_or(0, |(_, offset)| *offset),
            symbol: symbol.map(|(name, _)| name),
            vaddr,
            address: vaddr.wrapping_add(m.bias),
            indirect: false,
            origin: Origin::Code,
        })
    }

    fn unknown(&self, name: &str, module: Option<&str>, modules: &[usize]) -> ResolveError {
        let mut nearest = Nearest::to(name);
        let mut stripped = Vec::new();
        let mut demangled = 0;
        for m in modules.iter().filter_map(|at| self.modules.get(*at)) {
            for symbol in m.elf.symbols().iter().filter(|s| s.kind != SymbolKind::Label) {
                let raw = m.elf.raw_name(symbol);
                let Ok(text) = std::str::from_utf8(raw) else { continue };
                if !is_mangled(raw) {
                    nearest.offer(text);
                } else if demangled < SUGGESTED_FROM {
                    demangled += 1;
                    nearest.offer(&forms(text).map_or_else(|| text.into(), |f| f.plain));
                }
            }
            if let Some(table) = m.elf.go_table() {
                let names = table.functions.iter().map(|f| table.name(&m.elf, f));
                names.filter_map(|raw| std::str::from_utf8(raw).ok()).for_each(|name| nearest.offer(name));
            }
            if m.elf.is_stripped() {
                stripped.push(m.name.clone());
            }
        }
        let (name, module) = (name.into(), module.map(Into::into));
        ResolveError::Unknown { name, module, nearest: nearest.names(), stripped }
    }

    /// Module, function and offset of an address in the process.
    #[must_use]
    pub fn symbolize(&self, address: u64) -> Option<(usize, String, u64)> {
        self.modules.iter().enumerate().find_map(|(at, module)| {
            let vaddr = address.wrapping_sub(module.bias);
            module.elf.symbolize(vaddr).map(|(name, offset)| (at, name, offset))
        })
    }
}

impl Elf {
    /// Bytes of the function that starts at an address.
    pub(crate) fn size_from(&self, vaddr: u64) -> Option<u64> {
        let functions = self.functions();
        let at = functions.binary_search_by_key(&vaddr, |(start, _)| *start).ok()?;
        functions.get(at).map(|(start, end)| end - start)
    }

    /// The function that covers an address of the file, demangled, and the offset in it.
    #[must_use]
    pub fn symbolize(&self, vaddr: u64) -> Option<(String, u64)> {
        if !self.is_text(vaddr) {
            return None;
        }
        if let Some(table) = self.go_table() {
            let after = table.functions.partition_point(|f| f.start <= vaddr);
            let function =
                after.checked_sub(1).and_then(|at| table.functions.get(at)).filter(|f| vaddr < f.end);
            if let Some(function) = function {
                let name = String::from_utf8_lossy(table.name(self, function)).into_owned();
                return Some((name, vaddr - function.start));
            }
        }
        let symbols = self.symbols();
        let after = symbols.partition_point(|s| s.address <= vaddr);
        // Aliases and labels within the function lie between; more than a few do not occur.
        let before = symbols.get(after.saturating_sub(256)..after)?;
        let next = symbols.get(after).map_or(u64::MAX, |s| s.address);
        let covers = |s: &&Symbol| match s.size {
            0 => vaddr < next && before.last().is_some_and(|last| last.address == s.address),
            size => vaddr - s.address < size,
        };
        let rank = |s: &&Symbol| {
            let name = self.raw_name(s);
            let underscores = name.iter().take_while(|b| **b == b'_').count();
            (
                s.kind == SymbolKind::Label,
                u64::MAX - s.address,
                s.size == 0,
                s.binding,
                underscores,
                name.len(),
            )
        };
        let best = before.iter().filter(covers).min_by_key(rank)?;
        Some((demangle(&self.name(best)).into_owned(), vaddr - best.address))
    }
}
