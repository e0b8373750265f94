/* uml-xstate.c: makes User-Mode Linux boot on processors with a large register state (AMX). uml-run compiles it and
 * preloads it into linux.uml, and into nothing else.
 *
 * UML keeps the registers of its guest's processes in buffers of a fixed size and writes them with
 * ptrace(PTRACE_SETREGSET, NT_X86_XSTATE). The kernel accepts only the whole state (xstateregs_set() in
 * arch/x86/kernel/fpu/regset.c: EFAULT otherwise), and AMX tiles make it larger than these buffers. UML then panics in
 * its first second: "ptrace set fp regs failed, errno = 14".
 *
 * So when the kernel refuses a part: read the whole state, put UML's part over its beginning, write all of it. What UML
 * does not save are the components behind its buffer, which the guest's programs do not use: Linux enables AMX only for a
 * process that asks for it (arch_prctl(2), ARCH_REQ_XCOMP_PERM), and UML does not.
 *
 * Tried with UML 6.1.176 and 6.12.113 on Linux 6.18.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define NT_X86_XSTATE 0x202

static long kernel_ptrace(long request, long pid, long address, void *data) {
    return syscall(SYS_ptrace, request, pid, address, data);
}

static long write_xstate(long pid, struct iovec *part) {
    static char state[65536];
    struct iovec whole = {state, sizeof state};

    long result = kernel_ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, part);
    if (result == 0 || errno != EFAULT) return result;
    if (kernel_ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &whole) < 0) return -1;
    memcpy(state, part->iov_base, part->iov_len < whole.iov_len ? part->iov_len : whole.iov_len);
    return kernel_ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &whole);
}

/* In the place of the C library's ptrace(). */
long ptrace(enum __ptrace_request request, ...) {
    va_list rest;
    va_start(rest, request);
    pid_t pid = va_arg(rest, pid_t);
    void *address = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);

    if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE) return write_xstate(pid, data);
    /* ptrace(2), "C library/kernel differences": the system call stores the word at `data`, the library returns it. */
    if (request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSER) {
        long word;
        if (kernel_ptrace(request, pid, (long)address, &word) < 0) return -1;
        errno = 0;
        return word;
    }
    return kernel_ptrace(request, pid, (long)address, data);
}
