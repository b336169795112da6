/* The line protocol that the C and C++ targets speak, and the function that tests probe.
 *
 * A target prints `ready pid=N …` once. Then it reads one command a line from stdin and answers each with
 * one line on stdout. Unknown words get `error …`. At end of file, or on `quit`, it exits with status 0.
 * Nothing here starts a thread, allocates after `ready`, or touches a signal.
 */
#ifndef TROCAR_TARGET_LINE_H
#define TROCAR_TARGET_LINE_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>

#if defined(__clang__)
#define KEPT __attribute__((noinline, used, visibility("default")))
#else
#define KEPT __attribute__((noinline, noclone, used, visibility("default")))
#endif

/* About eleven instructions without a branch. Written as a macro so that an inlined twin can prove, in the
 * same process, that the probed copy still computes the same. `-fipa-ra` stays on: callers may rely on
 * registers that this body happens not to touch, as real programs do. */
#define WORK_BODY(a)                 \
    unsigned x = (unsigned)(a)*3u + 1u; \
    x ^= x >> 7;                     \
    x += (unsigned)(a) ^ 5u;         \
    x = x * 5u + (x >> 3);           \
    return (int)x;

static inline __attribute__((always_inline, unused)) int work_twin(int a) { WORK_BODY(a) }

/* One answer. */
__attribute__((format(printf, 1, 2), unused)) static void answer(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

/* Says that the target is ready. Where the system lets only a parent trace (Yama), any process of the same
 * user may trace this one: the tests start target and tracer side by side. */
__attribute__((unused)) static void ready(void) {
#ifdef PR_SET_PTRACER
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
#endif
    answer("ready pid=%ld", (long)getpid());
}

/* The next command in a static buffer, without its newline; NULL at the end. */
__attribute__((unused)) static char *command(void) {
    static char line[256];
    if (!fgets(line, sizeof line, stdin)) return NULL;
    line[strcspn(line, "\n")] = 0;
    return strcmp(line, "quit") == 0 ? NULL : line;
}

/* Whether the command is `name A B`, both in range. */
__attribute__((unused)) static int command_is(const char *line, const char *name, long *a, long *b) {
    size_t n = strlen(name);
    if (strncmp(line, name, n) != 0 || line[n] != ' ') return 0;
    return sscanf(line + n, "%ld %ld", a, b) == 2 && *a >= 1 && *b >= 0;
}

/* The kernel's letter for the state of a thread of ours. */
__attribute__((unused)) static char state_of(long tid) {
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%ld/stat", tid);
    FILE *file = fopen(path, "r");
    if (!file) return '?';
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    char *end = strrchr(text, ')');
    return end && end[1] ? end[2] : '?';
}

/* SIGALRM by the clock and SIGPROF by processor time, each so often; zero is never. */
__attribute__((unused)) static void set_timers(long alarm_us, long prof_us) {
    struct itimerval a = {{0, alarm_us}, {0, alarm_us}}, p = {{0, prof_us}, {0, prof_us}};
    setitimer(ITIMER_REAL, &a, NULL);
    setitimer(ITIMER_PROF, &p, NULL);
}

#endif
