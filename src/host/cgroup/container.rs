//! Whose container we are in, for advice only: by the marks that runtimes leave.

use std::fmt;
use std::path::Path;

use super::Container;
use crate::sys::probe::read_start;

/// What `/proc/self/ns/cgroup` points to in the namespace that the kernel starts with: PROC_CGROUP_INIT_INO.
const INITIAL_NAMESPACE: &str = "cgroup:[4026531835]";

/// The innermost one that can be told.
pub(in crate::host) fn around(root: &Path) -> Option<Container> {
    // Machines whose disk was once a container's keep such marks; with cgroup2 each runtime makes a cgroup namespace.
    if std::fs::read_link(root.join("proc/self/ns/cgroup")).is_ok_and(|link| link == Path::new(INITIAL_NAMESPACE)) {
        return None;
    }
    let hosts = read_start(&root.join("etc/hosts"), 64).unwrap_or_default();
    let there = |mark: &str| root.join(mark).exists();
    match () {
        () if hosts.starts_with(b"# Written by sandpod.") => Some(Container::Sandpod),
        () if there("run/secrets/kubernetes.io") || there("var/run/secrets/kubernetes.io") => {
            Some(Container::Kubernetes)
        }
        () if there("run/.containerenv") => Some(Container::Podman),
        () if there(".dockerenv") => Some(Container::Docker),
        () => None,
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Container::Docker => "a Docker container",
            Container::Podman => "a Podman container",
            Container::Kubernetes => "a Kubernetes pod",
            Container::Sandpod => "a sandpod pod",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::recorded::Recorded;

    #[test]
    fn each_by_its_mark() {
        for (mark, text, expected) in [
            (".dockerenv", "", Some(Container::Docker)),
            ("run/.containerenv", "engine=\"podman-5\"\n", Some(Container::Podman)),
            ("run/secrets/kubernetes.io/serviceaccount/token", "x", Some(Container::Kubernetes)),
            ("etc/hosts", "# Written by sandpod.\n127.0.0.1 localhost\n", Some(Container::Sandpod)),
            ("etc/hosts", "127.0.0.1 localhost\n", None),
        ] {
            let tree = Recorded::new(&[(mark, text), ("proc/self/ns/x", "")]);
            assert_eq!(around(tree.path()), expected, "{mark}");
            std::os::unix::fs::symlink(INITIAL_NAMESPACE, tree.path().join("proc/self/ns/cgroup")).expect("symlink");
            assert_eq!(around(tree.path()), None, "a machine with {mark}");
        }
    }
}
