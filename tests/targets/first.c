/* Behaviour: two functions, called alone. The first instruction of `wide` is as long as a jump, that of `narrow` one byte.
 *
 *   wide CALLS      the main thread calls `wide` CALLS times; `done CALLS`, or `wrong …`
 *   narrow CALLS    the same with `narrow`
 */
#include "line.h"

__asm__(".text\n.p2align 4\n.globl wide\n.type wide, @function\n"
        "wide:\n .cfi_startproc\n mov $7, %eax\n lea (%rax,%rdi,2), %rax\n ret\n .cfi_endproc\n.size wide, .-wide\n"
        ".p2align 4\n.globl narrow\n.type narrow, @function\n"
        "narrow:\n .cfi_startproc\n push %rbx\n .cfi_def_cfa_offset 16\n .cfi_offset %rbx, -16\n"
        " mov %rdi, %rbx\n lea 7(%rbx,%rbx), %rax\n"
        " pop %rbx\n .cfi_def_cfa_offset 8\n ret\n .cfi_endproc\n.size narrow, .-narrow\n");
long wide(long n);
long narrow(long n);

static void call(long (*function)(long), long calls) {
    long wrong = 0;
    for (long i = 0; i < calls; i++) wrong += function(i) != 2 * i + 7;
    answer(wrong ? "wrong %ld" : "done %ld", wrong ? wrong : calls);
}

int main(void) {
    ready();
    for (char *line; (line = command());) {
        long calls;
        if (sscanf(line, "wide %ld", &calls) == 1)
            call(wide, calls);
        else if (sscanf(line, "narrow %ld", &calls) == 1)
            call(narrow, calls);
        else
            answer("error what is `%s`?", line);
    }
    return 0;
}
