//! The search: which delegated subtree a pod's cgroups are made in, and why not in another.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::candidate::{Obstacle, Place, examine};
use super::hierarchy::{self, OwnCgroups};
use super::{CgroupFacts, Delegation, NoDelegation, PassedOver, capacity, container, systemd};
use crate::host::mountinfo::{Cgroup2Mount, MountTable};
use crate::host::probe::CgroupQuery;
use crate::sys::{self, probe as look};

/// As long as the longest path of `/proc/self/cgroup`, some twenty times.
const MOST_OWN: usize = 128 << 10;

/// Where to look and as whom. Always the machine itself, except in tests.
#[derive(Clone, Copy)]
pub(in crate::host) struct View<'a> {
    pub(in crate::host) root: &'a Path,
    pub(in crate::host) mounts: &'a MountTable,
    /// `$XDG_RUNTIME_DIR`
    pub(in crate::host) runtime_dir: Option<&'a OsStr>,
    /// `$PATH`
    pub(in crate::host) search: &'a OsStr,
    /// Our uid, as seen here and as seen in the parent user namespace.
    pub(in crate::host) uids: [u32; 2],
    pub(in crate::host) pid: u32,
    pub(in crate::host) rights: Rights,
}

/// What the kernel is asked about a path.
#[derive(Clone, Copy)]
pub(in crate::host) struct Rights {
    pub(super) write: fn(&Path) -> sys::Result<()>,
    pub(super) fill: fn(&Path) -> sys::Result<()>,
    pub(super) marked: fn(&Path) -> bool,
}

impl Rights {
    pub(in crate::host) const OURS: Rights =
        Rights { write: look::may_write, fill: look::may_fill_effectively, marked: look::is_marked_delegated };
}

impl View<'_> {
    /// Where a path of the machine is found.
    pub(super) fn at(&self, path: &Path) -> PathBuf {
        hierarchy::below(self.root, path)
    }

    /// `$XDG_RUNTIME_DIR`, or where it would be.
    pub(super) fn runtime_dir(&self) -> Result<PathBuf, PathBuf> {
        let set = self.runtime_dir.and_then(OsStr::to_str).map(Path::new).filter(|path| path.is_absolute());
        set.map(Path::to_owned).ok_or_else(|| PathBuf::from(format!("/run/user/{}", self.uids[0])))
    }
}

/// Some file reads, no process, nothing changed.
pub(in crate::host) fn find(view: &View<'_>, query: &CgroupQuery) -> CgroupFacts {
    let asked = match query {
        CgroupQuery::Skip => return CgroupFacts::default(),
        CgroupQuery::Find => None,
        CgroupQuery::Below(path) => Some(path),
    };
    let own = look::read_bounded(&view.root.join("proc/self/cgroup"), MOST_OWN).unwrap_or_default();
    let own = OwnCgroups::parse(&own);
    let mount = hierarchy::choose(view.mounts, &own, view.root);
    let mut facts = CgroupFacts {
        hierarchy: hierarchy::kind(view.mounts, &own, mount.as_ref()),
        // Facts are written as JSON, which has no other bytes.
        asked: asked.map(|path| PathBuf::from(path.to_string_lossy().into_owned())),
        own: mount.as_ref().zip(own.unified.as_ref()).and_then(|(mount, own)| mount.directory_of(own)),
        ..CgroupFacts::default()
    };
    let mut from = None;
    let found = match (&mount, &facts.own) {
        (None, _) if facts.hierarchy == super::Hierarchy::Version1 => Err(NoDelegation::Version1),
        (None, _) => Err(NoDelegation::NotMounted),
        (Some(mount), None) => Err(NoDelegation::OutOfSight {
            own: own.unified.unwrap_or_default().to_string_lossy().into_owned(),
            mount: mount.point.clone(),
        }),
        (Some(mount), Some(directory)) => {
            let mut search = Search { view, mount, own: directory, in_v1: &own.in_v1, passed_over: Vec::new() };
            let found = match asked {
                Some(path) => search.asked(path),
                None => search.nearest(),
            };
            facts.passed_over = search.passed_over;
            found.map(|(delegation, top)| {
                from = Some(top);
                delegation
            })
        }
    };
    facts.capacity = capacity::read(view, mount.as_ref().map_or(Path::new("/"), |mount| &mount.point), from.as_deref());
    facts.delegation = found.unwrap_or_else(Delegation::None);
    facts
}

struct Search<'a> {
    view: &'a View<'a>,
    mount: &'a Cgroup2Mount,
    own: &'a Path,
    in_v1: &'a std::collections::BTreeSet<String>,
    passed_over: Vec<PassedOver>,
}

/// With the cgroup whose limits and whose ancestors' limits hold for it.
type Found = Result<(Delegation, PathBuf), NoDelegation>;

impl Search<'_> {
    fn place(&self) -> Place<'_> {
        Place { mount: &self.mount.point, own: self.own }
    }

    /// `--cgroup-parent`: this one or none.
    fn asked(&self, path: &Path) -> Found {
        let refused = |path: &Path, why: String| {
            Err(NoDelegation::Asked { path: PathBuf::from(path.to_string_lossy().into_owned()), why })
        };
        let inside = path.strip_prefix(&self.mount.point).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
        if path.to_str().is_none() {
            return refused(path, "its name is not UTF-8".to_owned());
        }
        if !inside.components().all(|part| matches!(part, Component::Normal(_))) {
            return refused(path, "a path with `.` or `..` is not taken".to_owned());
        }
        let directory = hierarchy::below(&self.mount.point, inside);
        match examine(self.view, self.place(), &directory) {
            Ok(delegation) if self.is_without_controllers(&delegation) => Err(self.hybrid()),
            Ok(delegation) => Ok((delegation, directory)),
            Err(Obstacle::ReadOnly) => Err(self.read_only()),
            Err(obstacle) => refused(&directory, obstacle.to_string()),
        }
    }

    /// Our own cgroup, what is above it, the user's systemd.
    fn nearest(&mut self) -> Found {
        let mut obstacles = Vec::new();
        for candidate in self.own.ancestors().take_while(|path| path.starts_with(&self.mount.point)) {
            match examine(self.view, self.place(), candidate) {
                Ok(delegation) if self.is_without_controllers(&delegation) => {
                    self.pass_over(candidate.display().to_string(), "it has no controllers: version 1 has them");
                }
                Ok(delegation) => {
                    self.note(&obstacles);
                    return Ok((delegation, candidate.to_owned()));
                }
                Err(obstacle) => obstacles.push((candidate.to_owned(), obstacle)),
            }
        }
        self.note(&obstacles);
        if obstacles.iter().any(|(_, obstacle)| *obstacle == Obstacle::ReadOnly) {
            return Err(self.read_only());
        }
        let why_no_systemd = match systemd::user_systemd(self.view, self.mount, self.own) {
            Ok(systemd) if systemd.controllers.is_empty() && !self.in_v1.is_empty() => return Err(self.hybrid()),
            Ok(systemd) => {
                return Ok((Delegation::SystemdScope { controllers: systemd.controllers }, systemd.cgroup));
            }
            Err(why) => why,
        };
        self.pass_over("the user's systemd".to_owned(), &why_no_systemd.to_string());
        if !self.in_v1.is_empty() {
            return Err(self.hybrid());
        }
        let occupied = obstacles.into_iter().find_map(|(path, obstacle)| match obstacle {
            Obstacle::Occupied(pids) => Some(NoDelegation::Occupied { path, pids }),
            _ => None,
        });
        Err(occupied.unwrap_or_else(|| NoDelegation::NotOurs { own: self.own.to_owned(), why_no_systemd }))
    }

    /// On a hybrid host cgroup2 is there, but good for nothing that a pod wants.
    fn is_without_controllers(&self, delegation: &Delegation) -> bool {
        let empty = matches!(delegation, Delegation::Directory { controllers, .. } if controllers.is_empty());
        empty && !self.in_v1.is_empty()
    }

    fn hybrid(&self) -> NoDelegation {
        NoDelegation::Hybrid { in_v1: self.in_v1.clone() }
    }

    fn read_only(&self) -> NoDelegation {
        NoDelegation::ReadOnly { mount: self.mount.point.clone(), container: container::around(self.view.root) }
    }

    fn pass_over(&mut self, candidate: String, why: &str) {
        self.passed_over.push(PassedOver { candidate, why: why.to_owned() });
    }

    /// All the way up it is the same answer, mostly: said once.
    fn note(&mut self, obstacles: &[(PathBuf, Obstacle)]) {
        let same = |one: &Obstacle, other: &Obstacle| std::mem::discriminant(one) == std::mem::discriminant(other);
        let mut rest = obstacles;
        while let Some((path, obstacle)) = rest.first() {
            let alike = rest.iter().take_while(|(_, next)| same(obstacle, next)).count();
            let above = if alike > 1 && alike == rest.len() { " and what is above it" } else { "" };
            self.pass_over(format!("{}{above}", path.display()), &obstacle.to_string());
            rest = &rest[if above.is_empty() { 1 } else { alike }..];
        }
    }
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
