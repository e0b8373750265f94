//! seccomp(2).

use super::Result;
use super::error::last;

/// Adds a filter to this thread, for good, and for all that it executes. Each instruction is `code`, `jt`, `jf`, `k` of a
/// `struct sock_filter`. Needs no_new_privs, or CAP_SYS_ADMIN in the user namespace.
///
/// # Errors
/// EACCES without either; EINVAL from a kernel without CONFIG_SECCOMP_FILTER.
pub fn install(program: &[(u16, u8, u8, u32)]) -> Result<()> {
    let mut filter: Vec<libc::sock_filter> =
        program.iter().map(|(code, jt, jf, k)| libc::sock_filter { code: *code, jt: *jt, jf: *jf, k: *k }).collect();
    let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap_or(0), filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions of `filter`; both outlive the call, which copies them.
    let rc = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0 as libc::c_ulong, &raw const program)
    };
    if rc == 0 { Ok(()) } else { Err(last(|| "seccomp(SECCOMP_SET_MODE_FILTER)".to_owned())) }
}
