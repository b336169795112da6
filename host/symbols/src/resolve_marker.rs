//! `usdt:` points: markers by provider and name, or patterns of them, in all modules.
//!
//! A name that stands at several places means all of them: to the program's author they are one event.

use std::sync::Arc;

use crate::glob::Glob;
use crate::nearest::Nearest;
use crate::resolve::{Origin, Resolved, Resolver, VDSO};
use crate::resolve_error::ResolveError;

impl Resolver {
    pub(crate) fn resolve_markers(
        &self,
        provider: Option<&str>,
        name: &str,
    ) -> Result<Vec<Resolved>, ResolveError> {
        let (of, names) = (Glob::new(provider.unwrap_or("*")), Glob::new(name));
        let fits = |wanted: Option<&str>, glob: &Glob, text: &str| wanted == Some(text) || glob.matches(text);
        let mut found = Vec::new();
        let mut others = Vec::new();
        for (at, module) in self.modules().iter().enumerate().filter(|(_, m)| m.name != VDSO) {
            for marker in module.elf.markers() {
                if !fits(provider, &of, &marker.provider) || !fits(Some(name), &names, &marker.name) {
                    others.push(format!("{}:{}", marker.provider, marker.name));
                    continue;
                }
                let symbol = module.elf.symbolize(marker.vaddr);
                found.push(Resolved {
                    module: at,
                    offset: symbol.as_ref().map_or(0, |(_, offset)| *offset),
                    symbol: symbol.map(|(name, _)| name),
                    vaddr: marker.vaddr,
                    address: marker.vaddr.wrapping_add(module.bias),
                    indirect: false,
                    origin: Origin::Marker(Arc::new(marker)),
                });
            }
        }
        if !found.is_empty() {
            found.sort_by_key(|r| (r.module, r.vaddr));
            return Ok(found);
        }
        let name = provider.map_or_else(|| name.to_owned(), |provider| format!("{provider}:{name}"));
        // Beside whole names, also by the last part alone: the provider may be what is wrong.
        let mut nearest = Nearest::to(&name);
        let mut by_name = Nearest::to(name.rsplit(':').next().unwrap_or_default());
        let mut last_parts = Vec::new();
        for other in &others {
            nearest.offer(other);
            let last = other.rsplit(':').next().unwrap_or_default();
            by_name.offer(last);
            last_parts.push((last, other));
        }
        let mut nearest = nearest.names();
        for near in by_name.names() {
            let whole =
                last_parts.iter().filter(|(last, _)| *last == near).map(|(_, other)| (*other).clone());
            nearest.extend(whole);
        }
        let mut seen = std::collections::HashSet::new();
        nearest.retain(|name| seen.insert(name.clone()));
        nearest.truncate(SUGGESTED);
        Err(ResolveError::NoMarker { name, any: !others.is_empty(), nearest })
    }
}

/// Most markers that an error suggests.
const SUGGESTED: usize = 5;
