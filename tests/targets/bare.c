/* Behaviour: a program without any library, whose thread pointer is zero.
 *
 *   run N   calls `work` N times: `done N`, or `wrong` if a result was not as it should be
 *
 * The protocol of line.h, by system calls.
 */
#define KEPT __attribute__((noinline, noclone, used, visibility("default")))

static long call3(long n, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

static unsigned mix(int a) {
    unsigned x = (unsigned)a * 3u + 1u;
    x ^= x >> 7;
    x += (unsigned)a ^ 5u;
    return x * 5u + (x >> 3);
}

KEPT unsigned work(int a) {
    unsigned x = (unsigned)a * 3u + 1u;
    x ^= x >> 7;
    x += (unsigned)a ^ 5u;
    return x * 5u + (x >> 3);
}

static void say(const char *word, long number) {
    char line[64], digits[24];
    int at = 0, n = 0;
    while (word[at]) {
        line[at] = word[at];
        at++;
    }
    do digits[n++] = (char)('0' + number % 10);
    while (number /= 10);
    while (n) line[at++] = digits[--n];
    line[at++] = '\n';
    call3(1, 1, (long)line, at);
}

__attribute__((used)) static void begin(void) {
    call3(157, 0x59616d61, -1, 0); /* prctl(PR_SET_PTRACER, any) */
    say("ready pid=", call3(39, 0, 0, 0));
    for (;;) {
        char line[64];
        long n = call3(0, 0, (long)line, sizeof line), calls = 0, wrong = 0;
        if (n <= 0 || line[0] == 'q') call3(231, 0, 0, 0);
        if (line[0] != 'r' || line[1] != 'u') {
            say("error ", 0);
            continue;
        }
        for (int i = 4; i < n && line[i] >= '0' && line[i] <= '9'; i++) calls = calls * 10 + (line[i] - '0');
        for (int i = 0; i < calls; i++) wrong += work(i) != mix(i);
        say(wrong ? "wrong " : "done ", calls);
    }
}

__asm__(".globl _start\n_start: xor %ebp, %ebp\n and $-16, %rsp\n call begin\n hlt");
