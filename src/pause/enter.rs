//! enter: the last program of ours before the user's command. `argv` is `[path, report, argv0, argv1, …]`; `report` is
//! the number of the descriptor where a failed exec is reported, as four bytes of errno.
//!
//! It exists so that `/proc/self/exe` of the process that executes the user's command is this sealed kilobyte and never
//! the sandpod binary (CVE-2019-5736: an entrypoint, or a `#!` line, of `/proc/self/exe`). See
//! docs/decisions/0002-enter.md.
//!
//! Ends: by execve, or with 127 after the report.
#![no_std]
#![no_main]

#[path = "syscall.rs"]
mod syscall;

use syscall::{EXECVE, EXIT_GROUP, FCNTL, PRCTL, WRITE, syscall4};

const F_SETFD: usize = 2;
const FD_CLOEXEC: usize = 1;
const PR_SET_DUMPABLE: usize = 4;

/// `stack` is as the kernel left it: argc, argv…, null, environment…, null (execve(2)).
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // The execve below can be made to wait (a lease on the command, fcntl(2)): whoever is in the container already must
    // not take our pipe to the supervisor meanwhile (pidfd_getfd(2)).
    // SAFETY: integers only.
    unsafe { syscall4(PRCTL, PR_SET_DUMPABLE, 0, 0, 0) };
    // SAFETY: the kernel put argc there, then argc pointers, a null, and the environment.
    let (argc, argv) = unsafe { (*stack, stack.add(1)) };
    let mut report = 0;
    // SAFETY: argv[1] is a NUL-terminated string of decimal digits: the engine wrote it.
    let mut digit = unsafe { *argv.add(1) } as *const u8;
    // SAFETY: as above; the loop stops at the NUL.
    while unsafe { *digit } != 0 {
        // SAFETY: as above.
        report = report * 10 + (unsafe { *digit } - b'0') as usize;
        // SAFETY: not past the NUL, which the loop's condition has seen not to be here.
        digit = unsafe { digit.add(1) };
    }
    // The report ends with a successful exec: that is how the supervisor learns of it.
    // SAFETY: integers only.
    unsafe { syscall4(FCNTL, report, F_SETFD, FD_CLOEXEC, 0) };
    // SAFETY: argv[0] and everything behind it are strings and arrays of the kernel's own making.
    let error = unsafe { syscall4(EXECVE, *argv, argv.add(2) as usize, argv.add(argc + 1) as usize, 0) };
    let errno = (-error) as i32;
    // SAFETY: four readable bytes on our stack; integers otherwise.
    unsafe { syscall4(WRITE, report, &raw const errno as usize, 4, 0) };
    loop {
        // SAFETY: integers only.
        unsafe { syscall4(EXIT_GROUP, 127, 0, 0, 0) };
    }
}
