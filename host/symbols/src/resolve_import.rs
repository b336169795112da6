//! `import:` points: calls that modules make through their import tables.
//!
//! `import:MODULE:NAME` are the calls of NAME that MODULE makes. Where MODULE does not import NAME but provides it, they are
//! the calls that all modules make to it, its own among them where they go through its table too: `import:libc.so.6:read` reads that way. `import:NAME` are those of all
//! modules.

use std::sync::Arc;

use crate::glob::Glob;
use crate::imports::{Slot, Way};
use crate::matching::{GlobQuery, Query};
use crate::nearest::Nearest;
use crate::resolve::{Origin, Resolved, Resolver, VDSO};
use crate::resolve_error::ResolveError;

impl Resolver {
    pub(crate) fn resolve_imports(
        &self,
        module: Option<&str>,
        name: &str,
    ) -> Result<Vec<Resolved>, ResolveError> {
        let query = Query::new(name);
        let pattern = Glob::new(name).literal().is_none().then(|| GlobQuery::new(name));
        let fits = |raw: &[u8]| pattern.as_ref().map_or_else(|| query.fit(raw).is_some(), |p| p.fits(raw));
        let all: Vec<usize> =
            self.modules().iter().enumerate().filter(|(_, m)| m.name != VDSO).map(|(at, _)| at).collect();
        let imports = |at: &usize| {
            let fits = |slot: &Slot<'_>| !slot.is_own && fits(slot.name);
            self.modules().get(*at).is_some_and(|m| m.elf.imported().iter().any(fits))
        };
        let provides = |at: &usize| {
            let elf = &self.modules().get(*at)?.elf;
            elf.symbols().iter().find(|s| s.is_exported() && fits(elf.raw_name(s)))
        };
        let named = module.map(|module| self.called(module)).transpose()?.map(|(modules, _)| modules);
        let importing = match named {
            Some(named) if named.iter().any(imports) || !named.iter().any(|at| provides(at).is_some()) => {
                named
            }
            Some(_) | None => all,
        };
        let mut found = Vec::new();
        for (at, module) in importing.iter().filter_map(|at| Some((*at, self.modules().get(*at)?))) {
            for (vaddr, import) in module.elf.import_sites(fits) {
                // Nothing but an old symbol of no size (`_init`) would cover a stub.
                let symbol = match import.way {
                    Way::Stub => Some((format!("{}@plt", import.name), 0)),
                    Way::Call | Way::Jump | Way::Address => module.elf.symbolize(vaddr),
                };
                found.push(Resolved {
                    module: at,
                    offset: symbol.as_ref().map_or(0, |(_, offset)| *offset),
                    symbol: symbol.map(|(name, _)| name),
                    vaddr,
                    address: vaddr.wrapping_add(module.bias),
                    indirect: false,
                    origin: Origin::Import(Arc::new(import)),
                });
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let mut nearest = Nearest::to(name);
        let mut imported = false;
        for slot in importing.iter().filter_map(|at| self.modules().get(*at)).flat_map(|m| m.elf.imported()) {
            imported |= fits(slot.name);
            nearest.offer(&String::from_utf8_lossy(slot.name));
        }
        Err(ResolveError::NoImport {
            name: name.into(),
            module: module.map(Into::into),
            imported,
            nearest: nearest.names(),
        })
    }
}
