//! The grid's probe in Zig: counts and emits, traps by a panic, or never ends, as `mode` says.

const trocar = @import("trocar.zig");

var rounds: u32 = 0;

export fn on_hit() void {
    switch (trocar.param(0)) {
        0 => {
            const n = [1]u64{trocar.arg(0)};
            trocar.counter_add(0, 0, 1);
            trocar.emit(0, @ptrCast(&n), 8);
        },
        1 => @panic("trap"),
        else => while (true) {
            const round: *volatile u32 = &rounds;
            round.* +%= 1;
        },
    }
}
