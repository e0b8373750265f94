//! Paths below a descriptor, one component at a time, never through a symlink that the kernel would follow for us.
//!
//! The content of a root file system is not trusted, and a shared volume changes while we look at it. Each
//! component is opened with O_NOFOLLOW; a symlink is read and walked by us, from the root that we hold; `..` goes back
//! along the descriptors we came by. So no step can leave the root, whatever is swapped underneath.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{SFlag, fstat};

use super::Result;
use super::error::{Error, Named};
use super::mount::{MountId, mount_id};
use super::path::{components, kind, make, open_path};

/// As many as the kernel follows (path_resolution(7)).
const MAX_SYMLINKS: usize = 40;

/// What to make when a path is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Fail,
    /// Directories all the way, mode 0755.
    MakeDirectory,
    /// Directories on the way, and an empty file (0644) at the end.
    MakeFile,
}

/// Where a path may lead to inside the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within<'a> {
    Anywhere,
    /// Not to the root itself, nor to one of these mounts or through it: EXDEV.
    ApartFrom(&'a [MountId]),
    /// Only where its own components say: a symlink is ELOOP.
    ItsOwnNames,
}

/// An O_PATH descriptor of `path` inside `root`, as if `root` were `/`.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd> {
    open_in_root_within(root, path, missing, Within::Anywhere)
}

/// As [`open_in_root`], where it may not lead anywhere.
pub fn open_in_root_within(root: BorrowedFd<'_>, path: &Path, missing: Missing, within: Within<'_>) -> Result<OwnedFd> {
    let call = |errno| Error { call: format!("open({}) in the root file system", path.display()), errno };
    // Components still to walk, the next one last.
    let mut ahead: Vec<OsString> = components(path).rev().collect();
    let mut behind: Vec<OwnedFd> = vec![root.try_clone_to_owned().named(|| "dup()".to_owned())?];
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        let here = behind.last().map_or(root, |fd| fd.as_fd());
        if name == ".." {
            // Above the root is the root.
            if behind.len() > 1 {
                behind.pop();
            }
            continue;
        }
        let next = match open_path(here, &name) {
            Err(Errno::ENOENT) if missing != Missing::Fail => {
                let make_file = ahead.is_empty() && missing == Missing::MakeFile;
                make(here, &name, make_file).map_err(call)?;
                // Another process may have put something else there in the meantime: it is treated as what it is.
                open_path(here, &name)
            }
            other => other,
        }
        .map_err(call)?;
        if kind(&fstat(&next).map_err(call)?) == SFlag::S_IFLNK {
            links += 1;
            if links > MAX_SYMLINKS || within == Within::ItsOwnNames {
                return Err(call(Errno::ELOOP));
            }
            let target = readlinkat(&next, "").map_err(call)?;
            if Path::new(&target).is_absolute() {
                behind.truncate(1);
            }
            ahead.extend(components(Path::new(&target)).rev());
            continue;
        }
        if let Within::ApartFrom(mounts) = within
            && mounts.contains(&mount_id(next.as_fd())?)
        {
            return Err(call(Errno::EXDEV));
        }
        behind.push(next);
    }
    if matches!(within, Within::ApartFrom(_)) && behind.len() == 1 {
        return Err(call(Errno::EXDEV));
    }
    behind.pop().ok_or_else(|| call(Errno::ENOENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::path::{FileKind, file_kind, open_host_path};
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().expect("tempdir");
        let fd = open_host_path(dir.path()).expect("open");
        (dir, fd)
    }

    fn same(fd: &OwnedFd, path: &Path) -> bool {
        let (a, b) = (fstat(fd).expect("fstat"), nix::sys::stat::stat(path).expect("stat"));
        (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
    }

    #[test]
    fn absolute_links_and_dot_dot_stay_inside() {
        let (dir, fd) = root();
        std::fs::create_dir_all(dir.path().join("etc/deep")).expect("mkdir");
        symlink("/etc", dir.path().join("abs")).expect("symlink");
        symlink("../../../../etc", dir.path().join("etc/deep/up")).expect("symlink");
        for path in ["/abs", "/etc/deep/up", "/../../etc", "/abs/deep/.."] {
            let found = open_in_root(fd.as_fd(), Path::new(path), Missing::Fail).expect(path);
            assert!(same(&found, &dir.path().join("etc")), "{path}");
        }
    }

    #[test]
    fn a_dangling_link_is_made_inside_the_root() {
        let (dir, fd) = root();
        symlink("/run/resolve/stub.conf", dir.path().join("resolv.conf")).expect("symlink");
        let made = open_in_root(fd.as_fd(), Path::new("/resolv.conf"), Missing::MakeFile).expect("made");
        assert!(same(&made, &dir.path().join("run/resolve/stub.conf")));
        assert_eq!(file_kind(made.as_fd()).expect("kind"), FileKind::Regular);
    }

    #[test]
    fn a_link_loop_ends() {
        let (dir, fd) = root();
        symlink("b", dir.path().join("a")).expect("symlink");
        symlink("a", dir.path().join("b")).expect("symlink");
        let error = open_in_root(fd.as_fd(), Path::new("/a/c"), Missing::MakeDirectory).expect_err("a loop");
        assert_eq!(error.errno, Errno::ELOOP);
    }

    #[test]
    fn magic_links_of_procfs_do_not_lead_out() {
        let (dir, fd) = root();
        symlink("/proc/self/root/etc", dir.path().join("out")).expect("symlink");
        let error = open_in_root(fd.as_fd(), Path::new("/out"), Missing::Fail).expect_err("no proc in here");
        assert_eq!(error.errno, Errno::ENOENT);
        let made = open_in_root(fd.as_fd(), Path::new("/out"), Missing::MakeDirectory).expect("made inside");
        assert!(same(&made, &dir.path().join("proc/self/root/etc")));
    }

    #[test]
    fn a_path_that_may_not_lead_everywhere() {
        let (dir, fd) = root();
        std::fs::create_dir_all(dir.path().join("data")).expect("mkdir");
        symlink("/", dir.path().join("all")).expect("symlink");
        symlink("data", dir.path().join("link")).expect("symlink");
        let walk = |path, within| open_in_root_within(fd.as_fd(), Path::new(path), Missing::Fail, within);
        let refused = |path, within| walk(path, within).expect_err(path).errno;
        assert_eq!(refused("/link", Within::ItsOwnNames), Errno::ELOOP);
        assert!(same(&walk("/data", Within::ItsOwnNames).expect("a directory"), &dir.path().join("data")));
        for root in ["/all", "/", "/data/..", "/all/all"] {
            assert_eq!(refused(root, Within::ApartFrom(&[])), Errno::EXDEV, "{root}");
        }
        assert!(same(&walk("/link", Within::ApartFrom(&[])).expect("a link"), &dir.path().join("data")));
        // All of this is on one mount.
        let here = [mount_id(fd.as_fd()).expect("statx")];
        assert_eq!(refused("/link", Within::ApartFrom(&here)), Errno::EXDEV);
    }
}
