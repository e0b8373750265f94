//! Directories that become root file systems: the host's own `/` and the `rootfs:` directories of a manifest.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::mountinfo::MountTable;
use super::{HostRoot, HostRootDir, RootfsFact};
use crate::sys::describe_io;

/// Enough for the packages of a workstation; a `/var/cache` of a million entries must not become a million mkdirs.
const MOST_VAR_DIRS: usize = 400;
/// What may follow `lib`: bi-arch directories of file-hierarchy(7) and of older distributions.
const LIB_ENDS: [&str; 6] = ["", "32", "64", "x32", "o32", "n32"];

/// Reads the top of a root directory (`/`, except in tests).
pub(super) fn host_root(root: &Path, mounts: &MountTable, warnings: &mut Vec<String>) -> HostRoot {
    let mut found = HostRoot::default();
    for name in names(root, warnings) {
        let path = root.join(&name);
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_symlink() && is_program_dir(&name) {
            // A target that is not UTF-8 cannot be in a plan, and no distribution has one.
            if let Some(target) = std::fs::read_link(&path).ok().filter(|target| target.to_str().is_some()) {
                found.links.push((name, target));
            }
        } else if metadata.is_dir() && (is_program_dir(&name) || ["usr", "etc", "opt"].contains(&name.as_str())) {
            found.dirs.push(HostRootDir { name, mounts_below: mounts.below(&path), too_deep: false });
        }
    }
    found.var_dirs = var_dirs(&root.join("var"), warnings);
    found
}

fn is_program_dir(name: &str) -> bool {
    ["bin", "sbin"].contains(&name) || name.strip_prefix("lib").is_some_and(|end| LIB_ENDS.contains(&end))
}

fn var_dirs(var: &Path, warnings: &mut Vec<String>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in ["lib", "cache", "log", "spool"] {
        if !std::fs::symlink_metadata(var.join(top)).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        found.push(PathBuf::from(top));
        found.extend(subdirectories(&var.join(top)).into_iter().map(|name| Path::new(top).join(name)));
    }
    if found.len() > MOST_VAR_DIRS {
        warnings.push(format!(
            "{} has {} directories two levels deep; `host:` images get only the first {MOST_VAR_DIRS}",
            var.display(),
            found.len()
        ));
        found.truncate(MOST_VAR_DIRS);
    }
    found
}

/// All names, sorted, those that are UTF-8.
fn names(directory: &Path, warnings: &mut Vec<String>) -> Vec<String> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            let why = describe_io(&error);
            warnings.push(format!("{}: {why}; `host:` images will lack its directories", directory.display()));
            return Vec::new();
        }
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Real directories, sorted; none where it cannot be read. The type comes with readdir: no stat for each.
fn subdirectories(directory: &Path) -> Vec<String> {
    let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().filter(is_dir);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// One `rootfs:` directory, as written in the manifest (already absolute, or relative to where sandpod runs).
pub(super) fn rootfs(directory: &Path, mounts: &MountTable) -> RootfsFact {
    let absent = |error: String| RootfsFact {
        dir: directory.to_owned(),
        owner: None,
        error: Some(error),
        mounts_below: Vec::new(),
        too_deep: false,
    };
    // mountinfo has no symlinks in its paths.
    let look = || {
        let real = std::fs::canonicalize(directory)?;
        std::fs::metadata(&real).map(|metadata| (real, metadata))
    };
    match look() {
        Ok((real, metadata)) if metadata.is_dir() => RootfsFact {
            dir: directory.to_owned(),
            owner: Some(metadata.uid()),
            error: None,
            mounts_below: mounts.below(&real),
            too_deep: false,
        },
        Ok(_) => absent("not a directory".to_owned()),
        Err(error) => absent(describe_io(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::recorded::Recorded;

    fn mount_at(path: &Path) -> MountTable {
        MountTable::parse(format!("1 0 0:9 / {} rw - tmpfs tmpfs rw", path.display()).as_bytes())
    }

    #[test]
    fn the_top_of_a_merged_usr_host() {
        let tree = Recorded::new(&[
            ("usr/bin/true", ""),
            ("etc/passwd", ""),
            ("lib64/ld.so", ""),
            ("libvirt/disk", ""),
            ("home/ana/x", ""),
            ("sbin", "a file"),
            ("var/lib/nginx/body/x", ""),
            ("var/lib/file", ""),
            ("var/log/x", ""),
            ("var/tmp/x", ""),
        ]);
        let root = tree.path();
        symlink("usr/bin", root.join("bin")).expect("symlink");
        symlink("/elsewhere", root.join("opt")).expect("symlink");
        symlink("/tmp", root.join("var/lib/link")).expect("symlink");
        symlink("/tmp", root.join("var/spool")).expect("symlink");
        let mut warnings = Vec::new();
        let found = host_root(root, &mount_at(&root.join("usr/local")), &mut warnings);
        assert_eq!(found.links, [("bin".to_owned(), PathBuf::from("usr/bin"))]);
        let dirs: Vec<_> = found.dirs.iter().map(|dir| (dir.name.as_str(), dir.mounts_below.len())).collect();
        assert_eq!(dirs, [("etc", 0), ("lib64", 0), ("usr", 1)]);
        assert_eq!(found.var_dirs, ["lib", "lib/nginx", "log"].map(PathBuf::from));
        assert_eq!(warnings, [] as [&str; 0]);
    }

    #[test]
    fn a_huge_var_is_cut_and_says_so() {
        let tree = Recorded::new(&[]);
        for number in 0..500 {
            std::fs::create_dir_all(tree.path().join(format!("var/cache/{number}"))).expect("mkdir");
        }
        let mut warnings = Vec::new();
        assert_eq!(host_root(tree.path(), &MountTable::default(), &mut warnings).var_dirs.len(), MOST_VAR_DIRS);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn rootfs_directories_through_links_and_none() {
        let tree = Recorded::new(&[("root/etc/x", "")]);
        let real = tree.path().canonicalize().expect("it is there");
        let link = tree.path().join("link");
        symlink("root", &link).expect("symlink");
        let found = rootfs(&link, &mount_at(&real.join("root/mnt")));
        assert_eq!((found.dir, found.mounts_below), (link, vec![real.join("root/mnt")]));
        assert!(found.owner.is_some() && found.error.is_none());
        for (name, why) in [("absent", "No such file"), ("root/etc/x", "not a directory"), ("root/etc/x/y", "Not a")] {
            let found = rootfs(&real.join(name), &MountTable::default());
            assert_eq!(found.owner, None);
            assert!(found.error.expect(why).contains(why), "{why}");
        }
    }
}
