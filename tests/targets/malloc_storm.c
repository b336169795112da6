/* Behaviour: threads that are nearly always inside malloc or free, most of them waiting for its lock.
 *
 *   spin THREADS          kept going until `halt`; `spinning THREADS`
 *   halt                  `done TOTAL`, the calls of `churn` since `spin`
 *   run THREADS CALLS     `done TOTAL`, TOTAL = THREADS * CALLS calls of `churn`
 *
 * With glibc all threads share one arena and ask for sizes that no thread cache serves; musl has one lock
 * anyway. So a process stopped at any moment most likely holds the allocator's lock. A block whose first or
 * last byte changed makes the answer `wrong …`.
 */
#include "line.h"

#include <pthread.h>
#include <stdatomic.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { MAX_THREADS = 64, SLOTS = 8 };

struct job {
    pthread_t thread;
    long calls, done;
    int wrong;
};

static struct job jobs[MAX_THREADS];
static atomic_int stop;

/* One allocation in, one out. Returns whether the block that went out was whole. */
KEPT int churn(char **slot, long *size, long i) {
    int whole = !*slot || ((*slot)[0] == 'a' && (*slot)[*size - 1] == 'z');
    free(*slot);
    *size = 2000 + i * 977 % 60000;
    *slot = malloc((size_t)*size);
    if (!*slot) return 0;
    (*slot)[0] = 'a';
    (*slot)[*size - 1] = 'z';
    return whole;
}

static void *storm(void *argument) {
    struct job *job = argument;
    char *slots[SLOTS] = {0};
    long sizes[SLOTS] = {0};
    for (job->done = 0; job->calls < 0 ? !atomic_load(&stop) : job->done < job->calls; job->done++)
        if (!churn(&slots[job->done % SLOTS], &sizes[job->done % SLOTS], job->done)) job->wrong = 1;
    for (int i = 0; i < SLOTS; i++) free(slots[i]);
    return NULL;
}

static void begin(long threads, long calls) {
    atomic_store(&stop, 0);
    for (long i = 0; i < threads; i++) {
        jobs[i].calls = calls;
        jobs[i].wrong = 0;
        if (pthread_create(&jobs[i].thread, NULL, storm, &jobs[i])) abort();
    }
}

static void finish(long threads) {
    long total = 0, wrong = 0;
    for (long i = 0; i < threads; i++) {
        pthread_join(jobs[i].thread, NULL);
        total += jobs[i].done, wrong += jobs[i].wrong;
    }
    answer("%s %ld", wrong ? "wrong" : "done", total);
}

int main(void) {
    long threads, calls, spinning = 0;
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 1 << 24);
#endif
    ready();
    for (char *line; (line = command());) {
        if (!spinning && command_is(line, "run", &threads, &calls) && threads <= MAX_THREADS) {
            begin(threads, calls);
            finish(threads);
        } else if (!spinning && sscanf(line, "spin %ld", &threads) == 1 && threads >= 1 &&
                   threads <= MAX_THREADS) {
            begin(threads, -1);
            spinning = threads;
            answer("spinning %ld", threads);
        } else if (spinning && strcmp(line, "halt") == 0) {
            atomic_store(&stop, 1);
            finish(spinning);
            spinning = 0;
        } else {
            answer("error unknown command: %s", line);
        }
    }
    return 0;
}
