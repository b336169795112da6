//! Where each map lies in a context's shard.
//!
//! ```text
//! shard of a context:  | map 0 … | map 1 … | map 2 … |     each starts on a multiple of 8
//! ```

use trocar_abi::map::MapSpec;
use trocar_abi::round_up;

use crate::error::ManifestError;
use crate::field;
use crate::manifest::{Manifest, MapType};

/// Most bytes of all maps of a probe in one context. Memory that is never touched is never allocated.
pub const MAP_BYTES_MAX: u64 = 32 << 20;

/// Alignment of a map in bytes: its counters are 64-bit words.
const ALIGN: u64 = 8;

impl Manifest {
    /// The maps as both sides see them, with their offsets in a context's shard, and the shard's bytes.
    ///
    /// A hash map has its entries rounded up to a power of two.
    #[must_use]
    pub fn map_specs(&self) -> (Vec<MapSpec>, u64) {
        let mut end = 0u64;
        let specs = self
            .maps
            .iter()
            .map(|map| {
                let hash = map.kind == MapType::Hash;
                let mut spec = MapSpec {
                    kind: map.kind.kind() as u32,
                    entries: if hash {
                        map.entries.checked_next_power_of_two().unwrap_or(0)
                    } else {
                        map.entries
                    },
                    key_bytes: match map.kind {
                        MapType::Hist => map.precision,
                        _ => u32::try_from(field::size(&map.key)).unwrap_or(0),
                    },
                    offset: 0,
                };
                // The check below holds the sum far under 4 GiB, so that nothing is cut off here.
                spec.offset = u32::try_from(end).unwrap_or(u32::MAX);
                end = round_up(end.saturating_add(spec.shard_bytes()), ALIGN);
                spec
            })
            .collect();
        (specs, end)
    }
}

/// Checks that all maps together are within [`MAP_BYTES_MAX`].
pub(crate) fn check_total(manifest: &Manifest) -> Result<(), ManifestError> {
    let (_, total) = manifest.map_specs();
    if total > MAP_BYTES_MAX {
        return Err(ManifestError::field(
            "maps",
            format!(
                "{total} bytes together (in each thread) are more than the {MAP_BYTES_MAX} that are allowed; \
                 use fewer entries"
            ),
        ));
    }
    Ok(())
}
