/* Behaviour: threads that count per processor in a restartable sequence (rseq(2), as glibc registers it), which the kernel
 * starts over when the thread is interrupted in it. The sequence reads, adds and writes in separate instructions, so that
 * a thread which goes on in the middle of it, on another processor or after another thread, loses counts.
 *
 *   run THREADS CALLS   each thread calls `bump` CALLS times; `done TOTAL restarts=N`, or `wrong …` if the counters of all
 *                       processors do not add up
 *   spin THREADS        threads call `bump` until `halt`; `spinning THREADS`
 *   halt                `done TOTAL restarts=N`, or `wrong …`
 */
#define _GNU_SOURCE
#include "line.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/rseq.h>

enum { MAX_THREADS = 64, PROCESSORS = 1024 };

/* A cache line for each processor. */
struct count {
    long calls;
    char rest[56];
} counts[PROCESSORS];

/* bump(counts, offset of the thread's struct rseq, &restarts). The struct's `cpu_id` is at 4, `rseq_cs` at 8; the kernel
 * clears `rseq_cs` when it leaves the sequence. The signature before `restart_abort` is part of a `ud1`. */
__asm__(".text\n.p2align 4\n.globl bump\n.type bump, @function\n"
        "bump:\n .cfi_startproc\n"
        " lea restart_descriptor(%rip), %rax\n"
        " mov %rax, %fs:8(%rsi)\n"
        ".type restart_start, @function\nrestart_start:\n"
        " mov %fs:4(%rsi), %ecx\n shl $6, %rcx\n add %rdi, %rcx\n"
        ".type restart_middle, @function\nrestart_middle:\n"
        " mov (%rcx), %rax\n add $1, %rax\n nopl 0(%rax,%rax)\n nopl 0(%rax,%rax)\n"
        " mov %rax, (%rcx)\n"
        ".type restart_end, @function\nrestart_end:\n"
        " ret\n .cfi_endproc\n.size bump, .-bump\n"
        ".p2align 4\n.byte 0x0f, 0xb9, 0x3d\n"
        ".type restart_signature, @function\nrestart_signature:\n .long 0x53053053\n"
        ".type restart_abort, @function\nrestart_abort:\n .cfi_startproc\n"
        " incq (%rdx)\n jmp bump\n .cfi_endproc\n.size restart_abort, .-restart_abort\n"
        ".pushsection __rseq_cs, \"aw\"\n.balign 32\nrestart_descriptor:\n .long 0, 0\n"
        " .quad restart_start, restart_end - restart_start, restart_abort\n.popsection\n");
void bump(struct count *counts, long area, long *restarts);

KEPT int work(int a) { WORK_BODY(a) }

static struct job {
    pthread_t thread;
    long calls, done, restarts;
    int wrong;
} jobs[MAX_THREADS];
static atomic_int stop;

static void *call(void *argument) {
    struct job *job = argument;
    for (job->done = 0; job->calls < 0 ? !atomic_load(&stop) : job->done < job->calls; job->done++) {
        bump(counts, __rseq_offset, &job->restarts);
        if (job->done % 16 == 0) job->wrong |= work((int)job->done) != work_twin((int)job->done);
    }
    return NULL;
}

static long running;

static void start(long threads, long calls) {
    memset(jobs, 0, sizeof jobs);
    memset(counts, 0, sizeof counts);
    atomic_store(&stop, 0);
    running = threads;
    for (long i = 0; i < threads; i++) {
        jobs[i].calls = calls;
        if (pthread_create(&jobs[i].thread, NULL, call, &jobs[i])) abort();
    }
}

static void finish(void) {
    long total = 0, counted = 0, restarts = 0;
    int wrong = 0;
    for (long i = 0; i < running; i++) {
        pthread_join(jobs[i].thread, NULL);
        total += jobs[i].done, restarts += jobs[i].restarts, wrong |= jobs[i].wrong;
    }
    for (int i = 0; i < PROCESSORS; i++) counted += counts[i].calls;
    running = 0;
    answer("%s %ld counted=%ld restarts=%ld", wrong || counted != total ? "wrong" : "done", total, counted, restarts);
}

int main(void) {
    long threads, calls;
    if (!__rseq_size) {
        fputs("glibc has registered no rseq area here\n", stderr);
        return 1;
    }
    ready();
    for (char *line; (line = command());) {
        if (command_is(line, "run", &threads, &calls) && threads <= MAX_THREADS && !running)
            start(threads, calls), finish();
        else if (sscanf(line, "spin %ld", &threads) == 1 && threads >= 1 && threads <= MAX_THREADS && !running)
            start(threads, -1), answer("spinning %ld", threads);
        else if (strcmp(line, "halt") == 0 && running)
            atomic_store(&stop, 1), finish();
        else
            answer("error unknown command: %s", line);
    }
    return 0;
}
