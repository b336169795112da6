/* Behaviour: starts a program as a container does, in user, mount and pid namespaces of its own.
 *
 *   contain ROOT PROGRAM ARGS…   PROGRAM is a path inside ROOT, which becomes the root of the file system; it has a
 *                                folder `proc` and a file `dev/null`. Exits as PROGRAM does. PROGRAM ends with this process.
 *
 * Nothing of the file system outside is left in the mount namespace, and the paths that the kernel tells of the program's
 * files are those inside.
 */
#define _GNU_SOURCE
#include "line.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int fail(const char *what) {
    perror(what);
    return 125;
}

static int put(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t length = (ssize_t)strlen(text);
    int right = file >= 0 && write(file, text, (size_t)length) == length;
    if (file >= 0) close(file);
    return right ? 0 : -1;
}

/* The first process of the pid namespace. The old /proc must still be there while the new one is mounted. */
static int inside(char **argv) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL)) return fail("prctl");
    if (mount("/dev/null", "dev/null", NULL, MS_BIND, NULL)) return fail("mount /dev/null");
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) return fail("mount proc");
    if (syscall(SYS_pivot_root, ".", ".")) return fail("pivot_root");
    if (umount2(".", MNT_DETACH) || chdir("/")) return fail("umount");
    execv(argv[0], argv);
    return fail(argv[0]);
}

int main(int argc, char **argv) {
    char uids[64], gids[64];
    int status;
    if (argc < 3) return 125;
    snprintf(uids, sizeof uids, "0 %ld 1", (long)geteuid());
    snprintf(gids, sizeof gids, "0 %ld 1", (long)getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID)) return fail("unshare");
    if (put("/proc/self/setgroups", "deny") || put("/proc/self/uid_map", uids) || put("/proc/self/gid_map", gids))
        return fail("the maps of ids");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) return fail("mount private");
    if (mount(argv[1], argv[1], NULL, MS_BIND | MS_REC, NULL) || chdir(argv[1])) return fail(argv[1]);
    pid_t child = fork();
    if (child < 0) return fail("fork");
    if (child == 0) return inside(argv + 2);
    if (waitpid(child, &status, 0) != child) return fail("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
