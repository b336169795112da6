/* Behaviour: a signal handler sleeps, and what it interrupted is the third instruction of `spot`, in the middle of what a
 * jump at the entry of `spot` would cover.
 *
 *   hold WAY        a thread reads, in `spot`, a page that may not be read; the handler of SIGSEGV sleeps. WAY: 1 on the
 *                   thread's own stack; 2 on an alternate stack; 3 there, and in a second handler on top of it; 4 the
 *                   first handler has switched to a coroutine, and a second one sleeps on an alternate stack that was
 *                   installed there; 5 as 1, but in a process that shares the memory and is no thread; 6 on the thread's
 *                   own stack, and in a second handler on an alternate one; `held WAY`
 *   release         the page may be read, the handlers return; `done 1`, or `wrong …`
 *   run 1 CALLS     the main thread calls `spot` and `work` CALLS times each; `done CALLS`
 */
#define _GNU_SOURCE
#include "line.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>

/* 1 + 3 + 2 bytes: a jump at its entry covers all three, and the load begins inside. */
__asm__(".text\n.p2align 4\n.globl spot\n.type spot, @function\n"
        "spot:\n .cfi_startproc\n push %rbx\n .cfi_def_cfa_offset 16\n .cfi_offset %rbx, -16\n"
        " mov %rdi, %rbx\n"
        " mov (%rbx), %eax\n"
        " lea 1(%rax,%rax,2), %eax\n xor $85, %eax\n"
        " pop %rbx\n .cfi_def_cfa_offset 8\n ret\n .cfi_endproc\n.size spot, .-spot\n");
int spot(const int *place);

KEPT int work(int a) { WORK_BODY(a) }

enum { PAGE = 4096, STACK = 64 * 1024 };
static int *page;
static int gate[2];
static long way;
static atomic_int asleep, wrong;
static char alternate[STACK] __attribute__((aligned(16)));
static char own[STACK] __attribute__((aligned(16)));
static char nested[STACK] __attribute__((aligned(16)));
static pthread_t thread;
static pid_t process;
static int result;

static void sleep_here(void) {
    char c;
    atomic_store(&asleep, 1);
    if (read(gate[0], &c, 1) != 1) atomic_store(&wrong, 1);
}

static void second(int number) {
    (void)number;
    sleep_here();
}

static void coroutine(void) {
    stack_t stack = {.ss_sp = nested, .ss_size = STACK};
    if (sigaltstack(&stack, NULL)) abort();
    raise(SIGUSR1);
    stack.ss_sp = alternate;
    if (sigaltstack(&stack, NULL)) abort();
}

static void switch_away(void) {
    static ucontext_t here, there;
    if (getcontext(&there)) abort();
    there.uc_stack.ss_sp = own;
    there.uc_stack.ss_size = STACK;
    there.uc_link = &here;
    makecontext(&there, coroutine, 0);
    swapcontext(&here, &there);
}

static void on_another(void) {
    stack_t stack = {.ss_sp = alternate, .ss_size = STACK};
    if (sigaltstack(&stack, NULL)) abort();
    raise(SIGUSR1);
}

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    if (info->si_addr != page) abort();
    if (way == 4)
        switch_away();
    else if (way == 6)
        on_another();
    else if (way == 3)
        raise(SIGUSR1);
    else
        sleep_here();
    if (mprotect(page, PAGE, PROT_READ | PROT_WRITE)) abort();
}

static void *hold(void *argument) {
    stack_t stack = {.ss_sp = alternate, .ss_size = STACK};
    (void)argument;
    if (way > 1 && way < 5 && sigaltstack(&stack, NULL)) abort();
    result = spot(page);
    return NULL;
}

/* Its thread pointer is that of the thread that made it. */
static int hold_in_a_process(void *argument) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    hold(argument);
    return 0;
}

/* Starts what is to be held. */
static int start(void) {
    if (way != 5) return pthread_create(&thread, NULL, hold, NULL) == 0;
    process = clone(hold_in_a_process, own + STACK, CLONE_VM | SIGCHLD, NULL);
    return process > 0;
}

static int end(void) {
    int status = 0;
    if (way != 5) return pthread_join(thread, NULL) == 0;
    return waitpid(process, &status, 0) == process && status == 0;
}

static int expected(int value) { return (value * 3 + 1) ^ 85; }

int main(void) {
    long a, b;
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction other = {.sa_handler = second, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGUSR1, &other, NULL);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || pipe(gate)) return 1;
    *page = 14;
    ready();
    for (char *line; (line = command());) {
        if (sscanf(line, "hold %ld", &a) == 1 && a >= 1 && a <= 6 && !way) {
            way = a;
            atomic_store(&asleep, 0);
            if (mprotect(page, PAGE, PROT_NONE) || !start()) return 1;
            while (!atomic_load(&asleep)) sched_yield();
            answer("held %ld", a);
        } else if (strcmp(line, "release") == 0 && way) {
            if (write(gate[1], "g", 1) != 1) return 1;
            int ended = end();
            way = 0;
            answer("%s 1", ended && result == expected(*page) && !atomic_load(&wrong) ? "done" : "wrong");
        } else if (command_is(line, "run", &a, &b)) {
            int right = 1;
            int place = 0;
            for (long i = 0; i < b; i++) {
                place = (int)i;
                right &= spot(&place) == expected(place) && work(place) == work_twin(place);
            }
            answer("%s %ld", right ? "done" : "wrong", b);
        } else
            answer("error unknown command: %s", line);
    }
    return 0;
}
