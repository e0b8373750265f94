//! The images of a pod: manifests and configurations before the plan, layers after it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::pull::{open_store, platform, registries};
use super::pull_progress::Shown;
use crate::engine::images::Pull;
use crate::host::Facts;
use crate::image::platform::Platform;
use crate::image::registries::{Configuration, Endpoint, Refused};
use crate::image::store::{ImageStore, StoreLock};
use crate::image::{Digest, StoredImage};
use crate::manifest::{Image, ImageSource, Pod, PullPolicy, VolumeSource};
use crate::plan::idmap::IdMapPlan;
use crate::plan::merges_layers;
use crate::report::{Report, exit_code};

/// When a registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// As each container says (`imagePullPolicy`).
    AsManifest,
    /// `--pull`
    For(PullPolicy),
    /// Never, and an image that is not here is none: `plan --offline`.
    Offline,
}

/// The images that a pod uses, in the store; kept there as long as this is.
pub(crate) struct Images {
    store: ImageStore,
    _lock: StoreLock,
    found: Vec<Found>,
}

struct Found {
    policy: PullPolicy,
    /// As the manifest says.
    asked: ImageSource,
    /// What that means: a short name may be that of another registry than docker.io (registries.conf(5)).
    source: ImageSource,
    image: StoredImage,
}

/// registries.conf, read when something of it is needed: an image that is here and has a complete name needs nothing.
#[derive(Default)]
struct Registries(OnceCell<Configuration>);

impl Registries {
    fn read(&self) -> Result<&Configuration, Report> {
        if let Some(configuration) = self.0.get() {
            return Ok(configuration);
        }
        let configuration = registries()?;
        Ok(self.0.get_or_init(|| configuration))
    }

    /// What a source may mean, in the order to try.
    fn candidates(&self, source: &ImageSource) -> Result<Vec<ImageSource>, Report> {
        let ImageSource::Registry(reference) = source else { return Ok(vec![source.clone()]) };
        if reference.short_name.is_none() {
            return Ok(vec![source.clone()]);
        }
        let candidates = self.read()?.candidates(reference).map_err(|error| unusable(source, &error))?;
        Ok(candidates.into_iter().map(ImageSource::Registry).collect())
    }

    fn endpoints(&self, source: &ImageSource) -> Result<Vec<Endpoint>, Report> {
        let ImageSource::Registry(reference) = source else { return Ok(Vec::new()) };
        self.read()?.endpoints(reference).map_err(|error| unusable(source, &error))
    }
}

/// What a source may mean: several names for a short one.
pub(crate) fn meanings(source: &ImageSource) -> Result<Vec<ImageSource>, Report> {
    Registries::default().candidates(source)
}

fn unusable(source: &ImageSource, error: &Refused) -> Report {
    Report::new(exit_code::FAILURE, format!("could not pull `{source}`")).because(error.to_string())
}

/// Finds the images of a pod, in the store or in a registry; `None`: it uses none.
pub(crate) fn resolve(pod: &Pod, facts: &Facts, asking: Asking, quiet: bool) -> Result<Option<Images>, Report> {
    let wanted = wanted(pod, asking);
    if wanted.is_empty() {
        return Ok(None);
    }
    let store = open_store(facts)?;
    let lock = store.shared().map_err(|error| error.into_report("could not lock the image store"))?;
    let platform = platform(None)?;
    let registries = Registries::default();
    let mut found = Vec::new();
    let mut out = Shown::brief(quiet);
    for (asked, policy) in wanted.into_values() {
        match find(&store, &registries, &asked, policy, &platform, &mut out) {
            Ok((source, image)) => found.push(Found { policy, asked, source, image }),
            Err(_) if asking == Asking::Offline => {}
            Err(report) => return Err(report),
        }
    }
    out.finish()
        .map_err(|error| Report::new(exit_code::FAILURE, "could not show a pull").because(error.to_string()))?;
    Ok(Some(Images { store, _lock: lock, found }))
}

/// The first of what `asked` may mean that is here, where a registry need not be asked, or that a registry has.
fn find(
    store: &ImageStore,
    registries: &Registries,
    asked: &ImageSource,
    policy: PullPolicy,
    platform: &Platform,
    out: &mut Shown,
) -> Result<(ImageSource, StoredImage), Report> {
    let candidates = registries.candidates(asked)?;
    if policy != PullPolicy::Always {
        for source in &candidates {
            let name = source.to_string();
            let here = store.find(&name).map_err(|error| error.into_report(format!("could not look for `{name}`")))?;
            // One that is here for another platform is fetched for this one.
            let here = here.map(|_| Pull::new(store, source, Vec::new()).resolve(PullPolicy::Never, platform, out));
            if let Some(Ok(image)) = here {
                return Ok((source.clone(), image));
            }
        }
    }
    let mut failed: Option<Report> = None;
    for source in candidates {
        // Credential programs are asked only where a registry is.
        let endpoints = if policy == PullPolicy::Never { Vec::new() } else { registries.endpoints(&source)? };
        match Pull::new(store, &source, endpoints).resolve(policy, platform, out) {
            Ok(image) => return Ok((source, image)),
            Err(report) => match &mut failed {
                None => failed = Some(report),
                Some(first) => first.chain.push(format!("nor is it {source}: {}", report.chain.join(": "))),
            },
        }
    }
    Err(failed.unwrap_or_else(|| Report::new(exit_code::FAILURE, format!("`{asked}` means no image"))))
}

impl Images {
    /// As the plan wants them: by the canonical text of the source.
    pub(crate) fn by_source(&self) -> BTreeMap<String, StoredImage> {
        self.found.iter().map(|found| (found.asked.to_string(), found.image.clone())).collect()
    }

    /// Unpacks what is not unpacked for this map yet, and fetches what is not here.
    pub(crate) fn bring(&self, idmap: &IdMapPlan, facts: &Facts, quiet: bool) -> Result<(), Report> {
        let key = idmap.key();
        let registries = Registries::default();
        for Found { policy, asked: _, source, image } in &self.found {
            let merged = merges_layers(image, facts);
            let trees: Vec<Digest> = if merged {
                image.chain_id().into_iter().collect()
            } else {
                image.layers.iter().map(|layer| layer.diff_id).collect()
            };
            let has = |tree: &Digest| self.store.has_tree(&key, *tree);
            let all = trees.iter().map(has).collect::<Result<Vec<_>, _>>();
            let all = all.map_err(|error| error.into_report(format!("could not look for the layers of `{source}`")))?;
            if all.iter().all(|has| *has) {
                continue;
            }
            let mut out = Shown::brief(quiet);
            let endpoints = match policy {
                PullPolicy::Never => Vec::new(),
                PullPolicy::Always | PullPolicy::IfNotPresent => registries.endpoints(source)?,
            };
            Pull::new(&self.store, source, endpoints).ensure(image, merged, idmap, &mut out)?;
            // On stderr only: nothing that could fail was written.
            let _ = out.finish();
        }
        Ok(())
    }
}

/// Each image once. Of containers and volumes with different policies, the one that asks most counts.
fn wanted(pod: &Pod, asking: Asking) -> BTreeMap<String, (ImageSource, PullPolicy)> {
    let eagerness = |policy: PullPolicy| match policy {
        PullPolicy::Never => 0,
        PullPolicy::IfNotPresent => 1,
        PullPolicy::Always => 2,
    };
    let mut wanted: BTreeMap<String, (ImageSource, PullPolicy)> = BTreeMap::new();
    let of_containers = pod.spec.containers.iter().filter_map(|container| match &container.image {
        Image::Stored(source) => Some((source, container.image_pull_policy)),
        Image::Host | Image::Rootfs(_) => None,
    });
    let of_volumes = pod.spec.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Image { source, pull_policy } => Some((source, *pull_policy)),
        VolumeSource::EmptyDirDisk { .. } | VolumeSource::EmptyDirMemory { .. } | VolumeSource::HostPath { .. } => None,
    });
    for (source, said) in of_containers.chain(of_volumes) {
        let policy = match asking {
            Asking::AsManifest => said,
            Asking::For(policy) => policy,
            Asking::Offline => PullPolicy::Never,
        };
        let entry = wanted.entry(source.to_string()).or_insert_with(|| (source.clone(), policy));
        if eagerness(policy) > eagerness(entry.1) {
            entry.1 = policy;
        }
    }
    wanted
}
