/* {{name}}: counts calls, and sizes up their first argument in powers of two.
 *
 *     trocar build
 *     trocar load {{name}}.wasm -p PID --at FUNCTION
 *
 * What there is to call stands in trocar.h; the manifest says which maps, parameters and events this probe has.
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

/* Places of the maps in the manifest. */
enum { CALLS, SIZES };

TROCAR_HANDLER(on_hit)
void on_hit(void)
{
    trocar_counter_add(CALLS, 0, 1);
    trocar_hist_add(SIZES, 0, trocar_arg(0));
}
