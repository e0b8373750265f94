//! Which images an archive has: `index.json` of OCI (image-spec, image-layout.md), `manifest.json` of docker.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;
use serde_json::json;

use super::read::{Files, StoredFile, compression_of};
use super::{ArchiveError, Loaded, Result, Wanted};
use crate::image::compression::Compression;
use crate::image::config;
use crate::image::descriptor::{self, Document};
use crate::image::platform::{self, Platform};
use crate::image::store::ImageStore;
use crate::image::{Digest, StoredImage};
use crate::manifest::image_reference;

/// Which kind of archive it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Oci,
    Docker,
    Either,
}

/// What containerd and docker call an image; its whole name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// A tag, or a whole name (image-spec, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    media_type: String,
    digest: Digest,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Listed {
    fn names(&self) -> Vec<String> {
        let annotation = |key: &str| self.annotations.as_ref()?.get(key).filter(|name| !name.is_empty()).cloned();
        let mut names: Vec<String> =
            [annotation(CONTAINERD_NAME), annotation(REF_NAME)].into_iter().flatten().collect();
        names.dedup();
        names
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Puts the wanted images of an archive into the store.
pub(super) fn images(
    store: &ImageStore,
    files: &mut dyn Files,
    kind: Kind,
    wanted: Wanted<'_>,
    platform: &Platform,
) -> Result<Vec<Loaded>> {
    // docker writes both since version 25, and OCI's has the manifest that the registry had.
    if kind != Kind::Docker
        && let Some(bytes) = files.document("index.json")?
    {
        let Index { manifests } = parse("index.json", &bytes)?;
        let chosen = chosen(manifests, wanted, Listed::names)?;
        return chosen.into_iter().map(|listed| oci(store, files, &listed, platform)).collect();
    }
    if kind != Kind::Oci
        && let Some(bytes) = files.document("manifest.json")?
    {
        let images: Vec<DockerImage> = parse("manifest.json", &bytes)?;
        let chosen = chosen(images, wanted, |image| image.repo_tags.clone().unwrap_or_default())?;
        return chosen.into_iter().map(|image| docker(store, files, image)).collect();
    }
    Err(ArchiveError::NoImages)
}

fn parse<T: serde::de::DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| ArchiveError::Document { file: file.to_owned(), why: error.to_string() })
}

fn chosen<T>(images: Vec<T>, wanted: Wanted<'_>, names: impl Fn(&T) -> Vec<String>) -> Result<Vec<T>> {
    let Wanted::One(tag) = wanted else { return Ok(images) };
    let all = |images: &[T]| images.iter().flat_map(&names).collect::<Vec<String>>();
    let has = all(&images);
    let Some(tag) = tag else {
        return if images.len() == 1 { Ok(images) } else { Err(ArchiveError::SeveralImages(has)) };
    };
    let same = |name: &String| {
        name == tag
            || matches!((image_reference::parse(name), image_reference::parse(tag)), (Ok(a), Ok(b)) if a.to_string() == b.to_string())
    };
    // Two of one name: the later one counts, as a tag that was moved.
    let image = images.into_iter().rfind(|image| names(image).iter().any(same));
    image.map(|image| vec![image]).ok_or_else(|| ArchiveError::NoSuchTag { wanted: tag.to_owned(), has })
}

fn path_of(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn oci(store: &ImageStore, files: &mut dyn Files, listed: &Listed, platform: &Platform) -> Result<Loaded> {
    let mut bytes = checked_document(files, listed.digest)?;
    let document = match descriptor::parse(&bytes, &listed.media_type)? {
        Document::Index(images) => {
            let found = platform::choose(platform, &images).ok_or_else(|| ArchiveError::Platform(platform.clone()))?;
            bytes = checked_document(files, found.digest)?;
            descriptor::parse(&bytes, &found.media_type)?
        }
        manifest @ Document::Manifest(_) => manifest,
    };
    let Document::Manifest(manifest) = document else {
        return Err(ArchiveError::Document { file: path_of(listed.digest), why: "an index in an index".to_owned() });
    };
    let config = checked_document(files, manifest.config.digest)?;
    let image = StoredImage::parse(&bytes, &config)?;
    for layer in &image.layers {
        checked_blob(files, StoredFile { digest: layer.blob, size: layer.size })?;
    }
    store.add(&bytes, &config, &image)?;
    Ok(Loaded { image, names: listed.names() })
}

fn checked_document(files: &mut dyn Files, expected: Digest) -> Result<Vec<u8>> {
    let file = path_of(expected);
    let bytes = files.document(&file)?.ok_or_else(|| ArchiveError::Missing(file.clone()))?;
    let found = Digest::of(&bytes);
    if found == expected { Ok(bytes) } else { Err(ArchiveError::Digest { file, expected, found }) }
}

fn checked_blob(files: &mut dyn Files, expected: StoredFile) -> Result<()> {
    let file = path_of(expected.digest);
    let found = files.blob(&file, Some(expected))?.ok_or_else(|| ArchiveError::Missing(file.clone()))?;
    if found.digest != expected.digest {
        return Err(ArchiveError::Digest { file, expected: expected.digest, found: found.digest });
    }
    if found.size != expected.size {
        return Err(ArchiveError::Size { file, expected: expected.size, found: found.size });
    }
    Ok(())
}

/// An archive of docker has no manifest of the registry's kind: we write one, the same for the same archive.
fn docker(store: &ImageStore, files: &mut dyn Files, image: DockerImage) -> Result<Loaded> {
    let DockerImage { config: config_file, repo_tags, layers } = image;
    let missing = |file: &String| ArchiveError::Missing(file.clone());
    let config = files.document(&config_file)?.ok_or_else(|| missing(&config_file))?;
    let configuration = config::parse(&config, layers.len())?;
    let mut descriptors = Vec::new();
    for (file, diff_id) in layers.iter().zip(&configuration.diff_ids) {
        let found = files.blob(file, None)?.ok_or_else(|| missing(file))?;
        let mut start = [0; 4];
        let mut blob = store.blob(found.digest)?.ok_or_else(|| missing(file))?;
        let read = blob.read(&mut start)?;
        let kind = match compression_of(&start[..read]) {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        // That of a compressed one is compared when it is unpacked.
        if kind.is_empty() && found.digest != *diff_id {
            return Err(ArchiveError::Digest { file: file.clone(), expected: *diff_id, found: found.digest });
        }
        descriptors.push(json!({
            "mediaType": format!("application/vnd.oci.image.layer.v1.tar{kind}"),
            "digest": found.digest, "size": found.size,
        }));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config), "size": config.len(),
        },
        "layers": descriptors,
    })
    .to_string()
    .into_bytes();
    let image = StoredImage::parse(&manifest, &config)?;
    store.add(&manifest, &config, &image)?;
    Ok(Loaded { image, names: repo_tags.unwrap_or_default() })
}
