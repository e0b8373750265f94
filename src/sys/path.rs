//! Files and directories by path and by descriptor.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};

use super::Result;
use super::error::{Error, Named, last};
pub use super::root_walk::{Missing, Within, open_in_root, open_in_root_within};

/// O_PATH|O_NOFOLLOW of one name. A magic link of procfs is opened as the link, and its target is walked as text.
pub(super) fn open_path(directory: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    openat(directory, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

pub(super) fn make(directory: BorrowedFd<'_>, name: &OsStr, file: bool) -> nix::Result<()> {
    let made = if file {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(directory, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
    } else {
        mkdirat(directory, name, Mode::from_bits_truncate(0o755))
    };
    match made {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// Names and `..` of a path; leading `/`, `.` and empty parts mean nothing here.
pub(super) fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// The file type bits.
pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// What a descriptor refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Directory,
    Regular,
    Symlink,
    Socket,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// The kind of what a descriptor refers to.
pub fn file_kind(fd: BorrowedFd<'_>) -> Result<FileKind> {
    fstat(fd).map(|stat| kind_of(&stat)).named(|| "fstat()".to_owned())
}

pub(super) fn kind_of(stat: &FileStat) -> FileKind {
    match kind(stat) {
        SFlag::S_IFDIR => FileKind::Directory,
        SFlag::S_IFLNK => FileKind::Symlink,
        SFlag::S_IFSOCK => FileKind::Socket,
        SFlag::S_IFCHR => FileKind::CharDevice,
        SFlag::S_IFBLK => FileKind::BlockDevice,
        SFlag::S_IFIFO => FileKind::Fifo,
        _ => FileKind::Regular,
    }
}

/// (major, minor) of a device file.
pub fn device_number(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let stat = fstat(fd).named(|| "fstat()".to_owned())?;
    Ok((nix::sys::stat::major(stat.st_rdev), nix::sys::stat::minor(stat.st_rdev)))
}

/// An O_PATH descriptor of a path of the host, symlinks followed.
pub fn open_host_path(path: &Path) -> Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .named(|| format!("open({})", path.display()))
}

/// mkdirat(2) with exactly this mode, whatever the umask. An existing directory is fine and keeps its own.
pub fn make_directory(at: BorrowedFd<'_>, name: &Path, mode: u32) -> Result<()> {
    let bits = Mode::from_bits_truncate(mode);
    match mkdirat(at, name, bits) {
        // As a rule the umask and the file system's defaults leave it alone: a look is cheaper than a change.
        Ok(())
            if nix::sys::stat::fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| stat.st_mode & 0o7777 == mode) =>
        {
            Ok(())
        }
        Ok(()) => nix::sys::stat::fchmodat(at, name, bits, nix::sys::stat::FchmodatFlags::NoFollowSymlink)
            .or_else(|_| nix::sys::stat::fchmodat(at, name, bits, nix::sys::stat::FchmodatFlags::FollowSymlink))
            .named(|| format!("fchmodat({}, {mode:o})", name.display())),
        Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno).named(|| format!("mkdirat({})", name.display())),
    }
}

/// mkdirat(2) for us alone. False: the name is taken.
pub fn make_new_directory(at: BorrowedFd<'_>, name: &Path) -> Result<bool> {
    match mkdirat(at, name, Mode::S_IRWXU) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno).named(|| format!("mkdirat({})", name.display())),
    }
}

/// Gives `to` the owner and mode of `from`. An owner without an id in our user namespace stays who we are.
pub fn copy_owner_and_mode(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    /// What the kernel shows for ids that are not mapped: the default of /proc/sys/kernel/overflowuid and overflowgid.
    const OVERFLOW: u32 = 65534;
    let stat = fstat(from).named(|| "fstat()".to_owned())?;
    let foreign = |id: u32| Some(id).filter(|id| *id != OVERFLOW && *id != 0);
    let (owner, group) = (foreign(stat.st_uid), foreign(stat.st_gid));
    if owner.is_some() || group.is_some() {
        nix::unistd::fchownat(to, "", owner.map(Into::into), group.map(Into::into), AtFlags::AT_EMPTY_PATH)
            .named(|| "fchownat()".to_owned())?;
    }
    change_mode(to, stat.st_mode & 0o7777)
}

/// symlinkat(2); an existing name is fine.
pub fn make_symlink(target: &Path, at: BorrowedFd<'_>, name: &Path) -> Result<()> {
    match nix::unistd::symlinkat(target, at, name) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno).named(|| format!("symlinkat({})", name.display())),
    }
}

/// Makes an empty file; an existing one is fine.
pub fn make_file(at: BorrowedFd<'_>, name: &Path) -> Result<()> {
    make(at, name.as_os_str(), true).named(|| format!("openat({}, O_CREAT)", name.display()))
}

/// Writes a new file.
pub fn write_file(at: BorrowedFd<'_>, name: &Path, bytes: &[u8]) -> Result<()> {
    let call = || format!("write({})", name.display());
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(at, name, flags, Mode::from_bits_truncate(0o644)).named(call)?;
    std::io::Write::write_all(&mut std::fs::File::from(fd), bytes).named(call)
}

/// Writes a kernel setting: /proc/sys/FILE, in one write(2) as proc_sys(5) wants it.
pub fn write_sysctl(file: &Path, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(file);
    std::fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()))
        .named(|| format!("write({}, {value:?})", path.display()))
}

/// A path that leads to what a descriptor refers to, for calls that take only paths. `/proc` must be mounted.
#[must_use]
pub fn through_proc(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Whether overlayfs shows nothing of the directories below this one (kernel, filesystems/overlayfs.rst, "whiteouts and opaque
/// directories"; `user.` with `userxattr`).
pub fn is_opaque(directory: BorrowedFd<'_>) -> Result<bool> {
    let call = || "getxattr(user.overlay.opaque)".to_owned();
    let path = CString::new(through_proc(directory)).map_err(|_| Error { call: call(), errno: Errno::EINVAL })?;
    let mut value = [0u8; 1];
    // SAFETY: both strings end in NUL and outlive the call; the kernel writes at most one byte to `value`.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), c"user.overlay.opaque".as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    if length >= 0 {
        return Ok(length == 1 && value == *b"y");
    }
    let error = last(call);
    // ERANGE: a longer value, which means nothing to overlayfs.
    let none = [Errno::ENODATA, Errno::EOPNOTSUPP, Errno::ERANGE];
    if none.contains(&error.errno) { Ok(false) } else { Err(error) }
}

/// fchdir(2).
pub fn enter_directory(fd: BorrowedFd<'_>) -> Result<()> {
    nix::unistd::fchdir(fd).named(|| "fchdir()".to_owned())
}

/// chdir(2).
pub fn change_directory(path: &Path) -> Result<()> {
    nix::unistd::chdir(path).named(|| format!("chdir({})", path.display()))
}

/// Changes the owner of what a descriptor refers to (also an O_PATH one).
pub fn change_owner(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    nix::unistd::fchownat(fd, "", Some(uid.into()), Some(gid.into()), AtFlags::AT_EMPTY_PATH)
        .named(|| format!("fchownat({uid}:{gid})"))
}

/// Changes the mode of what is at `name`; the name must not be a symlink.
pub fn change_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        through_proc(fd).as_str(),
        Mode::from_bits_truncate(mode),
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
    .named(|| format!("fchmodat({mode:o})"))
}

/// An O_PATH descriptor of one name in a directory; a symlink is opened itself.
pub fn open_below(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    open_path(directory, name.as_os_str()).named(|| format!("openat({})", name.display()))
}

/// Permission bits.
pub fn mode(fd: BorrowedFd<'_>) -> Result<u32> {
    fstat(fd).map(|stat| stat.st_mode & 0o7777).named(|| "fstat()".to_owned())
}

/// Where a descriptor's path leads now, as procfs shows it.
pub fn path_of(fd: BorrowedFd<'_>) -> Result<std::path::PathBuf> {
    let link = through_proc(fd);
    readlinkat(AT_FDCWD, link.as_str()).map(Into::into).named(|| format!("readlink({link})"))
}

/// What a symlink says, given an O_PATH descriptor of it.
pub fn link_target(link: BorrowedFd<'_>) -> Result<std::path::PathBuf> {
    readlinkat(link, "").map(Into::into).named(|| "readlinkat()".to_owned())
}

/// A new regular file `name` with the bytes and the mode of the one behind an O_PATH descriptor.
pub fn copy_file(from: BorrowedFd<'_>, at: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let call = || format!("copy({})", name.display());
    let mut source = std::fs::File::open(through_proc(from)).named(call)?;
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(at, name, flags, Mode::from_bits_truncate(0o600)).named(call)?;
    let mut target = std::fs::File::from(fd);
    std::io::copy(&mut source, &mut target).named(call)?;
    nix::sys::stat::fchmod(&target, Mode::from_bits_truncate(mode(from)?)).named(call)
}

/// A regular file, to be read. Anything else is ENOENT, and a FIFO does not make us wait.
///
/// A magic link on the way is ELOOP (openat2(2)): while we set a container up we hold descriptors of the host, and its
/// `/etc/passwd` may be a link to `/proc/self/fd/8/../../..`.
pub fn open_regular(path: &Path) -> Result<std::fs::File> {
    let call = || format!("open({})", path.display());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let fd = openat2(AT_FDCWD, path, how).named(call)?;
    if file_kind(fd.as_fd())? != FileKind::Regular {
        return Err(Error { call: call(), errno: Errno::ENOENT });
    }
    Ok(fd.into())
}

/// The first `limit` bytes of what [`open_regular`] opens.
pub fn read_regular(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = std::io::Read::take(open_regular(path)?, limit as u64);
    std::io::Read::read_to_end(&mut file, &mut bytes).named(|| format!("read({})", path.display()))?;
    Ok(bytes)
}

/// A regular file that this process may execute, by its effective ids: else EACCES, ENOENT, ….
pub fn is_executable(path: &Path) -> Result<()> {
    let call = || format!("access({}, X_OK)", path.display());
    let stat = nix::sys::stat::stat(path).named(call)?;
    if kind(&stat) != SFlag::S_IFREG {
        return Err(Error { call: call(), errno: Errno::EACCES });
    }
    nix::unistd::faccessat(nix::fcntl::AT_FDCWD, path, nix::unistd::AccessFlags::X_OK, AtFlags::AT_EACCESS).named(call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn reading_follows_links_but_no_magic_ones() {
        let dir = tempfile::tempdir().expect("tempdir");
        let fd = open_host_path(dir.path()).expect("open");
        std::fs::write(dir.path().join("file"), "text").expect("write");
        symlink("file", dir.path().join("plain")).expect("symlink");
        symlink(format!("{}/file", through_proc(fd.as_fd())), dir.path().join("magic")).expect("symlink");
        assert_eq!(read_regular(&dir.path().join("plain"), 9).expect("read"), b"text");
        assert_eq!(read_regular(&dir.path().join("magic"), 9).expect_err("magic").errno, Errno::ELOOP);
    }
}
