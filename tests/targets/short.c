/* Behaviour: calls functions in which a site has fewer than five bytes of its own. No frame, no branch in most.
 *
 *   run CALLS     calls each of them so often; `done CALLS`, or `wrong …` if one did not do its work
 *
 *   padded        a return, and int3 behind it
 *   squeezed      three bytes between two functions; padding further on
 *   inner         a return with straight code before it, and a function right behind
 *   nopped        as `squeezed`, with no padding in reach but the nop that aligns the loop of `looper`
 */
#include "line.h"

void padded(int *), squeezed(int *), inner(int *), nopped(int *), looper(int *);

#define FUNCTION(name) ".globl " #name "\n.type " #name ", @function\n" #name ":\n"
#define END(name) ".size " #name ", . - " #name "\n"
/* More code than a short jump reaches over. */
#define FILLER(name) FUNCTION(name) ".rept 64\nincl %eax\n.endr\nret\n" END(name)

__asm__(".text\n.p2align 4, 0xcc\n"
        FUNCTION(padded) "ret\n" END(padded)
        ".p2align 4, 0xcc\n"
        FUNCTION(squeezed) "incl (%rdi)\nret\n" END(squeezed)
        FUNCTION(inner) "incl (%rdi)\nincl (%rdi)\ndecl (%rdi)\nret\n" END(inner)
        FUNCTION(behind) "movl $1, %eax\nret\n" END(behind)
        ".p2align 5, 0xcc\n"
        FILLER(filler1) /* 129 bytes */
        FUNCTION(nopped) "incl (%rdi)\nret\n" END(nopped)
        /* The loop's head is 160 bytes from an aligned address. */
        FUNCTION(looper) "movl $4, %ecx\n.rept 7\nincl %eax\n.endr\n.byte 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0\n"
        "1: decl %ecx\njne 1b\nincl (%rdi)\nret\n" END(looper)
        FILLER(filler2));

int main(void) {
    ready();
    for (char *line; (line = command()) != NULL;) {
        long calls;
        if (sscanf(line, "run %ld", &calls) != 1) {
            answer("error unknown command");
            continue;
        }
        int done[4] = {0};
        for (long i = 0; i < calls; i++) {
            padded(&done[0]);
            squeezed(&done[0]);
            inner(&done[1]);
            nopped(&done[2]);
            looper(&done[3]);
        }
        if (done[0] == calls && done[1] == calls && done[2] == calls && done[3] == calls)
            answer("done %ld", calls);
        else
            answer("wrong %d %d %d %d", done[0], done[1], done[2], done[3]);
    }
    return 0;
}
