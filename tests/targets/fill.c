/* Behaviour: memory fills up from above until it touches whatever lies below the libraries.
 *
 *   map PIECES     maps so many times 64 KiB; `done PIECES`
 *
 * A thread calls `rand` and `work` all the time.
 */
#include "line.h"

#include <pthread.h>
#include <sys/mman.h>

KEPT int work(int a) { WORK_BODY(a) }

static volatile int sum;

static void *busy(void *argument) {
    (void)argument;
    for (;;) {
        for (int i = 0; i < 1000; i++) sum += work(rand());
        usleep(1000);
    }
    return NULL;
}

int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, busy, NULL)) return 1;
    ready();
    for (char *line; (line = command());) {
        long pieces, made = 0;
        if (sscanf(line, "map %ld", &pieces) != 1) {
            answer("error unknown command: %s", line);
            continue;
        }
        for (; made < pieces; made++)
            if (mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) break;
        answer("done %ld", made);
    }
    return 0;
}
