//! The images of a pod: manifests and configurations before the plan, layers after it.

use std::collections::BTreeMap;

use super::pull::{endpoints, open_store, platform};
use super::pull_progress::Shown;
use crate::engine::images::Pull;
use crate::host::Facts;
use crate::image::StoredImage;
use crate::image::registries::{Configuration, Endpoint, Environment};
use crate::image::store::{ImageStore, StoreLock};
use crate::manifest::{Image, ImageSource, Pod, PullPolicy};
use crate::plan::idmap::IdMapPlan;
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
    found: Vec<(ImageSource, StoredImage)>,
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
    let mut found = Vec::new();
    let mut out = Shown::brief(quiet);
    for (name, (source, policy)) in wanted {
        let here = store.find(&name).map_err(|error| error.into_report(format!("could not look for `{name}`")))?;
        // Credential helpers are programs: they are asked only where a registry is.
        let asks = policy == PullPolicy::Always || (policy == PullPolicy::IfNotPresent && here.is_none());
        let endpoints = if asks { endpoints_of(&source)? } else { Vec::new() };
        let resolved = Pull::new(&store, &source, endpoints).resolve(policy, &platform, &mut out);
        match resolved {
            Ok(image) => found.push((source, image)),
            Err(_) if asking == Asking::Offline => {}
            Err(report) => return Err(report),
        }
    }
    out.finish()
        .map_err(|error| Report::new(exit_code::FAILURE, "could not show a pull").because(error.to_string()))?;
    Ok(Some(Images { store, _lock: lock, found }))
}

impl Images {
    /// As the plan wants them: by the canonical text of the source.
    pub(crate) fn by_source(&self) -> BTreeMap<String, StoredImage> {
        self.found.iter().map(|(source, image)| (source.to_string(), image.clone())).collect()
    }

    /// Unpacks what is not unpacked for this map yet, and fetches what is not here.
    pub(crate) fn bring(&self, idmap: &IdMapPlan, quiet: bool) -> Result<(), Report> {
        let key = idmap.key();
        for (source, image) in &self.found {
            let has = |layer: &crate::image::StoredLayer| self.store.has_tree(&key, layer.diff_id);
            let all = image.layers.iter().map(has).collect::<Result<Vec<_>, _>>();
            let all = all.map_err(|error| error.into_report(format!("could not look for the layers of `{source}`")))?;
            if all.iter().all(|has| *has) {
                continue;
            }
            let mut out = Shown::brief(quiet);
            Pull::new(&self.store, source, endpoints_of(source)?).ensure(image, idmap, &mut out)?;
            // On stderr only: nothing that could fail was written.
            let _ = out.finish();
        }
        Ok(())
    }
}

/// Each image once. Of containers with different policies, the one that asks most counts.
fn wanted(pod: &Pod, asking: Asking) -> BTreeMap<String, (ImageSource, PullPolicy)> {
    let eagerness = |policy: PullPolicy| match policy {
        PullPolicy::Never => 0,
        PullPolicy::IfNotPresent => 1,
        PullPolicy::Always => 2,
    };
    let mut wanted: BTreeMap<String, (ImageSource, PullPolicy)> = BTreeMap::new();
    for container in &pod.spec.containers {
        let Image::Stored(source) = &container.image else { continue };
        let policy = match asking {
            Asking::AsManifest => container.image_pull_policy,
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

fn endpoints_of(source: &ImageSource) -> Result<Vec<Endpoint>, Report> {
    let ImageSource::Registry(reference) = source else { return Ok(Vec::new()) };
    let configuration = Configuration::load(&Environment::of_process()).map_err(|error| {
        Report::new(exit_code::FAILURE, "could not read the configuration of registries").because(error.to_string())
    })?;
    endpoints(&configuration, reference)
}
