/* Behaviour: a process that already has a tracer, and a process that is a zombie.
 *
 * `ready pid=N traced=P zombie=Z`: N traces its child P (which sleeps), and has not waited for its child Z.
 * Both end with N.
 */
#include "line.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

static pid_t child(int ends_at_once) {
    pid_t pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (!ends_at_once) pause();
    _exit(0);
}

int main(void) {
    pid_t traced = child(0), zombie = child(1);
    siginfo_t info;
    if (traced < 0 || ptrace(PTRACE_SEIZE, traced, 0, 0)) return 1;
    /* Waits until it is dead, and leaves it dead. */
    if (waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT)) return 1;
    answer("ready pid=%ld traced=%ld zombie=%ld", (long)getpid(), (long)traced, (long)zombie);
    while (command()) answer("error no commands");
    return 0;
}
