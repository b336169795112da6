/* Behaviour: a multi-threaded C++ program that throws exceptions through frames of a probed function.
 *
 *   run THREADS CALLS   each thread calls `middle` CALLS times, every second call throws from below it;
 *                       `done TOTAL caught=N`, or `wrong …` if a destructor of `middle` did not run
 */
#include "line.h"

#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace shop {

struct Guard {
    long &open;
    explicit Guard(long &count) : open(count) { ++open; }
    ~Guard() { --open; }
};

KEPT int leaf(long i) {
    if (i % 2) throw std::out_of_range("no item " + std::to_string(i));
    return static_cast<int>(i / 2);
}

/* The probed frame: it has a destructor to run while the exception passes. */
KEPT int middle(long i, long &open) {
    Guard guard(open);
    return leaf(i) + static_cast<int>(open);
}

KEPT bool outer(long i, long &open) {
    try {
        return middle(i, open) < 0;
    } catch (const std::out_of_range &) {
        return true;
    }
}

}  // namespace shop

int main() {
    long threads, calls;
    ready();
    while (char *line = command()) {
        if (!command_is(line, "run", &threads, &calls) || threads > 256) {
            answer("error unknown command: %s", line);
            continue;
        }
        std::vector<long> caught(threads), open(threads);
        std::vector<std::thread> pool;
        for (long t = 0; t < threads; t++)
            pool.emplace_back([&, t] {
                long mine = 0, depth = 0;
                for (long i = 0; i < calls; i++) mine += shop::outer(i, depth);
                caught[t] = mine;
                open[t] = depth;
            });
        for (auto &thread : pool) thread.join();
        long sum = 0, left = 0;
        for (long t = 0; t < threads; t++) sum += caught[t], left += open[t];
        answer("%s %ld caught=%ld", left ? "wrong" : "done", threads * calls, sum);
    }
}
