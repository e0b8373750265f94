//! What a hostPath volume makes on the host, and what it does not.

use std::path::Path;

use super::HostPathPlan;
use crate::manifest::HostPathType;

impl HostPathPlan {
    /// What must be there before the pod starts.
    /// <https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types>
    #[must_use]
    pub fn needs(&self) -> Option<&Path> {
        match self.kind {
            HostPathType::DirectoryOrCreate => None,
            // The file is made, and no directory for it.
            HostPathType::FileOrCreate => self.path.parent(),
            HostPathType::Unchecked
            | HostPathType::Directory
            | HostPathType::File
            | HostPathType::Socket
            | HostPathType::CharDevice
            | HostPathType::BlockDevice => Some(&self.path),
        }
    }

    /// The way out where that is not there.
    #[must_use]
    pub fn fix_where_missing(&self) -> Option<String> {
        let path = self.needs()?.display();
        Some(match self.kind {
            HostPathType::DirectoryOrCreate => return None,
            HostPathType::FileOrCreate => {
                format!("`type: FileOrCreate` makes the file, but not its directory: `mkdir -p {path}`")
            }
            HostPathType::Unchecked => format!(
                "make it (`mkdir -p {path}`), or let the volume make it: `type: DirectoryOrCreate`, or `type: FileOrCreate` \
                 for a file"
            ),
            HostPathType::Directory => format!("make it (`mkdir -p {path}`), or write `type: DirectoryOrCreate`"),
            HostPathType::File => format!("make it (`touch {path}`), or write `type: FileOrCreate`"),
            HostPathType::Socket => format!("start the program that listens at {path} first"),
            HostPathType::CharDevice | HostPathType::BlockDevice => {
                "this host has no such device: load its driver (`sudo modprobe …`), or correct the path".to_owned()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fix_fits_the_type() {
        for (kind, needs, fix) in [
            (HostPathType::Unchecked, "/srv/data", "`type: DirectoryOrCreate`, or `type: FileOrCreate`"),
            (HostPathType::Directory, "/srv/data", "(`mkdir -p /srv/data`), or write `type: DirectoryOrCreate`"),
            (HostPathType::File, "/srv/data", "(`touch /srv/data`), or write `type: FileOrCreate`"),
            (HostPathType::FileOrCreate, "/srv", "not its directory: `mkdir -p /srv`"),
            (HostPathType::Socket, "/srv/data", "start the program"),
            (HostPathType::CharDevice, "/srv/data", "no such device"),
        ] {
            let host_path = HostPathPlan { volume: "v".to_owned(), path: "/srv/data".into(), kind };
            assert_eq!(host_path.needs(), Some(Path::new(needs)), "{kind:?}");
            let found = host_path.fix_where_missing().expect("a fix");
            assert!(found.contains(fix), "{kind:?}: {found}");
        }
        let made =
            HostPathPlan { volume: "v".to_owned(), path: "/srv/data".into(), kind: HostPathType::DirectoryOrCreate };
        assert_eq!((made.needs(), made.fix_where_missing()), (None, None));
    }
}
