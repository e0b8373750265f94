//! A directory that only we may enter, also where others may write beside it (`/tmp`).

use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};

use super::Result;
use super::error::{Error, Named};

/// Why a directory is not ours alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    Symlink,
    NotADirectory,
    /// The owner's uid.
    ForeignOwner(u32),
    /// The mode's lower nine bits, of which group's and other's should be 0.
    OpenToOthers(u32),
}

/// Makes `path` (0700) unless it is there, and tells what is wrong with it. The answer is about the very directory that
/// was opened without following a link; and once a directory is ours, nobody else can replace it below a sticky or a
/// private parent.
pub fn make_private(path: &Path) -> Result<Option<Flaw>> {
    match nix::unistd::mkdir(path, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => check_private(path),
        Err(errno) => Err(errno).named(|| format!("mkdir({}, 0700)", path.display())),
    }
}

/// The mode of a directory in which others may put another directory into the place of ours; `None` where they may not: only
/// its owner may change it, or it is sticky (unlink(2), rename(2)). Its group is trusted: with a umask of 002 it is the user's
/// own.
pub fn mode_if_open(directory: &Path) -> Result<Option<u32>> {
    let found = nix::sys::stat::stat(directory).named(|| format!("stat({})", directory.display()))?;
    let mode = Mode::from_bits_truncate(found.st_mode);
    let open = mode.contains(Mode::S_IWOTH) && !mode.contains(Mode::S_ISVTX);
    Ok(open.then_some(found.st_mode & 0o7777))
}

/// As [`make_private`], without making it: ENOENT where it is not there.
pub fn check_private(path: &Path) -> Result<Option<Flaw>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let directory = match open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        // With O_DIRECTORY a symlink is ENOTDIR, not ELOOP (open(2)).
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            let link = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
            return Ok(Some(if link { Flaw::Symlink } else { Flaw::NotADirectory }));
        }
        Err(errno) => {
            return match owner_if_foreign(path, errno) {
                Some(flaw) => Ok(Some(flaw)),
                None => Err(Error { call: format!("open({}, O_DIRECTORY|O_NOFOLLOW)", path.display()), errno }),
            };
        }
    };
    let found = fstat(&directory).named(|| format!("fstat({})", directory.as_raw_fd()))?;
    Ok(if found.st_uid != nix::unistd::geteuid().as_raw() {
        Some(Flaw::ForeignOwner(found.st_uid))
    } else if found.st_mode & 0o077 != 0 {
        Some(Flaw::OpenToOthers(found.st_mode & 0o777))
    } else {
        None
    })
}

/// Somebody else's 0700 directory cannot even be opened: say whose it is rather than "permission denied".
fn owner_if_foreign(path: &Path, errno: Errno) -> Option<Flaw> {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::symlink_metadata(path).ok()?.uid();
    (errno == Errno::EACCES && owner != nix::unistd::geteuid().as_raw()).then_some(Flaw::ForeignOwner(owner))
}
