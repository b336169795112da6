/* {{name}}: counts calls, and sizes up their first argument in powers of two.
 *
 *     trocar build
 *     trocar load {{name}}.wasm -p PID --at FUNCTION
 *
 * What there is to call stands in trocar.h; the manifest says which maps, parameters and events this probe has. There is
 * no standard library; global constructors run once for each thread's instance, before its first hit.
 */
#include "trocar.h"

TROCAR_MANIFEST({
    "abi": 1,
    "name": "{{name}}",
    "version": "0.1.0",
    "description": "Counts calls, and sizes up their first argument",
    "handlers": [{"name": "on_hit", "points": []}],
    "maps": [
        {"name": "calls", "kind": "counter", "entries": 1, "labels": ["all"]},
        {"name": "sizes", "kind": "hist", "entries": 1}
    ]
})

/* A place of a map in the manifest. */
class Counter {
public:
    explicit constexpr Counter(uint32_t map) : map_(map) {}
    void add(uint32_t entry, uint64_t n) const { trocar_counter_add(map_, entry, n); }

private:
    uint32_t map_;
};

constexpr Counter calls{0};
constexpr uint32_t sizes = 1;

extern "C" TROCAR_HANDLER(on_hit) void on_hit()
{
    calls.add(0, 1);
    trocar_hist_add(sizes, 0, trocar_arg(0));
}
