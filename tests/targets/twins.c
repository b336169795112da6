/* Behaviour: a name that two modules have. `swab` is here and in libc.
 *
 *   run A B   calls this one A * B times; `done TOTAL`
 */
#include "line.h"

/* As swab(3): copies `n` bytes and swaps each pair. */
KEPT void swab(const void *restrict from, void *restrict to, ssize_t n) {
    const char *in = from;
    char *out = to;
    for (ssize_t i = 0; i + 1 < n; i += 2) out[i] = in[i + 1], out[i + 1] = in[i];
}

int main(void) {
    long a, b;
    ready();
    for (char *line; (line = command());) {
        char from[] = "tracor", to[7] = "";
        if (!command_is(line, "run", &a, &b)) {
            answer("error unknown command: %s", line);
            continue;
        }
        for (long i = 0; i < a * b; i++) swab(from, to, 6);
        answer("%s %ld", strcmp(to, "rtcaro") == 0 || a * b == 0 ? "done" : "wrong", a * b);
    }
    return 0;
}
