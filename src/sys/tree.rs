//! What it takes to walk a directory tree that somebody else has made, and to remove it.
//!
//! Nothing here follows a symlink or enters a mount.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Result;
use super::error::{Named, last};
use super::path::change_mode;

/// Which directory an open descriptor is: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(u64, u64);

/// Which file something is, to compare when nothing holds it open: an inode number is given again to a new file, a time of
/// birth is not (statx(2), STATX_BTIME).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastingIdentity {
    device: (u32, u32),
    inode: u64,
    /// Seconds and nanoseconds; 0 where the file system keeps none.
    born: (i64, u32),
}

/// The identity of what a descriptor refers to, also an O_PATH one.
pub fn lasting_identity(fd: BorrowedFd<'_>) -> Result<LastingIdentity> {
    // SAFETY: a plain struct of integers for which all zeroes is valid.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_INO | libc::STATX_BTIME);
    // SAFETY: an empty NUL-terminated string, integers, and a struct that outlives the call.
    let rc = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, mask, &raw mut found) };
    if rc != 0 {
        return Err(last(|| "statx(STATX_INO|STATX_BTIME)".to_owned()));
    }
    let has_birth = found.stx_mask & libc::STATX_BTIME != 0;
    Ok(LastingIdentity {
        device: (found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        born: if has_birth { (found.stx_btime.tv_sec, found.stx_btime.tv_nsec) } else { (0, 0) },
    })
}

/// What an entry is and takes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub identity: Identity,
    pub is_directory: bool,
    /// As many as its blocks have: not those of holes.
    pub bytes: u64,
    /// Names that it has.
    pub links: u64,
}

/// What a directory says of an entry, without a look at the entry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    Other,
    /// Some file systems do not say (getdents64(2), DT_UNKNOWN).
    Unknown,
}

/// Opens a directory for reading, whatever its mode, if its mode is ours to change.
///
/// Errors: EXDEV where something is mounted on it, ELOOP or ENOTDIR where it is no directory (openat2(2)).
pub fn open_directory(at: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let fd = match open(at, name, OFlag::O_RDONLY) {
        // Mode 000, as overlayfs makes its work/work. The O_PATH descriptor pins what is changed: no link is followed.
        Err(Errno::EACCES) => open(at, name, OFlag::O_PATH)
            .and_then(|path| change_mode(path.as_fd(), 0o700).map_err(|error| error.errno))
            .map_err(|_| Errno::EACCES)
            .and_then(|()| open(at, name, OFlag::O_RDONLY)),
        other => other,
    }
    .named(|| format!("openat2({}, O_DIRECTORY)", name.display()))?;
    if let Ok(status) = fstat(&fd)
        && status.st_mode & 0o700 != 0o700
    {
        // Without write and search nothing in it can be removed. Where it is not ours, the removal says so.
        let _ = fchmod(&fd, Mode::from_bits_truncate(status.st_mode | 0o700));
    }
    Ok(fd)
}

/// Opens a directory for reading, as its mode allows; errors as [`open_directory`] has them.
pub fn open_to_read(at: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    open(at, name, OFlag::O_RDONLY).named(|| format!("openat2({}, O_DIRECTORY)", name.display()))
}

/// lstat(2) of an entry.
pub fn extent(at: BorrowedFd<'_>, name: &OsStr) -> Result<Extent> {
    /// Bytes of a block of `st_blocks`, whatever the file system's own are (stat(3type)).
    const BLOCK: u64 = 512;
    let status = fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW).named(|| format!("fstatat({})", name.display()))?;
    Ok(Extent {
        identity: Identity(status.st_dev, status.st_ino),
        is_directory: SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR,
        bytes: u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(BLOCK),
        links: status.st_nlink,
    })
}

/// The directory above. The caller compares its [`identity`]: the tree may have been moved meanwhile.
pub fn open_parent(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    open(directory, OsStr::new(".."), OFlag::O_RDONLY).named(|| "openat2(.., O_DIRECTORY)".to_owned())
}

fn open(at: BorrowedFd<'_>, name: &OsStr, access: OFlag) -> nix::Result<OwnedFd> {
    let flags = access | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(at, name, OpenHow::new().flags(flags).resolve(resolve))
}

pub fn identity(directory: BorrowedFd<'_>) -> Result<Identity> {
    let status = fstat(directory).named(|| "fstat()".to_owned())?;
    Ok(Identity(status.st_dev, status.st_ino))
}

/// Opens a directory to everybody.
pub fn open_to_all(directory: BorrowedFd<'_>) -> Result<()> {
    fchmod(directory, Mode::from_bits_truncate(0o777)).named(|| "fchmod(0777)".to_owned())
}

/// unlinkat(2) of anything but a directory.
pub fn unlink(at: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    unlinkat(at, name, UnlinkatFlags::NoRemoveDir).named(|| format!("unlinkat({})", name.display()))
}

/// unlinkat(2) of an empty directory.
pub fn remove_directory(at: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    unlinkat(at, name, UnlinkatFlags::RemoveDir).named(|| format!("unlinkat({}, AT_REMOVEDIR)", name.display()))
}

/// Calls `each` with every entry but `.` and `..`, until it returns false. Entries may be removed meanwhile.
pub fn for_each_entry(directory: BorrowedFd<'_>, mut each: impl FnMut(OsString, EntryKind) -> bool) -> Result<()> {
    let call = || "getdents64()".to_owned();
    // A descriptor of its own: the position is then its own too, and closedir leaves the caller's open.
    let again = open(directory, OsStr::new("."), OFlag::O_RDONLY).named(call)?;
    for entry in Dir::from_fd(again).named(call)?.iter() {
        let entry = entry.named(call)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let kind = match entry.file_type() {
            Some(Type::Directory) => EntryKind::Directory,
            Some(_) => EntryKind::Other,
            None => EntryKind::Unknown,
        };
        if name != "." && name != ".." && !each(name.to_owned(), kind) {
            break;
        }
    }
    Ok(())
}
