/* The grid's probe in C++: counts and emits, traps, or never ends, as `mode` says. */
#include "trocar.h"

TROCAR_MANIFEST({
    "abi": 1, "name": "grid", "version": "0.1.0",
    "params": [{"name": "mode", "type": "int", "default": 0}],
    "maps": [{"name": "calls", "kind": "counter"}],
    "events": [{"name": "call", "fields": [{"name": "n", "type": "u64"}]}]
})

/* A global object: its constructor runs once for each instance. At every hit, or never, it would make the count a wrong
 * one. */
struct Once {
    volatile uint32_t runs;
    Once() { runs = runs + 1; }
};
Once once;

extern "C" TROCAR_HANDLER(on_hit) void on_hit()
{
    switch (trocar_param(0)) {
    case 0: {
        uint64_t n = trocar_arg(0);
        trocar_counter_add(0, 0, once.runs);
        TROCAR_EMIT(0, n);
        break;
    }
    case 1:
        __builtin_trap();
    default:
        for (;;)
            once.runs = once.runs;
    }
}
