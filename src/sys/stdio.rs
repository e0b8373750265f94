//! Descriptors 0, 1 and 2, pipes, and what else a program must not inherit.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use super::Result;
use super::error::{Named, last};

/// (read end, write end), close-on-exec.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).named(|| "pipe2()".to_owned())
}

/// Makes reads and writes return EAGAIN instead of waiting.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    let call = || "fcntl(O_NONBLOCK)".to_owned();
    let flags = fcntl(fd, FcntlArg::F_GETFL).named(call)?;
    fcntl(fd, FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK)).named(call).map(drop)
}

/// Up to `limit` bytes; `None` when there are none now, empty at the end.
pub fn read_some(fd: BorrowedFd<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; limit];
    match nix::unistd::read(fd, &mut bytes) {
        Ok(count) => {
            bytes.truncate(count);
            Ok(Some(bytes))
        }
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno).named(|| "read()".to_owned()),
    }
}

/// How many bytes were taken; `None` when there is no room now.
pub fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<Option<usize>> {
    match nix::unistd::write(fd, bytes) {
        Ok(count) => Ok(Some(count)),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno).named(|| "write()".to_owned()),
    }
}

/// How many bytes a pipe can hold (F_GETPIPE_SZ, pipe(7)).
pub fn pipe_capacity(pipe: BorrowedFd<'_>) -> Result<usize> {
    let capacity = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).named(|| "fcntl(F_GETPIPE_SZ)".to_owned())?;
    Ok(usize::try_from(capacity).unwrap_or(0))
}

/// Whether reads and writes return EAGAIN instead of waiting.
pub fn is_nonblocking(fd: BorrowedFd<'_>) -> Result<bool> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).named(|| "fcntl(F_GETFL)".to_owned())?;
    Ok(OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK))
}

/// Opens a pipe or a terminal once more for writing, as a non-blocking open file of our own: the flag belongs to the open
/// file (open(2)), which we share with the process that started us.
pub fn open_again_for_writing(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty()).named(|| format!("open({path})"))
}

/// How many bytes a pipe holds now (FIONREAD, pipe(7)).
pub fn readable_bytes(pipe: BorrowedFd<'_>) -> Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which outlives the call.
    let rc = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if rc == 0 { Ok(usize::try_from(count).unwrap_or(0)) } else { Err(last(|| "ioctl(FIONREAD)".to_owned())) }
}

/// Opens a device for reading and writing.
pub fn open_device(path: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).named(|| format!("open({path})"))
}

/// As [`open_device`], of a name in a directory; no symlink.
pub fn open_device_in(directory: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
    nix::fcntl::openat(directory, name, flags, nix::sys::stat::Mode::empty()).named(|| format!("openat({name})"))
}

/// Puts three descriptors at 0, 1 and 2. They must not themselves be below 3 in another order: the caller passes
/// descriptors that it opened after start, which never are.
pub fn set_stdio(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> Result<()> {
    for (target, fd) in [stdin, stdout, stderr].into_iter().enumerate() {
        duplicate_to(fd, i32::try_from(target).unwrap_or(0))?;
    }
    Ok(())
}

/// dup2(2): `target` refers to the same as `fd` afterwards, and survives exec.
fn duplicate_to(fd: BorrowedFd<'_>, target: i32) -> Result<()> {
    if fd.as_raw_fd() == target {
        return fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .named(|| "fcntl(F_SETFD)".to_owned())
            .map(drop);
    }
    // SAFETY: dup2 takes two integers; whatever was open at `target` is closed, which is what callers ask for.
    let rc = unsafe { libc::dup2(fd.as_raw_fd(), target) };
    if rc < 0 { Err(last(|| format!("dup2({target})"))) } else { Ok(()) }
}

/// Closes everything above 2 but `kept`. No path into `/proc/self/fd` leads to the host after this (CVE-2024-21626).
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> Result<()> {
    let mut numbers: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers {
        if number > first {
            close_range(first, number - 1, 0)?;
        }
        first = first.max(number + 1);
    }
    close_range(first, u32::MAX, 0)
}

fn close_range(first: u32, last_one: u32, flags: u32) -> Result<()> {
    // SAFETY: integers only. Callers are about to exec, or have just forked and name every descriptor that they still own.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, first, last_one, flags) };
    if rc == 0 { Ok(()) } else { Err(last(|| format!("close_range({first}, {last_one})"))) }
}

/// Marks everything from `first` on close-on-exec.
pub fn close_from_on_exec(first: u32) -> Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Lets a descriptor survive exec.
pub fn keep_on_exec(fd: BorrowedFd<'_>) -> Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).named(|| "fcntl(F_SETFD)".to_owned()).map(drop)
}

/// Makes a descriptor close-on-exec.
pub fn close_on_exec(fd: BorrowedFd<'_>) -> Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).named(|| "fcntl(FD_CLOEXEC)".to_owned()).map(drop)
}

/// Undoes what Rust's runtime, the supervisor and its caller did to signals: all have their default action, none is
/// blocked. Real-time signals and the two that glibc keeps for itself (32, 33) included, which its sigaction(3) refuses.
pub fn reset_signals() -> Result<()> {
    (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)).try_for_each(default_action)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).named(|| "sigprocmask()".to_owned())
}

/// For whoever splices into sockets: splice(2) has no MSG_NOSIGNAL, and SIGPIPE would end this process when one peer has gone.
/// Ignored, it leaves the EPIPE.
pub fn ignore_broken_pipes() -> Result<()> {
    set_action(libc::SIGPIPE, Action::Ignore)
}

/// Makes a write beyond RLIMIT_FSIZE fail with EFBIG instead of ending this process by SIGXFSZ (setrlimit(2)). An ignored
/// signal stays ignored across execve(2): what is started for a container calls [`reset_signals`] first.
pub fn ignore_file_size_signal() -> Result<()> {
    set_action(libc::SIGXFSZ, Action::Ignore)
}

/// What a signal does, where no code of ours is run for it.
#[derive(Debug, Clone, Copy)]
enum Action {
    Default,
    Ignore,
}

fn default_action(signal: i32) -> Result<()> {
    set_action(signal, Action::Default)
}

fn set_action(signal: i32, action: Action) -> Result<()> {
    const MASK_BYTES: usize = 8;
    let (handler, name) = match action {
        Action::Default => (libc::SIG_DFL, "SIG_DFL"),
        Action::Ignore => (libc::SIG_IGN, "SIG_IGN"),
    };
    // The kernel's own struct: handler, flags, restorer, mask.
    let wanted = [handler, 0, 0, 0];
    // SAFETY: the kernel reads 32 bytes of `wanted`, which outlives the call; neither handler runs code of ours.
    let rc =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, wanted.as_ptr(), std::ptr::null::<u64>(), MASK_BYTES) };
    if rc == 0 { Ok(()) } else { Err(last(|| format!("rt_sigaction({signal}, {name})"))) }
}

/// A new session without a terminal: no TIOCSTI into the caller's (CVE-2017-5226). We may lead one already.
pub fn new_session() -> Result<()> {
    match nix::unistd::setsid() {
        Ok(_) | Err(nix::errno::Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno).named(|| "setsid()".to_owned()),
    }
}

/// Undoes `trap '' CHLD` of whoever started us: it outlives execve(2), and then the kernel reaps children before we can
/// ask how they ended (sigaction(2), SA_NOCLDWAIT).
pub fn keep_ended_children() -> Result<()> {
    default_action(libc::SIGCHLD)
}

/// Sets the file mode creation mask.
pub fn set_umask(mask: u32) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
}

/// A new pseudo-terminal of the devpts at `/dev/pts`: (master, slave).
///
/// The slave is taken with TIOCGPTPEER, by descriptor: a name below /dev/pts could have been replaced.
pub fn open_terminal() -> Result<(OwnedFd, OwnedFd)> {
    let master = open_device("/dev/pts/ptmx")?;
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which outlives the call.
    let rc = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) };
    if rc != 0 {
        return Err(last(|| "ioctl(TIOCSPTLCK)".to_owned()));
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value and returns a new descriptor.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if slave < 0 {
        return Err(last(|| "ioctl(TIOCGPTPEER)".to_owned()));
    }
    // SAFETY: the kernel has just returned this new descriptor and nobody else owns it.
    Ok((master, unsafe { OwnedFd::from_raw_fd(slave) }))
}

/// Makes a terminal the controlling one of this session, which must have none.
pub fn control_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    let rc = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    if rc == 0 { Ok(()) } else { Err(last(|| "ioctl(TIOCSCTTY)".to_owned())) }
}
