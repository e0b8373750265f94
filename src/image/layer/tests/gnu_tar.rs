//! GNU tar is the judge of what a tree is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Place;

/// The tree as lines: path, kind, mode, size, time, links, target or content.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut lines = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let stat = fs::symlink_metadata(&path).expect("lstat");
        let what = if stat.is_symlink() {
            fs::read_link(&path).expect("readlink").as_os_str().as_bytes().to_vec()
        } else if stat.is_file() {
            fs::read(&path).expect("read")
        } else {
            Vec::new()
        };
        if stat.is_dir() {
            ahead.extend(fs::read_dir(&path).expect("readdir").map(|entry| entry.expect("entry").path()));
        }
        let links = if stat.is_dir() { 0 } else { stat.nlink() };
        let time = (stat.mtime(), stat.mtime_nsec());
        let line = format!("{:o} {links} {time:?} {:x?}", stat.mode(), what);
        lines.insert(path.strip_prefix(root).expect("below").to_owned(), line);
    }
    lines
}

/// GNU tar is the judge: what it packs in each of its formats comes out the same here.
#[test]
fn trees_of_gnu_tar_come_out_the_same() {
    let place = Place::new();
    let tree = place.0.path().join("tree");
    fs::create_dir_all(tree.join("deep/er")).expect("mkdir");
    fs::write(tree.join("deep/er/file"), vec![7; 300_000]).expect("write");
    fs::write(tree.join("with\nnewline"), "x").expect("write");
    fs::write(tree.join("l".repeat(200)), "a long name").expect("write");
    symlink("t".repeat(180), tree.join("long-target")).expect("symlink");
    fs::hard_link(tree.join("deep/er/file"), tree.join("again")).expect("link");
    fs::set_permissions(tree.join("again"), fs::Permissions::from_mode(0o4755)).expect("chmod");
    let holes = fs::File::create(tree.join("holes")).expect("create");
    for at in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&holes, b"data", at * (1 << 18)).expect("write");
    }
    holes.set_len(1 << 24).expect("truncate");
    let touched =
        Command::new("find").arg(&tree).args(["-exec", "touch", "-h", "-d", "1961-04-12 06:07:08", "{}", "+"]).status();
    assert!(touched.expect("find").success());
    let expected = listing(&tree);
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=pax"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ] {
        let place = Place::new();
        let archive =
            Command::new("tar").args(options).arg("-C").arg(&tree).args(["-cf", "-", "."]).output().expect("tar");
        assert!(archive.status.success(), "{options:?}: {}", String::from_utf8_lossy(&archive.stderr));
        place.unpack(&archive.stdout).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let found = listing(&place.root());
        for (path, line) in &expected {
            // A negative time has no fraction here, and all formats keep it.
            assert_eq!(found.get(path), Some(line), "{options:?}: {}", path.display());
        }
        assert_eq!(found.len(), expected.len(), "{options:?}");
    }
}
