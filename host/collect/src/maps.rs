//! Merging the shards of a map: each thread has written its own, the sum is what the user asked for.
//!
//! Sums wrap, as the probe's own arithmetic does. Keys are a hostile program's bytes: their length is
//! checked against the map's, and the number of rows is bounded.

use std::collections::{BTreeMap, HashMap};
use std::mem::offset_of;

use trocar_abi::map::{HashEntry, HashHead, KEY_MAX, MapKind, MapSpec, hist_buckets};
use trocar_ring::SharedView;

/// Most rows of one merged hash map. A map has at most 65 536 entries in each thread; a target with thousands
/// of threads and different keys in each could fill the host's memory without this.
pub const ROWS_MAX: usize = 262_144;

/// Bytes read at once.
const CHUNK: usize = 4096;

/// A map, merged over all threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergedMap {
    /// Index and sum of each counter that is not zero, by index.
    Counter(Vec<(u32, i64)>),
    /// Entry, bucket and count of each bucket that is not zero, by entry and bucket.
    Hist(Vec<(u32, u32, u64)>),
    /// A hash table.
    Hash {
        /// Key and sum, by key.
        rows: Vec<(Vec<u8>, i64)>,
        /// Updates that found no slot in the target.
        dropped: u64,
        /// Entries that were skipped: their key is longer than the map's keys.
        corrupt: u64,
        /// Entries that were left out because there were more than [`ROWS_MAX`] different keys.
        cut: u64,
    },
}

impl MergedMap {
    /// Adds the rows of the same map of another attachment.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Counter(rows), Self::Counter(more)) => {
                Self::Counter(summed(rows, more, |a, b| a.wrapping_add(b)))
            }
            (Self::Hist(rows), Self::Hist(more)) => {
                let keyed =
                    |rows: Vec<(u32, u32, u64)>| rows.into_iter().map(|(e, b, n)| ((e, b), n)).collect();
                let rows = summed(keyed(rows), keyed(more), u64::wrapping_add);
                Self::Hist(rows.into_iter().map(|((e, b), n)| (e, b, n)).collect())
            }
            (
                Self::Hash { rows, dropped, corrupt, cut },
                Self::Hash { rows: more, dropped: d, corrupt: c, cut: o },
            ) => {
                let mut rows = summed(rows, more, |a, b| a.wrapping_add(b));
                let beyond = rows.len().saturating_sub(ROWS_MAX);
                rows.truncate(ROWS_MAX);
                let cut = cut.saturating_add(o).saturating_add(beyond as u64);
                Self::Hash {
                    rows,
                    dropped: dropped.saturating_add(d),
                    corrupt: corrupt.saturating_add(c),
                    cut,
                }
            }
            // Two kinds are two maps.
            (own, _) => own,
        }
    }
}

/// Rows of both, in the order of their keys; those of one key are one.
fn summed<K: Ord, V: Copy>(rows: Vec<(K, V)>, more: Vec<(K, V)>, sum: fn(V, V) -> V) -> Vec<(K, V)> {
    let mut all = BTreeMap::new();
    for (key, value) in rows.into_iter().chain(more) {
        all.entry(key).and_modify(|old| *old = sum(*old, value)).or_insert(value);
    }
    all.into_iter().collect()
}

/// Merges the shards that begin at the given offsets; `None` if the map is of no known kind.
pub(crate) fn merge(
    view: &SharedView,
    spec: &MapSpec,
    shards: impl Iterator<Item = u64>,
) -> Option<MergedMap> {
    Some(match MapKind::from_u32(spec.kind)? {
        MapKind::Counter => {
            let sums = sum_words(view, shards, spec.entries as usize);
            let rows = (0..).zip(sums).filter(|(_, sum)| *sum != 0).map(|(i, sum)| (i, sum.cast_signed()));
            MergedMap::Counter(rows.collect())
        }
        MapKind::Hist => {
            let buckets = hist_buckets(spec.precision());
            let sums = sum_words(view, shards, spec.entries as usize * buckets);
            let entries = (0..).zip(sums.chunks(buckets));
            let rows = entries.flat_map(|(entry, buckets)| {
                (0..).zip(buckets).filter(|(_, n)| **n != 0).map(move |(bucket, n)| (entry, bucket, *n))
            });
            MergedMap::Hist(rows.collect())
        }
        MapKind::Hash => merge_hash(view, spec, shards),
    })
}

/// Sums `count` words over all shards, place by place.
fn sum_words(view: &SharedView, shards: impl Iterator<Item = u64>, count: usize) -> Vec<u64> {
    let mut sums = vec![0u64; count];
    let mut bytes = [0u8; CHUNK];
    for shard in shards {
        for (at, part) in (shard..).step_by(CHUNK).zip(sums.chunks_mut(CHUNK / 8)) {
            let Some(bytes) = bytes.get_mut(..part.len() * 8) else { continue };
            if view.copy_out(at, bytes).is_none() {
                continue;
            }
            for (sum, word) in part.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            }
        }
    }
    sums
}

/// Merges hash tables by the bytes of their keys. The target's hash values only tell used slots from free
/// ones; our own table has a secret seed, so that no target can choose keys that make it slow.
fn merge_hash(view: &SharedView, spec: &MapSpec, shards: impl Iterator<Item = u64>) -> MergedMap {
    let mut sums: HashMap<Vec<u8>, u64> = HashMap::new();
    let (mut dropped, mut corrupt, mut cut) = (0u64, 0u64, 0u64);
    let stride = MapSpec::hash_stride(spec.key_bytes);
    let mut key_bytes = [0u8; KEY_MAX as usize];
    for shard in shards {
        let head = |field: usize| view.load_u64_acquire(shard + field as u64).unwrap_or(0);
        dropped = dropped.saturating_add(head(offset_of!(HashHead, dropped)));
        if head(offset_of!(HashHead, used)) == 0 {
            // Nothing in it: its other pages were never touched, and are not touched by us.
            continue;
        }
        for slot in (0..u64::from(spec.entries)).map(|i| shard + size_of::<HashHead>() as u64 + i * stride) {
            let word = |field: usize| view.load_u64_acquire(slot + field as u64).unwrap_or(0);
            if word(offset_of!(HashEntry, hash)) == 0 {
                continue;
            }
            let key_len = word(offset_of!(HashEntry, key_len));
            let key = (key_len <= u64::from(spec.key_bytes))
                .then(|| usize::try_from(key_len).ok().and_then(|len| key_bytes.get_mut(..len)))
                .flatten();
            let Some(key) = key else {
                corrupt += 1;
                continue;
            };
            if view.copy_out(slot + size_of::<HashEntry>() as u64, key).is_none() {
                corrupt += 1;
                continue;
            }
            let value = word(offset_of!(HashEntry, value));
            if let Some(sum) = sums.get_mut(&*key) {
                *sum = sum.wrapping_add(value);
            } else if sums.len() < ROWS_MAX {
                sums.insert(key.to_vec(), value);
            } else {
                cut += 1;
            }
        }
    }
    let mut rows: Vec<_> = sums.into_iter().map(|(key, sum)| (key, sum.cast_signed())).collect();
    rows.sort_unstable();
    MergedMap::Hash { rows, dropped, corrupt, cut }
}

#[cfg(test)]
mod tests {
    use super::MergedMap::{Counter, Hash, Hist};
    use super::ROWS_MAX;

    #[test]
    fn maps_of_two_attachments_are_summed_row_by_row() {
        let sum = Counter(vec![(0, 3), (2, -1)]).and(Counter(vec![(1, 5), (2, 4)]));
        assert_eq!(sum, Counter(vec![(0, 3), (1, 5), (2, 3)]));
        let sum = Hist(vec![(0, 1, 2), (1, 0, 1)]).and(Hist(vec![(0, 1, 40), (0, 2, 1)]));
        assert_eq!(sum, Hist(vec![(0, 1, 42), (0, 2, 1), (1, 0, 1)]));
        let hash = |rows: &[(&str, i64)], dropped, corrupt| Hash {
            rows: rows.iter().map(|(key, n)| (key.as_bytes().to_vec(), *n)).collect(),
            dropped,
            corrupt,
            cut: 0,
        };
        let sum = hash(&[("get", 1), ("set", 2)], 3, 1).and(hash(&[("get", 10)], 4, 0));
        assert_eq!(sum, hash(&[("get", 11), ("set", 2)], 7, 1));
    }

    #[test]
    fn rows_beyond_the_limit_are_cut_and_counted() {
        let rows = |from: usize| -> Vec<(Vec<u8>, i64)> {
            (from..from + ROWS_MAX).map(|n| (n.to_be_bytes().to_vec(), 1)).collect()
        };
        let hash = |rows| Hash { rows, dropped: 0, corrupt: 0, cut: 0 };
        let Hash { rows, cut, .. } = hash(rows(0)).and(hash(rows(10))) else { unreachable!() };
        assert_eq!((rows.len(), cut), (ROWS_MAX, 10));
    }
}
