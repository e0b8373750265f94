//! How a container's `/` is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::container::PodScope;
use super::image::{Known, trees};
use super::{FreshDir, HostTreeDir, Request, RootPlan, layers};
use crate::host::{Facts, HostRoot, HostRootDir, RootfsFact};
use crate::manifest::Image;
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// What `host:` never takes from the host: mount points, and places where programs write. Modes are Debian's.
const FRESH: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

/// Programs still use the names that the Filesystem Hierarchy Standard 2.3 gave these two.
const VAR_LINKS: &[(&str, &str)] = &[("var/run", "/run"), ("var/lock", "/run/lock")];

pub(super) fn plan(container: &str, image: &Image, known: Known<'_>, scope: &PodScope<'_>) -> Result<RootPlan, Report> {
    let PodScope { facts, request, sandbox, .. } = scope;
    match (image, known) {
        (Image::Host, _) => host_tree(container, facts),
        (Image::Rootfs(dir), _) => rootfs(container, dir, facts),
        (Image::Stored(_), Known::Stored(image)) => {
            Ok(of_trees(trees(image, &sandbox.idmap, request, facts), request, facts))
        }
        (Image::Stored(_), Known::Unknown | Known::NoConfiguration) => Ok(of_trees(Vec::new(), request, facts)),
    }
}

/// Layers in the store.
fn of_trees(trees: Vec<PathBuf>, request: &Request, facts: &Facts) -> RootPlan {
    let store = facts.rootfs.iter().find(|fact| fact.dir == request.images_dir);
    if store.is_some_and(|fact| fact.too_deep) || !layers::has_overlays(facts) {
        RootPlan::Copy { sources: trees }
    } else {
        RootPlan::Overlay { lowers: trees }
    }
}

fn rootfs(container: &str, dir: &Path, facts: &Facts) -> Result<RootPlan, Report> {
    let cannot = || {
        let what = format!("container `{container}`: cannot use {} as a root file system", dir.display());
        Report::new(exit_code::FAILURE, what)
    };
    let Some(fact) = facts.rootfs.iter().find(|fact| fact.dir == dir) else {
        return Err(cannot().because("it was not looked at"));
    };
    let RootfsFact { dir, owner, error, mounts_below, too_deep } = fact;
    if let Some(error) = error {
        return Err(cannot().because(error.clone()));
    }
    if owner.is_none() {
        return Err(cannot().because("it is not a directory"));
    }
    if *too_deep || !layers::has_overlays(facts) {
        return Ok(RootPlan::Copy { sources: vec![dir.clone()] });
    }
    if !mounts_below.is_empty() {
        let mounts: Vec<_> = mounts_below.iter().map(|mount| mount.display().to_string()).collect();
        return Err(cannot()
            .because(format!("other file systems are mounted below it: {}", mounts.join(", ")))
            .because("the kernel refuses such a directory as an overlay's lower layer in a user namespace")
            .hint("unmount them, or copy the directory to another place and name that in `rootfs:`"));
    }
    Ok(RootPlan::Overlay { lowers: vec![dir.clone()] })
}

fn host_tree(container: &str, facts: &Facts) -> Result<RootPlan, Report> {
    let Some(HostRoot { links, dirs, var_dirs }) = &facts.host_root else {
        let what = format!("container `{container}`: cannot use this host's own root (`host:`)");
        return Err(Report::new(exit_code::FAILURE, what).because("the host's root directory was not looked at"));
    };
    let var_links = VAR_LINKS.iter().map(|(name, target)| ((*name).to_owned(), PathBuf::from(target)));
    Ok(RootPlan::HostTree {
        links: links.iter().cloned().chain(var_links).collect(),
        dirs: dirs.iter().map(|dir| host_dir(dir, facts)).collect(),
        fresh: fresh_dirs(var_dirs),
    })
}

fn host_dir(dir: &HostRootDir, facts: &Facts) -> HostTreeDir {
    let HostRootDir { name, mounts_below, too_deep } = dir;
    HostTreeDir { name: name.clone(), overlay: mounts_below.is_empty() && !too_deep && layers::has_overlays(facts) }
}

/// Sorted by path, which puts a parent before its children.
fn fresh_dirs(var_dirs: &[PathBuf]) -> Vec<FreshDir> {
    let mut modes: BTreeMap<PathBuf, u32> = FRESH.iter().map(|(path, mode)| (PathBuf::from(path), *mode)).collect();
    let linked = |path: &Path| VAR_LINKS.iter().any(|(link, _)| path.starts_with(link));
    for dir in var_dirs {
        let path = Path::new("var").join(dir);
        for level in path.ancestors().filter(|level| !level.as_os_str().is_empty() && !linked(level)) {
            modes.entry(level.to_owned()).or_insert(0o755);
        }
    }
    modes.into_iter().map(|(path, mode)| FreshDir { path, mode }).collect()
}
