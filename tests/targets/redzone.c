/* Behaviour: a function that keeps data in the red zone and a known value in every register, and tells which
 * one changed while its body ran. The body is in redzone.S.
 *
 *   sites      `sites A B …`: offset from `redzone` of each instruction of its body that is executed
 *   run N 1    calls `redzone` N times with new values each time; `done N`, or `changed NAME at call I`
 *              and exit status 1
 *
 * Watched: 15 general registers, flags (the direction flag too), the 128 bytes of the red zone, xmm0-15 or
 * ymm0-15, MXCSR, and the x87 stack, control and status word.
 */
#include "line.h"

#include <stddef.h>
#include <stdint.h>

struct state {
    uint64_t general[16];     /*   0: rax rbx rcx rdx rsi rdi rbp r8-r15, then `out` again */
    uint8_t vector[16][32];   /* 128 */
    uint8_t x87[8][16];       /* 640: ten bytes each */
    uint64_t unused;          /* 768 */
    uint64_t flags;           /* 776 */
    uint64_t mxcsr;           /* 784 */
    uint16_t x87_control;     /* 792 */
    uint16_t x87_status;      /* 794 */
    uint32_t unused2;         /* 796 */
    uint64_t red[16];         /* 800: -8(%rsp) … -128(%rsp) */
};
_Static_assert(offsetof(struct state, vector) == 128, "redzone.S");
_Static_assert(offsetof(struct state, x87) == 640, "redzone.S");
_Static_assert(offsetof(struct state, flags) == 776, "redzone.S");
_Static_assert(offsetof(struct state, x87_control) == 792, "redzone.S");
_Static_assert(offsetof(struct state, red) == 800, "redzone.S");

void redzone(const struct state *in, struct state *out);
extern const int redzone_sites[];
int redzone_has_avx;

static const char *const NAMES[16] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8",
                                      "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "out"};

/* xorshift64: any sequence of distinct words will do. */
static uint64_t next(void) {
    static uint64_t x = 88172645463325252u;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return x;
}

static void choose(struct state *in) {
    memset(in, 0, sizeof *in);
    for (int i = 0; i < 16; i++) in->general[i] = next(), in->red[i] = next();
    if (next() % 4 == 0) in->general[2] = 0; /* rcx, for jrcxz */
    for (int i = 0; i < 16; i++)
        for (int b = 0; b < (redzone_has_avx ? 32 : 16); b++) in->vector[i][b] = (uint8_t)next();
    for (int i = 0; i < 8; i++) {
        long double value = (long double)(int64_t)next();
        memcpy(in->x87[i], &value, 10);
    }
    /* Carry, parity, adjust, zero, sign, direction, overflow as they come; bit 1 and IF are always set. */
    in->flags = (next() & 0xcd5) | 0x202;
    /* All exceptions masked; rounding and flush-to-zero as they come. */
    in->mxcsr = 0x1f80 | (next() & 0x3 ? 0x6000 : 0xa000);
    in->x87_control = (uint16_t)(0x037f | (next() & 0xc00));
}

/* Name of the first thing that differs, or NULL. */
static const char *changed(const struct state *in, const struct state *out) {
    static char name[32];
    uint64_t self = (uint64_t)(uintptr_t)out;
    for (int i = 0; i < 14; i++)
        if (in->general[i] != out->general[i]) return NAMES[i];
    if (out->general[14] != self || out->general[15] != self) return "r15";
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "red zone -%d", 8 * (i + 1));
        if (in->red[i] != out->red[i]) return name;
        snprintf(name, sizeof name, "%cmm%d", redzone_has_avx ? 'y' : 'x', i);
        if (memcmp(in->vector[i], out->vector[i], 32)) return name;
    }
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "st%d", 7 - i);
        if (memcmp(in->x87[i], out->x87[i], 10)) return name;
    }
    if (in->flags != (out->flags & ~(uint64_t)0x100)) return "flags";
    if (in->mxcsr != out->mxcsr) return "mxcsr";
    if (in->x87_control != out->x87_control) return "x87 control word";
    if (out->x87_status & 0x3f) return "x87 status word";
    return NULL;
}

int main(void) {
    static struct state in, out;
    long calls, one;
    __builtin_cpu_init();
    redzone_has_avx = __builtin_cpu_supports("avx");
    ready();
    for (char *line; (line = command());) {
        if (strcmp(line, "sites") == 0) {
            fputs("sites", stdout);
            for (const int *site = redzone_sites; *site >= 0; site++) printf(" %d", *site);
            answer("%s", "");
        } else if (command_is(line, "run", &calls, &one)) {
            for (long i = 0; i < calls; i++) {
                choose(&in);
                out = in; /* the body reads rdx, r9 and r11 back from it */
                memset(out.red, 0, sizeof out.red);
                redzone(&in, &out);
                const char *what = changed(&in, &out);
                if (!what) continue;
                answer("changed %s at call %ld", what, i);
                return 1;
            }
            answer("done %ld", calls);
        } else {
            answer("error unknown command: %s", line);
        }
    }
    return 0;
}
