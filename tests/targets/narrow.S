# Behaviour: a 32-bit process. Says `ready`, then sleeps in read(0) until end of file and exits.
# Needs no 32-bit libc: `as --32` and `ld -m elf_i386` of binutils build it.
        .text
        .globl  _start
_start:
        movl    $4, %eax                  # write(1, said, 6)
        movl    $1, %ebx
        movl    $said, %ecx
        movl    $6, %edx
        int     $0x80
again:  movl    $3, %eax                  # read(0, buffer, 64)
        xorl    %ebx, %ebx
        movl    $buffer, %ecx
        movl    $64, %edx
        int     $0x80
        testl   %eax, %eax
        jg      again
        movl    $1, %eax                  # exit(0)
        xorl    %ebx, %ebx
        int     $0x80
        .section .rodata
said:   .ascii  "ready\n"
        .bss
        .lcomm  buffer, 64
        .section .note.GNU-stack, "", @progbits
