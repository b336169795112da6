//! Maps: state that outlives a hit and is seen across threads. The host provides them; each context has
//! its own shard in shared memory, written by that context alone and merged by the reader.
//!
//! ```text
//! counter   [u64; entries]
//! hist      [[u64; hist_buckets(precision)]; entries]  precision 0: bucket 0 is value 0; bucket i: 2^(i-1) <= value < 2^i;
//!                                                       precision p: each of these cut into 2^p equal parts
//! hash      HashHead, then [HashEntry header + key, padded to 8; entries]   open addressing, PROBES steps
//! ```

/// Kind of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// An array of 64-bit counters.
    Counter = 0,
    /// An array of log2 histograms.
    Hist = 1,
    /// A hash table from byte keys to 64-bit sums.
    Hash = 2,
}

impl MapKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_u32(n: u32) -> Option<Self> {
        Some(match n {
            0 => Self::Counter,
            1 => Self::Hist,
            2 => Self::Hash,
            _ => return None,
        })
    }

    /// The name in the manifest and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Hist => "hist",
            Self::Hash => "hash",
        }
    }
}

/// Buckets of a log2 histogram of a 64-bit value.
pub const HIST_BUCKETS: usize = hist_buckets(0);
/// Greatest precision of a histogram: buckets at most 1/64 wide.
pub const PRECISION_MAX: u32 = 6;
/// Most steps of a hash look-up before the table counts as full.
pub const PROBES: u32 = 16;
/// Longest key of a hash map in bytes.
pub const KEY_MAX: u32 = 256;
/// Most entries of one map.
pub const ENTRIES_MAX: u32 = 65_536;
/// Most maps of one probe.
pub const MAPS_MAX: u32 = 32;

/// A map as both sides see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MapSpec {
    /// Number of a [`MapKind`].
    pub kind: u32,
    /// Counters, histograms, or slots of the table (a power of two for a hash map).
    pub entries: u32,
    /// Longest key of a hash map in bytes; of a histogram its precision; zero for a counter map.
    pub key_bytes: u32,
    /// Offset of this map's shard from the start of the context's map area, in bytes.
    pub offset: u32,
}
const _: () = assert!(size_of::<MapSpec>() == 16);

/// Head of a hash map's shard.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct HashHead {
    /// Slots in use.
    pub used: u64,
    /// Updates that found no slot.
    pub dropped: u64,
}

/// Head of a slot of a hash map's shard; the key follows, padded to eight bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct HashEntry {
    /// Hash of the key, never zero; zero marks a free slot. Written last, so that a reader sees whole keys.
    pub hash: u64,
    /// The sum.
    pub value: u64,
    /// Bytes of the key in use.
    pub key_len: u64,
}

impl MapSpec {
    /// Bytes of one slot of a hash map.
    #[must_use]
    pub const fn hash_stride(key_bytes: u32) -> u64 {
        size_of::<HashEntry>() as u64 + crate::round_up(key_bytes as u64, 8)
    }

    /// Precision of a histogram.
    #[must_use]
    pub const fn precision(&self) -> u32 {
        if self.key_bytes < PRECISION_MAX { self.key_bytes } else { PRECISION_MAX }
    }

    /// Bytes of a shard of this map.
    #[must_use]
    pub const fn shard_bytes(&self) -> u64 {
        match MapKind::from_u32(self.kind) {
            Some(MapKind::Counter) => self.entries as u64 * 8,
            Some(MapKind::Hist) => self.entries as u64 * hist_buckets(self.precision()) as u64 * 8,
            Some(MapKind::Hash) => {
                size_of::<HashHead>() as u64 + self.entries as u64 * Self::hash_stride(self.key_bytes)
            }
            None => 0,
        }
    }
}

/// Buckets of a histogram of 64-bit values of this precision.
#[must_use]
pub const fn hist_buckets(precision: u32) -> usize {
    (65 - precision as usize) << precision
}

/// Bucket of a value: its highest bit, and the `precision` bits below. Values under 2^precision have one each.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "x86-64 only, and the result is below 4096")]
pub const fn hist_bucket(value: u64, precision: u32) -> usize {
    let bits = 64 - value.leading_zeros();
    if bits <= precision {
        return value as usize;
    }
    let shift = bits - 1 - precision;
    ((shift as usize) << precision) + (value >> shift) as usize
}

/// Lowest and highest value of a bucket.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "a bucket's number is below 4096")]
pub const fn hist_range(bucket: usize, precision: u32) -> (u64, u64) {
    let parts = 1usize << precision;
    if bucket < parts {
        return (bucket as u64, bucket as u64);
    }
    let shift = (bucket >> precision) as u32 - 1;
    let low = ((parts + (bucket & (parts - 1))) as u64) << shift;
    (low, low + ((1u64 << shift) - 1))
}

const _: () = {
    assert!(HIST_BUCKETS == 65 && hist_bucket(u64::MAX, 0) == 64 && hist_bucket(0, 0) == 0);
    assert!(hist_bucket(u64::MAX, 4) + 1 == hist_buckets(4));
};
