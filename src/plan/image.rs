//! What a container's image is to the plan: a configuration, and layers where it is in the store.

use std::borrow::Cow;
use std::path::{Component, PathBuf};

use super::degradation::{IMAGE_VOLUMES, named};
use super::idmap::IdMapPlan;
use super::{ContainerPlan, Degradation, FromImage, Request, UnknownImages};
use crate::host::Facts;
use crate::image::{ImageConfig, StoredImage, tree_path};
use crate::manifest::{Image, ImageSource, PodSpec};
use crate::report::{Report, exit_code};

/// Layers that are mounted over each other. A name that is absent is looked for in each (300 such names: 0.4 ms with one layer, 8
/// with 100); images seldom have more than 30. Before Linux 6.7 overlayfs takes about 60.
const MOST_STACKED: usize = 40;

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
    Ok(known_source(&format!("container `{container}`"), source, request)?.map_or(Known::Unknown, Known::Stored))
}

/// `None`: it is not here, and nothing is going to be run.
///
/// # Errors
/// An image that is not in the store, where the plan is to be done.
pub(super) fn known_source<'a>(
    wanted_by: &str,
    source: &ImageSource,
    request: &'a Request,
) -> Result<Option<&'a StoredImage>, Report> {
    match (request.images.get(&source.to_string()), request.unknown_images) {
        (Some(stored), _) => Ok(Some(stored)),
        (None, UnknownImages::Shown) => Ok(None),
        (None, UnknownImages::Refused) => {
            Err(Report::new(exit_code::FAILURE, format!("{wanted_by}: image {source} is not here"))
                .hint(format!("sandpod pull {source}")))
        }
    }
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

/// The paths of its volumes: absolute, without `..`, each once (Go's filepath.Clean, which containerd applies).
pub(super) fn volumes(config: &ImageConfig) -> Vec<PathBuf> {
    let mut volumes: Vec<PathBuf> = Vec::new();
    for volume in &config.volumes {
        let mut plain = PathBuf::from("/");
        for part in volume.components() {
            match part {
                Component::Normal(name) => plain.push(name),
                Component::ParentDir => drop(plain.pop()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if !volumes.contains(&plain) {
            volumes.push(plain);
        }
    }
    volumes
}

/// Volumes that the images declare where no volume can be.
pub(super) fn volumes_left_out(pod: &PodSpec, plans: &[ContainerPlan], request: &Request) -> Option<Degradation> {
    let mut left_out = Vec::new();
    for (container, plan) in pod.containers.iter().zip(plans) {
        let Ok(Known::Stored(image)) = known(&container.name, &container.image, request) else { continue };
        let is_mounted = |volume: &PathBuf| plan.mounts.iter().any(|mount| mount.destination == *volume);
        let volumes = volumes(&image.config).into_iter().filter(|volume| !is_mounted(volume));
        left_out.extend(volumes.map(|volume| format!("{} of `{}`", volume.display(), container.name)));
    }
    (!left_out.is_empty()).then(|| {
        let meaning = format!(
            "the image declares a volume where there can be none: {}; /dev, /proc and /sys belong to the sandbox",
            left_out.join(", ")
        );
        named(IMAGE_VOLUMES, meaning, "build the image without that VOLUME")
    })
}

/// The directories that it is made of for this map, the highest first.
pub(super) fn trees(image: &StoredImage, idmap: &IdMapPlan, request: &Request, facts: &Facts) -> Vec<PathBuf> {
    let key = idmap.key();
    let tree = |digest| tree_path(&request.images_dir, &key, digest);
    if merges_layers(image, facts) {
        return image.chain_id().map(tree).into_iter().collect();
    }
    image.layers.iter().rev().map(|layer| tree(layer.diff_id)).collect()
}

/// Whether the layers of an image are unpacked to one tree: where the store's file system cannot hold whiteouts and opaque
/// directories, where the kernel does not take so many, and where looking names up in them would be slow. What cannot hold an
/// upper layer cannot hold whiteouts: overlayfs, NFS and FUSE among others, and what has no user xattrs.
#[must_use]
pub fn merges_layers(image: &StoredImage, facts: &Facts) -> bool {
    facts.layers.data.is_some() || image.layers.len() > MOST_STACKED
}
