//! A cgroup with processes in it, and none below it that is ours.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::file;
use super::freezer::{self, Freezing};
use crate::engine::failure::Result;

/// The cgroup in a container's own in which its processes are (as crun's `subgroup` is called).
pub(super) const INNER: &str = "container";

/// Held open: what happens in it goes through these descriptors, whatever becomes of its path.
#[derive(Debug)]
pub struct Leaf {
    path: PathBuf,
    /// For CLONE_INTO_CGROUP.
    pub(super) directory: OwnedFd,
    /// `cgroup.procs`, for a child that may not be born in it: an isolated map's root is a stranger to the file, but the
    /// kernel asks for the rights of whoever opened it (cgroups(7); Linux 5.17 and its stable branches).
    pub(super) procs: OwnedFd,
}

impl Leaf {
    pub(super) fn make(path: &Path) -> Result<Leaf> {
        let path = path.to_owned();
        file::make_directory(&path)?;
        let open = |options: &std::fs::OpenOptions, path: &Path| {
            options
                .open(path)
                .map(OwnedFd::from)
                .map_err(|error| file::failed(&format!("open({})", path.display()), &error))
        };
        let directory = open(File::options().read(true), &path)?;
        let procs = open(File::options().write(true), &path.join("cgroup.procs"))?;
        Ok(Leaf { path, directory, procs })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is accounted and limited: the cgroup below the pod's that it is, or is in.
    #[must_use]
    pub fn limited(&self) -> &Path {
        let inner = self.path.file_name().is_some_and(|name| name == INNER);
        self.path.parent().filter(|_| inner).unwrap_or(&self.path)
    }

    /// The last component of that.
    #[must_use]
    pub fn name(&self) -> String {
        self.limited().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Moves us in.
    pub(super) fn enter(&self) -> Result<()> {
        file::write(&self.path, "cgroup.procs", "0")
    }

    /// SIGKILL to everything in it and below it, at once and without a chance to fork away (`cgroup.kill`, Linux 5.14).
    /// False: the kernel has no such file.
    pub fn kill(&self) -> bool {
        file::write(self.limited(), "cgroup.kill", "1").is_ok()
    }

    /// See [`oom_kills`].
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        oom_kills(self.limited())
    }

    /// Has everything in it stand still, as soon as the kernel has caught it.
    pub fn freeze(&self) -> Result<Freezing> {
        Freezing::begin(self.limited())
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        freezer::thaw(self.limited())
    }
}

/// How many processes in a cgroup and below the OOM killer has taken (`oom_kill` of `memory.events`); 0 without the
/// controller.
#[must_use]
pub fn oom_kills(cgroup: &Path) -> u64 {
    let events = file::read(cgroup, "memory.events").unwrap_or_default();
    number(&events, "oom_kill").unwrap_or(0)
}

/// The value of a key in a flat keyed file (cgroup-v2.rst, "Format").
pub(super) fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once(' ').filter(|(name, _)| *name == key)?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_whole_name() {
        let events = "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(number(events, "oom_kill"), Some(2));
        assert_eq!(number(events, "oom"), Some(1));
        assert_eq!(number(events, "kill"), None);
    }
}
