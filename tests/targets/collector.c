/* Behaviour: a conservative collector (libgc) that stops threads by a signal, and finds objects by words on stacks and in
 * registers.
 *
 *   run THREADS ROUNDS   on new threads, each round builds a list whose only reference is on the thread's stack, or in a
 *                        register while `visit` is called, and walks it; while one thread collects without end;
 *                        `done VISITS collections=N`, or `wrong …` if an object was freed or used anew meanwhile
 *
 *   carved THREADS ROUNDS   the same on stacks that the program has cut out of one block
 *
 * `visit` is what tests probe: at its entry the object's only reference is its argument.
 */
#define GC_THREADS
#include <gc.h>

#include "line.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { MAX_THREADS = 16, LENGTH = 64, STACK = 256 * 1024 };

struct node {
    struct node *next;
    unsigned long value, check;
};

static struct job {
    pthread_t thread;
    unsigned long rounds, visits, wrong;
} jobs[MAX_THREADS];
static atomic_int stop;
static char (*stacks)[STACK];

#define CHECK(value) ((value) * 0x9e3779b97f4a7c15ul ^ 0x5afe57ac6b077011ul)

/* Takes the last reference to the rest of the list, and gives the next one. */
KEPT struct node *visit(struct node *node, struct job *job) {
    struct node *next = node->next;
    unsigned long value = node->value;
    if (node->check != CHECK(value)) job->wrong++;
    job->visits++;
    return next;
}

KEPT struct node *build(unsigned long seed) {
    struct node *list = NULL;
    for (unsigned long i = 0; i < LENGTH; i++) {
        struct node *node = GC_MALLOC(sizeof *node);
        node->next = list;
        node->value = seed + i;
        node->check = CHECK(seed + i);
        list = node;
    }
    return list;
}

static void *call(void *argument) {
    struct job *job = argument;
    for (unsigned long r = 0; r < job->rounds; r++)
        for (struct node *list = build(r * LENGTH); list; list = visit(list, job)) {}
    return NULL;
}

static void *collect(void *argument) {
    (void)argument;
    do GC_gcollect(); /* At least once, also if its first turn comes when the others are done. */
    while (!atomic_load(&stop));
    return NULL;
}

static void run(long threads, long rounds, int carved) {
    pthread_attr_t attributes;
    pthread_t collecting;
    unsigned long visits = 0, wrong = 0, before = GC_get_gc_no();
    atomic_store(&stop, 0);
    memset(jobs, 0, sizeof jobs);
    if (pthread_create(&collecting, NULL, collect, NULL)) abort();
    for (long i = 0; i < threads; i++) {
        jobs[i].rounds = (unsigned long)rounds;
        pthread_attr_init(&attributes);
        if (carved && pthread_attr_setstack(&attributes, stacks[i], STACK)) abort();
        if (pthread_create(&jobs[i].thread, &attributes, call, &jobs[i])) abort();
        pthread_attr_destroy(&attributes);
    }
    for (long i = 0; i < threads; i++) pthread_join(jobs[i].thread, NULL);
    atomic_store(&stop, 1);
    pthread_join(collecting, NULL);
    for (long i = 0; i < threads; i++) visits += jobs[i].visits, wrong += jobs[i].wrong;
    wrong += visits != (unsigned long)(threads * rounds) * LENGTH;
    answer("%s %lu collections=%lu", wrong ? "wrong" : "done", visits, GC_get_gc_no() - before);
}

int main(void) {
    long threads, rounds;
    GC_INIT();
    stacks = mmap(NULL, (size_t)MAX_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED) return 1;
    ready();
    for (char *line; (line = command());) {
        if (command_is(line, "run", &threads, &rounds) && threads <= MAX_THREADS)
            run(threads, rounds, 0);
        else if (command_is(line, "carved", &threads, &rounds) && threads <= MAX_THREADS)
            run(threads, rounds, 1);
        else
            answer("error unknown command: %s", line);
    }
    return 0;
}
