//! Where an image comes from: the transports of containers' tools
//! (containers-transports(5)).

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::image_reference::{self, ImageReference, InvalidReference};

/// A place that an image is taken from. Its text is canonical: two texts differ exactly when the places do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ImageSource {
    /// `[docker://]REFERENCE`
    Registry(ImageReference),
    /// `oci:DIR[:TAG]`: a directory in the layout of image-spec, image-layout.md. Absolute.
    OciLayout { directory: PathBuf, tag: Option<String> },
    /// `oci-archive:FILE[:TAG]`: such a directory in a tar file. Absolute.
    OciArchive { file: PathBuf, tag: Option<String> },
    /// `docker-archive:FILE[:REFERENCE]`: what `docker save` writes. Absolute.
    DockerArchive { file: PathBuf, tag: Option<String> },
}

impl fmt::Display for ImageSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, tag) = match self {
            ImageSource::Registry(reference) => return reference.fmt(out),
            ImageSource::OciLayout { directory, tag } => ("oci", directory, tag),
            ImageSource::OciArchive { file, tag } => ("oci-archive", file, tag),
            ImageSource::DockerArchive { file, tag } => ("docker-archive", file, tag),
        };
        write!(out, "{transport}:{}", path.display())?;
        tag.iter().try_for_each(|tag| write!(out, ":{tag}"))
    }
}

/// When a registry is asked for an image
/// (<https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At every start. Layers that are here are not transferred again.
    Always,
    /// When the store does not have the image.
    IfNotPresent,
    Never,
}

/// Why a text is not the place of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSource {
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    #[error("names no {what} after `{transport}:`")]
    NoPath { transport: &'static str, what: &'static str },
    #[error("has an invalid tag `{0}`: use letters, digits and `-._:@/+`, and begin with a letter or a digit")]
    Tag(String),
    #[error("uses the transport `{0}:`, which is not supported: use docker://, oci:, oci-archive: or docker-archive:")]
    Transport(&'static str),
}

/// containers-transports(5), without those that are supported.
const OTHER_TRANSPORTS: [&str; 6] = ["docker-daemon", "containers-storage", "dir", "sif", "ostree", "tarball"];

impl ImageSource {
    /// Parses `[docker://]REFERENCE`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]` or `docker-archive:FILE[:REFERENCE]`. As in
    /// containers' tools the first `:` ends a path. A relative path stays relative.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn parse(text: &str) -> Result<ImageSource, InvalidSource> {
        if let Some(transport) = OTHER_TRANSPORTS
            .iter()
            .find(|transport| text.strip_prefix(**transport).is_some_and(|rest| rest.starts_with(':')))
        {
            return Err(InvalidSource::Transport(transport));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (directory, tag) = path_and_tag(rest, "oci", "directory")?;
            return Ok(ImageSource::OciLayout { directory, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (file, tag) = path_and_tag(rest, "oci-archive", "file")?;
            return Ok(ImageSource::OciArchive { file, tag });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (file, tag) = path_and_tag(rest, "docker-archive", "file")?;
            return Ok(ImageSource::DockerArchive { file, tag });
        }
        Ok(ImageSource::Registry(image_reference::parse(text.strip_prefix("docker://").unwrap_or(text))?))
    }

    /// The directory or file of this machine that holds the image, where it is in no registry.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            ImageSource::Registry(_) => None,
            ImageSource::OciLayout { directory: path, tag: _ }
            | ImageSource::OciArchive { file: path, tag: _ }
            | ImageSource::DockerArchive { file: path, tag: _ } => Some(path),
        }
    }

    /// The same image at another path.
    #[must_use]
    pub fn at(self, path: PathBuf) -> ImageSource {
        match self {
            ImageSource::Registry(reference) => ImageSource::Registry(reference),
            ImageSource::OciLayout { directory: _, tag } => ImageSource::OciLayout { directory: path, tag },
            ImageSource::OciArchive { file: _, tag } => ImageSource::OciArchive { file: path, tag },
            ImageSource::DockerArchive { file: _, tag } => ImageSource::DockerArchive { file: path, tag },
        }
    }

    /// What Kubernetes does where `imagePullPolicy` is not set (SetDefaults_Container): `Always` for the tag `latest`, else
    /// `IfNotPresent`. A file of this machine is always read: it may have changed, and no registry is asked.
    #[must_use]
    pub fn default_pull_policy(&self) -> PullPolicy {
        match self {
            ImageSource::Registry(reference) if reference.tag.as_deref() != Some(image_reference::DEFAULT_TAG) => {
                PullPolicy::IfNotPresent
            }
            _ => PullPolicy::Always,
        }
    }
}

fn path_and_tag(
    text: &str,
    transport: &'static str,
    what: &'static str,
) -> Result<(PathBuf, Option<String>), InvalidSource> {
    let (path, tag) = text.split_once(':').map_or((text, None), |(path, tag)| (path, Some(tag)));
    if path.is_empty() {
        return Err(InvalidSource::NoPath { transport, what });
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:@/+".contains(&byte);
    let valid = |tag: &str| tag.starts_with(|first: char| first.is_ascii_alphanumeric()) && tag.bytes().all(allowed);
    match tag {
        Some(tag) if !valid(tag) => Err(InvalidSource::Tag(tag.to_owned())),
        tag => Ok((PathBuf::from(path), tag.map(str::to_owned))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transport_is_read_and_written_as_the_same_text() {
        for (text, canonical, policy) in [
            ("nginx", "docker.io/library/nginx:latest", PullPolicy::Always),
            ("docker://nginx:1.25", "docker.io/library/nginx:1.25", PullPolicy::IfNotPresent),
            ("localhost:5000/a:latest", "localhost:5000/a:latest", PullPolicy::Always),
            ("oci:/srv/layout", "oci:/srv/layout", PullPolicy::Always),
            ("oci:/srv/layout:v1", "oci:/srv/layout:v1", PullPolicy::Always),
            ("oci-archive:/srv/a.tar:x/y:v1", "oci-archive:/srv/a.tar:x/y:v1", PullPolicy::Always),
            ("docker-archive:a.tar:nginx:1", "docker-archive:a.tar:nginx:1", PullPolicy::Always),
        ] {
            let source = ImageSource::parse(text).expect(text);
            assert_eq!(source.to_string(), canonical);
            let again = ImageSource::parse(canonical).expect(canonical);
            assert_eq!(again.to_string(), canonical);
            assert_eq!(source.default_pull_policy(), policy, "{text}");
        }
        let digest = format!("nginx@sha256:{}", "0".repeat(64));
        let policy = ImageSource::parse(&digest).expect("valid").default_pull_policy();
        assert_eq!(policy, PullPolicy::IfNotPresent, "a digest names one image for ever");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for (text, part) in [
            ("oci:", "no directory"),
            ("oci::tag", "no directory"),
            ("docker-archive:", "no file"),
            ("oci:/a:", "invalid tag"),
            ("oci:/a:-x", "invalid tag"),
            ("oci-archive:/a:b c", "invalid tag"),
            ("docker-daemon:nginx", "transport `docker-daemon:`"),
            ("dir:/srv", "transport `dir:`"),
            ("docker://", "no image name"),
            ("http://example.com/a", "invalid"),
        ] {
            let error = ImageSource::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
