//! One directory of the cgroup2 file system: could a pod's cgroups be made in it, and processes be moved there?

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::find::View;
use super::systemd::{self, Manages};
use super::{Delegation, Membership};
use crate::sys;
use crate::sys::probe::{errno, read_bounded, read_start};

/// A list of controllers has about 80 bytes.
const MOST_CONTROLLERS: usize = 64 << 10;
/// Enough of `cgroup.procs` to tell whether somebody else is there.
const MOST_PROCESSES: usize = 4 << 10;
/// As many are worth reporting.
const MOST_REPORTED: usize = 10;

/// What keeps us from using a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Obstacle {
    Missing,
    ReadOnly,
    /// The call that says so.
    NotOurs(String),
    Managed(Manages),
    /// Its `cgroup.type`.
    NotDomain(String),
    Occupied(Vec<i32>),
    /// Writing to `cgroup.procs` of this common ancestor is needed, and not ours.
    NoWayIn(PathBuf),
}

/// The mount, and where we are in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) mount: &'a Path,
    pub(super) own: &'a Path,
}

/// In the order in which an answer says most: a cgroup of somebody else is not ours, whoever sits in it.
pub(super) fn examine(view: &View<'_>, place: Place<'_>, candidate: &Path) -> Result<Delegation, Obstacle> {
    let file = |name: &str| view.at(&candidate.join(name));
    (view.rights.fill)(&view.at(candidate)).map_err(|error| denied(&error))?;
    for name in ["cgroup.procs", "cgroup.subtree_control"] {
        (view.rights.write)(&file(name)).map_err(|error| denied(&error))?;
    }
    if let Some(manages) = systemd::manages(view, place.mount, candidate) {
        return Err(Obstacle::Managed(manages));
    }
    // The root of the whole hierarchy has no cgroup.type, and may hold processes beside cgroups with controllers.
    if let Ok(kind) = read_start(&file("cgroup.type"), 64) {
        let kind = String::from_utf8_lossy(&kind).trim().to_owned();
        if kind != "domain" {
            return Err(Obstacle::NotDomain(kind));
        }
        let others = others(&read_start(&file("cgroup.procs"), MOST_PROCESSES).unwrap_or_default(), view.pid);
        if !others.is_empty() {
            return Err(Obstacle::Occupied(others));
        }
    }
    if let Some(above) = common(place.own, candidate)
        && above != candidate
        && (view.rights.write)(&view.at(&above.join("cgroup.procs"))).is_err()
    {
        return Err(Obstacle::NoWayIn(above.to_owned()));
    }
    let ours = if candidate == place.own { Membership::Inside } else { Membership::Outside };
    Ok(Delegation::Directory { path: candidate.to_owned(), controllers: controllers(view, candidate), ours })
}

/// What the children of a cgroup can be given.
pub(super) fn controllers(view: &View<'_>, cgroup: &Path) -> BTreeSet<String> {
    let text = read_bounded(&view.at(&cgroup.join("cgroup.controllers")), MOST_CONTROLLERS).unwrap_or_default();
    String::from_utf8_lossy(&text).split_whitespace().map(str::to_owned).collect()
}

fn denied(error: &sys::Error) -> Obstacle {
    match error.number() {
        errno::ENOENT | errno::ENOTDIR => Obstacle::Missing,
        errno::EROFS => Obstacle::ReadOnly,
        _ => Obstacle::NotOurs(error.to_string()),
    }
}

/// The processes of a `cgroup.procs`, or of its start, besides ourselves. One that our pid namespace does not have is
/// written as 0.
fn others(text: &[u8], us: u32) -> Vec<i32> {
    // What comes after the last newline is the start of a number that was cut off.
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(&[][..], |end| &text[..end]);
    let pids = whole.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()?.parse().ok());
    pids.filter(|&pid: &i32| u32::try_from(pid) != Ok(us)).take(MOST_REPORTED).collect()
}

/// Who moves a process needs to write `cgroup.procs` of the nearest cgroup that has both ends below it (cgroups(7),
/// "Cgroups delegation: delegation containment").
fn common<'a>(own: &'a Path, candidate: &Path) -> Option<&'a Path> {
    own.ancestors().find(|above| candidate.starts_with(above))
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Missing => f.write_str("there is no such cgroup"),
            Obstacle::ReadOnly => f.write_str("it is mounted read-only"),
            Obstacle::NotOurs(error) => write!(f, "it is not yours to change: {error}"),
            Obstacle::Managed(manages) => manages.fmt(f),
            Obstacle::NotDomain(kind) => {
                write!(f, "its cgroup.type is `{kind}`: only a `domain` has memory limits and whole processes")
            }
            Obstacle::Occupied(pids) => {
                write!(f, "other processes are in it ({}), so it cannot give limits to cgroups below", listed(pids))
            }
            Obstacle::NoWayIn(above) => write!(
                f,
                "it is yours, but to move processes there from our cgroup you would have to be allowed to write {}",
                above.join("cgroup.procs").display()
            ),
        }
    }
}

/// `12, 13, …`
pub(super) fn listed(pids: &[i32]) -> String {
    let shown: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let more = if pids.len() < MOST_REPORTED { "" } else { ", …" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_in_a_cgroup() {
        assert_eq!(others(b"", 7), [] as [i32; 0]);
        assert_eq!(others(b"7\n", 7), [] as [i32; 0]);
        assert_eq!(others(b"0\n7\n70\n", 7), [0, 70]);
        assert_eq!(others(b"7\n70\n12", 7), [70], "a number cut off is none");
        let many: String = (100..100_000).map(|pid| format!("{pid}\n")).collect();
        assert_eq!(others(many.as_bytes(), 7).len(), MOST_REPORTED);
        assert_eq!(listed(&others(b"1\n2\n", 7)), "1, 2");
        assert!(listed(&others(many.as_bytes(), 7)).ends_with("109, …"));
    }

    #[test]
    fn the_common_ancestor() {
        let common = |own: &'static str, candidate: &str| common(Path::new(own), Path::new(candidate));
        assert_eq!(common("/m/a/b", "/m/a/c/d"), Some(Path::new("/m/a")));
        assert_eq!(common("/m/a", "/m/a/b"), Some(Path::new("/m/a")));
        assert_eq!(common("/m/a/b", "/m/a"), Some(Path::new("/m/a")));
        assert_eq!(common("/m/ab", "/m/a"), Some(Path::new("/m")));
    }
}
