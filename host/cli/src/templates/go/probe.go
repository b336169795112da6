// {{name}}: counts calls, and sizes up their first argument in powers of two.
//
//	trocar build
//	trocar load {{name}}.wasm -p PID --at FUNCTION
package main

import "probe/trocar"

// Places of the maps in probe.toml.
const (
	calls = iota
	sizes
)

//go:wasmexport on_hit
func onHit() {
	trocar.CounterAdd(calls, 0, 1)
	trocar.HistAdd(sizes, 0, trocar.Arg(0))
}

func main() {}
