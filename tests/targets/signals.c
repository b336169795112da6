/* Behaviour: a signal handler that calls the probed function while the probed function is being called.
 *
 *   signals [MODE]   MODE: `plain` (default), `altstack` (the handler runs on a 16 KiB alternate stack),
 *                    `small` (threads with 16 KiB stacks), `late` (as `altstack`, but each thread calls `work` once
 *                    before it has that stack)
 *   run THREADS CALLS   each thread calls `work` CALLS times, and on until a fair number of signals came,
 *                       while SIGALRM (every 100 µs) and SIGPROF (every ms of CPU time) come in;
 *                       `done CALLS handler=N`: calls by the threads and calls by the handler
 *
 * No timer runs between two answers, so CALLS + N is the exact number of calls. A wrong result anywhere
 * makes the answer `wrong …`.
 */
#include "line.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { MAX_THREADS = 64, SMALL = 16 * 1024, SIGNALS_WANTED = 200 };

static atomic_long handled;
static atomic_int wrong;
static int altstack, small, late;

KEPT int work(int a) { WORK_BODY(a) }

static void on_signal(int number) {
    int i = (int)atomic_fetch_add(&handled, 1);
    if (work(i + number) != work_twin(i + number)) atomic_store(&wrong, 1);
}

struct job {
    pthread_t thread;
    long calls, done;
    char stack[SMALL] __attribute__((aligned(16)));
};
static struct job jobs[MAX_THREADS];

static void *call(void *argument) {
    struct job *job = argument;
    sigset_t both;
    stack_t mine = {.ss_sp = job->stack, .ss_size = SMALL};
    if (late && work(7) != work_twin(7)) atomic_store(&wrong, 1);
    if (altstack && sigaltstack(&mine, NULL)) abort();
    sigemptyset(&both);
    sigaddset(&both, SIGALRM);
    sigaddset(&both, SIGPROF);
    pthread_sigmask(SIG_UNBLOCK, &both, NULL);
    for (job->done = 0; job->done < job->calls || atomic_load(&handled) < SIGNALS_WANTED; job->done++)
        if (work((int)job->done) != work_twin((int)job->done)) atomic_store(&wrong, 1);
    pthread_sigmask(SIG_BLOCK, &both, NULL);
    return NULL;
}

static void run(long threads, long calls) {
    pthread_attr_t attributes;
    long total = 0;
    pthread_attr_init(&attributes);
    if (small && pthread_attr_setstacksize(&attributes, SMALL)) abort();
    atomic_store(&handled, 0);
    set_timers(100, 1000);
    for (long i = 0; i < threads; i++) {
        jobs[i].calls = calls;
        if (pthread_create(&jobs[i].thread, &attributes, call, &jobs[i])) abort();
    }
    for (long i = 0; i < threads; i++) pthread_join(jobs[i].thread, NULL);
    set_timers(0, 0);
    for (long i = 0; i < threads; i++) total += jobs[i].done + late;
    answer("%s %ld handler=%ld", atomic_load(&wrong) ? "wrong" : "done", total, atomic_load(&handled));
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
    const char *mode = argc > 1 ? argv[1] : "plain";
    long threads, calls;
    sigset_t both;
    late = strcmp(mode, "late") == 0;
    altstack = late || strcmp(mode, "altstack") == 0;
    small = strcmp(mode, "small") == 0;
    /* The main thread never takes them: what is pending after the last thread stays pending. */
    sigemptyset(&both);
    sigaddset(&both, SIGALRM);
    sigaddset(&both, SIGPROF);
    sigprocmask(SIG_BLOCK, &both, NULL);
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGPROF, &action, NULL);
    ready();
    for (char *line; (line = command());) {
        if (command_is(line, "run", &threads, &calls) && threads <= MAX_THREADS)
            run(threads, calls);
        else
            answer("error unknown command: %s", line);
    }
    return 0;
}
