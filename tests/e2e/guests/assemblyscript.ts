// The grid's probe in AssemblyScript: counts and emits, aborts, or never ends, as `mode` says.

import { arg, counter_add, emit, param } from "./trocar";

// What is no constant is set by the start function, once for each instance.
let runs: u64 = 0;
const payload = new StaticArray<u64>(1);
runs += 1;

export function on_hit(): void {
  const mode = <i32>param(0);
  if (mode == 0) {
    payload[0] = arg(0);
    counter_add(0, 0, runs);
    emit(0, changetype<usize>(payload), 8);
  } else if (mode == 1) {
    assert(payload.length == 7, "trap");
  } else {
    while (true) payload[0] += 1;
  }
}
