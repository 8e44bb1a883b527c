// The program in the containers: ends at once, or if its argument is "wait" never.
#include <sys/syscall.h>

static long call(long number, long a) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a) : "rcx", "r11", "memory");
    return result;
}

__attribute__((used)) static void body(long *stack) {
    char **argv = (char **)(stack + 1);
    if (stack[0] > 1 && argv[1][0] == 'w')
        for (;;)
            call(SYS_pause, 0);
    call(SYS_exit, 0);
}

__attribute__((naked)) void _start(void) {
    __asm__("mov %rsp, %rdi\n\tand $-16, %rsp\n\tcall body");
}
