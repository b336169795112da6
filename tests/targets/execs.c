/* Behaviour: a program with several threads, one of which starts the program anew every few milliseconds.
 *
 *   execs TIMES [REST]    `ready`, then TIMES execs of itself by a thread that is not the first, `done TIMES`, and the end
 */
#include "line.h"

#include <pthread.h>
#include <stdint.h>
#include <time.h>

KEPT int work(int a) { WORK_BODY(a) }

static char times[24], rest[24];

static void *spin(void *unused) {
    (void)unused;
    for (volatile int i = 0;; i = (i + 1) % 1000) {
        int a = i;
        if (work(a) != work_twin(a)) abort();
    }
}

static void *doze(void *unused) {
    (void)unused;
    while (pause()) {
    }
    return NULL;
}

static void *start_anew(void *unused) {
    (void)unused;
    struct timespec some = {0, 3000000};
    nanosleep(&some, NULL);
    char *words[] = {"execs", times, rest, NULL};
    execv("/proc/self/exe", words);
    answer("error exec: %m");
    exit(4);
}

int main(int argc, char **argv) {
    long all = argc > 1 ? atol(argv[1]) : 0, left = argc > 2 ? atol(argv[2]) : all;
    if (argc <= 2) ready();
    if (left <= 0) {
        answer("done %ld", all);
        return 0;
    }
    snprintf(times, sizeof times, "%ld", all);
    snprintf(rest, sizeof rest, "%ld", left - 1);
    pthread_t thread;
    void *(*what[])(void *) = {spin, doze, doze, doze, start_anew};
    for (unsigned i = 0; i < sizeof what / sizeof *what; i++)
        if (pthread_create(&thread, NULL, what[i], NULL)) abort();
    pause();
}
