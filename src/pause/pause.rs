//! pause: pid 1 of a pod. Holds the pod's namespaces open, reaps orphans, ends on SIGTERM or SIGINT.
//!
//! A program of its own, not our main binary: it keeps 8 kB of memory, and nothing of ours is reachable through its
//! `/proc/1/exe`. It blocks its signals and waits for them, because blocked signals reach even the first process of a
//! pid namespace (pid_namespaces(7)) and need no handler.
//!
//! Ends: on SIGTERM or SIGINT, or by SIGKILL when the supervisor's thread ends (PR_SET_PDEATHSIG, set before exec).
#![no_std]
#![no_main]

#[path = "syscall.rs"]
mod syscall;

use syscall::{EXIT_GROUP, RT_SIGPROCMASK, RT_SIGTIMEDWAIT, WAIT4, syscall4};

const SIGINT: usize = 2;
const SIGTERM: usize = 15;
const SIGCHLD: usize = 17;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
/// The kernel's sigset_t: one bit for each signal, from 1.
const SET_BYTES: usize = 8;

unsafe extern "C" fn start(_stack: *const usize) -> ! {
    let set: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
    let set = &raw const set as usize;
    // SAFETY: `set` points to 8 readable bytes that live as long as this function, which never returns.
    unsafe { syscall4(RT_SIGPROCMASK, SIG_SETMASK, set, 0, SET_BYTES) };
    loop {
        // SAFETY: as above; the null pointers ask for no siginfo and no timeout.
        let signal = unsafe { syscall4(RT_SIGTIMEDWAIT, set, 0, 0, SET_BYTES) };
        if signal == SIGTERM as isize || signal == SIGINT as isize {
            // SAFETY: integers only.
            unsafe { syscall4(EXIT_GROUP, 0, 0, 0, 0) };
        }
        // One SIGCHLD may stand for several children.
        // SAFETY: a null status pointer and a null rusage pointer are allowed.
        while unsafe { syscall4(WAIT4, usize::MAX, 0, WNOHANG, 0) } > 0 {}
    }
}
