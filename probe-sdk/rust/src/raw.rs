//! The host calls as they are: one foreign function for each row of the table in `PROBE-ABI.md`.
//!
//! A test compares this file with the host's table, name by name and type by type. Calls that take an address of
//! linear memory are unsafe; the other modules of this crate wrap them. What a call means and when it traps stands in
//! `PROBE-ABI.md`. For any other target than wasm32 the calls are there and do nothing, so that a probe's own
//! functions can be tested on the machine where it is written.
#![expect(unsafe_code, reason = "foreign functions of module `trocar`, which the host provides")]

macro_rules! host_calls {
    ($($(#[$about:meta])* $safety:ident fn $name:ident($($p:ident: $t:ty),*) $(-> $r:ty)?;)*) => {
        #[cfg(target_arch = "wasm32")]
        #[link(wasm_import_module = "trocar")]
        unsafe extern "C" {
            $($(#[$about])* pub $safety fn $name($($p: $t),*) $(-> $r)?;)*
        }
        $(host_calls! { @elsewhere $(#[$about])* $safety fn $name($($p: $t),*) $(-> $r)? })*
    };
    (@elsewhere $(#[$about:meta])* safe fn $name:ident($($p:ident: $t:ty),*) $(-> $r:ty)?) => {
        $(#[$about])*
        #[cfg(not(target_arch = "wasm32"))]
        pub extern "C" fn $name($($p: $t),*) $(-> $r)? {
            $(let _ = $p;)*
            Default::default()
        }
    };
    (@elsewhere $(#[$about:meta])* unsafe fn $name:ident($($p:ident: $t:ty),*) $(-> $r:ty)?) => {
        $(#[$about])*
        #[cfg(not(target_arch = "wasm32"))]
        pub unsafe extern "C" fn $name($($p: $t),*) $(-> $r)? {
            $(let _ = $p;)*
            Default::default()
        }
    };
}

host_calls! {
    /// Integer argument `n` of the call, counted from zero; zero past the registers.
    safe fn arg(n: u32) -> u64;
    /// Adds to entry `entry` of a counter map.
    safe fn counter_add(map: u32, entry: u32, n: u64);
    /// Number of the processor.
    safe fn cpu() -> u32;
    /// Writes an event.
    ///
    /// # Safety
    /// `len` bytes at `payload` are readable.
    unsafe fn emit(event: u32, payload: *const u8, len: u32);
    /// Adds to the value of a key.
    ///
    /// # Safety
    /// `len` bytes at `key` are readable.
    unsafe fn hash_add(map: u32, key: *const u8, len: u32, n: u64) -> i32;
    /// Value of a key in this thread's shard.
    ///
    /// # Safety
    /// `len` bytes at `key` are readable.
    unsafe fn hash_get(map: u32, key: *const u8, len: u32) -> u64;
    /// Sets the value of a key in this thread's shard.
    ///
    /// # Safety
    /// `len` bytes at `key` are readable.
    unsafe fn hash_set(map: u32, key: *const u8, len: u32, n: u64) -> i32;
    /// Adds a value to histogram `entry` of a histogram map.
    safe fn hist_add(map: u32, entry: u32, value: u64);
    /// Writes a log line.
    ///
    /// # Safety
    /// `len` bytes at `text` are readable.
    unsafe fn log(level: u32, text: *const u8, len: u32);
    /// Value of integer parameter `n`.
    safe fn param(n: u32) -> u64;
    /// Copies string parameter `n`.
    ///
    /// # Safety
    /// `len` bytes at `to` are writable.
    unsafe fn param_str(n: u32, to: *mut u8, len: u32) -> i32;
    /// Copies bytes of the target.
    ///
    /// # Safety
    /// `len` bytes at `to` are writable.
    unsafe fn read(address: u64, to: *mut u8, len: u32) -> i32;
    /// Copies a string of the target.
    ///
    /// # Safety
    /// `len` bytes at `to` are writable.
    unsafe fn read_str(address: u64, to: *mut u8, len: u32) -> i32;
    /// Register by its DWARF number (see [`crate::register`]).
    safe fn reg(n: u32) -> u64;
    /// The integer result register, meaningful where a function returns.
    safe fn ret() -> u64;
    /// Index of the site in this session.
    safe fn site() -> u32;
    /// Index of the function whose entry or exit the site is; its sites share it.
    safe fn function() -> u32;
    /// At an exit of a function: nanoseconds since this call of it began; -1 if its beginning was not seen.
    safe fn span_ns() -> i64;
    /// The kernel's id of the thread, zero if unknown.
    safe fn tid() -> u32;
    /// Nanoseconds of CLOCK_MONOTONIC.
    safe fn time_ns() -> u64;
}
