//! Creates files of every kind by a directory descriptor and one name, and gives them their attributes.
//!
//! Nothing here follows a symbolic link at the name, and nothing replaces what is there.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, futimens, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{LinkatFlags, fchownat, linkat, symlinkat};

use super::Result;
use super::error::{Named, last};
use super::memfd::c_string;

/// What has a name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    pub is_directory: bool,
    /// overlayfs's mark of a removed file: a character device 0:0 (kernel, filesystems/overlayfs.rst, "whiteouts").
    pub is_whiteout: bool,
    /// Device and inode.
    pub identity: (u64, u64),
}

impl Existing {
    fn of(stat: &FileStat) -> Existing {
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        Existing {
            is_directory: kind == SFlag::S_IFDIR,
            is_whiteout: kind == SFlag::S_IFCHR && stat.st_rdev == 0,
            identity: (stat.st_dev, stat.st_ino),
        }
    }
}

/// What `name` is, itself and not where it leads; `None`: there is no such name.
pub fn existing(at: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Existing>> {
    match fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Existing::of(&stat))),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno).named(|| format!("fstatat({})", name.display())),
    }
}

/// Device and inode of what is open, and when its content last changed: seconds and nanoseconds.
pub fn identity_and_time(fd: BorrowedFd<'_>) -> Result<((u64, u64), (i64, i64))> {
    let stat = fstat(fd).named(|| "fstat()".to_owned())?;
    Ok(((stat.st_dev, stat.st_ino), (stat.st_mtime, stat.st_mtime_nsec)))
}

/// Opens the directory `path` as if `root` were `/`: symbolic links on the way are followed and cannot lead out of it
/// (openat2(2), RESOLVE_IN_ROOT).
pub fn open_directory_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        // EAGAIN: something was renamed elsewhere meanwhile, so the kernel cannot vouch for `..`.
        match openat2(root, path, how) {
            Err(Errno::EAGAIN) => {}
            opened => return opened.named(|| format!("openat2({})", path.display())),
        }
    }
}

/// A new empty file, mode 0600, open for writing. Errors: EEXIST.
pub fn new_file(at: BorrowedFd<'_>, name: &OsStr) -> Result<File> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(at, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        .map(File::from)
        .named(|| format!("openat({}, O_CREAT|O_EXCL)", name.display()))
}

/// pwrite(2) until all is written.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    file.write_all_at(bytes, offset).named(|| format!("pwrite({} bytes at {offset})", bytes.len()))
}

/// ftruncate(2): what is added is a hole.
pub fn set_length(file: &File, length: u64) -> Result<()> {
    file.set_len(length).named(|| format!("ftruncate({length})"))
}

/// symlinkat(2).
pub fn new_symlink(target: &OsStr, at: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    symlinkat(target, at, name).named(|| format!("symlinkat({})", name.display()))
}

/// linkat(2): another name for what `from_name` is, a symbolic link included.
pub fn new_hard_link(from: BorrowedFd<'_>, from_name: &OsStr, at: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    linkat(from, from_name, at, name, LinkatFlags::empty())
        .named(|| format!("linkat({}, {})", from_name.display(), name.display()))
}

/// mknodat(2), S_IFIFO, mode 0600.
pub fn new_fifo(at: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    mknodat(at, name, SFlag::S_IFIFO, Mode::S_IRUSR | Mode::S_IWUSR, 0)
        .named(|| format!("mknodat({}, S_IFIFO)", name.display()))
}

/// The one device node that a user namespace may make (Linux 5.8).
pub fn new_whiteout(at: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    mknodat(at, name, SFlag::S_IFCHR, Mode::empty(), 0).named(|| format!("mknodat({}, S_IFCHR, 0:0)", name.display()))
}

/// renameat(2), within one file system.
pub fn rename(from: BorrowedFd<'_>, name: &OsStr, to: BorrowedFd<'_>, to_name: &OsStr) -> Result<()> {
    renameat(from, name, to, to_name).named(|| format!("renameat({}, {})", name.display(), to_name.display()))
}

/// fchownat(2), AT_SYMLINK_NOFOLLOW. It clears set-user-ID bits and file capabilities: owners come first.
pub fn set_owner(at: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
    fchownat(at, name, Some(uid.into()), Some(gid.into()), AtFlags::AT_SYMLINK_NOFOLLOW)
        .named(|| format!("fchownat({}, {uid}:{gid})", name.display()))
}

/// fchmod(2).
pub fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    fchmod(fd, Mode::from_bits_truncate(mode)).named(|| format!("fchmod({mode:o})"))
}

/// fchmodat(2). The name must not be a symbolic link, which would be followed.
pub fn set_mode_of(at: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<()> {
    use nix::sys::stat::{FchmodatFlags, fchmodat};
    fchmodat(at, name, Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)
        .named(|| format!("fchmodat({}, {mode:o})", name.display()))
}

/// futimens(2): both times, in seconds and nanoseconds since 1970.
pub fn set_times(fd: BorrowedFd<'_>, (seconds, nanoseconds): (i64, i64)) -> Result<()> {
    let time = TimeSpec::new(seconds, nanoseconds);
    futimens(fd, &time, &time).named(|| format!("futimens({seconds})"))
}

/// utimensat(2), AT_SYMLINK_NOFOLLOW.
pub fn set_times_of(at: BorrowedFd<'_>, name: &OsStr, (seconds, nanoseconds): (i64, i64)) -> Result<()> {
    let time = TimeSpec::new(seconds, nanoseconds);
    utimensat(at, name, &time, &time, UtimensatFlags::NoFollowSymlink)
        .named(|| format!("utimensat({}, {seconds})", name.display()))
}

/// fsetxattr(2).
pub fn set_xattr(file: impl AsFd, name: &OsStr, value: &[u8]) -> Result<()> {
    let call = || format!("fsetxattr({}, {} bytes)", name.display(), value.len());
    let text = c_string(OsStr::from_bytes(name.as_bytes()))?;
    // SAFETY: the descriptor is open while `file` lives, the name ends in NUL, and `value` has the length that is passed;
    // the kernel only reads both. All three are borrowed until the call returns.
    let result =
        unsafe { libc::fsetxattr(file.as_fd().as_raw_fd(), text.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result == 0 { Ok(()) } else { Err(last(call)) }
}
