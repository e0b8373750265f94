//! Blobs by digest, and blobs that are being transferred.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::{At, Digest, ImageStore, Result, TEMPORARY, read, remove_file, write_whole};
use crate::image::descriptor::MAX_DOCUMENT;
use crate::image::digest::RunningDigest;
use crate::sys::{beneath, create, tree};

fn place(digest: Digest) -> impl Fn() -> String {
    move || format!("blob {digest}")
}

/// A blob that is not complete yet. Only one process has it at a time; dropped, its bytes stay for the next one.
#[derive(Debug)]
pub struct PartialBlob<'a> {
    store: &'a ImageStore,
    digest: Digest,
    /// flock(2) is on it.
    file: File,
}

impl PartialBlob<'_> {
    /// Bytes that are here already. After a power cut they may be wrong: the digest of the whole says so.
    ///
    /// # Errors
    /// What the file system says.
    pub fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().at(place(self.digest))?.len())
    }

    /// Open for reading and writing, at its beginning.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Drops the bytes that are here: they did not have the digest that they should have.
    ///
    /// # Errors
    /// What the file system says.
    pub fn clear(&self) -> Result<()> {
        create::set_length(&self.file, 0).at(place(self.digest))
    }

    /// It is complete: the caller has compared its digest.
    ///
    /// # Errors
    /// What the file system says.
    pub fn commit(self) -> Result<()> {
        create::set_mode(self.file.as_fd(), 0o444).at(place(self.digest))?;
        let name: OsString = self.digest.hex().into();
        create::rename(self.store.partial.as_fd(), &name, self.store.blobs.as_fd(), &name).at(place(self.digest))
    }
}

/// A blob whose digest is not known before all of it is here. Dropped, nothing of it stays.
#[derive(Debug)]
pub struct NewBlob<'a> {
    store: &'a ImageStore,
    /// `None`: it has its final name.
    name: Option<OsString>,
    file: File,
    digest: RunningDigest,
}

/// A blob that was completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    pub digest: Digest,
    pub size: u64,
    /// The store did not have it before.
    pub is_new: bool,
}

impl Write for NewBlob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digest.add(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewBlob<'_> {
    /// It is complete, and has its name from now on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(mut self) -> Result<Completed> {
        let (digest, size) = std::mem::take(&mut self.digest).finish();
        let is_new = self.store.blob(digest)?.is_none();
        create::set_mode(self.file.as_fd(), 0o444).at(place(digest))?;
        if let Some(name) = &self.name {
            let blobs = self.store.blobs.as_fd();
            create::rename(blobs, name, blobs, &OsString::from(digest.hex())).at(place(digest))?;
        }
        self.name = None;
        Ok(Completed { digest, size, is_new })
    }
}

impl Drop for NewBlob<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = tree::unlink(self.store.blobs.as_fd(), name);
        }
    }
}

impl ImageStore {
    /// Begins a blob that comes from a file: an archive says its digests only at its end.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new_blob(&self) -> Result<NewBlob<'_>> {
        let name = beneath::random_name(TEMPORARY).at(|| "blobs".to_owned())?;
        let file = create::new_file(self.blobs.as_fd(), &name).at(|| "blobs".to_owned())?;
        Ok(NewBlob { store: self, name: Some(name), file, digest: RunningDigest::default() })
    }

    /// A blob, to be read; `None`: it is not here. **Who reads it compares its digest**: after a power cut it may be cut off.
    ///
    /// # Errors
    /// What the file system says.
    pub fn blob(&self, digest: Digest) -> Result<Option<File>> {
        beneath::open_file(self.blobs.as_fd(), Path::new(&digest.hex())).at(place(digest))
    }

    /// A manifest or a configuration; `None`: it is not here, or what is here has another digest.
    ///
    /// # Errors
    /// What the file system says.
    pub fn document(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        let bytes = match read(self.blobs.as_fd(), &OsString::from(digest.hex()), MAX_DOCUMENT) {
            Err(super::StoreError::Damaged { .. }) => None,
            other => other?,
        };
        Ok(bytes.filter(|bytes| Digest::of(bytes) == digest))
    }

    /// Adds bytes as a blob, also in the place of damaged ones.
    ///
    /// # Errors
    /// What the file system says.
    pub fn add_document(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.document(digest)?.is_none() {
            write_whole(self.blobs.as_fd(), &OsString::from(digest.hex()), bytes, 0o444)?;
        }
        Ok(digest)
    }

    /// Removes a blob that turned out to be damaged, or that is not wanted any more. Bytes that this gave back.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_blob(&self, digest: Digest) -> Result<u64> {
        remove_file(self.blobs.as_fd(), &OsString::from(digest.hex()))
    }

    /// A blob to be transferred. Waits while another process transfers it; `None`: it is here (by then).
    ///
    /// The same process must not have it twice: flock(2) would make it wait for itself.
    ///
    /// # Errors
    /// What the file system says.
    pub fn partial(&self, digest: Digest) -> Result<Option<PartialBlob<'_>>> {
        let name: OsString = digest.hex().into();
        loop {
            if self.blob(digest)?.is_some() {
                return Ok(None);
            }
            let file = beneath::open_or_create(self.partial.as_fd(), Path::new(&name)).at(place(digest))?;
            file.lock().at(place(digest))?;
            // Another process may have completed it, or prune removed it, while we waited: then it has no name any more.
            if is_at(self.partial.as_fd(), &name, file.as_fd())? {
                return Ok(Some(PartialBlob { store: self, digest, file }));
            }
        }
    }
}

/// Whether what is open still has this name.
pub(super) fn is_at(directory: BorrowedFd<'_>, name: &OsString, open: BorrowedFd<'_>) -> Result<bool> {
    let place = || name.display().to_string();
    let (identity, _) = create::identity_and_time(open).at(place)?;
    Ok(create::existing(directory, name).at(place)?.is_some_and(|found| found.identity == identity))
}
