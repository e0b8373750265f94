//! An image whose manifest and configuration are in the store: what a plan needs to know of it.

use serde::{Deserialize, Serialize};

use super::compression::Compression;
use super::config::ImageConfig;
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
