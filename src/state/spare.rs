//! `record.spare`: a place for the last record, taken when the pod is made. How a pod ended must be known also when the
//! runtime directory, which all programs of the user share, is full by then.

use std::io::Write;

use crate::sys;
use crate::sys::own_dir::OwnDir;

const NAME: &str = "record.spare";
/// A page of a tmpfs. A record grows by how each container ended and why.
const UNIT: usize = 4096;

/// Takes place for a record that is twice as long as this one.
pub(super) fn reserve(directory: &OwnDir, record: usize) -> sys::Result<()> {
    let length = (2 * record).next_multiple_of(UNIT);
    // Written, not only made long: a hole has no place on the disk.
    let mut file = directory.create(NAME.as_ref())?;
    file.write_all(&vec![b' '; length]).map_err(|error| sys::Error::of_io("write(record.spare)", &error))
}

/// Replaces `record.json` by what needs no new place. A crash at any moment leaves the old record or the new one.
pub(super) fn replace(directory: &OwnDir, record: &[u8]) -> sys::Result<()> {
    let mut file = directory.write(NAME.as_ref())?;
    // In place: the pages are there already.
    let written = file.write_all(record).and_then(|()| file.set_len(record.len() as u64));
    written.map_err(|error| sys::Error::of_io("write(record.spare)", &error))?;
    directory.rename(NAME.as_ref(), "record.json".as_ref())
}
