//! Names of images: which manifest each means.
//!
//! A name may be a path of 4096 bytes, so the file's name is the digest of it, and the name itself is inside.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Digest, ImageStore, Result, StoreError, digest_of_name, list, read, remove_file, write_whole};

/// Bytes of a name: a path and a tag.
const MAX_NAME: usize = 6000;
/// Bytes of a record, where each byte of the name may be escaped.
const MAX_RECORD: u64 = 64 << 10;

/// What one name means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The canonical text of a source: `docker.io/library/nginx:latest`, `oci:/a/b:tag`.
    pub name: String,
    pub manifest: Digest,
    /// When it was given this meaning, in seconds since 1970.
    pub since: u64,
}

fn file_name(name: &str) -> OsString {
    Digest::of(name.as_bytes()).hex().into()
}

impl ImageStore {
    /// All names, sorted. A record that is damaged is none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn names(&self) -> Result<Vec<Name>> {
        let mut names = Vec::new();
        for file in list(self.names.as_fd(), "names")? {
            names.extend(digest_of_name(&file).and(self.name_in(&file)?));
        }
        names.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    /// What a name means.
    ///
    /// # Errors
    /// What the file system says. A record that is damaged is none: the image is pulled again then.
    pub fn name(&self, name: &str) -> Result<Option<Name>> {
        self.name_in(&file_name(name))
    }

    /// The record in a file, if it is the one that belongs there.
    pub(super) fn name_in(&self, file: &OsString) -> Result<Option<Name>> {
        let bytes = match read(self.names.as_fd(), file, MAX_RECORD) {
            Err(StoreError::Damaged { .. }) => None,
            other => other?,
        };
        let record = bytes.and_then(|bytes| serde_json::from_slice::<Name>(&bytes).ok());
        Ok(record.filter(|record| file_name(&record.name) == *file))
    }

    /// Gives a name to an image, also when it means another one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_name(&self, name: &str, manifest: Digest) -> Result<()> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(StoreError::Refused(format!("its name has {} bytes, allowed are 1 to {MAX_NAME}", name.len())));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let record = Name { name: name.to_owned(), manifest, since };
        let text = serde_json::to_vec(&record).map_err(|error| StoreError::Refused(error.to_string()))?;
        write_whole(self.names.as_fd(), &file_name(name), &text, 0o600)
    }

    /// Takes a name away. False: there is no such name.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_name(&self, name: &str) -> Result<bool> {
        let there = self.name(name)?.is_some();
        remove_file(self.names.as_fd(), &file_name(name))?;
        Ok(there)
    }
}
