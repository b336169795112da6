/* Behaviour: threads that are cancelled in the calls in which they sleep (pthread_cancel(3)). musl and glibc decide by the
 * saved instruction pointer whether the call had begun.
 *
 *   start         eight threads sleep: four in read, two in nanosleep, two in a read while cancellation is disabled;
 *                 `started 8` when the kernel reports all of them asleep
 *   cancel        all are cancelled; the last two read a byte first, and act on it at their next call; `done 8`, or
 *                 `wrong …` if one was not cancelled, its cleanup did not run, or it was cancelled too early
 *   churn CALLS 1 a thread is made, sent into read and cancelled at once, CALLS times; `done CALLS`
 */
#define _GNU_SOURCE
#include "line.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>

enum { THREADS = 8 };

static struct sleeper {
    pthread_t thread;
    int pipe[2];
    _Atomic pid_t tid;
    atomic_int cleaned, read_all, went_on;
} sleepers[THREADS];

KEPT int work(int a) { WORK_BODY(a) }

static void clean(void *argument) {
    struct sleeper *me = argument;
    atomic_fetch_add(&me->cleaned, 1);
}

static void *asleep(void *argument) {
    struct sleeper *me = argument;
    long index = me - sleepers;
    char c;
    int old;
    pthread_cleanup_push(clean, me);
    if (index >= 6) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    atomic_store(&me->tid, (pid_t)syscall(SYS_gettid));
    if (index < 4) {
        if (read(me->pipe[0], &c, 1) != 0) atomic_store(&me->went_on, 1);
    } else if (index < 6) {
        struct timespec hour = {3600, 0};
        nanosleep(&hour, NULL);
    } else {
        atomic_store(&me->read_all, read(me->pipe[0], &c, 1) == 1);
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
        if (read(me->pipe[0], &c, 1) != 0) atomic_store(&me->went_on, 1);
    }
    atomic_store(&me->went_on, 1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void start(void) {
    for (int i = 0; i < THREADS; i++) {
        struct sleeper *one = &sleepers[i];
        memset(one, 0, sizeof *one);
        if (pipe(one->pipe) || pthread_create(&one->thread, NULL, asleep, one)) abort();
    }
    for (int i = 0; i < THREADS; i++)
        while (!atomic_load(&sleepers[i].tid) || state_of(sleepers[i].tid) != 'S') sched_yield();
    answer("started %d", THREADS);
}

static void cancel(void) {
    int right = 1;
    for (int i = 0; i < THREADS; i++) right &= pthread_cancel(sleepers[i].thread) == 0;
    for (int i = 6; i < THREADS; i++) right &= write(sleepers[i].pipe[1], "r", 1) == 1;
    for (int i = 0; i < THREADS; i++) {
        struct sleeper *one = &sleepers[i];
        void *end = NULL;
        right &= pthread_join(one->thread, &end) == 0 && end == PTHREAD_CANCELED;
        right &= atomic_load(&one->cleaned) == 1 && !atomic_load(&one->went_on);
        right &= atomic_load(&one->read_all) == (i >= 6);
        close(one->pipe[0]), close(one->pipe[1]);
    }
    answer("%s %d", right ? "done" : "wrong", THREADS);
}

static void churn(long calls) {
    int right = 1;
    for (long i = 0; i < calls; i++) {
        struct sleeper *one = &sleepers[0];
        void *end = NULL;
        memset(one, 0, sizeof *one);
        if (pipe(one->pipe) || pthread_create(&one->thread, NULL, asleep, one)) abort();
        while (i % 2 && !atomic_load(&one->tid)) sched_yield();
        right &= work((int)i) == work_twin((int)i);
        right &= pthread_cancel(one->thread) == 0 && pthread_join(one->thread, &end) == 0;
        right &= end == PTHREAD_CANCELED && !atomic_load(&one->went_on);
        /* Cancelled in its read, or before it had begun anything. */
        right &= atomic_load(&one->cleaned) == 1 || !atomic_load(&one->tid);
        close(one->pipe[0]), close(one->pipe[1]);
    }
    answer("%s %ld", right ? "done" : "wrong", calls);
}

int main(void) {
    long a, b;
    int started = 0;
    ready();
    for (char *line; (line = command());) {
        if (strcmp(line, "start") == 0 && !started)
            start(), started = 1;
        else if (strcmp(line, "cancel") == 0 && started)
            cancel(), started = 0;
        else if (command_is(line, "churn", &a, &b) && !started)
            churn(a);
        else
            answer("error unknown command: %s", line);
    }
    return 0;
}
