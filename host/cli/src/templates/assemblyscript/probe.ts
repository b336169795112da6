// {{name}}: counts calls, and sizes up their first argument in powers of two.
//
//     trocar build
//     trocar load {{name}}.wasm -p PID --at FUNCTION

import { arg, counter_add, hist_add } from "./trocar";

// Places of the maps in probe.toml.
const CALLS: u32 = 0;
const SIZES: u32 = 1;

export function on_hit(): void {
  counter_add(CALLS, 0, 1);
  hist_add(SIZES, 0, arg(0));
}
