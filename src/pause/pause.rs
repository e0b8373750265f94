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

use syscall::{CAPSET, EXIT_GROUP, PRCTL, RT_SIGPROCMASK, RT_SIGTIMEDWAIT, WAIT4, syscall4};

const SIGINT: usize = 2;
const SIGTERM: usize = 15;
const SIGCHLD: usize = 17;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
/// prctl(2).
const PR_SET_DUMPABLE: usize = 4;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;
/// _LINUX_CAPABILITY_VERSION_3 (capget(2)): two words of 32 bits for each set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// The kernel's sigset_t: one bit for each signal, from 1.
const SET_BYTES: usize = 8;

/// Keeps no right. In this order: a process with fewer capabilities than another may trace it (ptrace(2), "Ptrace access mode
/// checking"), unless that one is not dumpable. The supervisor and its launchers may look at us nevertheless, since they have
/// CAP_SYS_PTRACE in our user namespace.
fn give_up_privileges() {
    // SAFETY: integers only.
    unsafe { syscall4(PRCTL, PR_SET_DUMPABLE, 0, 0, 0) };
    // SAFETY: integers only.
    unsafe { syscall4(PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0) };
    let mut capability = 0;
    // EINVAL beyond the last one that the kernel knows.
    // SAFETY: integers only.
    while unsafe { syscall4(PRCTL, PR_CAPBSET_DROP, capability, 0, 0) } == 0 {
        capability += 1;
    }
    // Version and pid; effective, permitted and inheritable.
    let header = [CAPABILITY_VERSION, 0];
    let none = [0_u32; 6];
    // SAFETY: the kernel reads 8 and 24 bytes, and writes none with a version that it knows; both outlive the call.
    unsafe { syscall4(CAPSET, &raw const header as usize, &raw const none as usize, 0, 0) };
}

unsafe extern "C" fn start(_stack: *const usize) -> ! {
    give_up_privileges();
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
