/* Behaviour: a program that looks at its own stacks: `backtrace` (the unwinder of libgcc) in the innermost of four
 * functions, and in the handler of two timers, as profilers do; the handler follows frame pointers, too.
 *
 *   record          remembers the frames above `leaf`; `recorded N`
 *   run THREADS CALLS   each thread calls `outer` CALLS times, and on until a fair number of signals came;
 *                   `done CALLS samples=N cut=C lost=L`, or `wrong …` if `leaf` ever saw other frames than were
 *                   recorded, or a sample names a frame that is none
 *
 * A sample is whole if it comes to the thread's first function. `cut`: the unwinder stopped at the interrupted
 * instruction, which is in no module (nobody has unwind tables for it). `lost`: frame pointers did not lead there from code
 * of this program, or from code in no module.
 */
#define _GNU_SOURCE
#include "line.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/uio.h>
#include <ucontext.h>

enum { MAX_THREADS = 64, FRAMES = 64, SAMPLES_WANTED = 400 };

static struct job {
    pthread_t thread;
    long calls, done, wrong;
} jobs[MAX_THREADS];
static atomic_long samples, cut, lost, wrong;
static void *recorded[FRAMES], *own; /* own: where this program is */
static int recorded_count;
static _Thread_local uintptr_t caller; /* what called the thread's first function */

KEPT void *call(void *argument);

/* Whether an address is in the thread's first function. */
static int is_call(const void *address) {
    uintptr_t offset = (uintptr_t)address - (uintptr_t)call;
    return offset < 512;
}

KEPT int leaf(int a) {
    void *frames[FRAMES];
    int count = backtrace(frames, FRAMES);
    if (!recorded_count) {
        memcpy(recorded, frames, sizeof frames);
        recorded_count = count;
    }
    if (count != recorded_count || memcmp(frames, recorded, sizeof *frames * (size_t)count)) atomic_fetch_add(&wrong, 1);
    return a ^ 85;
}

KEPT int work(int a) { WORK_BODY(a) }

KEPT int middle(int a) {
    int sum = work(a);
    /* Unwinding costs microseconds: most calls leave it to the signals. */
    if (a % 64 == 0) sum += leaf(a) - (a ^ 85);
    return sum + 1;
}

KEPT int outer(int a) { return middle(a) - 1; }

/* The saved frame pointer and the return address above it, wherever that is: a frame pointer that is none does no harm. */
static int words_at(uintptr_t frame, uintptr_t *words) {
    struct iovec to = {words, 16}, from = {(void *)frame, 16};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 16;
}

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const void *ip = (void *)(uintptr_t)registers[REG_RIP];
    void *frames[FRAMES];
    int count = backtrace(frames, FRAMES), at = 0, whole = 0;
    Dl_info place = {0};
    int known = dladdr(ip, &place);
    atomic_fetch_add(&samples, 1);
    while (at < count && frames[at] != ip) at++;
    for (int i = at; i < count; i++) whole |= is_call(frames[i]);
    if (at == count)
        atomic_fetch_add(&wrong, 1);
    else if (!whole && at == count - 1 && !known)
        atomic_fetch_add(&cut, 1);
    else if (!whole)
        atomic_fetch_add(&wrong, 1);
    /* Libraries keep no frame pointers. Else each leads up; a function that has not made its frame yet is passed over. */
    if (known && place.dli_fbase != own) return;
    uintptr_t words[2] = {(uintptr_t)registers[REG_RBP], 0};
    whole = 0;
    for (int n = 0; n < FRAMES && !whole && words_at(words[0], words); n++) whole = words[1] == caller;
    if (!whole) atomic_fetch_add(&lost, 1);
}

static void mask(int how) {
    sigset_t both;
    sigemptyset(&both);
    sigaddset(&both, SIGALRM);
    sigaddset(&both, SIGPROF);
    pthread_sigmask(how, &both, NULL);
}

void *call(void *argument) {
    struct job *job = argument;
    caller = (uintptr_t)__builtin_return_address(0);
    mask(SIG_UNBLOCK);
    for (job->done = 0; job->done < job->calls || (job->calls > 1 && atomic_load(&samples) < SAMPLES_WANTED); job->done++)
        if (outer((int)job->done) != work_twin((int)job->done)) job->wrong++;
    mask(SIG_BLOCK);
    return NULL;
}

static void run(long threads, long calls) {
    long total = 0, differ = 0;
    samples = cut = lost = wrong = 0;
    set_timers(calls > 1 ? 100 : 0, calls > 1 ? 1000 : 0);
    for (long i = 0; i < threads; i++) {
        jobs[i] = (struct job){.calls = calls};
        if (pthread_create(&jobs[i].thread, NULL, call, &jobs[i])) abort();
    }
    for (long i = 0; i < threads; i++) pthread_join(jobs[i].thread, NULL);
    set_timers(0, 0);
    for (long i = 0; i < threads; i++) total += jobs[i].done, differ += jobs[i].wrong;
    if (calls == 1)
        answer("recorded %d", recorded_count);
    else
        answer("%s %ld samples=%ld cut=%ld lost=%ld", differ || wrong ? "wrong" : "done", total, (long)samples,
               (long)cut, (long)lost);
}

int main(void) {
    long threads, calls;
    void *first[2];
    Dl_info place;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_SIGINFO};
    /* The unwinder allocates at its first use, which no handler may. */
    if (backtrace(first, 2) < 1 || !dladdr(first[0], &place)) return 1;
    own = place.dli_fbase;
    mask(SIG_BLOCK);
    sigfillset(&action.sa_mask);
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGPROF, &action, NULL);
    ready();
    for (char *line; (line = command());) {
        if (strcmp(line, "record") == 0)
            recorded_count = 0, run(1, 1);
        else if (command_is(line, "run", &threads, &calls) && threads <= MAX_THREADS && calls > 1 && recorded_count)
            run(threads, calls);
        else
            answer("error unknown command: %s", line);
    }
    return 0;
}
