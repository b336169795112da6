//go:build wasip1

// Package trocar is for probes in Go: every host call of the probe ABI, version 1.
//
// What each call means, and when it traps, stands in PROBE-ABI.md; a test compares this file with the host's table.
// Addresses of the target are numbers (uint64); pointers are addresses in the probe's own memory; a string is its
// address and its length. Export a handler with //go:wasmexport on_hit, without a result, or with an int32 whose 0
// means "my condition does not hold"; the manifest is probe.toml.
package trocar

import "unsafe"

// The hit: integer argument n from zero, a register by DWARF number, the result register (where a function returns).

//go:wasmimport trocar arg
func Arg(n uint32) uint64

//go:wasmimport trocar reg
func Reg(n uint32) uint64

//go:wasmimport trocar ret
func Ret() uint64

// Where and when: index of the site, the kernel's id of the thread, number of the processor, CLOCK_MONOTONIC.

//go:wasmimport trocar site
func Site() uint32

//go:wasmimport trocar tid
func Tid() uint32

//go:wasmimport trocar cpu
func Cpu() uint32

//go:wasmimport trocar time_ns
func TimeNs() uint64

// Calls: index of the function whose entry or exit the site is; at an exit, nanoseconds since this call of it began, or
// -1.

//go:wasmimport trocar function
func Function() uint32

//go:wasmimport trocar span_ns
func SpanNs() int64

// Memory of the target. 0 or an error; the length without NUL or an error. Each is a system call in the target.

//go:wasmimport trocar read
func Read(address uint64, to unsafe.Pointer, len uint32) int32

//go:wasmimport trocar read_str
func ReadStr(address uint64, to unsafe.Pointer, len uint32) int32

// Maps, by their place in the manifest. A call with no such map or entry, or with a key too long, traps.

//go:wasmimport trocar counter_add
func CounterAdd(m uint32, entry uint32, n uint64)

//go:wasmimport trocar hist_add
func HistAdd(m uint32, entry uint32, value uint64)

//go:wasmimport trocar hash_add
func HashAdd(m uint32, key string, n uint64) int32

//go:wasmimport trocar hash_set
func HashSet(m uint32, key string, n uint64) int32

//go:wasmimport trocar hash_get
func HashGet(m uint32, key string) uint64

// Events, by their place in the manifest, and log lines (level 0 error to 4 trace). At most 4096 bytes.

//go:wasmimport trocar emit
func Emit(event uint32, payload unsafe.Pointer, len uint32)

//go:wasmimport trocar log
func Log(level uint32, text string)

// Parameters, by their place in the manifest. The length of a string's whole value, also if less was copied.

//go:wasmimport trocar param
func Param(n uint32) uint64

//go:wasmimport trocar param_str
func ParamStr(n uint32, to unsafe.Pointer, len uint32) int32
