//! Which blobs an image is made of: indexes and manifests of OCI and of Docker (image-spec, manifest.md, image-index.md;
//! docker's "Image Manifest Version 2, Schema 2"). Pure: bytes in, values out.

use serde::Deserialize;

use super::compression::{self, Compression};
use super::digest::Digest;
use super::platform::Platform;

/// Bytes of an index, a manifest or a configuration. distribution-spec, "Pushing Manifests": registries must take 4 MiB.
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// As many as overlayfs takes (Linux 6.7, `OVL_MAX_STACK`).
const MAX_LAYERS: usize = 500;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// What a registry is asked for.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// A blob: what it is called and how many bytes it has. Its `urls` are not kept, since nothing is fetched from anywhere
/// but the registry that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

/// One layer of an image, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerDescriptor {
    pub digest: Digest,
    pub size: u64,
    pub compression: Compression,
}

/// What stands behind a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Manifests for several platforms.
    Index(Vec<(Platform, Descriptor)>),
    Manifest(Manifest),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<LayerDescriptor>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("it has {0} bytes, and at most {MAX_DOCUMENT} are read")]
    TooLarge(u64),
    #[error("it is not valid JSON of an image manifest: {0}")]
    Json(String),
    #[error("its media type is `{0}`, which is no image manifest or index")]
    MediaType(String),
    #[error(
        "it is an image of Docker's schema 1, which registries replaced in 2016: push it again with a current tool"
    )]
    SchemaOne,
    /// A document that one reader takes for an index and another for a manifest (CVE-2021-41190).
    #[error("it was sent as `{sent}` and says that it is `{says}`")]
    MediaTypesDiffer { sent: String, says: String },
    #[error("it was sent as {sent}, and has the fields of {has}")]
    KindsDiffer { sent: &'static str, has: &'static str },
    #[error("it is not a container image but an artifact: its configuration has the media type `{0}`")]
    Artifact(String),
    #[error("layer {number} has the media type `{media_type}`, which is not supported")]
    LayerMediaType { number: usize, media_type: String },
    #[error("it has {0} layers; the kernel takes at most {MAX_LAYERS}")]
    TooManyLayers(usize),
    #[error("a descriptor in it is invalid: {0}")]
    Descriptor(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: String,
    size: i64,
    platform: Option<Platform>,
}

/// Parses an index or a manifest. `sent_as` is the Content-Type of the answer, or what the index said of it.
///
/// # Errors
/// What is wrong with it. Media type and fields must agree: an index is no manifest.
pub fn parse(bytes: &[u8], sent_as: &str) -> Result<Document, DocumentError> {
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(DocumentError::TooLarge(bytes.len() as u64));
    }
    let sent = sent_as.split(';').next().unwrap_or_default().trim();
    if sent.starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err(DocumentError::SchemaOne);
    }
    let is_index = match sent {
        OCI_INDEX | DOCKER_LIST => true,
        OCI_MANIFEST | DOCKER_MANIFEST => false,
        other => return Err(DocumentError::MediaType(other.to_owned())),
    };
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(|error| DocumentError::Json(error.to_string()))?;
    if raw.schema_version == 1 || raw.fs_layers.is_some() {
        return Err(DocumentError::SchemaOne);
    }
    // OCI does not oblige a document to say its type, and Docker does.
    if let Some(says) = raw.media_type.filter(|says| says != sent) {
        return Err(DocumentError::MediaTypesDiffer { sent: sent.to_owned(), says });
    }
    match (is_index, raw.manifests, raw.config, raw.layers) {
        (true, Some(manifests), None, None) => index(manifests),
        (false, None, Some(config), layers) => manifest(config, layers.unwrap_or_default()),
        (true, ..) => Err(DocumentError::KindsDiffer { sent: "an index", has: "a manifest" }),
        (false, ..) => Err(DocumentError::KindsDiffer { sent: "a manifest", has: "an index" }),
    }
}

fn index(manifests: Vec<RawDescriptor>) -> Result<Document, DocumentError> {
    // What has no platform, or an unknown one, is no image: attestations of buildkit, signatures.
    let images = manifests.into_iter().filter_map(|mut raw| {
        let platform = raw.platform.take().filter(|platform| platform.os != "unknown")?;
        Some(descriptor(raw).map(|descriptor| (platform, descriptor)))
    });
    images.collect::<Result<Vec<_>, _>>().map(Document::Index)
}

fn manifest(config: RawDescriptor, layers: Vec<RawDescriptor>) -> Result<Document, DocumentError> {
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(DocumentError::Artifact(config.media_type));
    }
    if layers.len() > MAX_LAYERS {
        return Err(DocumentError::TooManyLayers(layers.len()));
    }
    let config = descriptor(config)?;
    if config.size > MAX_DOCUMENT {
        return Err(DocumentError::TooLarge(config.size));
    }
    let layers = layers.into_iter().enumerate().map(|(index, raw)| {
        let Descriptor { media_type, digest, size } = descriptor(raw)?;
        let Some(compression) = compression::of_media_type(&media_type) else {
            return Err(DocumentError::LayerMediaType { number: index + 1, media_type });
        };
        Ok(LayerDescriptor { digest, size, compression })
    });
    Ok(Document::Manifest(Manifest { config, layers: layers.collect::<Result<_, _>>()? }))
}

fn descriptor(raw: RawDescriptor) -> Result<Descriptor, DocumentError> {
    let RawDescriptor { media_type, digest, size, platform: _ } = raw;
    let digest =
        digest.parse().map_err(|error: super::digest::InvalidDigest| DocumentError::Descriptor(error.to_string()))?;
    let size = u64::try_from(size).map_err(|_| DocumentError::Descriptor(format!("a size of {size} bytes")))?;
    Ok(Descriptor { media_type, digest, size })
}

#[cfg(test)]
#[path = "descriptor_tests.rs"]
mod tests;
