//! `sandpod image rm` and `sandpod image prune`

use std::collections::BTreeSet;
use std::path::Path;

use super::super::arguments::{ImagePruneArguments, ImageRmArguments};
use super::super::table::bytes;
use super::super::{Failure, Outcome, print, pull, source};
use super::{facts, find};
use crate::engine::images::remove_trees;
use crate::host::Facts;
use crate::image::Digest;
use crate::image::store::{Also, Found, ImageStore, Nameless, RemovalLock, StoreError, Used, tree_of};
use crate::plan::idmap;
use crate::plan::{ContainerPlan, PodPlan, RootPlan};
use crate::report::{Report, exit_code};

/// Names go first; then the images that have none now, and what they alone need. Goes on after an image that stays.
pub(crate) fn rm(asked: &ImageRmArguments) -> Outcome {
    let facts = facts()?;
    let store = pull::open_store(&facts)?;
    let lock = lock(&store)?;
    let used = used(&facts, &store)?;
    let mut removed = BTreeSet::new();
    let outcome = super::super::each(&asked.images, |typed| {
        let (image, names) = names_to_remove(&store, typed, asked.force, &used)?;
        removed.insert(image);
        for name in names {
            let removed = store.remove_name(&name);
            removed.map_err(|error| error.into_report(format!("could not remove the name `{name}`")))?;
            print::text(&format!("untagged {name}\n"))?;
        }
        Ok(())
    });
    // Other images without a name are for `prune`.
    let also = Also { nameless: Nameless::These(removed), ..Also::default() };
    let collected = collect(&facts, &store, &lock, &used, &also);
    match (outcome, collected) {
        (outcome, Ok(_)) => outcome,
        (Err(Failure::Reports(mut first)), Err(Failure::Reports(more))) => {
            first.extend(more);
            Err(Failure::Reports(first))
        }
        (_, failed) => failed.map(|_| 0),
    }
}

fn names_to_remove(store: &ImageStore, typed: &str, force: bool, used: &Used) -> Result<(Digest, Vec<String>), Report> {
    let Found { image, name } = find(store, typed)?;
    let all = store.names_of(image.manifest).map_err(|error| error.into_report("could not read the names"))?;
    let all: Vec<String> = all.into_iter().map(|name| name.name).collect();
    let stays = |why: String, hint: &str| {
        Err(Report::new(exit_code::FAILURE, format!("could not remove image `{typed}`")).because(why).hint(hint))
    };
    let names = match name {
        Some(name) => vec![name],
        None if all.len() > 1 && !force => {
            return stays(
                format!("it has several names: {}", all.join(", ")),
                "name one of them, or remove all with -f",
            );
        }
        None => all.clone(),
    };
    if names.len() == all.len() && used.manifests.contains(&image.manifest) && !force {
        return stays(
            "a pod uses it".to_owned(),
            "remove the pod first (`sandpod ps -a`), or remove only the name with -f: the image then stays as long as the pod",
        );
    }
    Ok((image.manifest, names))
}

pub(super) fn prune(asked: &ImagePruneArguments) -> Outcome {
    let facts = facts()?;
    let store = pull::open_store(&facts)?;
    let lock = lock(&store)?;
    let used = used(&facts, &store)?;
    if asked.all {
        for name in store.names().map_err(|error| error.into_report("could not read the names of images"))? {
            if !used.manifests.contains(&name.manifest) {
                let removed = store.remove_name(&name.name);
                removed.map_err(|error| error.into_report(format!("could not remove the name `{}`", name.name)))?;
                print::text(&format!("untagged {}\n", name.name))?;
            }
        }
    }
    let also = Also { nameless: Nameless::All, partial_blobs: true, layer_blobs: asked.blobs };
    let freed = collect(&facts, &store, &lock, &used, &also)?;
    print::notice("freed", &bytes(freed));
    Ok(0)
}

/// Removes what nothing refers to, and prints the images that are gone. Returns the bytes that are free now.
fn collect(facts: &Facts, store: &ImageStore, lock: &RemovalLock, used: &Used, also: &Also) -> Result<u64, Failure> {
    let failed = |error: StoreError| error.into_report("could not remove what no image and no pod refers to");
    let found = store.collect(lock, used, also).map_err(failed)?;
    let (trees, reports) = remove_trees(&found.trees, &idmap::widest(facts));
    // The directories that it has open must be closed before they can go.
    drop(found.trees);
    store.forget_empty_maps(lock).map_err(failed)?;
    print::text(&found.images.iter().map(|image| format!("deleted {image}\n")).collect::<String>())?;
    if reports.is_empty() { Ok(found.bytes + trees) } else { Err(Failure::Reports(reports)) }
}

/// Waits for pulls, and for starts of pods, which may be about to use what nothing refers to yet.
fn lock(store: &ImageStore) -> Result<RemovalLock, Report> {
    let waits = || print::notice("waiting", "another sandpod uses the image store");
    store.exclusive(waits).map_err(|error| error.into_report("could not lock the image store"))
}

/// What pods refer to, also those that have ended: a container of theirs may start again.
fn used(facts: &Facts, store: &ImageStore) -> Result<Used, Report> {
    let mut used = Used::default();
    for pod in source::store(facts).list()? {
        let Some(plan) = &pod.plan else {
            let what = format!("it is not known what pod `{}` uses, since its plan cannot be read", pod.name);
            return Err(Report::new(exit_code::FAILURE, what)
                .because("no image is removed as long as it is there")
                .hint(format!("remove it: sandpod rm -f {}", pod.id)));
        };
        used.manifests.extend(manifests(plan));
        used.trees.extend(trees(plan, store.directory()));
    }
    Ok(used)
}

fn manifests(plan: &PodPlan) -> BTreeSet<Digest> {
    plan.containers.iter().flat_map(ContainerPlan::images).collect()
}

fn trees(plan: &PodPlan, images: &Path) -> Vec<(String, Digest)> {
    let directories = plan.containers.iter().flat_map(|container| match &container.root {
        RootPlan::Overlay { lowers: directories } | RootPlan::Copy { sources: directories } => directories.as_slice(),
        RootPlan::HostTree { links: _, dirs: _, fresh: _ } => &[],
    });
    let of_volumes = plan.containers.iter().flat_map(ContainerPlan::volume_trees);
    directories.chain(of_volumes).filter_map(|directory| tree_of(images, directory)).collect()
}
