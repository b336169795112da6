/* Behaviour: calls a small function in timed batches, each paired with a batch of its unprobed twin, so that every
 * figure has its own baseline from the same process and the same moment.
 *
 *     cc -O2 -pthread -o target target.c
 *     ./target THREADS [processor-time]
 *                               says `ready pid=N`, then one command a line, one answer a line, ends at end of file;
 *                               times are those on the wall, or each thread's own time on a processor
 *
 *     run NAME BATCHES CALLS    that many pairs of batches of so many calls, on every thread; a JSON object
 *     busy                      all threads call `work` until the next line comes; the answer is the next line's
 *     changed NAME              waits until the first bytes of NAME differ from what they were at the start:
 *                               `done 1`, or `done 0` if they do not within a fifth of a second
 *     original NAME             the same, until they are as at the start again
 *
 * All variants are one piece of assembly with another start, so that no compiler makes two of them differ:
 *
 *     twin        nobody ever touches it
 *     work        starts with a lea of three bytes: a kernel uprobe must single-step it
 *     work_push   starts with push %rbp: the everyday start; a kernel uprobe emulates it and takes one trap
 *     work_nop5   starts with a nop of five bytes: newer kernels make the uprobe a call and a system call
 *     floor_bare  a jump out, one increment in memory, a jump back: the least that any patched jump can cost
 *     floor_full  a jump out, all registers, flags and xmm0-15 saved, a native call, all restored, a jump back
 *
 *     deep        eight functions that call each other; the last, deep7, calls a leaf behind its first five bytes
 *     deep_even   the same, its last call made elsewhere, so that the processor's return predictor stays in step
 *     deep_odd    the same, made without: all eight returns are foretold wrong
 *
 * `deep` and what follows has a twin of its own, deep_twin.
 *
 * The floors are not patched while the program runs: they are assembled as a patched function looks.
 * It relies on x86-64, GNU as and POSIX threads. It knows nothing of probes. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define PAIRS_MAX 200000
#define WARM_CALLS 64

typedef unsigned variant(unsigned a, unsigned b, const void *data);
variant twin, work, work_push, work_nop5, floor_bare, floor_full, deep, deep_twin, deep_even, deep_odd;

/* ---- the function: eleven instructions, about two nanoseconds, the first two of them five bytes -------------- */
#define HEAD "lea (%rdi,%rsi,4), %eax\n xor %edi, %esi\n"
#define BODY \
    "mov %eax, %ecx\n shr $9, %ecx\n xor %ecx, %eax\n add %esi, %eax\n lea (%rax,%rax,8), %ecx\n" \
    "shr $5, %eax\n xor %esi, %eax\n add %ecx, %eax\n"
#define FUNCTION(name, text) \
    __asm__(".text\n.balign 64\n.globl " name "\n.type " name ", @function\n" name ":\n" text \
            ".size " name ", . - " name "\n")
FUNCTION("twin", HEAD BODY "ret\n");
FUNCTION("work", HEAD BODY "ret\n");
FUNCTION("work_push", "push %rbp\n mov %rsp, %rbp\n" HEAD BODY "pop %rbp\n ret\n");
FUNCTION("work_nop5", ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n" HEAD BODY "ret\n");

/* ---- the floors ----------------------------------------------------------------------------------------------- */
_Alignas(64) volatile uint64_t floor_hits;
__attribute__((noinline, used)) void floor_native(void *saved) {
    (void)saved;
    floor_hits++;
}

/* Saved, from the top: 128 bytes of red zone, flags, fifteen registers, then xmm0-15 on an aligned stack. */
#define SAVE \
    "lea -128(%rsp), %rsp\n pushfq\n push %rax\n push %rcx\n push %rdx\n push %rbx\n push %rbp\n push %rsi\n" \
    "push %rdi\n push %r8\n push %r9\n push %r10\n push %r11\n push %r12\n push %r13\n push %r14\n push %r15\n"
#define RESTORE \
    "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %r11\n pop %r10\n pop %r9\n pop %r8\n pop %rdi\n pop %rsi\n" \
    "pop %rbp\n pop %rbx\n pop %rdx\n pop %rcx\n pop %rax\n popfq\n lea 128(%rsp), %rsp\n"
#define EACH_XMM(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)
#define STORE(n) "movups %xmm" #n ", 16*" #n "(%rsp)\n"
#define LOAD(n) "movups 16*" #n "(%rsp), %xmm" #n "\n"
FUNCTION("floor_bare", "jmp floor_bare_out\n floor_bare_back:\n" BODY "ret\n");
FUNCTION("floor_bare_out", "incq floor_hits(%rip)\n" HEAD "jmp floor_bare_back\n");
FUNCTION("floor_full", "jmp floor_full_out\n floor_full_back:\n" BODY "ret\n");
FUNCTION("floor_full_out", SAVE "mov %rsp, %rdi\n mov %rsp, %rbx\n and $-64, %rsp\n sub $256, %rsp\n" EACH_XMM(STORE)
         "call floor_native\n" EACH_XMM(LOAD) "mov %rbx, %rsp\n" RESTORE HEAD "jmp floor_full_back\n");

/* ---- calls within calls --------------------------------------------------------------------------------------- */
#define CALLS(name, called) FUNCTION(name, "call " called "\n ret\n");
#define DEEP(name, last) \
    CALLS(name, name "1") CALLS(name "1", name "2") CALLS(name "2", name "3") CALLS(name "3", name "4") \
    CALLS(name "4", name "5") CALLS(name "5", name "6") CALLS(name "6", name "7") \
    FUNCTION(name "7", HEAD last name "_back: ret\n")
FUNCTION("leaf", BODY "ret\n");
DEEP("deep", "call leaf\n");
DEEP("deep_twin", "call leaf\n");
DEEP("deep_even", "jmp deep_even_out\n");
DEEP("deep_odd", "jmp deep_odd_out\n");
FUNCTION("deep_even_out", "incq floor_hits(%rip)\n call 1f\n int3\n 1: lea 8(%rsp), %rsp\n push deep_even_to(%rip)\n jmp leaf\n");
FUNCTION("deep_odd_out", "incq floor_hits(%rip)\n push deep_odd_to(%rip)\n jmp leaf\n");
__asm__(".section .data.rel.ro,\"aw\"\n.balign 8\ndeep_even_to: .quad deep_even_back\ndeep_odd_to: .quad deep_odd_back\n.text\n");

/* ---- timed loops: one for each variant, so that every call is a direct one ------------------------------------- */
static uint8_t data[64];
#define LOOP(name) \
    __attribute__((noinline, aligned(64))) static unsigned loop_##name(unsigned a, unsigned calls) { \
        for (unsigned i = 0; i < calls; i++) a = name(a, i, data); \
        return a; \
    }
LOOP(twin) LOOP(work) LOOP(work_push) LOOP(work_nop5) LOOP(floor_bare) LOOP(floor_full)
LOOP(deep) LOOP(deep_twin) LOOP(deep_even) LOOP(deep_odd)

static struct {
    const char *name;
    variant *code;
    unsigned (*loop)(unsigned, unsigned), (*twin)(unsigned, unsigned);
    uint8_t bytes[8];
} variants[] = {
#define VARIANT(name, twin) {#name, name, loop_##name, loop_##twin, {0}},
    VARIANT(twin, twin) VARIANT(work, twin) VARIANT(work_push, twin) VARIANT(work_nop5, twin) VARIANT(floor_bare, twin)
    VARIANT(floor_full, twin) VARIANT(deep, deep_twin) VARIANT(deep_even, deep_twin) VARIANT(deep_odd, deep_twin)};
#define VARIANTS (sizeof variants / sizeof *variants)

/* ---- threads --------------------------------------------------------------------------------------------------- */
static unsigned threads = 1;
static struct { /* written by the main thread before a barrier, read by all after it */
    unsigned which, batches, calls;
    enum { RUN, BUSY, END } what;
} job;
static pthread_barrier_t start, end;
static atomic_uint arrived, phase;
static atomic_int stop_busy;
typedef struct { uint64_t twin, probed; } pair;
static pair *pairs[THREADS_MAX];
static uint64_t wrong[THREADS_MAX];

static clockid_t measure = CLOCK_MONOTONIC;
static uint64_t now(void) {
    struct timespec t;
    clock_gettime(measure, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Lets all threads go on at the same moment; gives the processor away when one of them has none. */
static void together(void) {
    if (threads == 1) return;
    unsigned mine = atomic_load(&phase);
    if (atomic_fetch_add(&arrived, 1) + 1 == threads) {
        atomic_store(&arrived, 0);
        atomic_store(&phase, mine + 1);
        return;
    }
    for (unsigned spins = 0; atomic_load(&phase) == mine; spins++) {
        if (spins > 2000) sched_yield();
        else __builtin_ia32_pause();
    }
}

static unsigned timed(uint64_t *ns, unsigned (*loop)(unsigned, unsigned), unsigned a, unsigned calls) {
    together();
    uint64_t began = now();
    unsigned result = loop(a, calls);
    *ns = now() - began;
    return result;
}

static void run(unsigned thread) {
    unsigned (*twins)(unsigned, unsigned) = variants[job.which].twin, (*probed)(unsigned, unsigned) = variants[job.which].loop;
    unsigned calls = job.calls;
    wrong[thread] += twins(thread, WARM_CALLS) != probed(thread, WARM_CALLS);
    for (unsigned i = 0; i < job.batches; i++) {
        pair *p = &pairs[thread][i];
        unsigned a, b;
        if (i & 1) { /* either comes first in turn, so that drift falls on both */
            b = timed(&p->probed, probed, i, calls);
            a = timed(&p->twin, twins, i, calls);
        } else {
            a = timed(&p->twin, twins, i, calls);
            b = timed(&p->probed, probed, i, calls);
        }
        wrong[thread] += a != b; /* a probe that changes a result would show here */
    }
}

static void work_on(unsigned thread) {
    if (job.what == RUN) run(thread);
    else
        while (!atomic_load(&stop_busy)) {
            loop_work(thread, 500);
            struct pollfd in = {.fd = 0, .events = POLLIN};
            if (thread == 0 && poll(&in, 1, 0) != 0) atomic_store(&stop_busy, 1);
        }
}

static void *worker(void *arg) {
    for (;;) {
        pthread_barrier_wait(&start);
        if (job.what == END) return NULL;
        work_on((unsigned)(uintptr_t)arg);
        pthread_barrier_wait(&end);
    }
}

static void all(void) {
    atomic_store(&stop_busy, 0);
    if (threads > 1) pthread_barrier_wait(&start);
    if (job.what == END) return;
    work_on(0);
    if (threads > 1) pthread_barrier_wait(&end);
}

/* ---- answers --------------------------------------------------------------------------------------------------- */
static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double *values;
static unsigned count;
static double at(double share) { return values[(unsigned)(share * (count - 1))]; }

/* Nanoseconds for each call: fastest batch, and quartiles over all batches of all threads. */
static void report(void) {
    double least[2] = {0, 0}, median[2] = {0, 0};
    count = threads * job.batches;
    for (int probed = 0; probed < 2; probed++) {
        for (unsigned t = 0, n = 0; t < threads; t++)
            for (unsigned i = 0; i < job.batches; i++, n++)
                values[n] = (double)(probed ? pairs[t][i].probed : pairs[t][i].twin) / job.calls;
        qsort(values, count, sizeof *values, ascending);
        least[probed] = values[0], median[probed] = at(0.5);
    }
    uint64_t mistakes = 0;
    for (unsigned t = 0, n = 0; t < threads; t++) {
        for (unsigned i = 0; i < job.batches; i++, n++)
            values[n] = ((double)pairs[t][i].probed - (double)pairs[t][i].twin) / job.calls;
        mistakes += wrong[t];
    }
    qsort(values, count, sizeof *values, ascending);
    printf("{\"pairs\":%u,\"calls\":%llu,\"twin_min\":%.3f,\"probed_min\":%.3f,\"twin_median\":%.3f,"
           "\"probed_median\":%.3f,\"added_low\":%.3f,\"added_median\":%.3f,\"added_high\":%.3f,\"wrong\":%llu,"
           "\"processor_time\":%s}\n",
           count, (unsigned long long)threads * ((unsigned long long)job.batches * job.calls + WARM_CALLS), least[0],
           least[1], median[0], median[1], at(0.25), at(0.5), at(0.75), (unsigned long long)mistakes,
           measure == CLOCK_THREAD_CPUTIME_ID ? "true" : "false");
}

/* For peers that do not say when they are in place, or gone. */
static void await(unsigned which, int changed) {
    struct timespec step = {.tv_nsec = 1000000};
    for (int tries = 0; tries < 200; tries++, nanosleep(&step, NULL)) {
        const volatile uint8_t *code = (const volatile uint8_t *)variants[which].code;
        int differs = 0;
        for (unsigned i = 0; i < 5; i++) differs |= code[i] != variants[which].bytes[i];
        if (differs == changed) {
            puts("done 1");
            return;
        }
    }
    puts("done 0");
}

int main(int argc, char **argv) {
    if (argc > 1) threads = (unsigned)atoi(argv[1]);
    if (threads < 1 || threads > THREADS_MAX) return 2;
    if (argc > 2 && strcmp(argv[2], "processor-time") != 0) return 2;
    if (argc > 2) measure = CLOCK_THREAD_CPUTIME_ID;
    /* Where only children may be traced, a benchmark of tracers asks to be traced by all. */
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    for (unsigned v = 0; v < VARIANTS; v++) memcpy(variants[v].bytes, (const void *)variants[v].code, 8);
    values = calloc((size_t)threads * PAIRS_MAX, sizeof *values);
    pthread_barrier_init(&start, NULL, threads);
    pthread_barrier_init(&end, NULL, threads);
    for (unsigned t = 0; t < threads; t++) pairs[t] = calloc(PAIRS_MAX, sizeof *pairs[t]);
    pthread_t ids[THREADS_MAX];
    for (unsigned t = 1; t < threads; t++)
        if (pthread_create(&ids[t], NULL, worker, (void *)(uintptr_t)t) != 0) return 3;
    setvbuf(stdout, NULL, _IOLBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0); /* `busy` looks with poll for what is not yet read */
    printf("ready pid=%d\n", (int)getpid());
    char line[128], name[32];
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "busy\n") == 0) {
            job.what = BUSY;
            all();
            continue;
        }
        unsigned batches = 0, calls = 0, which = 0;
        char verb[16] = "";
        int words = sscanf(line, "%15s %31s %u %u", verb, name, &batches, &calls);
        while (words > 1 && which < VARIANTS && strcmp(variants[which].name, name) != 0) which++;
        if (words < 2 || which == VARIANTS) puts("wrong: no such command or variant");
        else if (strcmp(verb, "changed") == 0 || strcmp(verb, "original") == 0) await(which, verb[0] == 'c');
        else if (strcmp(verb, "run") == 0 && batches >= 1 && batches <= PAIRS_MAX && calls >= 1) {
            job.what = RUN, job.which = which, job.batches = batches, job.calls = calls;
            all();
            report();
        } else puts("wrong: no such command");
    }
    job.what = END;
    all();
    for (unsigned t = 1; t < threads; t++) pthread_join(ids[t], NULL);
    return 0;
}
