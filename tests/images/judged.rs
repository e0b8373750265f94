//! A tree that sandpod unpacks is the tree that umoci unpacks: owners, modes, times, hard links, extended attributes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use sandpod::sys::file_tree::xattrs;
use serde_json::json;

use super::made::{Image, MANIFEST, digest, directory, entry, file, layer, symlink};
use crate::support::{Home, inside, skip};

const LISTER: &str = "judged::list_a_tree";

/// Run as [`inside::role`], this prints the tree of that path, one line for each file.
#[test]
fn list_a_tree() {
    if let Some(root) = inside::role() {
        list(Path::new(&root)).iter().for_each(|line| inside::say(line));
        return;
    }
    // Both sides of a comparison come from `list`, so it must see what it is for.
    let made = tempfile::tempdir().expect("tempdir");
    let path = made.path().join("a");
    fs::write(&path, "x").expect("write");
    let before = list(made.path());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    let mode = list(made.path());
    fs::hard_link(&path, made.path().join("b")).expect("link");
    let linked = list(made.path());
    assert_ne!(before, mode);
    assert!(linked.iter().any(|line| line.starts_with("b ") && line.contains("same as a")), "{linked:?}");
}

/// Everything of a tree that an image says.
fn list(root: &Path) -> Vec<String> {
    let mut paths = vec![root.to_owned()];
    let mut found: BTreeMap<PathBuf, fs::Metadata> = BTreeMap::new();
    while let Some(path) = paths.pop() {
        let about = path.symlink_metadata().expect("stat");
        if about.is_dir() {
            paths.extend(fs::read_dir(&path).expect("readdir").map(|entry| entry.expect("an entry").path()));
        }
        found.insert(path, about);
    }
    let mut first: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let line = |(path, about): (PathBuf, fs::Metadata)| {
        let kind = about.file_type();
        let mut said = match () {
            () if kind.is_file() => format!("file {}", digest(&fs::read(&path).expect("read"))),
            () if kind.is_symlink() => format!("link to {}", fs::read_link(&path).expect("readlink").display()),
            () if kind.is_dir() => "directory".to_owned(),
            () if kind.is_fifo() => "fifo".to_owned(),
            () => "something else".to_owned(),
        };
        let name = path.strip_prefix(root).expect("below the root").to_owned();
        if kind.is_file() {
            let same = first.entry((about.dev(), about.ino())).or_insert_with(|| name.clone());
            if *same != name {
                said.push_str(&format!(" same as {}", same.display()));
            }
        }
        if kind.is_file() || kind.is_dir() {
            let mut all = xattrs(fs::File::open(&path).expect("open")).expect("xattrs");
            all.sort();
            said.push_str(&format!(" {all:?}"));
        }
        let (mode, uid, gid) = (about.mode() & 0o7777, about.uid(), about.gid());
        format!("{} {mode:o} {uid}:{gid} {}.{:09} {said}", name.display(), about.mtime(), about.mtime_nsec())
    };
    found.into_iter().map(line).collect()
}

/// An entry with a PAX header before it (pax(1), "pax Extended Header").
fn pax(records: &[(&str, &[u8])], entry_itself: Vec<u8>) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in records {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| length.to_string().len() + rest == *length).expect("a length");
        text.extend(format!("{length} {key}=").bytes());
        text.extend(*value);
        text.push(b'\n');
    }
    [entry("PaxHeaders", b'x', "", 0o644, 0, &text), entry_itself].concat()
}

fn owned(name: &str, mode: u32, owner: u32, content: &[u8]) -> Vec<u8> {
    entry(name, b'0', "", mode, owner, content)
}

/// Whiteouts, opaque directories, a file that becomes a directory and a file again, and a directory that goes the other way.
fn layers() -> Vec<Vec<u8>> {
    // vfs_cap_data of version 2, little-endian: effective, and cap_net_raw permitted (capabilities(7)).
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let lowest = layer(&[
        directory("t"),
        owned("t/file", 0o640, 33, b"text"),
        entry("t/hard", b'1', "t/file", 0o640, 33, b""),
        entry("t/broken", b'1', "t/file", 0o640, 33, b""),
        owned("t/setuid", 0o4755, 0, b"s"),
        owned("t/setgid", 0o2755, 42, b"g"),
        entry("t/sticky", b'5', "", 0o1777, 65_534, b""),
        symlink("t/link", "file"),
        symlink("t/absolute", "/etc/absent"),
        entry("t/fifo", b'6', "", 0o600, 7, b""),
        pax(
            &[("mtime", b"1234567890.123456789"), ("SCHILY.xattr.user.note", b"a\nb"), ("uid", b"1000")],
            file("t/noted", b"n"),
        ),
        pax(&[("SCHILY.xattr.security.capability", &capability)], owned("t/capable", 0o755, 0, b"c")),
        pax(&[("mtime", b"-86400")], file("t/old", b"before 1970")),
        file("t/gone", b"lower"),
        directory("t/removed"),
        file("t/removed/file", b"lower"),
        directory("t/opaque"),
        file("t/opaque/old", b"lower"),
        directory("t/opaque/below"),
        file("t/opaque/below/old", b"lower"),
        file("t/swap", b"a file"),
        directory("t/other"),
        file("t/other/first", b"lower"),
    ]);
    let middle = layer(&[
        pax(&[("mtime", b"1000000000.5")], directory("t")),
        file("t/.wh.gone", b""),
        file("t/.wh.removed", b""),
        owned("t/broken", 0o600, 1, b"no link any more"),
        pax(&[("mtime", b"1000000001")], entry("t/opaque", b'5', "", 0o750, 5, b"")),
        file("t/opaque/.wh..wh..opq", b""),
        file("t/opaque/new", b"middle"),
        directory("t/swap"),
        file("t/swap/inner", b"middle"),
        file("t/other", b"a file now"),
    ]);
    let highest = layer(&[
        pax(&[("mtime", b"1000000002.25")], directory("t")),
        owned("t/swap", 0o604, 9, b"a file again"),
        directory("t/other"),
        file("t/other/last", b"highest"),
        entry("t/linked", b'0', "", 0o644, 3, b"two names"),
        entry("t/twice", b'1', "t/linked", 0o644, 3, b""),
    ]);
    vec![lowest, middle, highest]
}

/// An image in OCI's layout with the tag `v1`.
fn layout(home: &Home, image: &Image) -> String {
    let top = home.directory("layout", 0o755);
    home.directory("layout/blobs", 0o755);
    home.directory("layout/blobs/sha256", 0o755);
    for blob in image.blobs.iter().chain([&image.manifest]) {
        home.file(&format!("layout/blobs/sha256/{}", &digest(blob)["sha256:".len()..]), blob, 0o644);
    }
    let manifest = json!({ "mediaType": MANIFEST, "digest": digest(&image.manifest), "size": image.manifest.len(),
        "annotations": { "org.opencontainers.image.ref.name": "v1" } });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string();
    home.file("layout/index.json", index, 0o644);
    home.file("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
    top.to_str().expect("UTF-8").to_owned()
}

/// Compares the tree below `path` of an image of these layers with umoci's. The lines of [`list`].
fn compare(home: &Home, layers: &[Vec<u8>], path: &str) -> Vec<String> {
    let layout = layout(home, &Image::new(layers));
    let (volume, mount) = inside::volume(home);
    let words = ["/inside/program", "--exact", LISTER, "--nocapture", "--quiet"];
    let spec = json!({ "restartPolicy": "Never", "volumes": [volume], "containers": [{
        "name": "main", "image": format!("oci:{layout}:v1"), "command": words, "volumeMounts": [mount],
        "env": [{ "name": "SANDPOD_TEST_ROLE", "value": path }],
    }] });
    let ours = home.run(&spec).ends_with(0);

    // Within a user namespace that maps what sandpod maps: elsewhere umoci gives all files to one user.
    let script = format!(
        "umoci unpack --image {layout}:v1 bundle >&2 && SANDPOD_TEST_ROLE=bundle/rootfs{path} inside/program \
         --exact {LISTER} --nocapture --quiet; ended=$?; rm -rf bundle; exit $ended"
    );
    let words = ["--map-auto", "--map-root-user", "/bin/sh", "-c", &script];
    let theirs = home.said(home.program("/usr/bin/unshare", &words), b"").ends_with(0);

    let (ours, theirs) = (inside::said_inside(&ours.stdout), inside::said_inside(&theirs.stdout));
    let differ: Vec<String> = ours
        .iter()
        .filter(|line| !theirs.contains(line))
        .map(|line| format!("sandpod: {line}"))
        .chain(theirs.iter().filter(|line| !ours.contains(line)).map(|line| format!("umoci:   {line}")))
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert_eq!(ours, theirs);
    ours.iter().map(|line| (*line).to_owned()).collect()
}

fn home_with_umoci(test: &str) -> Option<Home> {
    if !Path::new("/usr/bin/umoci").exists() {
        skip(test, "umoci is missing");
        return None;
    }
    Home::new(test)
}

#[test]
fn umoci_unpacks_the_same_tree_from_several_layers() {
    let Some(home) = home_with_umoci("image_umoci_layers") else { return };
    let tree = compare(&home, &layers(), "/t");
    assert_eq!(tree.len(), 20, "{tree:#?}");
    for (name, part) in [
        ("noted ", "1000:0 1234567890.123456789"),
        ("noted ", "user.note"),
        ("capable ", "security.capability"),
        ("hard ", "same as file"),
        ("setuid ", " 4755 0:0 "),
        ("old ", " -86400."),
        ("swap ", " 604 9:9 "),
        ("opaque ", " 750 5:5 1000000001."),
    ] {
        assert!(tree.iter().any(|line| line.starts_with(name) && line.contains(part)), "{name}{part}: {tree:#?}");
    }
}

/// Files of Debian's packages as GNU tar writes them: setuid programs, hard and symbolic links, times.
#[test]
fn umoci_unpacks_the_same_tree_from_files_of_debian() {
    let test = "image_umoci_debian";
    let Some(home) = home_with_umoci(test) else { return };
    let listed = Command::new("dpkg").args(["-L", "perl-base", "passwd", "login", "tar", "grep"]).output();
    let Ok(listed) = listed else { return skip(test, "this is no Debian") };
    let mut names: Vec<&str> = std::str::from_utf8(&listed.stdout)
        .expect("UTF-8")
        .lines()
        .filter(|name| (*name == "/usr" || name.starts_with("/usr/")) && Path::new(name).symlink_metadata().is_ok())
        .map(|name| &name[1..])
        .collect();
    // A directory before what is in it, and each name once.
    names.sort_unstable();
    names.dedup();
    let names = home.file("names", names.join("\n"), 0o644);
    let mut tar = Command::new("tar");
    tar.args(["-C", "/", "--format=pax", "--numeric-owner", "--no-recursion", "-c", "-T"]).arg(names);
    let archive = tar.output().expect("tar");
    assert!(archive.status.success(), "{}", String::from_utf8_lossy(&archive.stderr));
    let tree = compare(&home, &[archive.stdout], "/usr");
    assert!(tree.len() > 100, "{} files", tree.len());
    assert!(tree.iter().any(|line| line.starts_with("bin/passwd 4755 0:0 ")), "a setuid program");
}
