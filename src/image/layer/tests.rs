//! Layers that are made here byte by byte, by GNU tar, and by chance.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

use super::*;

mod blobs;
mod gnu_tar;
mod merged;

/// A tar archive in the making.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: u8, path: &str, link: &str, content: &[u8]) -> Tar {
        self.header(kind, path.as_bytes(), link.as_bytes(), content.len() as u64, b"00000000012");
        self.content(content);
        self
    }

    fn file(self, path: &str, content: &str) -> Tar {
        self.entry(b'0', path, "", content.as_bytes())
    }

    fn directory(self, path: &str) -> Tar {
        self.entry(b'5', path, "", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Tar {
        self.entry(b'2', path, target, b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Tar {
        self.entry(b'1', path, target, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Tar {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..).map(|digits| rest + digits).find(|sum| sum.to_string().len() + rest == *sum);
            text.extend_from_slice(format!("{} {key}=", length.expect("a length")).as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.header(b'x', b"pax", b"", text.len() as u64, b"00000000012");
        self.content(&text);
        self
    }

    fn header(&mut self, kind: u8, path: &[u8], link: &[u8], size: u64, mtime: &[u8]) {
        let mut header = [0; 512];
        header[..path.len()].copy_from_slice(path);
        header[100..107].copy_from_slice(if kind == b'5' { b"0000755" } else { b"0000644" });
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[136..136 + mtime.len()].copy_from_slice(mtime);
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link);
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend_from_slice(&header);
    }

    fn content(&mut self, content: &[u8]) {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A directory to unpack into, with a canary beside it that must never change.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a directory"));
        for directory in ["root", "trash", "outside"] {
            fs::create_dir(place.0.path().join(directory)).expect("mkdir");
        }
        fs::write(place.outside().join("canary"), "alive").expect("write");
        place
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    fn unpack(&self, archive: &[u8]) -> Result<Summary, LayerError> {
        self.unpack_within(archive, Limits::default())
    }

    fn unpack_within(&self, archive: &[u8], limits: Limits) -> Result<Summary, LayerError> {
        let open = |name: &str| fs::File::open(self.0.path().join(name)).expect("open");
        let (root, trash) = (open("root"), open("trash"));
        let result =
            unpack(archive, Target { root: root.as_fd(), trash: trash.as_fd(), hidden: None }, Owners::Squash, limits);
        let outside: Vec<_> = fs::read_dir(self.outside()).expect("readdir").flatten().map(|e| e.file_name()).collect();
        assert_eq!(outside, ["canary"], "nothing is written outside");
        assert_eq!(fs::read_to_string(self.outside().join("canary")).expect("read"), "alive");
        result
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let found = fs::symlink_metadata(self.root().join(path)).expect(path);
        found.file_type().is_char_device() && found.rdev() == 0
    }

    fn is_opaque(&self, path: &str) -> bool {
        let output = Command::new("python3")
            .args(["-c", "import os,sys; sys.exit(os.getxattr(sys.argv[1], 'user.overlay.opaque') != b'y')"])
            .arg(self.root().join(path))
            .output()
            .expect("python3");
        output.status.success()
    }
}

/// What a refusal says.
fn refusal(archive: &[u8]) -> String {
    let error = Place::new().unpack(archive).expect_err("refused");
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[test]
fn every_kind_of_file() {
    let place = Place::new();
    let archive = Tar::default()
        .directory("./")
        .directory("etc/")
        .file("etc/hostname", "web\n")
        .hard_link("etc/name", "./etc/hostname")
        .symlink("etc/link", "/etc/hostname")
        .entry(b'6', "etc/fifo", "", b"")
        .entry(b'3', "etc/null", "", b"")
        .file("/absolute", "inside")
        .end();
    let summary = place.unpack(&archive).expect("unpacked");
    assert_eq!((summary.entries, summary.bytes, summary.devices_replaced), (8, 10, 1));
    assert_eq!((place.read("etc/name"), place.read("absolute")), ("web\n".to_owned(), "inside".to_owned()));
    let stat = |path: &str| fs::symlink_metadata(place.root().join(path)).expect(path);
    assert_eq!(stat("etc/name").ino(), stat("etc/hostname").ino());
    assert_eq!(fs::read_link(place.root().join("etc/link")).expect("a link"), Path::new("/etc/hostname"));
    assert!(stat("etc/fifo").file_type().is_fifo());
    assert!(stat("etc/null").is_file() && stat("etc/null").len() == 0);
    for path in ["", "etc", "etc/hostname", "etc/link", "etc/fifo"] {
        assert_eq!(stat(path).mtime(), 10, "{path}: a directory keeps its time though files were made in it");
    }
}

/// Each of these archives tries to reach what is outside, or an entry that is not its own. `Place::unpack` looks at the
/// canary each time.
#[test]
fn no_entry_leaves_the_root() {
    let place = Place::new();
    let outside = place.outside();
    let outside = outside.to_str().expect("UTF-8");
    let through_absolute = Tar::default().symlink("out", outside).file("out/canary", "dead").file("out/new", "x").end();
    assert!(place.unpack(&through_absolute).expect_err("a dangling link").to_string().contains("not a directory"));
    let place = Place::new();
    let through_relative = Tar::default().symlink("up", "../outside").file("up/canary", "dead").end();
    assert!(place.unpack(&through_relative).is_err());
    // A link that stays inside is followed inside.
    let inside =
        Tar::default().directory("usr").directory("usr/lib").symlink("lib", "/usr/lib").file("lib/a", "1").end();
    let place = Place::new();
    place.unpack(&inside).expect("unpacked");
    assert_eq!(place.read("usr/lib/a"), "1");
    let chain = Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", "").end();
    assert!(Place::new().unpack(&chain).is_err());
    let linked = Tar::default().symlink("out", outside).hard_link("mine", "out/canary").end();
    assert!(Place::new().unpack(&linked).is_err());
    // The link itself is what is linked, and writing the name again replaces it.
    let place = Place::new();
    let relinked = Tar::default().symlink("a", &format!("{outside}/canary")).hard_link("b", "a").file("b", "new").end();
    place.unpack(&relinked).expect("unpacked");
    assert_eq!(place.read("b"), "new");
    assert!(place.root().join("a").is_symlink());
}

#[test]
fn refused_entries_are_named() {
    let long_name = "n".repeat(300);
    for (archive, part) in [
        (Tar::default().file("a/../../b", ""), "entry `a/../../b`: a path with `..`"),
        (Tar::default().hard_link("a", "../b"), "a path with `..`"),
        (Tar::default().hard_link("a", "missing"), "a hard link to `missing`, which is no file of this layer"),
        (Tar::default().directory("d").hard_link("a", "d"), "no file of this layer"),
        (Tar::default().file("a", "").hard_link("a", "a"), "a hard link to itself"),
        (Tar::default().hard_link("a", ""), "a hard link without a target"),
        (Tar::default().symlink("a", ""), "a symbolic link without a valid target"),
        (Tar::default().symlink("./", "x"), "the root can only be a directory"),
        (Tar::default().entry(b'Z', "a", "", b""), "its type 'Z' is unknown"),
        (Tar::default().file("a", "").file("a/b", ""), "`a` is not a directory"),
        (Tar::default().pax(&[("path", long_name.as_bytes())]).file("a", ""), "more than 255 bytes"),
        (Tar::default().pax(&[("path", b"a\0b")]).file("a", ""), "a NUL byte"),
        (Tar::default().pax(&[("uid", b"0x0")]).file("a", ""), "uid=0x0, which is not a number"),
        (Tar::default().pax(&[("uid", b"-1")]).file("a", ""), "uid=-1"),
        (Tar::default().pax(&[("gid", b"4294967296")]).file("a", ""), "more than 32 bits"),
        (Tar::default().pax(&[("size", b"+1")]).file("a", ""), "size=+1"),
        (Tar::default().pax(&[("size", b"18446744073709551615")]).file("a", ""), "18446744073709551615 bytes"),
        (Tar::default().pax(&[("mtime", b"now")]).file("a", ""), "mtime=now"),
    ] {
        let said = refusal(&archive.end());
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// Two readers that see two names are an attack: the record's length counts, and not its newlines.
#[test]
fn newlines_in_a_pax_record_belong_to_its_value() {
    let place = Place::new();
    let archive = Tar::default().pax(&[("SCHILY.xattr.user.note", b"v\n11 path=ev\n")]).file("good", "").end();
    place.unpack(&archive).expect("unpacked");
    assert!(place.root().join("good").exists() && !place.root().join("ev").exists());
}

#[test]
fn what_is_cut_short_is_refused() {
    let whole = Tar::default().file("a", "content").end();
    for length in [0, 100, 512, 515, 1024, 1536] {
        let said = refusal(&whole[..length]);
        assert!(said.contains("cut short"), "{length}: {said}");
    }
    let mut broken = whole.clone();
    broken[0] = b'b';
    assert!(refusal(&broken).contains("not a valid tar file"));
    // Padding behind the end is read: it belongs to the digest.
    let mut padded = whole;
    padded.extend_from_slice(&[0; 10_000]);
    let mut stream = padded.as_slice();
    let place = Place::new();
    let root = fs::File::open(place.root()).expect("open");
    unpack(
        &mut stream,
        Target { root: root.as_fd(), trash: root.as_fd(), hidden: None },
        Owners::Squash,
        Limits::default(),
    )
    .expect("unpacked");
    assert!(stream.is_empty());
}

#[test]
fn headers_entries_and_bytes_are_bounded() {
    let mut huge = Tar::default();
    huge.header(b'x', b"pax", b"", 4 << 30, b"0");
    assert!(refusal(&huge.end()).contains("metadata exceeds limit"));
    let place = Place::new();
    let three = Tar::default().file("a", "1").file("b", "2").file("c", "3").end();
    let limits = Limits { entries: 2, ..Limits::default() };
    assert!(matches!(place.unpack_within(&three, limits), Err(LayerError::TooManyEntries(2))));
    let limits = Limits { bytes: 2, ..Limits::default() };
    assert!(matches!(Place::new().unpack_within(&three, limits), Err(LayerError::TooManyBytes(2))));
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let place = Place::new();
    let archive = Tar::default()
        .file("a", "file")
        .directory("a")
        .file("a/in", "1")
        .file("a", "file again")
        .directory("d")
        .file("d/kept", "kept")
        .directory("d")
        .symlink("s", "d")
        .directory("s")
        .file("s/own", "")
        .end();
    place.unpack(&archive).expect("unpacked");
    assert_eq!((place.read("a"), place.read("d/kept")), ("file again".to_owned(), "kept".to_owned()));
    assert!(
        place.root().join("s/own").exists() && !place.root().join("d/own").exists(),
        "a link is replaced, not followed"
    );
}

/// A whiteout speaks of lower layers, whatever its place in the archive.
#[test]
fn whiteouts_are_overlayfs_marks() {
    let place = Place::new();
    let archive = Tar::default()
        .directory("d")
        .file("d/.wh.gone", "")
        .file("d/kept", "")
        .file("d/.wh.kept", "")
        .file("d/.wh.back", "")
        .file("d/back", "new")
        .file("d/.wh.sub", "")
        .directory("d/sub")
        .directory("d/tree")
        .file("d/.wh.tree", "")
        .directory("opaque")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/own", "")
        .file(".wh.implied", "")
        .file("implied/x", "")
        .file(".wh..wh.aufs", "")
        .end();
    let summary = place.unpack(&archive).expect("unpacked");
    assert!(place.is_whiteout("d/gone"));
    assert!(!place.is_whiteout("d/kept") && place.read("d/back") == "new");
    for path in ["d/sub", "d/tree", "opaque", "implied"] {
        assert!(place.is_opaque(path), "{path}");
    }
    assert!(!place.is_opaque("d"));
    assert!(!place.root().join(".wh..wh.aufs").exists());
    assert!(!summary.hides_lower_layers);
    let whole = Place::new().unpack(&Tar::default().file(".wh..wh..opq", "").end()).expect("unpacked");
    assert!(whole.hides_lower_layers);
}

/// overlayfs's own attributes in an archive would hide or redirect what lower layers have.
#[test]
fn only_harmless_attributes_are_kept() {
    let place = Place::new();
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.user.note", b"a\nb"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"label"),
    ];
    let summary = place.unpack(&Tar::default().pax(records).directory("d").end()).expect("unpacked");
    assert_eq!(summary.xattrs_dropped, 4);
    assert!(!place.is_opaque("d"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the bytes are, there is an answer, and nothing outside has changed.
    #[test]
    fn a_damaged_archive_never_leaves_the_root(changes in prop::collection::vec((0..6000_usize, any::<u8>()), 0..20)) {
        let place = Place::new();
        let mut archive = Tar::default()
            .directory("d").file("d/f", "content").symlink("l", "../outside").hard_link("h", "d/f")
            .pax(&[("path", b"longer/name"), ("SCHILY.xattr.user.a", b"b")]).file("x", "").end();
        for (at, byte) in changes {
            if let Some(place) = archive.get_mut(at) {
                *place = byte;
            }
        }
        // Checksums would refuse nearly every change before the rest of the code saw it.
        for header in archive.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
        let _ = place.unpack(&archive);
    }
}
