//! Which file systems can hold the upper layer of an overlay in a user namespace (kernel, filesystems/overlayfs.rst,
//! "Upper and lower", and `ovl_get_upper` in fs/overlayfs/super.c).

use std::path::Path;

use crate::sys::probe::{self, FileSystem};

/// statfs(2) magics of file systems that the kernel refuses: they revalidate or rename names behind its back, or are
/// themselves stacked.
const REFUSED: &[(i64, &str)] = &[
    (0x794c_7630, "overlayfs"),
    (0x6969, "NFS"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0xf15f, "eCryptfs"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x2003_0528, "OrangeFS"),
    (0x786f_4256, "vboxsf"),
    (0xbacb_acbc, "VMware's shared folders"),
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
    (0x8584_58f6, "ramfs"),
];
const OVERLAYFS: i64 = 0x794c_7630;
const TMPFS: i64 = 0x0102_1994;

pub(super) fn is_overlay(found: FileSystem) -> bool {
    found.magic == OVERLAYFS
}

pub(super) fn is_memory(found: FileSystem) -> bool {
    found.magic == TMPFS
}

/// What keeps a directory that is there from holding an upper layer; `None`: nothing that can be seen.
pub(super) fn lacks(directory: &Path) -> Option<String> {
    let found = match probe::file_system(directory) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    refusal(found, probe::takes_user_attributes(directory))
}

fn refusal(found: FileSystem, user_attributes: bool) -> Option<String> {
    if let Some((_, name)) = REFUSED.iter().find(|(magic, _)| *magic == found.magic) {
        return Some(format!("it is on {name}, which cannot hold the upper layer of an overlay"));
    }
    if user_attributes {
        return None;
    }
    Some(if is_memory(found) {
        "it is on a tmpfs without user xattrs (Linux has them since 6.6), which overlayfs needs".to_owned()
    } else {
        "its file system has no user xattrs, which overlayfs needs".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_by_its_magic() {
        let of = |magic, attributes| refusal(FileSystem { magic, device: 1, no_exec: false }, attributes);
        for (magic, name) in [
            (0x794c_7630, "overlayfs"),
            (0x6969, "NFS"),
            (0x6573_5546, "FUSE"),
            (0x0102_1997, "9p"),
            (0xff53_4d42, "CIFS"),
        ] {
            let why = of(magic, true).expect(name);
            assert!(why.contains(&format!("on {name},")), "{why}");
        }
        assert!(of(TMPFS, false).expect("before Linux 6.6").contains("6.6"));
        assert!(of(0xef53, false).expect("ext2 without xattrs").contains("user xattrs"));
        for magic in [TMPFS, 0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010] {
            assert_eq!(of(magic, true), None, "{magic:x}");
        }
    }
}
