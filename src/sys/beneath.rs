//! Files of a directory tree of ours, by descriptor: no symbolic link is followed, at no component, and nothing leads out of
//! the directory that a path begins in (openat2(2), RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, renameat2};
use nix::sys::stat::{Mode, fstat};

use super::Result;
use super::error::{Error, Named, last};
use super::path::{FileKind, file_kind};

/// What a directory says of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    pub uid: u32,
    /// The lower nine bits.
    pub mode: u32,
}

fn open(at: BorrowedFd<'_>, path: &Path, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).mode(mode).resolve(resolve);
    loop {
        // EAGAIN: something was renamed elsewhere meanwhile.
        match openat2(at, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            opened => return opened,
        }
    }
}

/// A directory, to read its names or to work in it. Errors: ENOENT; ENOTDIR or ELOOP where it is none.
pub fn open_directory(at: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    open(at, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
        .named(|| format!("openat2({}, O_DIRECTORY)", path.display()))
}

/// As [`open_directory`], only to see that it is there, whatever its mode.
pub fn look_at_directory(at: BorrowedFd<'_>, path: &Path) -> Result<()> {
    open(at, path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
        .map(drop)
        .named(|| format!("openat2({}, O_PATH)", path.display()))
}

/// A regular file, to be read; `None`: there is no such name. A FIFO does not make us wait, and is EINVAL like everything
/// else that is no regular file.
pub fn open_file(at: BorrowedFd<'_>, path: &Path) -> Result<Option<File>> {
    let call = || format!("openat2({})", path.display());
    match open(at, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, Mode::empty()) {
        Ok(fd) => regular(fd, call).map(Some),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno).named(call),
    }
}

/// A regular file, to be read and written, made (0600) where it is not there.
pub fn open_or_create(at: BorrowedFd<'_>, path: &Path) -> Result<File> {
    let call = || format!("openat2({}, O_CREAT)", path.display());
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    regular(open(at, path, flags, Mode::S_IRUSR | Mode::S_IWUSR).named(call)?, call)
}

fn regular(fd: OwnedFd, call: impl FnOnce() -> String) -> Result<File> {
    match file_kind(fd.as_fd())? {
        FileKind::Regular => Ok(fd.into()),
        _ => Err(Error { call: call(), errno: Errno::EINVAL }),
    }
}

pub fn ownership(fd: BorrowedFd<'_>) -> Result<Ownership> {
    let stat = fstat(fd).named(|| "fstat()".to_owned())?;
    Ok(Ownership { uid: stat.st_uid, mode: stat.st_mode & 0o777 })
}

/// renameat2(2), RENAME_NOREPLACE. False: the new name is taken.
pub fn rename_new(from: BorrowedFd<'_>, name: &OsStr, to: BorrowedFd<'_>, to_name: &OsStr) -> Result<bool> {
    match renameat2(from, name, to, to_name, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno).named(|| format!("renameat2({}, {})", name.display(), to_name.display())),
    }
}

/// syncfs(2): everything that was written to the file system of this descriptor is on disk.
pub fn sync_file_system(fd: BorrowedFd<'_>) -> Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open as long as `fd` is borrowed; the kernel takes nothing else.
    let result = unsafe { libc::syncfs(fd.as_raw_fd()) };
    if result == 0 { Ok(()) } else { Err(last(|| "syncfs()".to_owned())) }
}

/// `prefix` and 64 random bits: a name that nothing else has.
pub fn random_name(prefix: &str) -> Result<OsString> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the kernel writes at most the length that is passed, which is that of `bytes`, borrowed until it returns.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Up to 256 bytes come whole (getrandom(2)).
    if count != 8 {
        return Err(last(|| "getrandom()".to_owned()));
    }
    Ok(format!("{prefix}{:016x}", u64::from_ne_bytes(bytes)).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_is_followed_and_no_path_leads_out() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir_all(dir.path().join("top/sub")).expect("mkdir");
        std::fs::write(dir.path().join("outside"), "x").expect("write");
        std::fs::write(dir.path().join("top/sub/file"), "x").expect("write");
        symlink("../outside", dir.path().join("top/link")).expect("symlink");
        symlink("sub", dir.path().join("top/inner")).expect("symlink");
        let top = super::super::path::open_host_path(&dir.path().join("top")).expect("open");
        let file = |path: &str| open_file(top.as_fd(), Path::new(path));
        assert!(file("sub/file").expect("opened").is_some());
        assert!(file("sub/none").expect("looked").is_none());
        assert_eq!(file("link").expect_err("a link").errno, Errno::ELOOP);
        assert_eq!(file("inner/file").expect_err("a link on the way").errno, Errno::ELOOP);
        assert_eq!(file("../outside").expect_err("outside").errno, Errno::EXDEV);
        assert_eq!(file("sub").expect_err("a directory").errno, Errno::EINVAL);
        assert_eq!(open_or_create(top.as_fd(), Path::new("link")).expect_err("a link").errno, Errno::ELOOP);
        assert_eq!(std::fs::read(dir.path().join("outside")).expect("read"), b"x");
    }
}
