//! Calls that only look at the machine; [`crate::host`] makes its facts of them.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::FsFlags;
use nix::unistd::AccessFlags;

use super::error::{Named, last};
use super::{Error, Result};

/// The errno numbers that [`crate::host::advice`] explains; they cross process boundaries as plain numbers.
pub mod errno {
    pub use libc::{
        E2BIG, EACCES, EAGAIN, EBUSY, EDQUOT, EFBIG, EINVAL, EIO, EISDIR, ELIBBAD, ELOOP, EMFILE, ENAMETOOLONG, ENFILE,
        ENODEV, ENOENT, ENOEXEC, ENOMEM, ENOSPC, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, EROFS, ESRCH, ETIMEDOUT, ETXTBSY,
        EUSERS, EXDEV,
    };
}

/// uname(2), what is needed of it.
#[derive(Debug, Clone)]
pub struct Uname {
    /// `6.12.3-amd64`
    pub release: String,
    pub hostname: String,
    /// `x86_64`
    pub machine: String,
}

/// Opens a file that must be a regular one. Never waits: a FIFO put in its place is an error, not a hang.
pub fn open_regular(path: &Path) -> Result<File> {
    let call = || format!("open(\"{}\")", path.display());
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).named(call)?;
    if file.metadata().named(|| format!("fstat(\"{}\")", path.display()))?.is_file() {
        return Ok(file);
    }
    Err(Error { call: format!("{}: not a regular file", call()), errno: Errno::EINVAL })
}

/// The bytes of a regular file of at most `limit` bytes; EFBIG when it has more.
pub fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>> {
    bounded(open_regular(path)?, path, limit)
}

/// The rest of a file of at most `limit` bytes; `path` is for errors.
pub(super) fn bounded(mut file: File, path: &Path, limit: usize) -> Result<Vec<u8>> {
    let call = || format!("read(\"{}\")", path.display());
    // One page first: nearly everything read here is shorter, and /proc files have no size to ask for.
    let mut bytes = vec![0; 4096];
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).named(call),
        }
        if length > limit {
            return Err(Error { call: format!("{}: more than {limit} bytes", call()), errno: Errno::EFBIG });
        }
        if length == bytes.len() {
            bytes.resize(length * 4, 0);
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// What one read(2) gives of a file, at most `limit` bytes: for the small files of the kernel, which answer whole, and
/// for what is only looked into. Never waits, whatever was put in its place.
pub fn read_start(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let mut file = open.named(|| format!("open(\"{}\")", path.display()))?;
    let mut start = vec![0; limit];
    let length = file.read(&mut start).named(|| format!("read(\"{}\")", path.display()))?;
    start.truncate(length);
    Ok(start)
}

/// access(2): may this process make entries in a directory? The error says why not (EACCES, EROFS).
pub fn may_fill(directory: &Path) -> Result<()> {
    nix::unistd::access(directory, AccessFlags::W_OK | AccessFlags::X_OK)
        .named(|| format!("access(\"{}\", W_OK|X_OK)", directory.display()))
}

/// faccessat(2) with AT_EACCESS: may this process, as its effective user, write to a file?
pub fn may_write(path: &Path) -> Result<()> {
    effective_access(path, AccessFlags::W_OK, "W_OK")
}

/// The same of a directory: may it make entries there?
pub fn may_fill_effectively(directory: &Path) -> Result<()> {
    effective_access(directory, AccessFlags::W_OK | AccessFlags::X_OK, "W_OK|X_OK")
}

fn effective_access(path: &Path, mode: AccessFlags, shown: &str) -> Result<()> {
    nix::unistd::faccessat(nix::fcntl::AT_FDCWD, path, mode, nix::fcntl::AtFlags::AT_EACCESS)
        .named(|| format!("faccessat(\"{}\", {shown}, AT_EACCESS)", path.display()))
}

/// access(2): may this process execute a file?
pub fn may_execute(path: &Path) -> Result<()> {
    nix::unistd::access(path, AccessFlags::X_OK).named(|| format!("access(\"{}\", X_OK)", path.display()))
}

/// True when the mount a file lies on has `nosuid`: setuid bits and file capabilities do nothing there.
pub fn is_nosuid(path: &Path) -> Result<bool> {
    let found = nix::sys::statvfs::statvfs(path).named(|| format!("statvfs(\"{}\")", path.display()))?;
    Ok(found.flags().contains(FsFlags::ST_NOSUID))
}

/// What statfs(2) and stat(2) say of the file system that something lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// `f_type`, as linux/magic.h has it.
    pub magic: i64,
    pub device: u64,
    /// Of the mount.
    pub no_exec: bool,
}

pub fn file_system(path: &Path) -> Result<FileSystem> {
    let call = || format!("statfs(\"{}\")", path.display());
    let found = nix::sys::statfs::statfs(path).named(call)?;
    let device = nix::sys::stat::stat(path).named(call)?.st_dev;
    let no_exec = found.flags().contains(FsFlags::ST_NOEXEC);
    // A magic is 32 bits, which some architectures have with a sign.
    let magic = i64::from(found.filesystem_type().0 as u32);
    Ok(FileSystem { magic, device, no_exec })
}

/// Whether files there can have attributes of a user's (xattr(7), "Extended user attributes"). Asks for one that is not
/// there: only a file system that has none at all says EOPNOTSUPP.
#[must_use]
pub fn takes_user_attributes(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: both strings end in NUL and outlive the call; a size of 0 writes nothing.
    let length = unsafe { libc::getxattr(path.as_ptr(), c"user.overlay.none".as_ptr(), std::ptr::null_mut(), 0) };
    length >= 0 || Errno::last() != Errno::EOPNOTSUPP
}

/// Whether a path is in a cgroup v2 file system (statfs(2)).
#[must_use]
pub fn is_cgroup2(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
}

/// The raw `security.capability` attribute of a file (capabilities(7)); `None` when it has none, or its file system
/// knows none.
pub fn file_capability(path: &Path) -> Result<Option<Vec<u8>>> {
    attribute(path, c"security.capability")
}

/// The attribute by which systemd marks a delegated cgroup (systemd's doc/CGROUP_DELEGATION, version 251).
pub fn is_marked_delegated(cgroup: &Path) -> bool {
    attribute(cgroup, c"user.delegate").is_ok_and(|value| value.as_deref() == Some(b"1"))
}

/// getxattr(2) of a short value.
fn attribute(path: &Path, name: &CStr) -> Result<Option<Vec<u8>>> {
    let call = || format!("getxattr(\"{}\", {name:?})", path.display());
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error { call: call(), errno: Errno::EINVAL })?;
    // vfs_ns_cap_data, the longest that is asked for, has 24 bytes.
    let mut value = vec![0u8; 64];
    // SAFETY: both strings end in NUL and outlive the call; the kernel writes at most `value.len()` bytes to `value`.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let Ok(length) = usize::try_from(length) else {
        let error = last(call);
        // EOVERFLOW: written for the root of a user namespace that ours does not know; it does nothing here.
        let none = [Errno::ENODATA, Errno::EOPNOTSUPP, Errno::EOVERFLOW];
        return if none.contains(&error.errno) { Ok(None) } else { Err(error) };
    };
    value.truncate(length);
    Ok(Some(value))
}

/// uname(2).
pub fn uname() -> Result<Uname> {
    let found = nix::sys::utsname::uname().named(|| "uname()".to_owned())?;
    Ok(Uname {
        release: found.release().to_string_lossy().into_owned(),
        hostname: found.nodename().to_string_lossy().into_owned(),
        machine: found.machine().to_string_lossy().into_owned(),
    })
}

/// sched_getaffinity(2): how many cpus may this process run on?
pub fn cpus() -> Result<u32> {
    // As glibc's CPU_ALLOC, but for more cpus than any kernel is built for (NR_CPUS): else EINVAL on a large machine.
    let mut mask = [0u64; 1024];
    // SAFETY: the kernel writes at most the given number of bytes, which is the size of `mask`; pid 0 is ourselves.
    let length = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr()) };
    if length < 0 {
        return Err(last(|| "sched_getaffinity(0)".to_owned()));
    }
    Ok(mask.iter().map(|word| word.count_ones()).sum())
}

/// Effective uid and gid.
#[must_use]
pub fn effective_ids() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// What is free on a file system for an ordinary user (statvfs(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub bytes: u64,
    /// `None`: this file system makes inodes as it needs them.
    pub inodes: Option<u64>,
}

pub fn space(path: &Path) -> Result<Space> {
    let found = nix::sys::statvfs::statvfs(path).named(|| format!("statvfs(\"{}\")", path.display()))?;
    let bytes = found.blocks_available().saturating_mul(found.fragment_size());
    Ok(Space { bytes, inodes: (found.files() > 0).then(|| found.files_available()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_and_a_directory_are_refused_at_once() {
        let directory = tempfile::tempdir().expect("tempdir");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
        assert_eq!(read_bounded(&fifo, 10).expect_err("a FIFO").errno, Errno::EINVAL);
        assert_eq!(read_bounded(directory.path(), 10).expect_err("a directory").errno, Errno::EINVAL);
    }

    #[test]
    fn a_file_is_read_whole_up_to_its_bound() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("file");
        std::fs::write(&path, vec![b'x'; 10_000]).expect("write");
        assert_eq!(read_bounded(&path, 10_000).expect("fits").len(), 10_000);
        assert_eq!(read_bounded(&path, 9_999).expect_err("too long").errno, Errno::EFBIG);
    }

    #[test]
    fn the_start_of_a_long_file() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("file");
        std::fs::write(&path, vec![b'x'; 10_000]).expect("write");
        assert_eq!(read_start(&path, 100).expect("readable").len(), 100);
        assert_eq!(read_start(&path, 20_000).expect("readable").len(), 10_000);
        assert_eq!(read_start(directory.path(), 10).expect_err("a directory").errno, Errno::EISDIR);
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
        assert_eq!(read_start(&fifo, 10), Ok(Vec::new()));
    }

    #[test]
    fn as_many_cpus_as_the_standard_library_counts_at_least() {
        // That one also looks at cgroup quotas, so it may be lower.
        let least = std::thread::available_parallelism().expect("it can tell").get();
        assert!(cpus().expect("always allowed") as usize >= least);
    }

    #[test]
    fn access_of_the_effective_user() {
        assert_eq!(may_write(Path::new("/nonexistent")).expect_err("absent").errno, Errno::ENOENT);
        assert!(may_fill_effectively(&std::env::temp_dir()).is_ok());
        assert!(!is_marked_delegated(Path::new("/")));
    }

    #[test]
    fn a_file_without_capabilities_has_none() {
        assert_eq!(file_capability(Path::new("/etc/passwd")), Ok(None));
    }
}
