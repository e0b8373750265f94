//! `sandpod pull`

use super::arguments::PullArguments;
use super::pull_progress::Shown;
use super::{Failure, Outcome, compose, print};
use crate::engine::images::Pull;
use crate::host::{self, CgroupQuery, Facts};
use crate::image::platform::Platform;
use crate::image::registries::{Configuration, Endpoint, Environment};
use crate::image::store::{ImageStore, directory_in};
use crate::manifest::image_reference::{self, ImageReference};
use crate::manifest::{ImageSource, PullPolicy};
use crate::plan;
use crate::plan::idmap::{self, IdMapPlan};
use crate::report::{Report, exit_code};
use crate::sys::probe;

/// Fetches each image and unpacks it; goes on after one that fails.
pub(crate) fn pull(asked: &PullArguments) -> Outcome {
    let query = host::Asked { host_image: false, rootfs: Vec::new(), cgroup: CgroupQuery::Skip, pasta: false };
    let facts = host::probe(&query)?;
    let idmap = idmap::of_images(&facts, asked.userns.into())?;
    let configuration = registries()?;
    let store = open_store(&facts)?;
    let _lock = store.shared().map_err(|error| error.into_report("could not lock the image store"))?;
    let platform = platform(asked.platform.as_deref())?;
    super::each(&asked.images, |typed| {
        // Each gets its own name in the store: what another registry calls `nginx` is not docker.io's.
        let mut failed = Vec::new();
        for (source, endpoints) in candidates(&configuration, &compose::stored(typed)?)? {
            let mut pull = Pull::new(&store, &source, endpoints);
            match pull_one(&mut pull, asked, &platform, (&facts, &idmap), &source.to_string()) {
                Err(Failure::Reports(reports)) => failed.extend(reports),
                other => return other,
            }
        }
        Err(Failure::Reports(failed))
    })
}

fn pull_one(
    pull: &mut Pull<'_>,
    asked: &PullArguments,
    platform: &Platform,
    (facts, idmap): (&Facts, &IdMapPlan),
    name: &str,
) -> Result<(), Failure> {
    let mut out = Shown::new(asked.quiet, asked.json);
    let image = pull.resolve(PullPolicy::Always, platform, &mut out)?;
    pull.ensure(&image, plan::merges_layers(&image, facts), idmap, &mut out)?;
    out.finish()?;
    if asked.json {
        let unpacked_for = idmap.mode.word();
        let line =
            serde_json::json!({ "event": "done", "image": name, "manifest": image.manifest, "idMap": unpacked_for });
        return Ok(print::text(&format!("{line}\n"))?);
    }
    if asked.quiet {
        return Ok(print::text(&format!("{}\n", image.manifest))?);
    }
    let mode = idmap.mode.word();
    out.line(&format!("unpacked for pods with the id map `{mode}`: {}", idmap.why));
    Ok(print::text(&format!("{name}@{}\n", image.manifest))?)
}

/// registries.conf and what belongs to it; says what of it is ignored.
pub(crate) fn registries() -> Result<Configuration, Report> {
    let configuration = Configuration::load(&Environment::of_process()).map_err(|error| {
        Report::new(exit_code::FAILURE, "could not read the configuration of registries").because(error.to_string())
    })?;
    configuration.warnings.iter().for_each(|warning| print::notice("warning", warning));
    Ok(configuration)
}

/// The store of the user whom `facts` describe.
pub(crate) fn open_store(facts: &Facts) -> Result<ImageStore, Report> {
    ImageStore::open(&directory_in(&facts.data_dir.path))
        .map_err(|error| error.into_report("could not open the image store"))
}

/// What was typed, or this machine.
pub(crate) fn platform(typed: Option<&str>) -> Result<Platform, Report> {
    match typed {
        Some(typed) => Platform::parse(typed)
            .map_err(|why| Report::new(exit_code::USAGE, "--platform is not understood").because(why)),
        None => {
            let system = probe::uname().map_err(|error| {
                Report::new(exit_code::FAILURE, "could not learn this machine's architecture")
                    .because(error.to_string())
            })?;
            Ok(Platform::of_machine(&system.machine))
        }
    }
}

/// What a source may mean, in the order to try, and where each may be had; of a short name it can be several.
fn candidates(
    configuration: &Configuration,
    source: &ImageSource,
) -> Result<Vec<(ImageSource, Vec<Endpoint>)>, Report> {
    let ImageSource::Registry(reference) = source else { return Ok(vec![(source.clone(), Vec::new())]) };
    let refused = |error: crate::image::registries::Refused| {
        Report::new(exit_code::FAILURE, format!("could not pull `{reference}`")).because(error.to_string())
    };
    let candidates = configuration.candidates(reference).map_err(refused)?;
    let endpoints = |candidate: ImageReference| {
        let endpoints = configuration.endpoints(&candidate).map_err(refused)?;
        Ok((ImageSource::Registry(candidate), endpoints))
    };
    candidates.into_iter().map(endpoints).collect()
}

pub(crate) fn parse(typed: &str) -> Result<ImageReference, Report> {
    image_reference::parse(typed.strip_prefix("docker://").unwrap_or(typed)).map_err(|error| {
        Report::new(exit_code::USAGE, format!("`{typed}` is not the name of an image")).because(error.to_string())
    })
}
