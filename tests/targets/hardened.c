/* Behaviour: processes that have restricted themselves. `hardened MODE`, then
 *
 *   run THREADS CALLS    calls `work` THREADS * CALLS times on the one thread there is; `done TOTAL`
 *   counter off|on       from now on reading the time-stamp counter faults, or does not; `done 1`
 *
 * MODE   none       nothing
 *        filter     a seccomp filter kills the process at every call but the few that this program makes
 *        mdwe       memory that is writable never becomes executable (PR_SET_MDWE), and no new privileges
 *        dispatch   the program's own system calls are handed to itself (PR_SET_SYSCALL_USER_DISPATCH) while `work` runs
 *        notick     reading the time-stamp counter faults (PR_SET_TSC)
 *        aligned    every call of `work` is made with the flag that makes unaligned accesses fault (AC)
 *        floats     every call of `work` is made with a rounding and exceptions of its own (MXCSR): it rounds up, and a
 *                   float that is inexact, too small or divided by zero is a signal
 *        quiet      every signal is blocked
 *        realtime   the only thread has real-time priority and one processor
 */
#define _GNU_SOURCE
#include "line.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

KEPT int work(int a) { WORK_BODY(a) }

static volatile char selector; /* 0: calls pass; 1: they are handed to us */
static int aligned, floats;

/* A call that was handed to us is one that this program did not make. */
static void handed(int signal) {
    (void)signal;
    selector = 0;
    _exit(9);
}

static void or_say(const char *what, int failed) {
    if (failed) answer("cannot %s: %s", what, strerror(errno)), exit(3);
}

static void filter(void) {
    static const int allowed[] = {SYS_read, SYS_write, SYS_exit, SYS_exit_group, SYS_newfstatat, SYS_brk};
    struct sock_filter code[16];
    unsigned n = 0, count = sizeof allowed / sizeof *allowed;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < count; i++)
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i],
                                                 (unsigned char)(count - i), 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)n, code};
    or_say("give up privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    or_say("filter", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
}

/* Nothing between the two instructions computes with floats, save a probe. What they seem to change keeps the call there. */
static int call_with_floats(int a) {
    unsigned own, before = 0x4000, after;
    __asm__ volatile("stmxcsr %0" : "=m"(own));
    __asm__ volatile("ldmxcsr %1" : "+r"(a) : "m"(before));
    int result = work(a);
    __asm__ volatile("stmxcsr %0" : "=m"(after), "+r"(result));
    __asm__ volatile("ldmxcsr %0" ::"m"(own));
    return after == before ? result : ~result;
}

static int call_work(int a) {
    if (floats) return call_with_floats(a);
    if (!aligned) return work(a);
    int result;
    __asm__ volatile("pushfq\n orq $0x40000, (%%rsp)\n popfq" ::: "memory", "cc");
    result = work(a);
    __asm__ volatile("pushfq\n andq $~0x40000, (%%rsp)\n popfq" ::: "memory", "cc");
    return result;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "none";
    long threads, calls;
    int dispatch = strcmp(mode, "dispatch") == 0;
    setvbuf(stdout, NULL, _IOLBF, 4096);
    aligned = strcmp(mode, "aligned") == 0;
    floats = strcmp(mode, "floats") == 0;
    if (strcmp(mode, "mdwe") == 0) {
        or_say("give up privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        or_say("refuse executable memory", prctl(PR_SET_MDWE, 1, 0, 0, 0));
    }
    if (strcmp(mode, "notick") == 0) or_say("forbid the counter", prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0));
    if (strcmp(mode, "quiet") == 0) {
        sigset_t all;
        sigfillset(&all);
        or_say("block signals", sigprocmask(SIG_SETMASK, &all, NULL));
    }
    if (strcmp(mode, "realtime") == 0) {
        struct sched_param parameters = {.sched_priority = 10};
        cpu_set_t first;
        CPU_ZERO(&first);
        CPU_SET(0, &first);
        or_say("have one processor", sched_setaffinity(0, sizeof first, &first));
        or_say("be real-time", sched_setscheduler(0, SCHED_FIFO, &parameters));
    }
    if (dispatch) {
        signal(SIGSYS, handed);
        or_say("dispatch", prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector));
    }
    ready();
    if (strcmp(mode, "filter") == 0) filter();
    for (char *line; (line = command());) {
        int off = strcmp(line, "counter off") == 0;
        if (off || strcmp(line, "counter on") == 0) {
            or_say("switch the counter", prctl(PR_SET_TSC, off ? PR_TSC_SIGSEGV : PR_TSC_ENABLE, 0, 0, 0));
            answer("done 1");
            continue;
        }
        if (sscanf(line, "run %ld %ld", &threads, &calls) != 2) {
            answer("error unknown command: %s", line);
            continue;
        }
        int right = 1;
        selector = (char)dispatch;
        for (long i = 0; i < threads * calls; i++) right &= call_work((int)i) == work_twin((int)i);
        selector = 0;
        answer("%s %ld", right ? "done" : "wrong", threads * calls);
    }
    return 0;
}
