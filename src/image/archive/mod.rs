//! Images in files: the archives of `docker save` and the layout of OCI, in a directory or in a tar file.
//!
//! What is read is hostile: every name, size and digest in it was chosen by whoever made it. Bytes get into the store only
//! below the digest that they really have; what the documents say is compared with that.

mod documents;
mod read;
mod write;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::config::ConfigError;
use super::descriptor::DocumentError;
use super::layer::LayerError;
use super::platform::Platform;
use super::store::{ImageStore, StoreError};
use super::{Digest, ImageError, StoredImage};
use crate::manifest::ImageSource;
use crate::sys;

use read::Files;
pub use write::{Format, save};

#[cfg(test)]
mod tests;

/// An image that is in the store now, and what the archive calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub image: StoredImage,
    /// As they are written there: `busybox:latest`, `docker.io/library/busybox:latest`, `v1`.
    pub names: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Tar(#[from] LayerError),
    #[error("{path}: {source}")]
    Open { path: PathBuf, source: sys::Error },
    #[error("it has neither `index.json` (OCI) nor `manifest.json` (docker save): it is no archive of images")]
    NoImages,
    #[error("it is compressed by {0}: undo that first, {0} -dc FILE | sandpod image load")]
    Compressed(&'static str),
    #[error("it has more than {0} files")]
    TooManyFiles(usize),
    #[error("it has more than {0} bytes")]
    TooManyBytes(u64),
    #[error("`{0}` is not in it")]
    Missing(String),
    #[error("`{file}` is not valid: {why}")]
    Document { file: String, why: String },
    #[error("an image in it: {0}")]
    Manifest(#[from] DocumentError),
    #[error("an image in it: {0}")]
    Config(#[from] ConfigError),
    #[error("an image in it: {0}")]
    Image(#[from] ImageError),
    #[error("`{file}` has the digest {found}, expected is {expected}")]
    Digest { file: String, expected: Digest, found: Digest },
    #[error("`{file}` has {found} bytes, expected are {expected}")]
    Size { file: String, expected: u64, found: u64 },
    #[error("it has no image for {0}")]
    Platform(Platform),
    #[error("it has no image `{wanted}`, but {}", listed(.has))]
    NoSuchTag { wanted: String, has: Vec<String> },
    #[error("it has {} images: name one, {}", .0.len(), listed(.0))]
    SeveralImages(Vec<String>),
    #[error("layer {0} is not in the store any more: remove the image (sandpod rmi) and pull it again")]
    LayerGone(Digest),
    #[error("layer {0} is damaged in the store: remove the image (sandpod rmi) and pull it again")]
    LayerDamaged(Digest),
}

fn listed(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "images without names".to_owned() } else { names.join(", ") }
}

type Result<T> = std::result::Result<T, ArchiveError>;

/// Which images of an archive are wanted.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    All,
    /// The one of this name; without a name the only one.
    One(Option<&'a str>),
}

/// Takes all images of an archive into the store: docker's or OCI's, compressed by gzip or not. It is read once, from front to
/// end. The caller holds the store's lock and gives names.
///
/// # Errors
/// What is wrong with the archive. Nothing of it stays in the store then.
pub fn load(store: &ImageStore, archive: impl Read + Send, platform: &Platform) -> Result<Vec<Loaded>> {
    let mut files = read::TarFiles::new(store);
    let loaded = files
        .read(archive)
        .and_then(|()| documents::images(store, &mut files, documents::Kind::Either, Wanted::All, platform));
    finish(store, &files, loaded)
}

/// Takes the image of a file or directory into the store, and names it by the source's own text.
///
/// # Errors
/// What is wrong with it; nothing of it stays in the store then. A source that is a registry is [`ArchiveError::NoImages`].
pub fn import(store: &ImageStore, source: &ImageSource, platform: &Platform) -> Result<StoredImage> {
    let (kind, tag, directory, file) = match source {
        ImageSource::Registry(_) => return Err(ArchiveError::NoImages),
        ImageSource::OciLayout { directory, tag } => (documents::Kind::Oci, tag, Some(directory), None),
        ImageSource::OciArchive { file, tag } => (documents::Kind::Oci, tag, None, Some(file)),
        ImageSource::DockerArchive { file, tag } => (documents::Kind::Docker, tag, None, Some(file)),
    };
    let wanted = Wanted::One(tag.as_deref());
    let loaded = match (directory, file) {
        (Some(directory), _) => {
            let mut files = read::LayoutFiles::open(store, directory)?;
            let loaded = documents::images(store, &mut files, kind, wanted, platform);
            finish(store, &files, loaded)?
        }
        (None, file) => {
            let archive = file.map(File::open).transpose()?.ok_or(ArchiveError::NoImages)?;
            let mut files = read::TarFiles::new(store);
            let loaded =
                files.read(archive).and_then(|()| documents::images(store, &mut files, kind, wanted, platform));
            finish(store, &files, loaded)?
        }
    };
    let image = loaded.into_iter().next().ok_or(ArchiveError::NoImages)?.image;
    store.set_name(&source.to_string(), image.manifest)?;
    Ok(image)
}

/// Removes the files of an archive that belong to none of its images: `manifest.json`, `repositories`, and all of it after an
/// error.
fn finish(store: &ImageStore, files: &dyn Files, loaded: Result<Vec<Loaded>>) -> Result<Vec<Loaded>> {
    let images = loaded.as_ref().map_or(&[][..], Vec::as_slice);
    let kept: BTreeSet<Digest> = images
        .iter()
        .flat_map(|Loaded { image, .. }| {
            let layers = image.layers.iter().map(|layer| layer.blob);
            layers.chain([image.manifest, image.config_digest])
        })
        .collect();
    for digest in files.added().iter().filter(|digest| !kept.contains(digest)) {
        store.remove_blob(*digest)?;
    }
    loaded
}
