//! Hash of a map's key: fast, not secret. Keys come from the probe; a probe that makes them collide fills
//! its own table and is told so by `ENOSPC`.

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / golden ratio, odd (Knuth, TAOCP 3, 6.4)

/// Hash of the key; never zero, because zero marks a free slot.
pub(crate) fn hash(key: &[u8]) -> u64 {
    let mut h = MULTIPLIER ^ key.len() as u64;
    let (words, tail) = key.as_chunks::<8>();
    for word in words {
        h = mix(h ^ u64::from_le_bytes(*word));
    }
    if tail.is_empty() {
        return h | 1;
    }
    let mut last = 0u64;
    for &byte in tail {
        last = last << 8 | u64::from(byte);
    }
    mix(h ^ last) | 1
}

/// Folds the 128-bit product: every bit of the input reaches every bit of the result.
fn mix(x: u64) -> u64 {
    let product = u128::from(x) * u128::from(MULTIPLIER);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is folded")]
    let folded = product as u64 ^ (product >> 64) as u64;
    folded
}
