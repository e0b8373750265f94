//! What a container's root file system can be made of, and the paths of a manifest.

use crate::host::{Facts, OverlaySupport};
use crate::sys::probe::errno::{EACCES, EBUSY, EINVAL, EIO, ELOOP, ENODEV, ENOENT, ENOTDIR, EPERM, EROFS, EXDEV};

/// A mount point inside the container's root.
pub(super) fn in_root(errno: i32) -> Option<String> {
    let text = match errno {
        EROFS => {
            "this mount point is not there, and cannot be made: the directory is read-only, as the volume that another \
             volumeMount puts there is. Make the mount point once in that volume (`touch FILE`, `mkdir DIRECTORY`), \
             mount the volume without readOnly, or mount elsewhere"
        }
        EACCES => {
            "if this is an open, a directory on the way to the mount point is closed to the pod's ids: open it to others \
             (`sudo chmod o+rx DIRECTORY`); if it is a mount, AppArmor or SELinux refused it (`sudo dmesg | grep -i \
             denied`), or the seccomp filter of an outer container"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

pub(super) fn overlay(errno: i32, facts: &Facts) -> Option<String> {
    if let (OverlaySupport::Missing { why }, ENODEV | EPERM | EINVAL) = (&facts.overlay, errno) {
        return Some(format!("this host has no overlayfs for users: {why}. Try `sudo modprobe overlay`"));
    }
    let data = facts.data_dir.path.display();
    match errno {
        EINVAL => Some(mounts_in_the_way(facts).unwrap_or_else(|| {
            format!(
                "overlayfs refused its directories: {data} may lie on a file system that cannot hold an upper layer \
                 (NFS, overlay, eCryptfs); set XDG_DATA_HOME to a directory on a local disk"
            )
        })),
        EIO if facts.kernel < (6, 6) => Some(format!(
            "overlayfs stores user xattrs in its upper layer, which tmpfs has only since Linux 6.6: set XDG_DATA_HOME to \
             a directory on a disk (now {data})"
        )),
        EIO => Some(format!("the disk under {data} or under the image reports errors: see `sudo dmesg`")),
        EBUSY => Some(format!(
            "another mount still uses this container's upper layer in {data}: `sandpod rm` the pod, or wait for it to end"
        )),
        EACCES => Some(
            "the root directory is closed to the pod's ids, which are not its owner: `sudo chmod o+rx` the directory that \
             rootfs: names, or name a copy of yours (`sudo cp -a` it, then `sudo chown -R`)"
                .to_owned(),
        ),
        ENOENT | ENOTDIR => sources(errno),
        _ => None,
    }
}

/// A directory with mounts below cannot be an overlay's lower layer in a user namespace: they are locked there.
fn mounts_in_the_way(facts: &Facts) -> Option<String> {
    let of_rootfs = facts.rootfs.iter().flat_map(|rootfs| &rootfs.mounts_below);
    let of_host = facts.host_root.iter().flat_map(|root| &root.dirs).flat_map(|dir| &dir.mounts_below);
    let first = of_rootfs.chain(of_host).next()?;
    Some(format!(
        "a directory with mounts below it cannot be the lower layer of an overlay in a user namespace: {first} is one; \
         unmount it (`sudo umount {first}`), or use a copy of the directory",
        first = first.display()
    ))
}

/// Paths of the manifest: `rootfs:`, hostPath, mount destinations.
pub(super) fn sources(errno: i32) -> Option<String> {
    let text = match errno {
        ENOENT => "this path of the manifest is not there: make it, or correct the manifest",
        ENOTDIR => "a part of this path is a file where a directory was expected: compare the manifest with `ls -l`",
        EACCES => {
            "you may not go there: sandpod has your rights and no more; each directory on the way needs x for you, or, \
             with isolated ids, for others (`chmod o+x`, or `--userns=root-is-you`)"
        }
        ELOOP => "symbolic links lead in a circle, or through /proc where none may be followed: name the target itself",
        EXDEV => "a symbolic link in the image leads out of it: name the target itself",
        _ => return None,
    };
    Some(text.to_owned())
}
