/* Behaviour: threads that call `work` an exact number of times on command. Built in many variants (build).
 *
 *   run THREADS CALLS     on threads that are kept; `done TOTAL`, TOTAL = THREADS * CALLS
 *   alone INDEX CALLS     the kept thread INDEX (from zero) alone calls, and the others not once; `done CALLS`
 *   fresh THREADS CALLS   the same on threads that are made for it and end with it
 *   spin THREADS          kept threads call `work` until `halt`; `spinning THREADS`
 *   halt                  `done TOTAL`, the number of calls since `spin`
 *
 * Every result is compared with an inlined twin; `wrong …` in place of `done …` says that one differed.
 */
#include "line.h"

#include <pthread.h>
#include <stdatomic.h>

enum { MAX_THREADS = 256 };

KEPT int work(int a) { WORK_BODY(a) }

struct job {
    long calls; /* negative: until `stop` */
    long done;
    int wrong;
};

static struct job jobs[MAX_THREADS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long generation, wanted, unfinished;
static atomic_int stop;

static void do_job(struct job *job) {
    job->done = 0;
    job->wrong = 0;
    while (job->calls < 0 ? !atomic_load_explicit(&stop, memory_order_relaxed) : job->done < job->calls) {
        int i = (int)job->done++;
        if (work(i) != work_twin(i)) job->wrong = 1;
    }
}

static void *once(void *argument) {
    do_job(argument);
    return NULL;
}

static void *worker(void *argument) {
    long index = (struct job *)argument - jobs, seen = 0;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (seen == generation || index >= wanted) {
            seen = generation;
            pthread_cond_wait(&changed, &lock);
        }
        seen = generation;
        pthread_mutex_unlock(&lock);
        do_job(&jobs[index]);
        pthread_mutex_lock(&lock);
        if (--unfinished == 0) pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/* Grows the kept threads to `threads` and hands each its job, which is nothing for those before `from`. */
static void hand_out(long threads, long calls, long from) {
    static long made;
    pthread_mutex_lock(&lock);
    for (long i = 0; i < threads; i++) jobs[i].calls = i < from ? 0 : calls;
    generation++;
    wanted = unfinished = threads;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    for (; made < threads; made++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, &jobs[made])) abort();
    }
}

static void report(long threads) {
    long total = 0, wrong = 0;
    for (long i = 0; i < threads; i++) total += jobs[i].done, wrong += jobs[i].wrong;
    answer("%s %ld", wrong ? "wrong" : "done", total);
}

static void wait_all(void) {
    pthread_mutex_lock(&lock);
    while (unfinished) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    report(wanted);
}

static void fresh(long threads, long calls) {
    pthread_t made[MAX_THREADS];
    for (long i = 0; i < threads; i++) {
        jobs[i].calls = calls;
        if (pthread_create(&made[i], NULL, once, &jobs[i])) abort();
    }
    for (long i = 0; i < threads; i++) pthread_join(made[i], NULL);
    report(threads);
}

int main(void) {
    long threads, calls, spinning = 0;
    ready();
    for (char *line; (line = command());) {
        if (spinning && strcmp(line, "halt") != 0) {
            answer("error spinning: say halt first");
        } else if (command_is(line, "run", &threads, &calls) && threads <= MAX_THREADS) {
            hand_out(threads, calls, 0);
            wait_all();
        } else if (sscanf(line, "alone %ld %ld", &threads, &calls) == 2 && threads >= 0 && threads < MAX_THREADS) {
            hand_out(threads + 1, calls, threads);
            wait_all();
        } else if (command_is(line, "fresh", &threads, &calls) && threads <= MAX_THREADS) {
            fresh(threads, calls);
        } else if (sscanf(line, "spin %ld", &threads) == 1 && threads >= 1 && threads <= MAX_THREADS) {
            atomic_store(&stop, 0);
            hand_out(threads, -1, 0);
            spinning = threads;
            answer("spinning %ld", threads);
        } else if (strcmp(line, "halt") == 0 && spinning) {
            atomic_store(&stop, 1);
            wait_all();
            spinning = 0;
        } else {
            answer("error unknown command: %s", line);
        }
    }
    return 0;
}
