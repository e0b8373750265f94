//! `record.spare`: a place for the last record, taken when the pod is made. How a pod ended must be known also when the
//! runtime directory, which all programs of the user share, is full by then.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A page of a tmpfs. A record grows by how each container ended and why.
const UNIT: usize = 4096;

/// Takes place for a record that is twice as long as this one.
pub(super) fn reserve(directory: &Path, record: usize) -> io::Result<()> {
    let length = (2 * record).next_multiple_of(UNIT);
    // Written, not only made long: a hole has no place on the disk.
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path(directory))?;
    file.write_all(&vec![b' '; length])
}

/// Replaces `record.json` by what needs no new place. A crash at any moment leaves the old record or the new one.
pub(super) fn replace(directory: &Path, record: &[u8]) -> io::Result<()> {
    let spare = path(directory);
    let mut file = File::options().write(true).open(&spare)?;
    // In place: the pages are there already.
    file.write_all(record)?;
    file.set_len(record.len() as u64)?;
    fs::rename(&spare, directory.join("record.json"))
}

fn path(directory: &Path) -> PathBuf {
    directory.join("record.spare")
}
