//! Which hierarchies there are, which cgroup2 mount to work in, and where our own cgroup is in it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::Hierarchy;
use crate::host::mountinfo::{Cgroup2Mount, MountTable};

/// `/proc/self/cgroup` (cgroups(7)).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OwnCgroups {
    /// Relative to the root of our cgroup namespace; `None` where this kernel shows no version 2.
    pub(super) unified: Option<PathBuf>,
    /// What version 1 has of the controllers that a pod uses, by their names in version 2.
    pub(super) in_v1: BTreeSet<String>,
    /// Some hierarchy of version 1 exists.
    v1: bool,
}

impl OwnCgroups {
    pub(super) fn parse(text: &[u8]) -> OwnCgroups {
        let mut own = OwnCgroups::default();
        for line in text.split(|&byte| byte == b'\n') {
            // A cgroup's name may have colons, the fields before it have none.
            let mut fields = line.splitn(3, |&byte| byte == b':');
            let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            if id == b"0" && controllers.is_empty() {
                own.unified = Some(PathBuf::from(OsString::from_vec(path.to_vec())));
            } else {
                own.v1 = true;
                own.in_v1.extend(String::from_utf8_lossy(controllers).split(',').filter_map(in_version_2));
            }
        }
        own
    }
}

/// Others of version 1, like `net_cls` that VPN programs mount on unified hosts, take nothing from a pod.
fn in_version_2(controller: &str) -> Option<String> {
    let name = match controller {
        "blkio" => "io",
        "cpu" | "cpuset" | "hugetlb" | "memory" | "pids" => controller,
        _ => return None,
    };
    Some(name.to_owned())
}

/// The mount to work in: one that shows our own cgroup, and read-write if there is such a one. `root` is `/` but in tests.
pub(super) fn choose(mounts: &MountTable, own: &OwnCgroups, root: &Path) -> Option<Cgroup2Mount> {
    // Facts are JSON, so a mount point must be UTF-8; another mount may hide one of the list.
    let seen = |mount: &Cgroup2Mount| {
        mount.point.to_str().is_some() && below(root, &mount.point).join("cgroup.controllers").exists()
    };
    let shows_own = |mount: &Cgroup2Mount| own.unified.as_ref().is_some_and(|own| mount.directory_of(own).is_some());
    mounts.cgroup2().filter(seen).max_by_key(|mount| (shows_own(mount), mount.access))
}

pub(super) fn kind(mounts: &MountTable, own: &OwnCgroups, chosen: Option<&Cgroup2Mount>) -> Hierarchy {
    match chosen {
        Some(mount) if own.in_v1.is_empty() => Hierarchy::Unified { mount: mount.point.clone() },
        Some(mount) => Hierarchy::Hybrid { mount: mount.point.clone(), in_v1: own.in_v1.clone() },
        None if own.v1 || mounts.has_cgroup1() => Hierarchy::Version1,
        None => Hierarchy::NotMounted,
    }
}

impl Cgroup2Mount {
    /// The directory of a cgroup that is named as in `/proc/self/cgroup`; `None` when the mount does not show it, or its
    /// name is not UTF-8.
    pub(super) fn directory_of(&self, cgroup: &Path) -> Option<PathBuf> {
        let inside = cgroup.strip_prefix(&self.root).ok()?;
        inside.to_str()?;
        inside.components().all(|part| matches!(part, Component::Normal(_))).then(|| join(&self.point, inside))
    }
}

/// Joined without a slash at the end where there is nothing to join.
fn join(directory: &Path, inside: &Path) -> PathBuf {
    if inside.as_os_str().is_empty() { directory.to_owned() } else { directory.join(inside) }
}

/// Where a path of the machine is found.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    join(root, path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::mountinfo::Access;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn own_cgroups_of_real_machines() {
        let hybrid = b"9:name=systemd:/\n8:pids:/\n7:blkio:/\n4:memory:/api/f8\n2:cpuacct:/\n1:cpu:/\n0::/\n";
        let own = OwnCgroups::parse(hybrid);
        assert_eq!((own.unified, own.in_v1), (Some(PathBuf::from("/")), names(&["cpu", "io", "memory", "pids"])));
        let unified = OwnCgroups::parse(b"2:net_cls:/\n0::/user.slice/a:b.scope\n");
        assert_eq!((unified.unified, unified.in_v1), (Some(PathBuf::from("/user.slice/a:b.scope")), names(&[])));
        assert_eq!(OwnCgroups::parse(b"5:cpu,cpuacct:/x\n").in_v1, names(&["cpu"]));
    }

    #[test]
    fn directories_of_cgroups() {
        let mount = |root: &str| Cgroup2Mount {
            root: PathBuf::from(root),
            point: PathBuf::from("/sys/fs/cgroup"),
            access: Access::ReadWrite,
        };
        for (root, cgroup, expected) in [
            ("/", "/", Some("/sys/fs/cgroup")),
            ("/", "/a/b.scope", Some("/sys/fs/cgroup/a/b.scope")),
            // docker with `--cgroupns=host` and version 1 habits: only a part is mounted.
            ("/docker/12", "/docker/12/x", Some("/sys/fs/cgroup/x")),
            ("/docker/12", "/docker/13", None),
            // `unshare --cgroup` without a mount.
            ("/../..", "/", None),
            // Moved out of its namespace.
            ("/", "/../elsewhere", None),
            ("/..", "/../elsewhere", Some("/sys/fs/cgroup/elsewhere")),
        ] {
            assert_eq!(mount(root).directory_of(Path::new(cgroup)), expected.map(PathBuf::from), "{root} {cgroup}");
        }
        let latin1 = PathBuf::from(OsString::from_vec(b"/caf\xe9".to_vec()));
        assert_eq!(mount("/").directory_of(&latin1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text: Vec<u8>) {
            OwnCgroups::parse(&text);
        }
    }
}
