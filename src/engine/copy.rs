//! A whole copy of a root file system, where the kernel has no overlayfs (`no-overlay`).

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::failure::{Failure, Result};
use super::tree::remove_tree;
use crate::step::Step;
use crate::sys::path::{self, FileKind};
use crate::sys::{self, Errno, tree};

/// Copies what an overlay over these directories would show; the highest comes first.
pub(super) fn copy_layers(layers: &[(&Path, OwnedFd)], to: BorrowedFd<'_>) -> Result<()> {
    for (position, (path, layer)) in layers.iter().rev().enumerate() {
        let failed = |error: &sys::Error| Failure::new(Step::BuildRoot, path.display().to_string(), error);
        // Nothing can be below the lowest.
        if position > 0 {
            make_way(layer.as_fd(), to).map_err(|error| failed(&error))?;
        }
        copy_tree(layer.as_fd(), to).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Removes from `to` what `layer` hides or replaces.
fn make_way(layer: BorrowedFd<'_>, to: BorrowedFd<'_>) -> sys::Result<()> {
    let mut ahead = vec![(path::open_below(layer, Path::new("."))?, path::open_below(to, Path::new("."))?)];
    while let Some((source, target)) = ahead.pop() {
        if path::is_opaque(source.as_fd())? {
            for name in names_in(target.as_fd())? {
                remove(target.as_fd(), &name)?;
            }
            continue;
        }
        for name in names_in(source.as_fd())? {
            let Some(below) = existing(target.as_fd(), &name)? else { continue };
            let entry = path::open_below(source.as_fd(), Path::new(&name))?;
            let both = [&entry, &below].map(|fd| path::file_kind(fd.as_fd()));
            match both {
                [Ok(FileKind::Directory), Ok(FileKind::Directory)] => ahead.push((entry, below)),
                _ => remove(target.as_fd(), &name)?,
            }
        }
    }
    Ok(())
}

fn names_in(directory: BorrowedFd<'_>) -> sys::Result<Vec<OsString>> {
    let mut names: Vec<OsString> = Vec::new();
    tree::for_each_entry(directory, |name, _| {
        names.push(name);
        true
    })?;
    Ok(names)
}

fn existing(at: BorrowedFd<'_>, name: &OsString) -> sys::Result<Option<OwnedFd>> {
    match path::open_below(at, Path::new(name)) {
        Ok(found) => Ok(Some(found)),
        Err(sys::Error { errno: Errno::ENOENT, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(at: BorrowedFd<'_>, name: &OsString) -> sys::Result<()> {
    remove_tree(at, name).into_iter().next().map_or(Ok(()), Err)
}

/// Copies directories, regular files and symlinks with their modes. Owners become the copier's, as everything of an
/// image made by its user does; devices, sockets and FIFOs are left out, since nothing in a user namespace may make a
/// device and the others mean nothing without their makers.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> sys::Result<()> {
    let duplicate = |fd: BorrowedFd<'_>| path::open_below(fd, Path::new("."));
    let mut ahead: Vec<(OwnedFd, OwnedFd)> = vec![(duplicate(from)?, duplicate(to)?)];
    while let Some((source, target)) = ahead.pop() {
        for name in names_in(source.as_fd())? {
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

    #[test]
    fn layers_are_copied_as_an_overlay_would_show_them() {
        let tree = |files: &[&str]| {
            let made = tempfile::tempdir().expect("tempdir");
            for file in files {
                let path = made.path().join(file);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
                std::fs::write(path, file).expect("write");
            }
            made
        };
        let lower = tree(&["a/kept", "a/replaced/by/file", "b/hidden", "gone", "file"]);
        let upper = tree(&["a/replaced", "a/new", "b/seen", "file/is/directory"]);
        let opened = |path: &Path| path::open_host_path(path).expect("open");
        crate::sys::create::new_whiteout(opened(upper.path()).as_fd(), "gone".as_ref()).expect("mknod");
        let below = std::fs::File::open(upper.path().join("b")).expect("open");
        crate::sys::create::set_xattr(&below, "user.overlay.opaque".as_ref(), b"y").expect("fsetxattr");
        let to = tempfile::tempdir().expect("tempdir");
        let layers = [(upper.path(), opened(upper.path())), (lower.path(), opened(lower.path()))];
        copy_layers(&layers, opened(to.path()).as_fd()).expect("copied");
        let mut found: Vec<String> = Vec::new();
        let mut ahead = vec![to.path().to_owned()];
        while let Some(directory) = ahead.pop() {
            for entry in std::fs::read_dir(directory).expect("readdir") {
                let path = entry.expect("entry").path();
                if path.is_dir() {
                    ahead.push(path);
                } else {
                    found.push(path.strip_prefix(to.path()).expect("below").to_str().expect("UTF-8").to_owned());
                }
            }
        }
        found.sort();
        assert_eq!(found, ["a/kept", "a/new", "a/replaced", "b/seen", "file/is/directory"]);
    }
}
