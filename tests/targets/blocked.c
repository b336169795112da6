/* Behaviour: threads asleep in the kernel, one in each way that an attach must not disturb.
 *
 *   check            `blocked read futex …` while no call has returned, else `returned NAME errno=E`
 *   run T CALLS      the main thread calls `work` T * CALLS times; `done TOTAL`
 *   release          ends each call in its own way; `released N`, or `returned …` if one came back early
 *
 * `ready` is said when the kernel reports every thread asleep. A call that returns before `release`, with
 * whatever result, is remembered for ever.
 */
#define _GNU_SOURCE
#include "line.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

KEPT int work(int a) { WORK_BODY(a) }

static atomic_int released, futex_word;
static int read_pipe[2], poll_pipe[2], event, pair[2];

static long in_read(void) { char c; return read(read_pipe[0], &c, 1); }
static long in_futex(void) {
    return syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}
static long in_nanosleep(void) {
    struct timespec hour = {3600, 0};
    return nanosleep(&hour, NULL);
}
static long in_epoll_wait(void) {
    struct epoll_event got, want = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, event, &want);
    return epoll_wait(epoll, &got, 1, -1);
}
static long in_poll(void) {
    struct pollfd wait = {poll_pipe[0], POLLIN, 0};
    return poll(&wait, 1, 3600 * 1000);
}
static long in_sigwaitinfo(void) {
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return sigwaitinfo(&set, &info);
}
/* A socket with a time limit: one of the calls that the kernel does not restart after a stop (signal(7)). */
static long in_recv(void) {
    struct timeval hour = {3600, 0};
    char c;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour);
    return recv(pair[0], &c, 1, 0);
}

static struct sleeper {
    const char *name;
    long (*call)(void);
    pthread_t thread;
    _Atomic pid_t tid;
    atomic_int returned; /* before `release` */
    long result;
    int error;
} sleepers[] = {
    {.name = "read", .call = in_read},   {.name = "futex", .call = in_futex},
    {.name = "nanosleep", .call = in_nanosleep}, {.name = "epoll_wait", .call = in_epoll_wait},
    {.name = "poll", .call = in_poll},   {.name = "sigwaitinfo", .call = in_sigwaitinfo},
    {.name = "recv", .call = in_recv},
};
enum { SLEEPERS = sizeof sleepers / sizeof sleepers[0] };

static void *asleep(void *argument) {
    struct sleeper *me = argument;
    atomic_store(&me->tid, (pid_t)syscall(SYS_gettid));
    errno = 0;
    me->result = me->call();
    me->error = errno;
    if (!atomic_load(&released)) atomic_store(&me->returned, 1);
    return NULL;
}

/* Says which call came back, if one did. */
static int early(void) {
    for (int i = 0; i < SLEEPERS; i++) {
        if (!atomic_load(&sleepers[i].returned)) continue;
        answer("returned %s result=%ld errno=%d", sleepers[i].name, sleepers[i].result, sleepers[i].error);
        return 1;
    }
    return 0;
}

static void check(void) {
    if (early()) return;
    fputs("blocked", stdout);
    for (int i = 0; i < SLEEPERS; i++) printf(" %s", sleepers[i].name);
    answer("%s", "");
}

static void wake(int number) { (void)number; }

static void release(void) {
    if (early()) return;
    atomic_store(&released, 1);
    int right = write(read_pipe[1], "r", 1) == 1 && write(poll_pipe[1], "p", 1) == 1 &&
                eventfd_write(event, 1) == 0 && send(pair[1], "s", 1, 0) == 1;
    atomic_store(&futex_word, 1);
    syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    for (int i = 0; i < SLEEPERS; i++) {
        if (sleepers[i].call == in_nanosleep) pthread_kill(sleepers[i].thread, SIGUSR1);
        if (sleepers[i].call == in_sigwaitinfo) pthread_kill(sleepers[i].thread, SIGUSR2);
    }
    for (int i = 0; i < SLEEPERS; i++) pthread_join(sleepers[i].thread, NULL);
    answer("%s %d", right ? "released" : "wrong", (int)SLEEPERS);
}

int main(void) {
    long a, b;
    sigset_t block;
    struct sigaction action = {.sa_handler = wake};
    int open = 1;
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &block, NULL);
    event = eventfd(0, EFD_CLOEXEC);
    if (pipe(read_pipe) || pipe(poll_pipe) || event < 0) return 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 1;
    for (int i = 0; i < SLEEPERS; i++)
        if (pthread_create(&sleepers[i].thread, NULL, asleep, &sleepers[i])) return 1;
    for (int i = 0; i < SLEEPERS; i++)
        while (!atomic_load(&sleepers[i].tid) || state_of(sleepers[i].tid) != 'S') sched_yield();
    ready();
    for (char *line; (line = command());) {
        if (strcmp(line, "check") == 0 && open)
            check();
        else if (strcmp(line, "release") == 0 && open)
            release(), open = 0;
        else if (command_is(line, "run", &a, &b)) {
            int right = 1;
            for (long i = 0; i < a * b; i++) right &= work((int)i) == work_twin((int)i);
            answer("%s %ld", right ? "done" : "wrong", a * b);
        } else
            answer("error unknown command: %s", line);
    }
    return 0;
}
