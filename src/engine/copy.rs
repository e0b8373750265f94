//! A whole copy of a root file system, where the kernel has no overlayfs (`no-overlay`).

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::sys::path::{self, FileKind};
use crate::sys::{Result, tree};

/// Copies directories, regular files and symlinks with their modes. Owners become the copier's, as everything of an
/// image made by its user does; devices, sockets and FIFOs are left out, since nothing in a user namespace may make a
/// device and the others mean nothing without their makers.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let duplicate = |fd: BorrowedFd<'_>| path::open_below(fd, Path::new("."));
    let mut ahead: Vec<(OwnedFd, OwnedFd)> = vec![(duplicate(from)?, duplicate(to)?)];
    while let Some((source, target)) = ahead.pop() {
        let mut names: Vec<OsString> = Vec::new();
        tree::for_each_entry(source.as_fd(), |name, _| {
            names.push(name);
            true
        })?;
        for name in names {
            let name = Path::new(&name);
            let entry = path::open_below(source.as_fd(), name)?;
            match path::file_kind(entry.as_fd())? {
                FileKind::Directory => {
                    path::make_directory(target.as_fd(), name, path::mode(entry.as_fd())? | 0o700)?;
                    ahead.push((entry, path::open_below(target.as_fd(), name)?));
                }
                FileKind::Regular => path::copy_file(entry.as_fd(), target.as_fd(), name)?,
                FileKind::Symlink => path::make_symlink(&path::link_target(entry.as_fd())?, target.as_fd(), name)?,
                FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice | FileKind::Fifo => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_tree_arrives_with_its_links_and_modes() {
        let (from, to) = (tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir"));
        std::fs::create_dir_all(from.path().join("a/b")).expect("mkdir");
        std::fs::write(from.path().join("a/b/run"), "text").expect("write");
        std::fs::set_permissions(from.path().join("a/b/run"), PermissionsExt::from_mode(0o751)).expect("chmod");
        symlink("/etc/passwd", from.path().join("a/link")).expect("symlink");
        let open = |path: &Path| path::open_host_path(path).expect("open");
        copy_tree(open(from.path()).as_fd(), open(to.path()).as_fd()).expect("copied");
        let run = to.path().join("a/b/run");
        assert_eq!(std::fs::read_to_string(&run).expect("read"), "text");
        assert_eq!(std::fs::metadata(&run).expect("stat").permissions().mode() & 0o7777, 0o751);
        assert_eq!(std::fs::read_link(to.path().join("a/link")).expect("link"), Path::new("/etc/passwd"));
    }
}
