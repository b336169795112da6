/* Behaviour: memory that comes and goes, and signals that come in between, while a function is called all the time.
 *
 *   unsteady   three threads call `work(pages, n)` in bursts. Another one unmaps all pages of `pages` but the first, and maps
 *              them again.
 *   alarm      from then on SIGALRM comes every half millisecond, to any thread, and its handler calls `work` too. No thread
 *              has another signal mask before. `alarmed`
 *   stats      `stats calls=N wrong=N`: calls so far, and results that were not as they should be
 */
#include "line.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

enum { WORKERS = 3, PAGES = 4, PAGE = 4096, BURST = 200 };

static char *pages;
static atomic_long calls, wrong;

KEPT int work(const char *at, int a) { (void)at; WORK_BODY(a) }

static void checked(int a) {
    if (work(pages, a) != work_twin(a)) atomic_fetch_add(&wrong, 1);
    atomic_fetch_add(&calls, 1);
}

static void on_alarm(int number) { checked(number); }

static void rest(long ns) {
    struct timespec time = {0, ns};
    nanosleep(&time, NULL);
}

static void *worker(void *unused) {
    (void)unused;
    for (int i = 0;; i++) {
        checked(i);
        if (i % BURST == 0) rest(1000000);
    }
    return NULL;
}

/* What is mapped over is unmapped. Something stands there all the time, so that nobody else takes the place. */
static void replace(int protection) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (mmap(pages + PAGE, (PAGES - 1) * PAGE, protection, flags, -1, 0) == MAP_FAILED) abort();
}

static void *mapper(void *unused) {
    (void)unused;
    for (;;) {
        replace(PROT_NONE);
        rest(20000);
        replace(PROT_READ | PROT_WRITE);
        memset(pages + PAGE, 'x', (PAGES - 1) * PAGE);
        rest(20000);
    }
    return NULL;
}

static void start(void *(*body)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, NULL)) abort();
}

int main(void) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, 500}, {0, 500}};
    pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) abort();
    memset(pages, 'x', PAGES * PAGE);
    sigaction(SIGALRM, &action, NULL);
    for (int i = 0; i < WORKERS; i++) start(worker);
    start(mapper);
    ready();
    for (char *line; (line = command());) {
        if (strcmp(line, "stats") == 0)
            answer("stats calls=%ld wrong=%ld", atomic_load(&calls), atomic_load(&wrong));
        else if (strcmp(line, "alarm") == 0) {
            setitimer(ITIMER_REAL, &every, NULL);
            answer("alarmed");
        } else
            answer("error unknown command: %s", line);
    }
    return 0;
}
