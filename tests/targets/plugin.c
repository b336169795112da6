/* Behaviour: loads and unloads the libraries plug-a.so and plug-b.so from its own folder, and calls into them.
 *
 *   load NAME       dlopen: `done N`, N is 1 if it lies where the library before it lay
 *   also NAME       dlopen of a second one, which is not called and stays
 *   unload          dlclose of the one library that is loaded
 *   call N          calls plug_twice N times and compares each answer
 *   churn T N       T threads call plug_work as fast as they can while the library is unloaded and loaded again N times:
 *                   `done CALLS`. Between two loads threads find no library and wait.
 *   follow T N      the same, but every tenth time the library stays until somebody has written to its text, half a second
 *                   at most
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "line.h"

enum { TEXT = 16 }; /* Bytes of a function that are compared. */

static void *library;
static char name[64];
static int (*kind)(void), (*work)(int), (*twice)(int);
static void *before;

/* Opens a library of the folder that this program is in. */
static void *open_beside(const char *which) {
    char own[PATH_MAX], path[PATH_MAX + 80];
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    if (n <= 0) return NULL;
    own[n] = 0;
    snprintf(path, sizeof path, "%s/%s", dirname(own), which);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static int load(const char *which) {
    if (library || !(library = open_beside(which))) return -1;
    if (which != name) snprintf(name, sizeof name, "%s", which);
    kind = (int (*)(void))dlsym(library, "plug_kind");
    work = (int (*)(int))dlsym(library, "plug_work");
    twice = (int (*)(int))dlsym(library, "plug_twice");
    int same = (void *)work == before;
    before = (void *)work;
    return kind && work && twice ? same : -1;
}

static int unload(void) {
    if (!library || dlclose(library) != 0) return -1;
    library = NULL;
    return 0;
}

/* What the library must answer. */
static int expected(int of, int a) { return work_twin(work_twin(a + of) + of) + of; }

/* Writers first, or those who call would keep the library for ever. */
static pthread_rwlock_t loaded = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static atomic_int over, bad;
static atomic_long calls;

static void *caller(void *unused) {
    (void)unused;
    long mine = 0;
    for (int a = 0; !atomic_load(&over); a++) {
        pthread_rwlock_rdlock(&loaded);
        for (int i = 0; library && i < 50; i++, mine++)
            if (work(a + i) != work_twin(a + i + kind())) bad = 1;
        pthread_rwlock_unlock(&loaded);
    }
    calls += mine;
    return NULL;
}

/* Waits until the text of plug_work is another one than this, half a second at most. */
static void await_change(const unsigned char *text) {
    for (int i = 0; i < 500 && memcmp(text, (const void *)work, TEXT) == 0; i++) usleep(1000);
}

static void churn(long threads, long cycles, int follow) {
    unsigned char text[TEXT];
    pthread_t all[64];
    if (threads > 64 || !library) return answer("wrong: at most 64 threads, and a library");
    over = bad = 0;
    calls = 0;
    for (long i = 0; i < threads; i++) pthread_create(&all[i], NULL, caller, NULL);
    int failed = 0;
    for (long i = 0; i < cycles && !failed; i++) {
        usleep(2000);
        pthread_rwlock_wrlock(&loaded);
        failed = unload() != 0;
        pthread_rwlock_unlock(&loaded);
        /* Now and then long enough for others to see that it is gone, now and then not. */
        if (i % 3 == 0) usleep(1000);
        pthread_rwlock_wrlock(&loaded);
        failed |= load(i % 7 == 0 ? (strcmp(name, "plug-a.so") == 0 ? "plug-b.so" : "plug-a.so") : name) < 0;
        if (!failed) memcpy(text, (const void *)work, TEXT);
        pthread_rwlock_unlock(&loaded);
        /* Now and then long enough to be armed. */
        if (i % 10 == 0 && follow && !failed) await_change(text);
        else if (i % 10 == 0) usleep(100000);
    }
    over = 1;
    for (long i = 0; i < threads; i++) pthread_join(all[i], NULL);
    if (failed || bad) return answer("wrong failed=%d bad=%d", failed, bad);
    answer("done %ld", (long)calls);
}

int main(void) {
    ready();
    char *line;
    long a, b;
    while ((line = command())) {
        if (strncmp(line, "load ", 5) == 0) {
            int same = load(line + 5);
            if (same < 0)
                answer("wrong %s", dlerror());
            else
                answer("done %d", same);
        } else if (strncmp(line, "also ", 5) == 0) {
            answer(open_beside(line + 5) ? "done 1" : "wrong");
        } else if (strcmp(line, "unload") == 0) {
            answer(unload() == 0 ? "done 0" : "wrong");
        } else if (sscanf(line, "call %ld", &a) == 1 && library) {
            int wrong = 0;
            for (long i = 0; i < a; i++) wrong |= twice((int)i) != expected(kind(), (int)i);
            if (wrong)
                answer("wrong answers");
            else
                answer("done %ld", a);
        } else if (command_is(line, "churn", &a, &b)) {
            churn(a, b, 0);
        } else if (command_is(line, "follow", &a, &b)) {
            churn(a, b, 1);
        } else {
            answer("error unknown command %s", line);
        }
    }
    return 0;
}
