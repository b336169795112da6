/* Behaviour: a thread ends, and the next one has its thread pointer but a much smaller stack, as happens where a libc puts the
 * control block at the end of a stack. Here all stacks end at the same place, so that it always happens.
 *
 *   large CALLS     a thread with 2 MiB of stack calls `work` CALLS times, a millisecond apart, and ends; `done POINTER`
 *   small CALLS     one with 128 KiB does so at once, where some 20 KiB of its stack are left; `done POINTER`
 */
#define _GNU_SOURCE
#include "line.h"

#include <pthread.h>
#include <sys/mman.h>

enum { LARGE = 2 << 20, SMALL = 128 << 10, LEFT = 20 << 10, STEP = 1024 };

KEPT int work(int a) { WORK_BODY(a) }

static char *stacks;
static int calls, pause_us, deep;
static volatile int wrong;

static void call(void) {
    for (int i = 0; i < calls; i++) {
        if (work(i) != work_twin(i)) wrong = 1;
        if (pause_us) usleep((unsigned)pause_us);
    }
}

/* Goes down to where so much of the stack is left. */
__attribute__((noinline)) static void deepen(const char *low) {
    char here[STEP];
    __asm__ volatile("" : : "r"(here) : "memory");
    if (here - low > LEFT) deepen(low);
    else call();
    __asm__ volatile("" : : "r"(here) : "memory");
}

static void *run(void *low) {
    if (deep) deepen(low);
    else call();
    return (void *)pthread_self();
}

static void thread(long size) {
    pthread_attr_t attributes;
    pthread_t one;
    void *pointer;
    char *low = stacks + LARGE - size;
    if (mprotect(stacks, LARGE, PROT_NONE) || mprotect(low, (size_t)size, PROT_READ | PROT_WRITE)) abort();
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, low, (size_t)size) || pthread_create(&one, &attributes, run, low)) abort();
    pthread_join(one, &pointer);
    answer(wrong ? "wrong work" : "done %p", pointer);
}

int main(void) {
    /* A page above, so that no other mapping is taken for a part of the stack; and pages below, which nobody may use. */
    enum { PAGE = 4096 };
    char *area = mmap(NULL, LARGE + 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) abort();
    stacks = area + 15 * PAGE;
    ready();
    for (char *line; (line = command());) {
        if (sscanf(line, "large %d", &calls) == 1) {
            pause_us = 1000, deep = 0;
            thread(LARGE);
        } else if (sscanf(line, "small %d", &calls) == 1) {
            pause_us = 0, deep = 1;
            thread(SMALL);
        } else {
            answer("error what is `%s`?", line);
        }
    }
    return 0;
}
