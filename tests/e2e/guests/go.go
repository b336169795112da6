// The grid's probe in Go: counts and emits, traps by a panic, or never ends, as `mode` says.
package main

import (
	"probe/trocar"
	"unsafe"
)

var runs uint64

// It runs in _initialize, once for each instance.
func init() { runs++ }

//go:wasmexport on_hit
func onHit() {
	switch trocar.Param(0) {
	case 0:
		n := trocar.Arg(0)
		trocar.CounterAdd(0, 0, runs)
		trocar.Emit(0, unsafe.Pointer(&n), 8)
	case 1:
		panic("trap")
	default:
		for {
			runs++
		}
	}
}

func main() {}
