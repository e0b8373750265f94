//! Whose container we are in, for advice only: by the marks that runtimes leave.

use std::fmt;
use std::path::Path;

use super::Container;
use crate::sys::probe::read_start;

/// The innermost one that can be told.
pub(super) fn around(root: &Path) -> Option<Container> {
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
            assert_eq!(around(Recorded::new(&[(mark, text)]).path()), expected, "{mark}");
        }
    }
}
