//! {{name}}: counts calls, and sizes up their first argument in powers of two.
//!
//!     trocar build
//!     trocar load {{name}}.wasm -p PID --at FUNCTION

const trocar = @import("trocar.zig");

/// Places of the maps in probe.toml.
const calls = 0;
const sizes = 1;

export fn on_hit() void {
    trocar.counter_add(calls, 0, 1);
    trocar.hist_add(sizes, 0, trocar.arg(0));
}
