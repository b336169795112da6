/* Behaviour: a thread is in the kernel and does not stop for ptrace: its write takes bytes from a page that whoever serves
 * a userfaultfd has to fill, and a fault in the kernel is tried again and again, whatever is asked of the thread.
 * Other threads beat meanwhile, and each of their beats calls `work`.
 *
 *   lean            a thread beats on a stack whose mapping goes on above it, with pages that nobody will fill; `done 1`
 *   stick           a thread does so; `stuck TID` when it waits for the page, or `error …`, which says what is missing
 *   beat TIMES      each of the beating threads beats TIMES more times from now on; `done TIMES`
 *   free            the page is filled; `done 1` when all its bytes were written, or `wrong …`
 *   run 1 CALLS     the main thread calls `work` CALLS times; `done CALLS`
 */
#define _GNU_SOURCE
#include "line.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

enum { PAGE = 4096, BEATING = 4, STACK = 16 * PAGE };

KEPT int work(int a) { WORK_BODY(a) }

static atomic_long beats[BEATING], leaning;
static atomic_int wrong;
static atomic_long tid, written;
static int served = -1, ends[2];
static char *page;
static pthread_t thread;

static void *beat(void *mine) {
    const struct timespec rest = {0, 200 * 1000};
    for (int i = 0;; i++) {
        if (work(i) != work_twin(i)) atomic_store(&wrong, 1);
        atomic_fetch_add((atomic_long *)mine, 1);
        nanosleep(&rest, NULL);
    }
    return NULL;
}

static void *stick(void *unused) {
    (void)unused;
    atomic_store(&tid, syscall(SYS_gettid));
    atomic_store(&written, write(ends[1], page, PAGE));
    return NULL;
}

/* Pages of which the first `there` bytes are, and whom the kernel asks for the others: NULL, or what it would not do. For
 * faults inside the kernel it asks CAP_SYS_PTRACE, or /dev/userfaultfd. */
static const char *prepare(size_t there, size_t len) {
    struct uffdio_api api = {.api = UFFD_API};
    served = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (served < 0) return "userfaultfd";
    if (ioctl(served, UFFDIO_API, &api)) return "UFFDIO_API";
    page = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return "mmap";
    madvise(page, len, MADV_NOHUGEPAGE);
    memset(page, 0, there);
    struct uffdio_register all = {.range = {(__u64)page, len}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(served, UFFDIO_REGISTER, &all)) return "UFFDIO_REGISTER";
    return pipe(ends) ? "pipe" : NULL;
}

static void lean(void) {
    const char *missing = prepare(STACK, 2 * STACK);
    pthread_attr_t attributes;
    if (missing) {
        answer("error %s: %s", missing, strerror(errno));
        return;
    }
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, page, STACK) || pthread_create(&thread, &attributes, beat, &leaning)) abort();
    while (!atomic_load(&leaning)) usleep(200);
    answer("done 1");
}

static void stick_one(void) {
    const char *missing = prepare(0, PAGE);
    if (missing) {
        answer("error %s: %s", missing, strerror(errno));
        return;
    }
    struct uffd_msg event;
    if (pthread_create(&thread, NULL, stick, NULL)) abort();
    if (read(served, &event, sizeof event) != sizeof event || event.event != UFFD_EVENT_PAGEFAULT)
        answer("error no fault was told");
    else
        answer("stuck %ld", atomic_load(&tid));
}

static void free_it(void) {
    struct uffdio_zeropage fill = {.range = {(__u64)page, PAGE}};
    int filled = ioctl(served, UFFDIO_ZEROPAGE, &fill);
    pthread_join(thread, NULL);
    if (filled || atomic_load(&written) != PAGE || atomic_load(&wrong))
        answer("wrong filled=%d written=%ld", filled, atomic_load(&written));
    else
        answer("done 1");
}

static void beat_on(long times) {
    for (int i = 0; i < BEATING; i++) {
        long until = atomic_load(&beats[i]) + times;
        while (atomic_load(&beats[i]) < until) usleep(200);
    }
    answer("done %ld", times);
}

int main(void) {
    for (int i = 0; i < BEATING; i++) {
        pthread_t beating;
        if (pthread_create(&beating, NULL, beat, &beats[i])) abort();
    }
    ready();
    for (char *line; (line = command());) {
        long threads, calls;
        if (strcmp(line, "lean") == 0) {
            lean();
        } else if (strcmp(line, "stick") == 0) {
            stick_one();
        } else if (strcmp(line, "free") == 0) {
            free_it();
        } else if (sscanf(line, "beat %ld", &calls) == 1) {
            beat_on(calls);
        } else if (command_is(line, "run", &threads, &calls)) {
            for (int i = 0; i < calls; i++)
                if (work(i) != work_twin(i)) atomic_store(&wrong, 1);
            answer(atomic_load(&wrong) ? "wrong work" : "done %ld", calls);
        } else {
            answer("error what is `%s`?", line);
        }
    }
    return 0;
}
