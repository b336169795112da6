/* Behaviour: one thread that sleeps in a system call again and again, in a dozen ways, and is awakened from each by one signal.
 * Each handler that runs must end exactly the call that it came to: a call that is started again after its handler has run
 * sleeps for ever.
 *
 *   storm   from now on: call `work`, sleep, be awakened; another process watches until it sleeps, and sends the signal at
 *           some moment soon after
 *   halt    `done CALLS wrong=N lost=N`: calls of `work`, calls that did not end with EINTR, and calls that slept on for
 *           seconds although their handler had run
 */
#define _GNU_SOURCE
#include "line.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

KEPT int work(int a) { WORK_BODY(a) }

/* Shared by the two processes. */
static struct shared {
    atomic_long begun, ended; /* number of the call that was begun, and of the one that has ended */
    atomic_long handled, lost;
    atomic_int halt;
} *shared;
static int pipes[2], epoll;
static int futex_word;
static const struct timespec hour = {3600, 0};
static sigset_t none;

static void on_signal(int number) {
    (void)number;
    atomic_fetch_add(&shared->handled, 1);
}

/* Restarted by the kernel where no handler runs, from its arguments (ERESTARTSYS). */
static long in_read(void) { char c; return read(pipes[0], &c, 1); }
static long in_futex(void) { return syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }
static long in_wait(void) { return waitpid(-1, NULL, 0); }
/* From what the kernel has kept (ERESTART_RESTARTBLOCK). */
static long in_futex_timed(void) { return syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, &hour, NULL, 0); }
static long in_poll(void) { struct pollfd p = {pipes[0], POLLIN, 0}; return poll(&p, 1, 3600 * 1000); }
static long in_nanosleep(void) { return nanosleep(&hour, NULL); }
/* From their arguments, never after a handler (ERESTARTNOHAND). The signal comes through while they sleep only. */
static long in_sigsuspend(void) { return sigsuspend(&none); }
static long in_ppoll(void) { struct pollfd p = {pipes[0], POLLIN, 0}; return ppoll(&p, 1, NULL, &none); }
static long in_pselect(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipes[0], &set);
    return pselect(pipes[0] + 1, &set, NULL, NULL, &hour, &none);
}
static long in_pause(void) { return pause(); }
/* Ended with EINTR even by a stop of ours, which starts them again. */
static long in_epoll_wait(void) { struct epoll_event e; return epoll_wait(epoll, &e, 1, -1); }
static long in_epoll_pwait(void) { struct epoll_event e; return epoll_pwait(epoll, &e, 1, -1, &none); }

static const struct way {
    long (*call)(void);
    int blocked; /* outside of the call */
} ways[] = {
    {in_read, 0},      {in_futex, 0},  {in_wait, 0},   {in_futex_timed, 0}, {in_poll, 0},       {in_nanosleep, 0},
    {in_sigsuspend, 1}, {in_ppoll, 1}, {in_pselect, 1}, {in_pause, 0},      {in_epoll_wait, 0}, {in_epoll_pwait, 1},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int sleeps(pid_t pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    char *state = strrchr(text, ')');
    return state && state[1] == ' ' && state[2] == 'S';
}

/* The other process: awakens its parent from each call once. */
static void awaken(void) {
    pid_t sleeper = getppid();
    unsigned random = 1;
    while (!atomic_load(&shared->halt)) {
        long number = atomic_load(&shared->begun);
        if (number == atomic_load(&shared->ended) || !sleeps(sleeper)) continue;
        random = random * 1103515245u + 12345u;
        for (long until = now_us() + (random >> 16) % 300; now_us() < until;) {}
        kill(sleeper, SIGUSR1);
        for (long until = now_us() + 5000000; atomic_load(&shared->ended) < number;) {
            if (now_us() < until) continue;
            /* Not for the signal's sake, which was handled: to go on. */
            if (atomic_load(&shared->handled) >= number) atomic_fetch_add(&shared->lost, 1);
            kill(sleeper, SIGUSR1);
            until = now_us() + 5000000;
        }
    }
    _exit(0);
}

static void storm(void) {
    sigset_t usr1;
    long number = 0, wrong = 0;
    struct pollfd commands = {0, POLLIN, 0};
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pid_t child = fork();
    if (child == 0) awaken();
    for (; poll(&commands, 1, 0) == 0; number++) {
        const struct way *way = &ways[number % WAYS];
        if (work((int)number) != work_twin((int)number)) wrong++;
        sigprocmask(way->blocked ? SIG_BLOCK : SIG_UNBLOCK, &usr1, NULL);
        atomic_store(&shared->begun, number + 1);
        long result = way->call();
        int error = errno;
        if (result != -1 || error != EINTR || atomic_load(&shared->handled) < number + 1) wrong++;
        atomic_store(&shared->ended, number + 1);
    }
    atomic_store(&shared->halt, 1);
    waitpid(child, NULL, 0);
    sigprocmask(SIG_UNBLOCK, &usr1, NULL); /* as before */
    char *line = command();
    if (line && strcmp(line, "halt") == 0)
        answer("done %ld wrong=%ld lost=%ld", number, wrong, atomic_load(&shared->lost));
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal}; /* without SA_RESTART */
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || pipe(pipes) || (epoll = epoll_create1(0)) < 0) abort();
    struct epoll_event want = {.events = EPOLLIN};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &want)) abort();
    sigemptyset(&none);
    sigaction(SIGUSR1, &action, NULL);
    ready();
    for (char *line; (line = command());) {
        if (strcmp(line, "storm") == 0) {
            answer("storming");
            storm();
        } else
            answer("error unknown command: %s", line);
    }
    return 0;
}
