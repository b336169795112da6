"""Puts a C callback that counts on a function by Frida: PID SYMBOL probe|listener. Says `ready`, waits for a line,
takes the callback out, says the count."""
import sys

import frida

AGENT = """
const [symbol, how] = %s;
const hits = Memory.alloc(Process.pageSize);
const native = new CModule(`
#include <gum/guminterceptor.h>
extern volatile guint64 hits;
void hit (GumInvocationContext * context) { hits++; }
`, { hits });
const address = Process.mainModule.getExportByName(symbol);
const listener = Interceptor.attach(address, how === 'probe' ? native.hit : { onEnter: native.hit });
Interceptor.flush();
rpc.exports = {
  stop() { listener.detach(); Interceptor.flush(); return hits.readU64().toString(); }
};
"""

pid, symbol, how = int(sys.argv[1]), sys.argv[2], sys.argv[3]
session = frida.attach(pid)
script = session.create_script(AGENT % [symbol, how])
script.load()
print("ready", flush=True)
sys.stdin.readline()
print(script.exports_sync.stop(), flush=True)
session.detach()
