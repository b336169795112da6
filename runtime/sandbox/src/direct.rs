//! What host calls reach without asking wasmtime each time: the fuel that is left, and linear memory.
//!
//! Asking is safe and takes five loads that wait for one another, before the first byte of a key is known. Here the answers
//! are kept where they cannot change behind our back: the fuel's word never moves, and linear memory moves or grows only
//! after the limiter was asked, which says so.
#![expect(unsafe_code, reason = "keeps pointers into a store and its memory")]

use core::ptr::NonNull;

use wasmtime::Caller;

use crate::instance::State;

/// The word in which compiled code counts fuel: negative while there is some.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fuel(NonNull<i64>);

impl Fuel {
    /// # Safety
    /// The word is the fuel word of a store and is used only while that store is; the store's reserve of fuel is zero.
    pub(crate) const unsafe fn new(word: NonNull<i64>) -> Self {
        Self(word)
    }

    /// Sets how much is left.
    #[inline]
    pub(crate) fn set(self, left: i64) {
        // SAFETY: by `new`; the store belongs to this thread, and compiled code is not running.
        unsafe { self.0.write(-left) };
    }

    /// How much is left; less than nothing after straight code that used more. Nobody counts up to `i64::MIN`.
    #[inline]
    pub(crate) fn left(self) -> i64 {
        // SAFETY: as in `set`.
        unsafe { self.0.read() }.wrapping_neg()
    }

    /// Takes `price` away. False if there is not so much: then nothing is left.
    #[inline]
    pub(crate) fn charge(self, price: u64) -> bool {
        // Compiled code writes its count there before it calls.
        let left = self.left();
        let rest =
            i64::try_from(price).ok().and_then(|price| left.checked_sub(price)).filter(|&rest| rest >= 0);
        self.set(rest.unwrap_or(0));
        rest.is_some()
    }
}

/// Linear memory as it was when it was last asked for; empty before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Linear(Option<NonNull<[u8]>>);

impl Linear {
    /// # Safety
    /// The bytes are an instance's linear memory, and this value is dropped before it moves, shrinks or goes.
    pub(crate) unsafe fn new(base: *mut u8, len: usize) -> Self {
        Self(NonNull::new(core::ptr::slice_from_raw_parts_mut(base, len)))
    }

    /// Whether it was asked for.
    #[inline]
    pub(crate) const fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// Its bytes, none if it is not known.
    ///
    /// # Safety
    /// While the result is used, nothing else uses that memory, and wasm does not run.
    #[inline]
    pub(crate) unsafe fn bytes<'a>(self) -> &'a mut [u8] {
        // SAFETY: by `new` the bytes are there; by the caller's contract they are ours alone.
        self.0.map_or(&mut [], |mut bytes| unsafe { bytes.as_mut() })
    }
}

/// The linear memory and the state of the probe that makes a host call. `None` if it exports no memory.
#[inline]
pub(crate) fn memory_and_state<'a>(c: &'a mut Caller<'_, State>) -> Option<(&'a mut [u8], &'a mut State)> {
    let state = c.data();
    if state.limits.grown || !state.linear.is_known() {
        look(c)?;
    }
    let state = c.data_mut();
    // SAFETY: memory belongs to the store, which `c` borrows for `'a` as it lends `state`, which is no part of memory; and wasm
    // waits for this call to return.
    let memory = unsafe { state.linear.bytes() };
    Some((memory, state))
}

/// Asks wasmtime where linear memory is.
#[cold]
fn look(c: &mut Caller<'_, State>) -> Option<()> {
    let memory = match c.data().memory {
        Some(memory) => memory,
        // A start function runs before whoever instantiates can ask for the export.
        None => c.get_export("memory")?.into_memory()?,
    };
    let (base, len) = (memory.data_ptr(&*c), memory.data_size(&*c));
    let state = c.data_mut();
    // SAFETY: the instance's memory, which lives as long as the store that keeps this; it never shrinks, and before it
    // grows and perhaps moves the limiter is asked, which sets `grown`.
    state.linear = unsafe { Linear::new(base, len) };
    state.limits.grown = false;
    Some(())
}
