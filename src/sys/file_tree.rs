//! Reads files of every kind by a directory descriptor and one name, and opens directories below one, for copies.
//!
//! Nothing here follows a symbolic link, and nothing needs `/proc`: a process that has joined a container's mount namespace
//! does not find itself in the container's.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Whence, lseek};

use super::error::{Named, last};
use super::path::{FileKind, kind_of};
use super::{Error, Result};

/// The attributes of a file that a copy keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Seconds since 1970, and nanoseconds after that second.
    pub modified: (i64, i64),
    /// Names that it has.
    pub links: u64,
    /// Device and inode.
    pub identity: (u64, u64),
    /// Of a device node: 0 marks what overlayfs removed.
    pub device: u64,
    /// Blocks of 512 bytes that it takes on disk.
    pub blocks: u64,
}

impl Status {
    fn of(stat: &FileStat) -> Status {
        Status {
            kind: kind_of(stat),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            links: stat.st_nlink,
            identity: (stat.st_dev, stat.st_ino),
            device: stat.st_rdev,
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        }
    }
}

/// lstat(2) of a name; `None`: there is no such name.
pub fn status(at: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Status>> {
    match fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Status::of(&stat))),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno).named(|| format!("fstatat({})", name.display())),
    }
}

/// fstat(2).
pub fn status_of(fd: BorrowedFd<'_>) -> Result<Status> {
    fstat(fd).map(|stat| Status::of(&stat)).named(|| "fstat()".to_owned())
}

/// Opens a regular file for reading. ESTALE: another kind of file has the name by now.
pub fn open_file(at: BorrowedFd<'_>, name: &OsStr) -> Result<File> {
    // A FIFO that has taken its place must not make us wait.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let call = || format!("openat({})", name.display());
    let fd = openat(at, name, flags, Mode::empty()).named(call)?;
    if status_of(fd.as_fd())?.kind != FileKind::Regular {
        return Err(Error { call: call(), errno: Errno::ESTALE });
    }
    Ok(fd.into())
}

/// Opens a directory for reading; on a mount point, the root of what is mounted there.
pub fn open_directory(at: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(at, name, flags, Mode::empty()).named(|| format!("openat({}, O_DIRECTORY)", name.display()))
}

/// Empties a regular file and opens it for writing.
pub fn open_to_overwrite(at: BorrowedFd<'_>, name: &OsStr) -> Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    openat(at, name, flags, Mode::empty()).map(File::from).named(|| format!("openat({}, O_TRUNC)", name.display()))
}

/// What a symbolic link says.
pub fn link_target(at: BorrowedFd<'_>, name: &OsStr) -> Result<OsString> {
    readlinkat(at, name).named(|| format!("readlinkat({})", name.display()))
}

/// Whether the kernel makes up what is in there: a copy of it would be none.
pub fn is_pseudo(directory: BorrowedFd<'_>) -> Result<bool> {
    // linux/magic.h: proc, sysfs, cgroup2, devpts, mqueue.
    const PSEUDO: [FsType; 5] =
        [FsType(0x9fa0), FsType(0x6265_6572), FsType(0x6367_7270), FsType(0x1cd1), FsType(0x1980_0202)];
    let found = fstatfs(directory).named(|| "fstatfs()".to_owned())?.filesystem_type();
    Ok(PSEUDO.contains(&found))
}

/// Where a file has data: (offset, length) in order. Holes are between them, and up to `size`.
pub fn data_runs(file: &File, size: u64) -> Result<Vec<(u64, u64)>> {
    let seek = |offset: u64, whence| match lseek(file, i64::try_from(offset).unwrap_or(i64::MAX), whence) {
        Ok(found) => Ok(Some(u64::try_from(found).unwrap_or(0))),
        // Behind the last data.
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno).named(|| "lseek()".to_owned()),
    };
    let mut runs = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(at, Whence::SeekData) {
            Ok(Some(start)) if start < size => start,
            Ok(_) => break,
            // A file system without holes.
            Err(Error { errno: Errno::EINVAL | Errno::EOPNOTSUPP, .. }) => return Ok(vec![(0, size)]),
            Err(error) => return Err(error),
        };
        let end = seek(start, Whence::SeekHole)?.unwrap_or(size).min(size);
        if end <= start {
            break;
        }
        runs.push((start, end - start));
        at = end;
    }
    Ok(runs)
}

/// The extended attributes of an open file; none where the file system has none.
pub fn xattrs(file: impl AsFd) -> Result<Vec<(OsString, Vec<u8>)>> {
    let mut names = vec![0_u8; 1 << 16];
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed from `file` until the call returns, and the buffer has the length that is passed.
    let length = unsafe { libc::flistxattr(fd, names.as_mut_ptr().cast(), names.len()) };
    let Ok(length) = usize::try_from(length) else {
        return match last(|| "flistxattr()".to_owned()) {
            Error { errno: Errno::EOPNOTSUPP, .. } => Ok(Vec::new()),
            error => Err(error),
        };
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if let Some(value) = xattr(fd, name)? {
            found.push((OsString::from_vec(name.to_vec()), value));
        }
    }
    Ok(found)
}

fn xattr(fd: i32, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let Ok(text) = CString::new(name) else { return Ok(None) };
    let mut value = vec![0_u8; 1 << 16];
    // SAFETY: the caller's descriptor is open, the name ends in NUL, and the buffer has the length that is passed; all
    // three are borrowed until the call returns.
    let length = unsafe { libc::fgetxattr(fd, text.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match usize::try_from(length) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(_) => match last(|| format!("fgetxattr({})", OsStr::from_bytes(name).display())) {
            // Removed since it was listed, or not for us to see.
            Error { errno: Errno::ENODATA | Errno::EPERM | Errno::EACCES | Errno::EOPNOTSUPP, .. } => Ok(None),
            error => Err(error),
        },
    }
}
