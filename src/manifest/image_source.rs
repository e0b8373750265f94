//! Where an image comes from: the transports of containers' tools
//! (containers-transports(5)).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::image_reference::ImageReference;

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
