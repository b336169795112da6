/** Write Trocar probes in AssemblyScript: every host call of the probe ABI, version 1.
 *
 * What each call means, and when it traps, stands in PROBE-ABI.md; a test compares this file with the host's table.
 * Addresses of the target are numbers (u64); `usize` is an address in the probe's own memory. Export a handler with
 * `export function on_hit(): void`, or `i32` whose 0 means "my condition does not hold"; the manifest is probe.toml.
 */

// The hit: integer argument n from zero, a register by DWARF number, the result register (where a function returns).
@external("trocar", "arg") export declare function arg(n: u32): u64;
@external("trocar", "reg") export declare function reg(n: u32): u64;
@external("trocar", "ret") export declare function ret(): u64;

// Where and when: index of the site, the kernel's id of the thread, number of the processor, CLOCK_MONOTONIC.
@external("trocar", "site") export declare function site(): u32;
@external("trocar", "tid") export declare function tid(): u32;
@external("trocar", "cpu") export declare function cpu(): u32;
@external("trocar", "time_ns") export declare function time_ns(): u64;

// Calls: index of the function whose entry or exit the site is; at an exit, nanoseconds since this call of it began, or
// -1.
@external("trocar", "function") export declare function function_(): u32;
@external("trocar", "span_ns") export declare function span_ns(): i64;

// Memory of the target. 0 or an error; the length without NUL or an error. Each is a system call in the target.
@external("trocar", "read") export declare function read(address: u64, to: usize, len: u32): i32;
@external("trocar", "read_str") export declare function read_str(address: u64, to: usize, len: u32): i32;

// Maps, by their place in the manifest. A call with no such map or entry, or with a key too long, traps.
@external("trocar", "counter_add") export declare function counter_add(map: u32, entry: u32, n: u64): void;
@external("trocar", "hist_add") export declare function hist_add(map: u32, entry: u32, value: u64): void;
@external("trocar", "hash_add") export declare function hash_add(map: u32, key: usize, len: u32, n: u64): i32;
@external("trocar", "hash_set") export declare function hash_set(map: u32, key: usize, len: u32, n: u64): i32;
@external("trocar", "hash_get") export declare function hash_get(map: u32, key: usize, len: u32): u64;

// Events, by their place in the manifest, and log lines (level 0 error to 4 trace). At most 4096 bytes.
@external("trocar", "emit") export declare function emit(event: u32, payload: usize, len: u32): void;
@external("trocar", "log") export declare function log(level: u32, text: usize, len: u32): void;

// Parameters, by their place in the manifest. The length of a string's whole value, also if less was copied.
@external("trocar", "param") export declare function param(n: u32): u64;
@external("trocar", "param_str") export declare function param_str(n: u32, to: usize, len: u32): i32;

/** Writes a text to the log. It allocates a copy, as UTF-8. */
export function logText(level: u32, text: string): void {
  const bytes = String.UTF8.encode(text);
  log(level, changetype<usize>(bytes), <u32>bytes.byteLength);
}
