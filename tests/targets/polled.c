/* Behaviour: one thread sleeps in epoll_wait, which a stop ends with EINTR, and a later one may be traced by another process,
 * so that who wants to stop all of them has stopped that one when it learns that it may not.
 *
 *   trace           another process traces the last thread; `done 1` when it does
 *   untrace         that process ends; `done 1` when it has
 *   wake            the sleeper is woken once; `done 1` when it was
 *   interrupted     `done N`: N of its calls ended with EINTR
 *   run 1 CALLS     the main thread calls `work` CALLS times; `done CALLS`
 */
#define _GNU_SOURCE
#include "line.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

KEPT int work(int a) { WORK_BODY(a) }

static atomic_long woken, interrupted;
static atomic_int tid;
static int polled, event, orders[2], answers[2];
static pid_t tracer;

static void *sleeper(void *unused) {
    struct epoll_event got;
    uint64_t count;
    for (;;) {
        if (epoll_wait(polled, &got, 1, -1) == 1) {
            if (read(event, &count, sizeof count) == sizeof count) atomic_fetch_add(&woken, 1);
        } else if (errno == EINTR) {
            atomic_fetch_add(&interrupted, 1);
        }
    }
    return unused;
}

static void *last(void *unused) {
    atomic_store(&tid, (int)syscall(SYS_gettid));
    for (;;) pause();
    return unused;
}

/* In a process of its own: told whom to trace, it does until it is told to end. */
static void trace(void) {
    pid_t whom;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(orders[0], &whom, sizeof whom) != sizeof whom) _exit(1);
    long traced = ptrace(PTRACE_SEIZE, whom, 0, 0);
    if (write(answers[1], &traced, sizeof traced) != sizeof traced) _exit(1);
    _exit(read(orders[0], &whom, sizeof whom) != sizeof whom);
}

static void start(void *(*body)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, NULL)) abort();
}

int main(void) {
    struct epoll_event wanted = {.events = EPOLLIN};
    polled = epoll_create1(EPOLL_CLOEXEC);
    event = eventfd(0, EFD_CLOEXEC);
    if (epoll_ctl(polled, EPOLL_CTL_ADD, event, &wanted) || pipe(orders) || pipe(answers)) return 1;
    tracer = fork();
    if (tracer == 0) trace();
    start(sleeper);
    start(last);
    while (!atomic_load(&tid)) usleep(100);
    ready();
    for (char *line; (line = command());) {
        long threads, calls, wrong = 0, traced = -1;
        pid_t whom = atomic_load(&tid);
        if (strcmp(line, "trace") == 0) {
            if (write(orders[1], &whom, sizeof whom) != sizeof whom || read(answers[0], &traced, sizeof traced) < 0) abort();
            answer(traced ? "error it may not be traced" : "done 1");
        } else if (strcmp(line, "untrace") == 0) {
            int status;
            if (write(orders[1], &whom, sizeof whom) != sizeof whom || waitpid(tracer, &status, 0) < 0) abort();
            answer("done 1");
        } else if (strcmp(line, "wake") == 0) {
            long before = atomic_load(&woken);
            if (write(event, &(uint64_t){1}, 8) != 8) abort();
            while (atomic_load(&woken) == before) usleep(100);
            answer("done %ld", atomic_load(&woken) - before);
        } else if (strcmp(line, "interrupted") == 0) {
            answer("done %ld", atomic_load(&interrupted));
        } else if (command_is(line, "run", &threads, &calls)) {
            for (int i = 0; i < calls; i++) wrong += work(i) != work_twin(i);
            answer(wrong ? "wrong work" : "done %ld", calls);
        } else {
            answer("error what is `%s`?", line);
        }
    }
    return 0;
}
