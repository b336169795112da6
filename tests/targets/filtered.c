/* Behaviour: threads with seccomp filters that come when they are told to. Whatever a filter does not allow ends the process,
 * but for `errno` and `log`. The first thread and each worker have filters of their own:
 *
 *   filter KIND          the first thread gets one more filter; `done 1`
 *   all KIND             every thread gets it (SECCOMP_FILTER_FLAG_TSYNC); `done 1`
 *   worker KIND          one more thread, which filters itself first, `none`: with no filter but those that it begins with;
 *                        `done N`, the number of workers
 *   run CALLS            each thread calls `greet` CALLS times with "alpha" and CALLS times with "beta"; `done TOTAL`
 *   elsewhere CALLS      the same on a stack that nobody else knows of; `done TOTAL`
 *
 * KIND   calls       what this program makes, and the three that a hit may make
 *        noread      as `calls`, without process_vm_readv
 *        nostack     as `calls`, without sigaltstack
 *        own         process_vm_readv for this process alone
 *        other       process_vm_readv for another process alone
 *        address     process_vm_readv with a certain address alone
 *        errno       process_vm_readv fails with EPERM, everything else is allowed
 *        log         process_vm_readv is made and logged, everything else is allowed
 *        trap        process_vm_readv raises a signal, everything else is allowed
 *        anything    everything is allowed
 */
#define _GNU_SOURCE
#include "line.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

enum { WORKERS = 100, CODE = 128 };

KEPT int greet(const char *name, int n) {
    unsigned x = (unsigned)n * 3u + (unsigned char)name[0];
    x ^= x >> 7;
    x += (unsigned)(unsigned char)name[1];
    return (int)(x * 5u + (x >> 3));
}

static struct sock_filter code[CODE];
static unsigned length;

static void put(unsigned short what, unsigned char yes, unsigned char no, unsigned k) {
    if (length < CODE) code[length++] = (struct sock_filter){what, yes, no, k};
}
static void load(unsigned at) { put(BPF_LD | BPF_W | BPF_ABS, 0, 0, at); }
static void answer_with(unsigned verdict) { put(BPF_RET | BPF_K, 0, 0, verdict); }
static void answer_for(unsigned call, unsigned verdict) {
    put(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, call);
    answer_with(verdict);
}

/* The calls that this program makes by itself. */
static const int made[] = {SYS_read, SYS_write, SYS_exit, SYS_exit_group, SYS_newfstatat, SYS_brk, SYS_mmap, SYS_mprotect,
                           SYS_munmap, SYS_madvise, SYS_clone, SYS_clone3, SYS_futex, SYS_set_robust_list, SYS_rseq,
                           SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_getpid, SYS_prctl, SYS_seccomp};

static int make(const char *kind) {
    static const char *const kinds[] = {"calls", "noread", "nostack", "own", "other", "address", "errno", "log", "trap", "anything"};
    int known = 0;
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) known |= strcmp(kind, kinds[i]) == 0;
    if (!known) return 0;
    length = 0;
    load(offsetof(struct seccomp_data, arch));
    put(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, AUDIT_ARCH_X86_64);
    answer_with(SECCOMP_RET_KILL_PROCESS);
    load(offsetof(struct seccomp_data, nr));
    if (strcmp(kind, "anything") == 0) return answer_with(SECCOMP_RET_ALLOW), 1;
    if (strcmp(kind, "errno") == 0 || strcmp(kind, "log") == 0 || strcmp(kind, "trap") == 0) {
        unsigned verdict = *kind == 'e' ? SECCOMP_RET_ERRNO | EPERM : *kind == 'l' ? SECCOMP_RET_LOG : SECCOMP_RET_TRAP;
        answer_for(SYS_process_vm_readv, verdict);
        return answer_with(SECCOMP_RET_ALLOW), 1;
    }
    for (unsigned i = 0; i < sizeof made / sizeof *made; i++) answer_for((unsigned)made[i], SECCOMP_RET_ALLOW);
    answer_for(SYS_gettid, SECCOMP_RET_ALLOW);
    if (strcmp(kind, "nostack") != 0) answer_for(SYS_sigaltstack, SECCOMP_RET_ALLOW);
    if (strcmp(kind, "calls") == 0 || strcmp(kind, "nostack") == 0) answer_for(SYS_process_vm_readv, SECCOMP_RET_ALLOW);
    if (strcmp(kind, "own") == 0 || strcmp(kind, "other") == 0) {
        put(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, SYS_process_vm_readv);
        load(offsetof(struct seccomp_data, args));
        put(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (unsigned)getpid() + (*kind == 'o' && kind[1] == 't'));
        answer_with(SECCOMP_RET_ALLOW);
        answer_with(SECCOMP_RET_KILL_PROCESS);
    }
    if (strcmp(kind, "address") == 0) {
        put(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, SYS_process_vm_readv);
        load(offsetof(struct seccomp_data, args[3]));
        put(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1);
        answer_with(SECCOMP_RET_ALLOW);
        answer_with(SECCOMP_RET_KILL_PROCESS);
    }
    answer_with(SECCOMP_RET_KILL_PROCESS);
    return 1;
}

static int filter(const char *kind, unsigned flags) {
    struct sock_fprog program;
    if (!make(kind)) return 0;
    program = (struct sock_fprog){(unsigned short)length, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0;
}

static int right; /* every answer of `greet` was what it should be */

static int twin(const char *name, int n) {
    unsigned x = (unsigned)n * 3u + (unsigned char)name[0];
    x ^= x >> 7;
    x += (unsigned)(unsigned char)name[1];
    return (int)(x * 5u + (x >> 3));
}

static void greetings(long calls) {
    static const char *const names[] = {"alpha", "beta"};
    for (long i = 0; i < 2 * calls; i++) {
        const char *name = names[i % 2];
        if (greet(name, (int)i) != twin(name, (int)i)) right = 0;
    }
}

static struct worker {
    sem_t begin, ended;
    char kind[16];
    int is_filtered;
} workers[WORKERS];
static long calls;

static void *work(void *argument) {
    struct worker *worker = argument;
    worker->is_filtered = strcmp(worker->kind, "none") == 0 || filter(worker->kind, 0);
    sem_post(&worker->ended);
    for (;;) {
        while (sem_wait(&worker->begin) != 0) {}
        greetings(calls);
        sem_post(&worker->ended);
    }
    return NULL;
}

static void wait_for(struct worker *worker) {
    while (sem_wait(&worker->ended) != 0) {}
}

static ucontext_t here, there;
static void off_the_stack(void) { greetings(calls); }
static void elsewhere(void) {
    static char stack[1 << 18];
    getcontext(&there);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = sizeof stack;
    there.uc_link = &here;
    makecontext(&there, off_the_stack, 0);
    swapcontext(&here, &there);
}

int main(void) {
    int count = 0;
    char kind[16];
    setvbuf(stdout, NULL, _IOLBF, 4096);
    ready();
    for (char *line; (line = command());) {
        if (sscanf(line, "filter %15s", kind) == 1) {
            answer(filter(kind, 0) ? "done 1" : "error no filter %s: %s", kind, strerror(errno));
        } else if (sscanf(line, "all %15s", kind) == 1) {
            answer(filter(kind, SECCOMP_FILTER_FLAG_TSYNC) ? "done 1" : "error no filter %s: %s", kind, strerror(errno));
        } else if (sscanf(line, "worker %15s", kind) == 1 && count < WORKERS) {
            struct worker *worker = &workers[count++];
            pthread_t thread;
            strcpy(worker->kind, kind);
            sem_init(&worker->begin, 0, 0);
            sem_init(&worker->ended, 0, 0);
            if (pthread_create(&thread, NULL, work, worker) != 0) return 3;
            wait_for(worker);
            if (worker->is_filtered) answer("done %d", count);
            else answer("error no filter %s", kind);
        } else if (sscanf(line, "run %ld", &calls) == 1) {
            right = 1;
            greetings(calls);
            for (int i = 0; i < count; i++) sem_post(&workers[i].begin);
            for (int i = 0; i < count; i++) wait_for(&workers[i]);
            answer("%s %ld", right ? "done" : "wrong", 2 * calls * (count + 1));
        } else if (sscanf(line, "elsewhere %ld", &calls) == 1) {
            right = 1;
            elsewhere();
            answer("%s %ld", right ? "done" : "wrong", 2 * calls);
        } else {
            answer("error unknown command: %s", line);
        }
    }
    return 0;
}
