/* Behaviour: children without exec that go on calling `work`, a prefork server, and vfork with exec.
 *
 *   fork CHILDREN CALLS      forks CHILDREN, each calls `work` CALLS times and exits; `done TOTAL`
 *   prefork CHILDREN CALLS   starts CHILDREN that stay and wait; each has called `work` CALLS times when
 *                            `ready-made CHILDREN` is said
 *   job CALLS                every child that stays calls `work` CALLS times; `done TOTAL`
 *   dismiss                  ends the children that stay; `done CHILDREN`
 *   exec CHILDREN            vfork and exec of /bin/true, CHILDREN times; `done CHILDREN`
 *   lend CHILDREN CALLS      CHILDREN times vfork, and the child calls `work` CALLS times in the parent's memory;
 *                            `done TOTAL`
 *   run THREADS CALLS        the parent itself calls `work` THREADS * CALLS times; `done TOTAL`
 *
 * A child that computes wrong or dies by a signal makes the answer `wrong …` with its wait status.
 */
#include "line.h"

#include <sys/wait.h>

enum { MAX_CHILDREN = 64 };

KEPT int work(int a) { WORK_BODY(a) }

static struct child {
    pid_t pid;
    int to, from; /* pipes */
} children[MAX_CHILDREN];
static long staying;

/* Whether all calls computed right. */
static int work_all(long calls) {
    int right = 1;
    for (long i = 0; i < calls; i++) right &= work((int)i) == work_twin((int)i);
    return right;
}

static void reap(long count, const char *what, long total) {
    int bad = 0;
    for (long i = 0; i < count; i++) {
        int status = 0;
        if (waitpid(children[i].pid, &status, 0) < 0 || status) bad = status ? status : -1;
    }
    if (bad)
        answer("wrong status=%#x", (unsigned)bad);
    else
        answer("%s %ld", what, total);
}

static void fork_all(long count, long calls) {
    for (long i = 0; i < count; i++) {
        children[i].pid = fork();
        if (children[i].pid == 0) _exit(work_all(calls) ? 0 : 9);
    }
    reap(count, "done", count * calls);
}

static void stay(int from, int to) {
    long calls;
    while (read(from, &calls, sizeof calls) == (ssize_t)sizeof calls) {
        char right = (char)work_all(calls);
        if (write(to, &right, 1) != 1) _exit(8);
    }
    _exit(0);
}

static void job(const char *what, long calls, long total) {
    int right = 1;
    char one = 0;
    for (long i = 0; i < staying; i++) right &= write(children[i].to, &calls, sizeof calls) == sizeof calls;
    for (long i = 0; i < staying; i++) right &= read(children[i].from, &one, 1) == 1 && one == 1;
    answer("%s %ld", right ? what : "wrong", total);
}

static void prefork(long count, long calls) {
    for (; staying < count; staying++) {
        int down[2], up[2];
        if (pipe(down) || pipe(up)) abort();
        pid_t pid = fork();
        if (pid == 0) {
            /* Ends of older children would keep their pipes open. */
            for (long i = 0; i < staying; i++) close(children[i].to), close(children[i].from);
            close(down[1]), close(up[0]);
            stay(down[0], up[1]);
        }
        close(down[0]), close(up[1]);
        children[staying] = (struct child){pid, down[1], up[0]};
    }
    job("ready-made", calls, staying);
}

static void dismiss(void) {
    long count = staying;
    for (long i = 0; i < count; i++) close(children[i].to), close(children[i].from);
    staying = 0;
    reap(count, "done", count);
}

/* A function of its own: the child runs in the parent's frame until it execs. */
static __attribute__((noinline)) pid_t spawn(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(7);
    }
    return pid;
}

static void exec_all(long count) {
    for (long i = 0; i < count; i++) children[i].pid = spawn();
    reap(count, "done", count);
}

/* As above. */
static __attribute__((noinline)) pid_t lend(long calls) {
    pid_t pid = vfork();
    if (pid == 0) _exit(work_all(calls) ? 0 : 9);
    return pid;
}

static void lend_all(long count, long calls) {
    int bad = 0;
    for (long i = 0; i < count; i++) {
        int status = 0;
        if (waitpid(lend(calls), &status, 0) < 0 || status) bad = status ? status : -1;
    }
    if (bad)
        answer("wrong status=%#x", (unsigned)bad);
    else
        answer("done %ld", count * calls);
}

int main(void) {
    long count, calls;
    ready();
    for (char *line; (line = command());) {
        if (command_is(line, "run", &count, &calls))
            answer("%s %ld", work_all(count * calls) ? "done" : "wrong", count * calls);
        else if (sscanf(line, "job %ld", &calls) == 1 && staying)
            job("done", calls, staying * calls);
        else if (strcmp(line, "dismiss") == 0)
            dismiss();
        else if (staying)
            answer("error children stay: say job or dismiss");
        else if (command_is(line, "fork", &count, &calls) && count <= MAX_CHILDREN)
            fork_all(count, calls);
        else if (command_is(line, "prefork", &count, &calls) && count <= MAX_CHILDREN)
            prefork(count, calls);
        else if (command_is(line, "lend", &count, &calls))
            lend_all(count, calls);
        else if (sscanf(line, "exec %ld", &count) == 1 && count >= 1 && count <= MAX_CHILDREN)
            exec_all(count);
        else
            answer("error unknown command: %s", line);
    }
    if (staying) dismiss();
    return 0;
}
