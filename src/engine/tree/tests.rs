use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use super::*;
use crate::testing::{self, Place};

fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).expect("it is there").into()
}

fn remove(parent: &Path, name: &str) -> Vec<Error> {
    remove_tree(open(parent).as_fd(), OsStr::new(name))
}

#[test]
fn a_tree_with_everything_in_it_goes_and_its_links_targets_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let (canary, tree) = (dir.path().join("canary"), dir.path().join("tree"));
    fs::create_dir_all(canary.join("kept")).expect("made");
    fs::write(canary.join("file"), "kept").expect("written");
    fs::create_dir_all(tree.join("a/b/c")).expect("made");
    fs::create_dir_all(tree.join("empty")).expect("made");
    symlink(&canary, tree.join("a/dir-link")).expect("linked");
    symlink(canary.join("file"), tree.join("a/b/file-link")).expect("linked");
    symlink("/nowhere", tree.join("dangling")).expect("linked");
    fs::hard_link(canary.join("file"), tree.join("hard")).expect("linked");
    for index in 0..3000 {
        fs::write(tree.join(format!("a/b/c/{index}")), "").expect("written");
    }
    drop(std::os::unix::net::UnixListener::bind(tree.join("socket")).expect("bound"));
    assert_eq!(remove(dir.path(), "tree"), []);
    assert!(!tree.exists());
    assert_eq!(fs::read_to_string(canary.join("file")).expect("kept"), "kept");
    assert!(canary.join("kept").exists());
}

#[test]
fn a_link_at_the_top_goes_and_its_target_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("target")).expect("made");
    symlink("target", dir.path().join("link")).expect("linked");
    assert_eq!(remove(dir.path(), "link"), []);
    assert!(dir.path().join("target").exists());
    assert!(dir.path().join("link").symlink_metadata().is_err());
}

#[test]
fn what_is_not_there_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(remove(dir.path(), "nothing"), []);
}

#[test]
fn directories_without_any_rights_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("work/work/inner")).expect("made");
    fs::create_dir_all(tree.join("read-only")).expect("made");
    fs::write(tree.join("read-only/file"), "").expect("written");
    fs::write(tree.join("work/work/inner/file"), "").expect("written");
    for (path, mode) in [("work/work/inner", 0o000), ("work/work", 0o000), ("read-only", 0o555), ("", 0o100)] {
        fs::set_permissions(tree.join(path), fs::Permissions::from_mode(mode)).expect("changed");
    }
    assert_eq!(remove(dir.path(), "tree"), []);
    assert!(!tree.exists());
}

#[test]
fn a_tree_deeper_than_any_path_or_descriptor_table_goes() {
    const DEPTH: usize = 10_000;
    let dir = tempfile::tempdir().expect("a directory");
    let mut here = open(dir.path());
    for _ in 0..DEPTH {
        crate::sys::path::make_directory(here.as_fd(), Path::new("d"), 0o755).expect("made");
        crate::sys::path::make_file(here.as_fd(), Path::new("file")).expect("made");
        here = open_directory(here.as_fd(), OsStr::new("d")).expect("opened");
    }
    drop(here);
    assert_eq!(remove(dir.path(), "d"), []);
    assert!(!dir.path().join("d").exists());
}

#[test]
fn a_tree_that_moves_away_is_not_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("a/b")).expect("made");
    let (a, b) = (open(&dir.path().join("a")), open(&dir.path().join("a/b")));
    let expected = identity(a.as_fd()).expect("it is open");
    assert!(way_back(Some(&b), expected).is_ok());
    fs::rename(dir.path().join("a/b"), dir.path().join("elsewhere")).expect("moved");
    assert_eq!(way_back(Some(&b), expected).expect_err("it is elsewhere").errno, Errno::ESTALE);
}

/// Root may remove anything, so this runs in a user namespace of its own, where a mount is possible for anybody.
#[test]
fn a_mount_stays_with_all_that_is_in_it_and_the_rest_goes() {
    let name = "engine::tree::tests::a_mount_stays_with_all_that_is_in_it_and_the_rest_goes";
    if testing::again(&["unshare", "--map-root-user", "--mount"], name) == Place::Outside {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    for made in ["canary", "tree/a/mounted", "tree/b", "tree/z"] {
        fs::create_dir_all(path(made)).expect("made");
    }
    fs::write(path("canary/file"), "kept").expect("written");
    fs::write(path("tree/b/file"), "").expect("written");
    fs::write(path("tree/z/file"), "").expect("written");
    let (from, to) = (path("canary"), path("tree/a/mounted"));
    // The same file system on both sides: the device number alone would not tell.
    assert!(Command::new("mount").arg("--bind").args([&from, &to]).status().expect("mount runs").success());
    let errors = remove(dir.path(), "tree");
    let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["not removed, something is mounted here: at tree/a/mounted: Cross-device link (EXDEV)"]);
    assert_eq!(fs::read_to_string(path("canary/file")).expect("kept"), "kept");
    assert!(!path("tree/b").exists() && !path("tree/z").exists());
    assert_eq!(fs::metadata(path("tree/a")).expect("kept").permissions().mode() & 0o777, 0o777);
    assert!(Command::new("umount").arg(&to).status().expect("umount runs").success());
}
