//! An image whose manifest and configuration are in the store: what a plan needs to know of it.

use serde::{Deserialize, Serialize};

use super::compression::Compression;
use super::config::{self, ConfigError, ImageConfig};
use super::descriptor::{self, Document, DocumentError, Manifest, OCI_MANIFEST};
use super::digest::Digest;
use super::platform::Platform;

/// One image of one platform. Its layers need not be in the store yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredImage {
    /// Of the manifest: the image's identity. The manifest's own bytes are a blob.
    pub manifest: Digest,
    pub config_digest: Digest,
    pub platform: Platform,
    pub config: ImageConfig,
    /// The lowest first.
    pub layers: Vec<StoredLayer>,
}

/// A layer as the manifest and the configuration describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLayer {
    /// Of the blob, as it is transferred.
    pub blob: Digest,
    /// Bytes of the blob.
    pub size: u64,
    pub compression: Compression,
    /// Of the tar stream: the name of its tree (image-spec, config.md, "Layer DiffID").
    pub diff_id: Digest,
}

/// Why two documents are not an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("the manifest: {0}")]
    Manifest(#[from] DocumentError),
    #[error("the manifest is an index of several images")]
    Index,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the configuration has the digest {found}, the manifest says {expected}")]
    ConfigDigest { expected: Digest, found: Digest },
}

impl StoredImage {
    /// The image that a manifest and its configuration describe. Pure.
    ///
    /// # Errors
    /// What is wrong with one of them, or that they do not belong together.
    pub fn parse(manifest: &[u8], config: &[u8]) -> Result<StoredImage, ImageError> {
        let Manifest { config: descriptor, layers } = parse_manifest(manifest)?;
        let found = Digest::of(config);
        if found != descriptor.digest {
            return Err(ImageError::ConfigDigest { expected: descriptor.digest, found });
        }
        let config::Configuration { platform, image, diff_ids } = config::parse(config, layers.len())?;
        let layers = layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
            let descriptor::LayerDescriptor { digest: blob, size, compression } = *layer;
            StoredLayer { blob, size, compression, diff_id }
        });
        Ok(StoredImage {
            manifest: Digest::of(manifest),
            config_digest: found,
            platform,
            config: image,
            layers: layers.collect(),
        })
    }

    /// The name of the tree that all layers together make (image-spec, config.md, "Layer ChainID"); that of the layer where
    /// there is one. `None`: there is no layer.
    #[must_use]
    pub fn chain_id(&self) -> Option<Digest> {
        let diff_ids = self.layers.iter().map(|layer| layer.diff_id);
        diff_ids.reduce(|below, layer| Digest::of(format!("{below} {layer}").as_bytes()))
    }

    /// The digest of the configuration that a manifest names.
    ///
    /// # Errors
    /// What is wrong with the manifest.
    pub fn config_of(manifest: &[u8]) -> Result<Digest, ImageError> {
        parse_manifest(manifest).map(|manifest| manifest.config.digest)
    }
}

/// A manifest that says itself what it is, as Docker's must, or says nothing and is OCI's (image-spec, manifest.md).
fn parse_manifest(bytes: &[u8]) -> Result<Manifest, ImageError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    // What cannot be read is left to the parser, which says what is wrong.
    let media_type = serde_json::from_slice::<Typed>(bytes).ok().and_then(|typed| typed.media_type);
    match descriptor::parse(bytes, media_type.as_deref().unwrap_or(OCI_MANIFEST))? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(ImageError::Index),
    }
}
