//! Which images there are. Everything that is said of one comes from its manifest and its configuration, whose digests are
//! compared each time; an entry in `manifests/` only says that there is an image, and since when.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Digest, ImageStore, Name, Result, StoreError, digest_of_name, list, read, remove_file, write_whole};
use crate::image::StoredImage;

/// Bytes of an entry.
const MAX_ENTRY: u64 = 4096;
/// Fewer digits of a digest could be a name that somebody mistyped.
const MIN_DIGITS: usize = 4;

#[derive(Serialize, Deserialize)]
struct Entry {
    added: u64,
}

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    pub image: StoredImage,
    /// Seconds since 1970.
    pub added: u64,
}

/// What a text that was typed means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub image: StoredImage,
    /// It was found by this name, not by its digest.
    pub name: Option<String>,
}

impl ImageStore {
    /// Adds an image; its layers need not be here. Who wants it to stay gives it a name.
    ///
    /// # Errors
    /// `image` is not what `manifest` and `config` say; or what the file system says.
    pub fn add(&self, manifest: &[u8], config: &[u8], image: &StoredImage) -> Result<()> {
        match StoredImage::parse(manifest, config) {
            Ok(parsed) if parsed == *image => {}
            Ok(_) => return Err(StoreError::Refused("its manifest and configuration say something else".to_owned())),
            Err(error) => return Err(StoreError::Refused(error.to_string())),
        }
        self.add_document(config)?;
        self.add_document(manifest)?;
        let name: OsString = image.manifest.hex().into();
        if self.image(image.manifest)?.is_some() {
            return Ok(());
        }
        let added = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let entry = serde_json::to_vec(&Entry { added }).map_err(|error| StoreError::Refused(error.to_string()))?;
        write_whole(self.manifests.as_fd(), &name, &entry, 0o600)
    }

    /// The image that a canonical name means; `None` also where the store was damaged: then it is pulled again.
    ///
    /// # Errors
    /// What the file system says.
    pub fn find(&self, name: &str) -> Result<Option<StoredImage>> {
        self.name(name)?.map_or(Ok(None), |name| self.image(name.manifest))
    }

    /// The image of this manifest.
    ///
    /// # Errors
    /// What the file system says.
    pub fn image(&self, manifest: Digest) -> Result<Option<StoredImage>> {
        if self.entry(manifest)?.is_none() {
            return Ok(None);
        }
        let Some(bytes) = self.document(manifest)? else { return Ok(None) };
        let Ok(config) = StoredImage::config_of(&bytes) else { return Ok(None) };
        let Some(config) = self.document(config)? else { return Ok(None) };
        Ok(StoredImage::parse(&bytes, &config).ok())
    }

    fn entry(&self, manifest: Digest) -> Result<Option<Entry>> {
        let bytes = match read(self.manifests.as_fd(), &OsString::from(manifest.hex()), MAX_ENTRY) {
            Err(StoreError::Damaged { .. }) => None,
            other => other?,
        };
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// All images, the one that was added last first. One that is damaged is none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn images(&self) -> Result<Vec<Added>> {
        let mut images = Vec::new();
        for manifest in list(self.manifests.as_fd(), "manifests")?.iter().filter_map(|name| digest_of_name(name)) {
            if let (Some(Entry { added }), Some(image)) = (self.entry(manifest)?, self.image(manifest)?) {
                images.push(Added { image, added });
            }
        }
        images.sort_by_key(|image| (std::cmp::Reverse(image.added), image.image.manifest));
        Ok(images)
    }

    /// What somebody typed: `canonical` is its canonical name, where it can be one; else it is the beginning of the digest of
    /// a manifest or of a configuration, with or without `sha256:`.
    ///
    /// # Errors
    /// It means several images; or what the file system says.
    pub fn find_typed(&self, typed: &str, canonical: Option<&str>) -> Result<Option<Found>> {
        if let Some(name) = canonical
            && let Some(image) = self.find(name)?
        {
            return Ok(Some(Found { image, name: Some(name.to_owned()) }));
        }
        let digits = typed.strip_prefix("sha256:").unwrap_or(typed);
        let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() < MIN_DIGITS || !is_hex {
            return Ok(None);
        }
        let is_meant = |digest: &Digest| digest.hex().starts_with(digits);
        let mut found: Vec<StoredImage> = self.images()?.into_iter().map(|added| added.image).collect();
        found.retain(|image| is_meant(&image.manifest) || is_meant(&image.config_digest));
        match <[StoredImage; 1]>::try_from(found) {
            Ok([image]) => Ok(Some(Found { image, name: None })),
            Err(none) if none.is_empty() => Ok(None),
            Err(several) => {
                let found = several.iter().map(|image| image.manifest.to_string()).collect();
                Err(StoreError::Ambiguous { typed: typed.to_owned(), found })
            }
        }
    }

    /// The names of an image.
    ///
    /// # Errors
    /// What the file system says.
    pub fn names_of(&self, manifest: Digest) -> Result<Vec<Name>> {
        Ok(self.names()?.into_iter().filter(|name| name.manifest == manifest).collect())
    }

    /// Forgets an image; its blobs and trees are garbage then, if no other one has them.
    pub(super) fn remove_image(&self, manifest: Digest) -> Result<u64> {
        remove_file(self.manifests.as_fd(), &OsString::from(manifest.hex()))
    }
}
