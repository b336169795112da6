# The function that redzone.c calls. It keeps 128 bytes of data in the red zone and a chosen value in every
# register, runs the instructions of the body, which change nothing, and stores all of it again.
#
#   void redzone(const struct state *in, struct state *out)          offsets: struct state in redzone.c
#
# r15 holds `out` while the body runs: stores that change no flag need one register that is known.
# The body makes no call and pushes nothing. Each of its instructions starts at a label whose offset from
# `redzone` is in redzone_sites, so that a test can probe every one without a decoder.

        .text
        .p2align 4
        .globl  redzone
        .type   redzone, @function
redzone:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        subq    $24, %rsp                 # keeps mxcsr and the x87 control word of the caller
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movq    %rsi, 8(%rsp)             # out, for later
        movq    %rdi, %r14                # in
        movq    %rsi, %r15

        # x87: eight values, then the control word.
        fninit
        fldcw   792(%r14)
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7
        fldt    (640 + 16 * \n)(%r14)
        .endr
        ldmxcsr 784(%r14)

        # Vector registers, 32 bytes each where the processor has them.
        cmpl    $0, redzone_has_avx(%rip)
        je      1f
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vmovups (128 + 32 * \n)(%r14), %ymm\n
        .endr
        jmp     2f
1:
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups  (128 + 32 * \n)(%r14), %xmm\n
        .endr
2:
        # Flags before the red zone: popfq uses the stack.
        pushq   776(%r14)
        popfq

        # The red zone: 16 words below the stack pointer. mov changes no flag.
        .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
        movq    (800 + 8 * (\n - 1))(%r14), %rax
        movq    %rax, (-8 * \n)(%rsp)
        .endr

        # General registers, r14 last; r15 stays `out`, rsp is itself.
        movq    0(%r14), %rax
        movq    8(%r14), %rbx
        movq    16(%r14), %rcx
        movq    24(%r14), %rdx
        movq    32(%r14), %rsi
        movq    40(%r14), %rdi
        movq    48(%r14), %rbp
        movq    56(%r14), %r8
        movq    64(%r14), %r9
        movq    72(%r14), %r10
        movq    80(%r14), %r11
        movq    88(%r14), %r12
        movq    96(%r14), %r13
        movq    104(%r14), %r14

        .globl  redzone_body
        .type   redzone_body, @function
redzone_body:                             # nothing below changes a register, a flag or the red zone
.L0:     .byte   0x0f, 0x1f, 0x44, 0x00, 0x00    # five-byte nop
.L1:     movq    %rax, %rax
.L2:     leaq    redzone_body(%rip), %rdx        # needs its displacement moved
.L3:     movq    24(%r15), %rdx                  # puts rdx back from `out`, which holds the same
.L4:     xchgq   %rbx, %rcx
.L5:     xchgq   %rbx, %rcx
.L6:     leaq    -64(%rsp), %rsp                 # the stack pointer moves, the red zone data stay below it
.L7:     leaq    64(%rsp), %rsp
.L8:     bswapq  %rsi
.L9:     bswapq  %rsi
.L10:    notq    %rdi
.L11:    notq    %rdi
.L12:    jc      .L13                             # taken or not, the same place
.L13:    movups  %xmm3, %xmm3
.L14:    jrcxz   .L15                             # has no long form
.L15:    movabsq $0x0123456789abcdef, %r9
.L16:    movq    64(%r15), %r9
.L17:    cmovzq  %r10, %r10
.L18:    jmp     .L20
.L19:    ud2
.L20:    .byte   0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00    # nine-byte nop
.L21:    nop
.L22:    pxor    %xmm5, %xmm6
.L23:    pxor    %xmm5, %xmm6
.L24:    fxch    %st(3)
.L25:    fxch    %st(3)
.L26:    setc    -129(%rsp)                      # one byte below the red zone: nobody's
.L27:    leaq    (%r13, %r12, 8), %r11
.L28:    movq    80(%r15), %r11
        .size   redzone_body, . - redzone_body

        # Store what is there now. mov and movups change no flag.
        .type   redzone_after, @function
redzone_after:
        movq    %rax, 0(%r15)
        movq    %rbx, 8(%r15)
        movq    %rcx, 16(%r15)
        movq    %rdx, 24(%r15)
        movq    %rsi, 32(%r15)
        movq    %rdi, 40(%r15)
        movq    %rbp, 48(%r15)
        movq    %r8, 56(%r15)
        movq    %r9, 64(%r15)
        movq    %r10, 72(%r15)
        movq    %r11, 80(%r15)
        movq    %r12, 88(%r15)
        movq    %r13, 96(%r15)
        movq    %r14, 104(%r15)
        movq    %r15, 112(%r15)
        .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
        movq    (-8 * \n)(%rsp), %rax
        movq    %rax, (800 + 8 * (\n - 1))(%r15)
        .endr
        pushfq
        popq    776(%r15)
        cld
        stmxcsr 784(%r15)
        fnstcw  792(%r15)
        fnstsw  794(%r15)
        .irp n, 7, 6, 5, 4, 3, 2, 1, 0
        fstpt   (640 + 16 * \n)(%r15)
        .endr
        cmpl    $0, redzone_has_avx(%rip)
        je      3f
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vmovups %ymm\n, (128 + 32 * \n)(%r15)
        .endr
        vzeroupper
        jmp     4f
3:
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups  %xmm\n, (128 + 32 * \n)(%r15)
        .endr
4:
        movq    8(%rsp), %rax             # `out` where r15 should have been, and rsp
        movq    %rax, 120(%rax)
        fninit
        fldcw   4(%rsp)
        ldmxcsr (%rsp)
        addq    $24, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   redzone_after, . - redzone_after
        .size   redzone, . - redzone

        .section .rodata
        .globl  redzone_sites
        .p2align 2
redzone_sites:                            # ends with -1; .L19 is never reached and so not listed
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28
        .long   .L\n - redzone
        .endr
        .long   -1
        .section .note.GNU-stack, "", @progbits
