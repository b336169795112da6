/* Behaviour: functions that are left in every way there is.
 *
 *   recurse DEPTH TIMES    `recurse` calls itself DEPTH times, TIMES times; `done CALLS` of `recurse`
 *   tail TIMES             `front` ends in a jump to `back`; `done TIMES`
 *   jump TIMES             `leaper` is left by longjmp; `done TIMES`
 *   quit THREADS           `quitter` ends its thread; `done THREADS`
 *   many TIMES             `many` has several returns, one behind a branch each; `done TIMES`
 */
#include "line.h"

#include <pthread.h>
#include <setjmp.h>

static volatile int sink;
static jmp_buf back_there;

/* Not a tail call, and not a loop: what comes back is used after the call. */
KEPT int recurse(int depth) {
    int below = depth > 0 ? recurse(depth - 1) : 0;
    sink += below;
    return below + 1;
}

KEPT int back(int a) { return work_twin(a) + sink; }

KEPT int front(int a) {
    sink = a & 3;
    return back(a + 1);
}

KEPT int leaper(int a) {
    sink += a;
    longjmp(back_there, 1);
}

KEPT void *quitter(void *argument) {
    sink++;
    if (argument) pthread_exit(argument);
    return NULL;
}

static void *start_quitter(void *argument) {
    void *volatile result = quitter(argument); /* not a tail call */
    return result;
}

KEPT int many(int a) {
    switch (a & 7) {
    case 0: return sink;
    case 1: sink++; return 3;
    case 2: return back(a);
    case 3: if (sink > a) return 1; sink--; return 2;
    default: return work_twin(a) * 3;
    }
}

int main(void) {
    long n, times;
    ready();
    for (char *line; (line = command());) {
        if (sscanf(line, "recurse %ld %ld", &n, &times) == 2) {
            long right = 1;
            for (long i = 0; i < times; i++) right &= recurse((int)n) == n + 1;
            answer("%s %ld", right ? "done" : "wrong", times * (n + 1));
        } else if (sscanf(line, "tail %ld", &times) == 1) {
            long right = 1;
            for (long i = 0; i < times; i++) right &= front((int)i) == work_twin((int)i + 1) + ((int)i & 3);
            answer("%s %ld", right ? "done" : "wrong", times);
        } else if (sscanf(line, "jump %ld", &times) == 1) {
            volatile long left = 0;
            for (volatile long i = 0; i < times; i++)
                if (setjmp(back_there) == 0) leaper((int)i);
                else left++;
            answer("%s %ld", left == times ? "done" : "wrong", times);
        } else if (sscanf(line, "quit %ld", &n) == 1) {
            long right = 1;
            for (long i = 0; i < n; i++) {
                pthread_t thread;
                void *result = NULL;
                if (pthread_create(&thread, NULL, start_quitter, (void *)&sink)) abort();
                pthread_join(thread, &result);
                right &= result == (void *)&sink;
            }
            answer("%s %ld", right ? "done" : "wrong", n);
        } else if (sscanf(line, "many %ld", &times) == 1) {
            for (long i = 0; i < times; i++) many((int)i);
            answer("done %ld", times);
        } else {
            answer("error unknown command: %s", line);
        }
    }
    return 0;
}
