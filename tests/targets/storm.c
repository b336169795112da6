/* Behaviour: a thread that is given its next signal as soon as it is back from the last one, with a handler that takes
 * its time.
 *
 *   storm MICROSECONDS   one thread calls `work`, and the handler calls it for so long; `storming`
 *   halt                 `done CALLS handled=N`; `wrong …` if a result differed
 */
#include "line.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

static atomic_int stop, wrong, inside;
static atomic_long handled, calls;
static long taking;

KEPT int work(int a) { WORK_BODY(a) }

static void call(void) {
    int i = (int)atomic_fetch_add(&calls, 1);
    if (work(i) != work_twin(i)) atomic_store(&wrong, 1);
}

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void on_signal(int number) {
    (void)number;
    long until = now() + taking;
    while (now() < until) call();
    atomic_fetch_add(&handled, 1);
    atomic_store(&inside, 0);
}

static void *busy(void *argument) {
    while (!atomic_load(&stop)) call();
    return argument;
}

static pthread_t thread;

/* The signal comes some microseconds after the thread is back. */
static void *send(void *argument) {
    while (!atomic_load(&stop)) {
        if (atomic_load(&inside)) continue;
        long until = now() + 15;
        while (now() < until) {}
        atomic_store(&inside, 1);
        pthread_kill(thread, SIGUSR1);
    }
    return argument;
}

int main(void) {
    pthread_t sender;
    int storming = 0;
    signal(SIGUSR1, on_signal);
    ready();
    for (char *line; (line = command());) {
        if (!storming && sscanf(line, "storm %ld", &taking) == 1) {
            atomic_store(&stop, 0);
            /* The newest thread is the first that is asked to work for somebody else. */
            if (pthread_create(&sender, NULL, send, NULL) || pthread_create(&thread, NULL, busy, NULL)) abort();
            storming = 1;
            answer("storming");
        } else if (storming && strcmp(line, "halt") == 0) {
            atomic_store(&stop, 1);
            pthread_join(sender, NULL);
            pthread_join(thread, NULL);
            storming = 0;
            answer("%s %ld handled=%ld", atomic_load(&wrong) ? "wrong" : "done", atomic_load(&calls),
                   atomic_load(&handled));
        } else {
            answer("error unknown command: %s", line);
        }
    }
    return 0;
}
