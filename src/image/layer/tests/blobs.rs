//! Compressed blobs, on their way to a tree.

use std::io::Write;

use super::*;
use crate::image::compression::Compression;
use crate::image::digest::Digest;
use crate::image::layer::Target;
use crate::image::layer::pipeline::{BlobError, Expected, unpack_blob};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

fn expected(archive: &[u8], blob: &[u8]) -> Expected {
    Expected {
        digest: Digest::of(blob),
        size: blob.len() as u64,
        compression: Compression::Gzip,
        diff_id: Digest::of(archive),
    }
}

fn unpack(place: &Place, blob: &[u8], expected: &Expected) -> Result<Vec<u8>, BlobError> {
    let (root, trash) = (fs::File::open(place.root()), fs::File::open(place.0.path().join("trash")));
    let (root, trash) = (root.expect("open"), trash.expect("open"));
    let mut copy = Vec::new();
    let directories = Target { root: root.as_fd(), trash: trash.as_fd(), hidden: None };
    unpack_blob(blob, &mut copy, expected, directories, Owners::Squash, Limits::default()).map(|_| copy)
}

/// Large enough to fill the channel between the threads.
fn large() -> Vec<u8> {
    let content: String = (0..600_000).map(|number| format!("{number}\n")).collect();
    Tar::default().file("first", "1").file("numbers", &content).end()
}

#[test]
fn a_blob_becomes_a_tree_and_a_copy_in_one_pass() {
    let (archive, place) = (large(), Place::new());
    let blob = gzip(&archive);
    let copy = unpack(&place, &blob, &expected(&archive, &blob)).expect("unpacked");
    assert!(copy == blob);
    assert_eq!((place.read("first").as_str(), place.read("numbers").lines().count()), ("1", 600_000));
}

#[test]
fn a_blob_that_is_not_the_one_asked_for_is_refused() {
    let archive = large();
    let blob = gzip(&archive);
    let right = expected(&archive, &blob);
    let other = Digest::of(b"other");
    let refuse = |blob: &[u8], expected: Expected| unpack(&Place::new(), blob, &expected).expect_err("refused");
    assert!(matches!(refuse(&blob, Expected { digest: other, ..right }), BlobError::Digest { .. }));
    assert!(matches!(refuse(&blob, Expected { diff_id: other, ..right }), BlobError::DiffId { .. }));
    let short = refuse(&blob[..blob.len() / 2], right);
    assert!(matches!(short, BlobError::Size { found, .. } if found == blob.len() as u64 / 2), "{short}");
    let endless = [&blob[..], &[0; 100_000]].concat();
    let long = refuse(&endless, right);
    assert!(matches!(long, BlobError::Size { found, .. } if found == blob.len() as u64 + 1), "{long}");
}

/// A hostile entry at the start of a large blob: the error is the entry's, and the other thread does not hang.
#[test]
fn the_error_of_an_entry_arrives_when_the_digest_is_right() {
    let archive = [Tar::default().file("../x", "").0, large()].concat();
    let blob = gzip(&archive);
    let error = unpack(&Place::new(), &blob, &expected(&archive, &blob)).expect_err("refused");
    assert!(error.to_string().contains("a path with `..`"), "{error}");
    let damaged = Expected { digest: Digest::of(b"other"), ..expected(&archive, &blob) };
    let error = unpack(&Place::new(), &blob, &damaged).expect_err("refused");
    assert!(matches!(error, BlobError::Digest { .. }), "{error}");
}
