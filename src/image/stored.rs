//! An image whose manifest and configuration are in the store: what a plan needs to know of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::compression::Compression;
use super::config::{self, ConfigError, ImageConfig};
use super::descriptor::{self, Document, DocumentError, Manifest, OCI_MANIFEST};
use super::digest::Digest;
use super::layer::Limits;
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
    #[error("its layers have {bytes} bytes, at most {most} are taken")]
    TooLarge { bytes: u64, most: u64 },
    #[error("layer {0} has two diffIDs")]
    TwoDiffIds(Digest),
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
        let layers: Vec<StoredLayer> = layers.collect();
        let bytes = layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
        let most = Limits::default().bytes;
        if bytes > most {
            return Err(ImageError::TooLarge { bytes, most });
        }
        let mut diff_ids = BTreeMap::new();
        for layer in &layers {
            if *diff_ids.entry(layer.blob).or_insert(layer.diff_id) != layer.diff_id {
                return Err(ImageError::TwoDiffIds(layer.blob));
            }
        }
        Ok(StoredImage { manifest: Digest::of(manifest), config_digest: found, platform, config: image, layers })
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn layers_that_no_honest_image_has_are_refused() {
        let blobs: Vec<Digest> = [b"a", b"b"].iter().map(|text| Digest::of(*text)).collect();
        let parse = |layers: [(Digest, u64); 2]| {
            let config =
                json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": blobs}});
            let config = config.to_string().into_bytes();
            let layers = layers.map(|(digest, size)| {
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size})
            });
            let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers, "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len()
            }});
            StoredImage::parse(manifest.to_string().as_bytes(), &config)
        };
        assert!(parse([(blobs[0], 1), (blobs[1], 1)]).is_ok());
        // One blob that is to be two layers: two processes would wait for it in turn.
        let twice = parse([(blobs[0], 1), (blobs[0], 1)]).expect_err("two diffIDs");
        assert!(matches!(twice, ImageError::TwoDiffIds(_)), "{twice}");
        for size in [64 << 30, u64::MAX >> 1] {
            let large = parse([(blobs[0], size), (blobs[1], size)]).expect_err("too large");
            assert!(large.to_string().contains("at most 68719476736"), "{large}");
        }
    }
}
