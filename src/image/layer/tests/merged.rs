//! Layers that become one tree.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// Unpacks the layers, the lowest first, as one tree; every path of it, with the text of files.
fn merged(layers: &[Vec<u8>]) -> (tempfile::TempDir, Vec<(String, String)>) {
    let place = tempfile::tempdir().expect("a directory");
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("tree")).expect("mkdir");
    for archive in layers {
        for name in ["layer", "trash"] {
            fs::create_dir(at(name)).expect("mkdir");
        }
        let open = |name: &str| fs::File::open(at(name)).expect("open");
        let (root, trash, below) = (open("layer"), open("trash"), open("tree"));
        let mut hidden = Hidden::default();
        let target = Target { root: root.as_fd(), trash: trash.as_fd(), hidden: Some(&mut hidden) };
        let summary = unpack(&archive[..], target, Owners::Squash, Limits::default()).expect("unpacked");
        let below = (!summary.hides_lower_layers).then(|| below.as_fd());
        merge(root.as_fd(), below, &hidden).expect("merged");
        fs::remove_dir_all(at("tree")).expect("rm");
        fs::remove_dir_all(at("trash")).expect("rm");
        fs::rename(at("layer"), at("tree")).expect("rename");
    }
    let mut found = Vec::new();
    let mut ahead = vec![at("tree")];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(directory).expect("readdir") {
            let path = entry.expect("entry").path();
            let name = path.strip_prefix(at("tree")).expect("below").to_str().expect("UTF-8").to_owned();
            let kind = fs::symlink_metadata(&path).expect("stat").file_type();
            if kind.is_dir() {
                found.push((name, "/".to_owned()));
                ahead.push(path);
            } else if kind.is_symlink() {
                found.push((name, fs::read_link(&path).expect("link").display().to_string()));
            } else {
                found.push((name, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    found.sort();
    (place, found)
}

fn is(layers: &[Vec<u8>], wanted: &[(&str, &str)]) {
    let (_place, found) = merged(layers);
    let found: Vec<_> = found.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_highest_layer_counts_and_whiteouts_leave_no_trace() {
    let lower =
        Tar::default().file("a/kept", "1").file("a/gone", "1").file("gone/x", "1").file("b/x", "1").file("f", "1");
    let middle = Tar::default().file("a/.wh.gone", "").file(".wh.gone", "").file("b/.wh..wh..opq", "").file("b/y", "2");
    let upper = Tar::default().file("f/now", "3").file("a/kept", "3").file("new/deep/.wh.x", "").file("gone", "3");
    is(
        &[lower.end(), middle.end(), upper.end()],
        &[
            ("a", "/"),
            ("a/kept", "3"),
            ("b", "/"),
            ("b/y", "2"),
            ("f", "/"),
            ("f/now", "3"),
            ("gone", "3"),
            ("new", "/"),
            ("new/deep", "/"),
        ],
    );
}

/// Wherever they are in the archive: what the same layer has stays.
#[test]
fn whiteouts_speak_of_lower_layers_only() {
    let lower = || Tar::default().file("d/old", "1").file("f", "1").end();
    let wanted = [("d", "/"), ("d/new", "2"), ("f", "2")];
    for upper in [
        Tar::default().file(".wh.d", "").file("d/new", "2").file(".wh.f", "").file("f", "2"),
        Tar::default().file("d/new", "2").file(".wh.d", "").file("f", "2").file(".wh.f", ""),
        Tar::default().file("d/new", "2").file("d/.wh..wh..opq", "").file("f", "2"),
        Tar::default().file(".wh..wh..opq", "").file("d/new", "2").file("f", "2"),
        Tar::default().file("d/new", "2").file("f", "2").file(".wh..wh..opq", ""),
    ] {
        is(&[lower(), upper.end()], &wanted);
    }
}

/// A link of a lower layer is replaced by a directory, as overlayfs shows it, and leads nothing outside.
#[test]
fn links_of_lower_layers_are_not_followed() {
    let lower = Tar::default().symlink("lib", "usr/lib").symlink("out", "/etc").file("usr/lib/a", "1").end();
    let upper = Tar::default().file("lib/b", "2").file("out/passwd", "2").file("usr/lib/.wh.a", "").end();
    let wanted = [("lib", "/"), ("lib/b", "2"), ("out", "/"), ("out/passwd", "2"), ("usr", "/"), ("usr/lib", "/")];
    is(&[lower, upper], &wanted);
}

/// Of merged directories mode and time are the topmost's.
#[test]
fn attributes_of_a_merged_directory_are_those_of_the_topmost() {
    let lower = Tar::default().directory("d").file("d/a", "1").hard_link("d/b", "d/a").end();
    let upper = Tar::default().directory("d").file("d/c", "2").end();
    let (place, found) = merged(&[lower, upper]);
    assert_eq!(found.len(), 4, "{found:?}");
    let of = |name: &str| fs::metadata(place.path().join("tree").join(name)).expect("stat");
    assert_eq!((of("d").permissions().mode() & 0o7777, of("d").mtime()), (0o755, 0o12));
    assert_eq!((of("d/a").ino(), of("d/a").nlink()), (of("d/b").ino(), 2));
}
