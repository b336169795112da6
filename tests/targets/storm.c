/* Behaviour: a thread that is given its next signal as soon as it is back from the last one, with a handler that takes
 * its time.
 *
 *   storm MICROSECONDS   one thread calls `work`, and the handler calls it for so long; `storming`
 *   halt                 `done CALLS handled=N lost=M`; `wrong …` if a result differed
 */
#include "line.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

static atomic_int stop, wrong, inside, begun;
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
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    while (!atomic_load(&stop)) call();
    return argument;
}

static pthread_t thread;

/* The signal comes some microseconds after the thread is back: in turn from another thread, and from a timer of the
 * kernel's. One that gets lost is the last one. */
static void *send(void *argument) {
    while (!atomic_load(&begun)) {} /* `thread` is who it is */
    for (int n = 0; !atomic_load(&stop); n++) {
        while (atomic_load(&inside) && !atomic_load(&stop)) {}
        long until = now() + 15;
        while (now() < until) {}
        atomic_store(&inside, 1);
        struct itimerval soon = {{0, 0}, {0, 1}};
        if (n & 1) setitimer(ITIMER_REAL, &soon, NULL);
        else pthread_kill(thread, SIGUSR1);
    }
    return argument;
}

int main(void) {
    pthread_t sender;
    int storming = 0;
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, NULL);
    signal(SIGUSR1, on_signal);
    signal(SIGALRM, on_signal);
    ready();
    for (char *line; (line = command());) {
        if (!storming && sscanf(line, "storm %ld", &taking) == 1) {
            atomic_store(&stop, 0);
            /* The newest thread is the first that is asked to work for somebody else. */
            if (pthread_create(&sender, NULL, send, NULL) || pthread_create(&thread, NULL, busy, NULL)) abort();
            storming = 1;
            atomic_store(&begun, 1);
            answer("storming");
        } else if (storming && strcmp(line, "halt") == 0) {
            long before = atomic_load(&handled);
            /* On a busy machine a handler may take its time: only what never comes is lost. */
            for (int i = 0; i < 3000 && atomic_load(&handled) == before; i++) usleep(10000);
            int lost = atomic_load(&handled) == before;
            atomic_store(&stop, 1);
            pthread_join(sender, NULL);
            pthread_join(thread, NULL);
            storming = 0;
            atomic_store(&begun, 0);
            answer("%s %ld handled=%ld lost=%d", atomic_load(&wrong) ? "wrong" : "done", atomic_load(&calls),
                   atomic_load(&handled), lost);
        } else {
            answer("error unknown command: %s", line);
        }
    }
    return 0;
}
