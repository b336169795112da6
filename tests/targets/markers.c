/* Behaviour: a program with USDT markers, one of them behind a semaphore.
 *
 *   run SETS ORDERS   SETS times ORDERS orders: each passes `shop:order` if its semaphore is raised, and `shop:paid` at one
 *                     of two places; `done TOTAL prepared=K`, K = orders whose marker was not skipped
 *   raise N 0         another tracer comes N times, or goes: `done VALUE` of the semaphore
 *   lower N 0
 *   fork 1 0          a child that sleeps until this one ends: `done PID`
 */
#define _SDT_HAS_SEMAPHORES 1
#include "line.h"

#include <signal.h>
#include <sys/sdt.h>

#define SEMAPHORE(name) __extension__ unsigned short name __attribute__((section(".probes"), used))
SEMAPHORE(shop_order_semaphore);
SEMAPHORE(shop_paid_semaphore);

struct order {
    char name[8];
    signed char change;
    short rebate;
    unsigned price;
    long total;
};

unsigned short day = 60000;
static long prepared;

KEPT void pass(struct order *order, int cash) {
    if (__builtin_expect(shop_order_semaphore != 0, 0)) {
        prepared++;
        STAP_PROBE7(shop, order, order->name, order->change, order->rebate, order->price, order->total, day, -7);
    }
    if (cash)
        STAP_PROBE1(shop, paid, order->total);
    else
        STAP_PROBE1(shop, paid, -(int)order->total);
}

int main(void) {
    long a, b;
    ready();
    for (char *line; (line = command());) {
        if (command_is(line, "run", &a, &b)) {
            prepared = 0;
            for (long i = 0; i < a * b; i++) {
                struct order order = {"order", (signed char)-(i % 3), -300, 4000000000u, i % 4};
                order.name[5] = (char)('0' + i % 10);
                pass(&order, i % 2);
            }
            answer("done %ld prepared=%ld", a * b, prepared);
        } else if (command_is(line, "raise", &a, &b)) {
            shop_order_semaphore = (unsigned short)(shop_order_semaphore + a);
            answer("done %d", shop_order_semaphore);
        } else if (command_is(line, "lower", &a, &b)) {
            shop_order_semaphore = (unsigned short)(shop_order_semaphore - a);
            answer("done %d", shop_order_semaphore);
        } else if (command_is(line, "fork", &a, &b)) {
            pid_t child = fork();
            while (child == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0) pause();
            answer("done %d", child);
        } else {
            answer("error unknown command: %s", line);
        }
    }
    return 0;
}
