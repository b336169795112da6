//! Write Trocar probes in Zig: every host call of the probe ABI, version 1.
//!
//! What each call means, and when it traps, stands in PROBE-ABI.md; a test compares this file with the host's table.
//! Addresses of the target are numbers (u64), never pointers; pointers are addresses in the probe's own memory. Export a
//! handler with `export fn on_hit() void`, or `i32` whose 0 means "my condition does not hold"; the manifest is
//! probe.toml.

/// The hit: integer argument n from zero, a register by DWARF number, the result register (where a function returns).
pub extern "trocar" fn arg(n: u32) u64;
pub extern "trocar" fn reg(n: u32) u64;
pub extern "trocar" fn ret() u64;

/// Where and when: index of the site, the kernel's id of the thread, number of the processor, CLOCK_MONOTONIC.
pub extern "trocar" fn site() u32;
pub extern "trocar" fn tid() u32;
pub extern "trocar" fn cpu() u32;
pub extern "trocar" fn time_ns() u64;

/// Calls: index of the function whose entry or exit the site is; at an exit, nanoseconds since this call of it began,
/// or -1.
pub extern "trocar" fn function() u32;
pub extern "trocar" fn span_ns() i64;

/// Memory of the target. 0 or an error; the length without NUL or an error. Each is a system call in the target.
pub extern "trocar" fn read(address: u64, to: [*]u8, len: u32) i32;
pub extern "trocar" fn read_str(address: u64, to: [*]u8, len: u32) i32;

/// Maps, by their place in the manifest. A call with no such map or entry, or with a key too long, traps.
pub extern "trocar" fn counter_add(map: u32, entry: u32, n: u64) void;
pub extern "trocar" fn hist_add(map: u32, entry: u32, value: u64) void;
pub extern "trocar" fn hash_add(map: u32, key: [*]const u8, len: u32, n: u64) i32;
pub extern "trocar" fn hash_set(map: u32, key: [*]const u8, len: u32, n: u64) i32;
pub extern "trocar" fn hash_get(map: u32, key: [*]const u8, len: u32) u64;

/// Events, by their place in the manifest, and log lines (level 0 error to 4 trace). At most 4096 bytes.
pub extern "trocar" fn emit(event: u32, payload: [*]const u8, len: u32) void;
pub extern "trocar" fn log(level: u32, text: [*]const u8, len: u32) void;

/// Parameters, by their place in the manifest. The length of a string's whole value, also if less was copied.
pub extern "trocar" fn param(n: u32) u64;
pub extern "trocar" fn param_str(n: u32, to: [*]u8, len: u32) i32;
