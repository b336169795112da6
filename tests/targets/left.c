/* Behaviour: calls that a signal handler leaves, for good or for a while, while something that is not of this program runs in
 * them.
 *
 *   left [altstack]          the handlers run on an alternate stack
 *   jump CALLS [heap]        every second call of `work` is left by siglongjmp, if it lasts so long that most signals find it
 *                            at the same place; on the main stack or on one of the heap; `done CALLS left=N`
 *   storm CALLS              every call is left wherever a signal comes; `done CALLS left=N`
 *   quit THREADS             as `jump`, but each call has a thread of its own, which ends in the handler
 *   switch CALLS TIMES heap|frame   as `jump`, but the handler switches to a coroutine, whose stack is on the heap or in a
 *                            frame of the main stack; that calls `work` TIMES times and switches back; `done CALLS left=N`
 *   suspend heap|frame       two calls, the second one so, and the coroutine answers `suspended` and waits for a line;
 *                            `done 2 left=N`
 *
 * In each answer CALLS - N of the calls have returned. No probe: no signal comes at such a place, and N is zero.
 */
#define _GNU_SOURCE
#include "line.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

enum { STACK = 128 * 1024, NEAR = 256, VOTES = 5, EVERY_US = 100 };

extern char __executable_start, etext;

enum way { JUMP, STORM, QUIT, SWITCH };
static volatile enum way way;
/* A call is under way; it is to be left. */
static volatile sig_atomic_t calling, leaving;
/* The place outside of this program where most signals find the calls, and how many more than elsewhere. */
static volatile uintptr_t place;
static volatile long votes;
static volatile long left, times;
static volatile int wrong, waits;
static sigjmp_buf back_there;
static ucontext_t interrupted, other, scheduler;
static char heap_stack[STACK] __attribute__((aligned(16)));

KEPT int work(int a) { WORK_BODY(a) }

static void check(int a) {
    if (work(a) != work_twin(a)) wrong = 1;
}

/* On another stack, while the hit that was interrupted waits. */
static void meanwhile(void) {
    for (;;) {
        for (long i = 0; i < times; i++) check((int)i);
        if (waits) {
            answer("suspended");
            if (!command()) exit(0);
        }
        swapcontext(&other, &interrupted);
    }
}

static void on_signal(int number, siginfo_t *info, void *context) {
    uintptr_t ip = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    (void)number, (void)info;
    if (!calling) return;
    if (ip >= (uintptr_t)&__executable_start && ip < (uintptr_t)&etext) return;
    if (votes == 0) place = ip;
    int is_there = (ip > place ? ip - place : place - ip) <= NEAR;
    votes += is_there ? 1 : -1;
    if (!leaving || (way != STORM && (!is_there || votes < VOTES))) return;
    calling = 0;
    left++;
    if (way == SWITCH) swapcontext(&interrupted, &other);
    else if (way == QUIT) pthread_exit(&scheduler);
    else siglongjmp(back_there, 1);
}

static void call(int a, int is_left) {
    if (sigsetjmp(back_there, 1) != 0) return;
    leaving = is_left;
    calling = 1;
    int result = work(a);
    calling = 0;
    if (result != work_twin(a)) wrong = 1;
}

static void calls(long count) {
    for (long i = 0; i < count; i++) call((int)i, way == STORM || i % 2);
}

static void on_heap(int count) { calls(count); }

static void prepare(char *stack) {
    getcontext(&other);
    other.uc_stack.ss_sp = stack;
    other.uc_stack.ss_size = STACK;
    other.uc_link = &scheduler;
}

static __attribute__((noinline)) void switching(long count, int in_frame) {
    char frame_stack[STACK] __attribute__((aligned(16)));
    way = SWITCH;
    prepare(in_frame ? frame_stack : heap_stack);
    sigaddset(&other.uc_sigmask, SIGALRM);
    makecontext(&other, meanwhile, 0);
    calls(count);
}

static void *one_call(void *argument) {
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    call(7, 1);
    pthread_sigmask(SIG_BLOCK, &alarm, NULL);
    pthread_exit(argument); /* the library that this loads is there from the first time on */
}

static void quit(long threads) {
    sigset_t alarm, before;
    way = QUIT;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, &before);
    for (long i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, one_call, NULL)) abort();
        pthread_join(thread, NULL);
    }
    set_timers(0, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int main(int argc, char **argv) {
    static char signal_stack[64 * 1024];
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_SIGINFO};
    char where[8] = "";
    if (argc > 1 && strcmp(argv[1], "altstack") == 0) {
        stack_t mine = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
        if (sigaltstack(&mine, NULL)) abort();
        action.sa_flags |= SA_ONSTACK;
    }
    sigaction(SIGALRM, &action, NULL);
    ready();
    for (char *line; (line = command());) {
        long count = 1;
        left = times = waits = votes = 0;
        where[0] = 0;
        set_timers(EVERY_US, 0);
        if (sscanf(line, "jump %ld %7s", &count, where) >= 1) {
            way = JUMP;
            if (where[0]) {
                prepare(heap_stack);
                makecontext(&other, (void (*)(void))on_heap, 1, (int)count);
                swapcontext(&scheduler, &other);
            } else {
                calls(count);
            }
        } else if (sscanf(line, "storm %ld", &count) == 1) {
            way = STORM;
            calls(count);
        } else if (sscanf(line, "quit %ld", &count) == 1) {
            quit(count);
        } else if (sscanf(line, "switch %ld %ld %7s", &count, (long *)&times, where) == 3) {
            switching(count, where[0] == 'f');
        } else if (sscanf(line, "suspend %7s", where) == 1) {
            waits = 1;
            count = 2;
            switching(count, where[0] == 'f');
        } else {
            set_timers(0, 0);
            answer("error unknown command: %s", line);
            continue;
        }
        set_timers(0, 0);
        answer("%s %ld left=%ld", wrong ? "wrong" : "done", count, left);
    }
    return 0;
}
