/* Behaviour: coroutines that switch with swapcontext between 16 KiB stacks and call `work` on them.
 *
 *   run COROUTINES CALLS   each coroutine calls `work` CALLS times and yields after every call, all of them
 *                          on the one main thread; `done TOTAL`, or `wrong …` if a result or a word at the
 *                          bottom of a stack changed
 *
 * The thread pointer stays the same while the stack pointer jumps from stack to stack. glibc only.
 */
#include "line.h"

#include <stdint.h>
#include <ucontext.h>

enum { STACK = 16 * 1024, MAX_COROUTINES = 64 };
#define CANARY UINT64_C(0x5afe57ac6b077011)

static struct coroutine {
    ucontext_t context;
    uint64_t stack[STACK / 8];
    long calls;
    int wrong, ended;
} coroutines[MAX_COROUTINES];
static ucontext_t scheduler;

KEPT int work(int a) { WORK_BODY(a) }

static void body(int index) {
    struct coroutine *me = &coroutines[index];
    for (long i = 0; i < me->calls; i++) {
        if (work((int)i) != work_twin((int)i)) me->wrong = 1;
        swapcontext(&me->context, &scheduler);
    }
    me->ended = 1;
}

static void make_coroutine(int index, long calls) {
    struct coroutine *c = &coroutines[index];
    getcontext(&c->context);
    c->context.uc_stack.ss_sp = c->stack;
    c->context.uc_stack.ss_size = STACK;
    c->context.uc_link = &scheduler;
    c->stack[0] = CANARY;
    c->calls = calls;
    c->wrong = c->ended = 0;
    makecontext(&c->context, (void (*)(void))body, 1, index);
}

static void run(long count, long calls) {
    long wrong = 0, live = count;
    for (int i = 0; i < count; i++) make_coroutine(i, calls);
    while (live) {
        for (int i = 0; i < count; i++) {
            if (coroutines[i].ended) continue;
            swapcontext(&scheduler, &coroutines[i].context);
            live -= coroutines[i].ended;
        }
    }
    for (int i = 0; i < count; i++) wrong += coroutines[i].wrong || coroutines[i].stack[0] != CANARY;
    answer("%s %ld", wrong ? "wrong" : "done", count * calls);
}

int main(void) {
    long count, calls;
    ready();
    for (char *line; (line = command());) {
        if (command_is(line, "run", &count, &calls) && count <= MAX_COROUTINES)
            run(count, calls);
        else
            answer("error unknown command: %s", line);
    }
    return 0;
}
