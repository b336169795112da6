//! Handles of maps. Maps live in the host; each thread adds to a shard of its own, and the reader sums the shards.
#![expect(unsafe_code, reason = "keys are handed over by address")]

use core::marker::PhantomData;

use crate::errno::Errno;
use crate::field::{Fields, bytes};
use crate::raw;

/// An array of 64-bit counters.
#[derive(Clone, Copy, Debug)]
pub struct Counter(u32);

impl Counter {
    /// The counter map with this number in the manifest.
    #[must_use]
    pub const fn number(map: u32) -> Self {
        Self(map)
    }

    /// Adds to an entry. Traps if there is no such entry.
    #[inline]
    pub fn add(self, entry: u32, n: u64) {
        raw::counter_add(self.0, entry, n);
    }
}

/// An array of log2 histograms.
#[derive(Clone, Copy, Debug)]
pub struct Hist(u32);

impl Hist {
    /// The histogram map with this number in the manifest.
    #[must_use]
    pub const fn number(map: u32) -> Self {
        Self(map)
    }

    /// Counts a value in a histogram. Traps if there is no such histogram.
    #[inline]
    pub fn add(self, entry: u32, value: u64) {
        raw::hist_add(self.0, entry, value);
    }
}

/// A hash table from keys to 64-bit sums.
#[derive(Debug)]
pub struct Hash<K>(u32, PhantomData<K>);

impl<K> Clone for Hash<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Hash<K> {}

impl<K: Fields> Hash<K> {
    /// The hash map with this number in the manifest.
    #[must_use]
    pub const fn number(map: u32) -> Self {
        Self(map, PhantomData)
    }

    /// Adds to the value of a key.
    ///
    /// # Errors
    /// [`Errno::NO_SPACE`]: the table is full, and the host counts that.
    #[inline]
    pub fn add(self, key: &K, n: u64) -> Result<(), Errno> {
        let (at, len) = bytes(key);
        // SAFETY: `at` and `len` are those of a live value without holes (trait `Fields`).
        Errno::check(unsafe { raw::hash_add(self.0, at, len, n) }).map(drop)
    }

    /// Sets the value of a key in this thread's shard. The reader adds up what the threads have set, so this is for
    /// keys that one thread alone uses, such as its own id.
    ///
    /// # Errors
    /// [`Errno::NO_SPACE`]: the table is full, and the host counts that.
    #[inline]
    pub fn set(self, key: &K, value: u64) -> Result<(), Errno> {
        let (at, len) = bytes(key);
        // SAFETY: `at` and `len` are those of a live value without holes (trait `Fields`).
        Errno::check(unsafe { raw::hash_set(self.0, at, len, value) }).map(drop)
    }

    /// The value of a key in this thread's shard; zero if absent. What other threads added is not in it.
    #[must_use]
    #[inline]
    pub fn get(self, key: &K) -> u64 {
        let (at, len) = bytes(key);
        // SAFETY: `at` and `len` are those of a live value without holes (trait `Fields`).
        unsafe { raw::hash_get(self.0, at, len) }
    }
}
