//! What a container's image is to the plan: a configuration, and layers where it is in the store.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::degradation::{IMAGE_VOLUMES, named};
use super::idmap::IdMapPlan;
use super::{Degradation, FromImage, Request, UnknownImages};
use crate::image::{ImageConfig, StoredImage, tree_path};
use crate::manifest::{Image, ImageSource, PodSpec};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// What is known of an image.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'a> {
    /// `host:` and `rootfs:`, which have no configuration.
    NoConfiguration,
    Stored(&'a StoredImage),
    /// Its configuration is not here, and nothing is going to be run (`plan --offline`).
    Unknown,
}

/// # Errors
/// An image that is not in the store, where the plan is to be done.
pub(super) fn known<'a>(container: &str, image: &Image, request: &'a Request) -> Result<Known<'a>, Report> {
    let source = match image {
        Image::Host | Image::Rootfs(_) => return Ok(Known::NoConfiguration),
        Image::Stored(source) => source,
    };
    match (request.images.get(&source.to_string()), request.unknown_images) {
        (Some(stored), _) => Ok(Known::Stored(stored)),
        (None, UnknownImages::Shown) => Ok(Known::Unknown),
        (None, UnknownImages::Refused) => Err(not_here(container, source)),
    }
}

fn not_here(container: &str, source: &ImageSource) -> Report {
    Report::new(exit_code::FAILURE, format!("container `{container}`: image {source} is not here"))
        .hint(format!("sandpod pull {source}"))
}

impl<'a> Known<'a> {
    /// The configuration. Without an image the command is /bin/sh.
    pub(super) fn config(self) -> Cow<'a, ImageConfig> {
        match self {
            Known::NoConfiguration => {
                Cow::Owned(ImageConfig { command: vec!["/bin/sh".to_owned()], ..ImageConfig::default() })
            }
            Known::Stored(stored) => Cow::Borrowed(&stored.config),
            Known::Unknown => Cow::Owned(ImageConfig::default()),
        }
    }

    /// What `inspect` shows of it.
    pub(super) fn shown(self) -> Option<FromImage> {
        let Known::Stored(StoredImage { manifest, config_digest: _, platform, config, layers: _ }) = self else {
            return None;
        };
        Some(FromImage {
            manifest: *manifest,
            platform: platform.to_string(),
            exposed_ports: config.exposed_ports.clone(),
        })
    }

    /// The signal that asks its process to end.
    ///
    /// # Errors
    /// The image's is none of this system's.
    pub(super) fn stop_signal(self, container: &str) -> Result<i32, Report> {
        self.config().stop_signal_number().map_err(|typed| {
            Report::new(exit_code::FAILURE, format!("container `{container}`: its image has an invalid stop signal"))
                .because(format!("StopSignal is `{typed}`, and Linux has no such signal"))
        })
    }
}

/// Volumes of the images' configurations that no volume of the pod takes the place of: containerd gives each a volume of its
/// own, which begins with the image's content. Here what is written to them goes to the container's writable layer.
pub(super) fn volumes(pod: &PodSpec, request: &Request) -> Option<Degradation> {
    let mut lacking = Vec::new();
    for container in &pod.containers {
        let Ok(Known::Stored(image)) = known(&container.name, &container.image, request) else { continue };
        let is_mounted = |volume: &Path| {
            container.volume_mounts.iter().any(|mount| volume.starts_with(Path::new(&mount.mount_path)))
        };
        let volumes = image.config.volumes.iter().filter(|volume| !is_mounted(volume));
        lacking.extend(volumes.map(|volume| format!("{} of `{}`", volume.display(), container.name)));
    }
    (!lacking.is_empty()).then(|| {
        let meaning = format!("volumes of images are not made yet: {} is new at each restart", lacking.join(", "));
        named(IMAGE_VOLUMES, meaning, "mount an emptyDir or a hostPath there")
    })
}

/// The directories of its layers for this map, the highest first.
pub(super) fn trees(image: &StoredImage, idmap: &IdMapPlan, request: &Request) -> Vec<PathBuf> {
    let key = idmap.key();
    image.layers.iter().rev().map(|layer| tree_path(&request.images_dir, &key, layer.diff_id)).collect()
}
