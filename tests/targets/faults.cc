/* Behaviour: a multi-threaded C++ program whose faults are exceptions: the handler of SIGSEGV and SIGFPE throws, and the
 * unwinder finds the landing pads by the address of the instruction that faulted (-fnon-call-exceptions).
 *
 *   run THREADS CALLS   each thread calls `sum`, `quotient` and `both` CALLS times, every second time so that they fault;
 *                       `done TOTAL caught=N`, or `wrong …` if an answer is not what it should be, or a destructor did not run
 */
#include "line.h"

#include <csignal>
#include <thread>
#include <vector>

namespace shop {

struct Fault {
    int signal;
};

struct Guard {
    volatile long &open;
    explicit Guard(long &count) : open(count) { ++open; }
    ~Guard() { --open; }
};

/* Leaves: each begins with what may fault. */
KEPT int sum(const int *pair) { return pair[0] * 3 + pair[1]; }
KEPT int quotient(int a, int b) { return a / b; }

/* It faults itself, with a destructor to run, and has calls too. */
KEPT int both(const int *pair, int b, long &open) {
    Guard guard(open);
    int first = pair[0];
    return first + quotient(sum(pair), b);
}

/* Nothing in here may fault: it is probed at its entry. */
KEPT int harmless(int a) { WORK_BODY(a) }

KEPT int caught(const int *pair, int b, int which, long &open) {
    try {
        if (which == 0) return sum(pair);
        if (which == 1) return quotient(12, b);
        return both(pair, b, open);
    } catch (const Fault &fault) {
        return -fault.signal;
    }
}

KEPT bool is_right(bool faults, int which, long &open) {
    static const int pair[2] = {3, 5};
    static const int expected[] = {14, 6, 10};
    const int got = caught(faults ? nullptr : pair, faults ? 0 : 2, which, open);
    return got == (faults ? -(which == 1 ? SIGFPE : SIGSEGV) : expected[which]) && open == 0 &&
           harmless(got) == work_twin(got);
}

}  // namespace shop

static void on_fault(int signal) { throw shop::Fault{signal}; }

int main() {
    struct sigaction action = {};
    action.sa_handler = on_fault;
    action.sa_flags = SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGFPE, &action, nullptr);
    long threads, calls;
    ready();
    while (char *line = command()) {
        if (!command_is(line, "run", &threads, &calls) || threads > 256) {
            answer("error unknown command: %s", line);
            continue;
        }
        std::vector<long> right(threads);
        std::vector<std::thread> pool;
        for (long t = 0; t < threads; t++)
            pool.emplace_back([&, t] {
                long mine = 0, open = 0;
                for (long i = 0; i < calls; i++)
                    for (int which = 0; which < 3; which++) mine += shop::is_right(i % 2, which, open);
                right[t] = mine;
            });
        for (auto &thread : pool) thread.join();
        long all = 0;
        for (long n : right) all += n;
        answer("%s %ld caught=%ld", all == 3 * threads * calls ? "done" : "wrong", all, 3 * threads * (calls / 2));
    }
}
