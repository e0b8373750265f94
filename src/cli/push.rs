//! `sandpod push`

use super::arguments::PushArguments;
use super::pull_progress::Shown;
use super::{Outcome, image, print, pull};
use crate::engine::images;
use crate::host::{self, CgroupQuery};
use crate::manifest::image_reference;
use crate::report::{Report, exit_code};

pub(crate) fn push(asked: &PushArguments) -> Outcome {
    let query = host::Asked { host_image: false, rootfs: Vec::new(), cgroup: CgroupQuery::Skip, pasta: false };
    let facts = host::probe(&query)?;
    let configuration = pull::registries()?;
    let store = pull::open_store(&facts)?;
    let _lock = store.shared().map_err(|error| error.into_report("could not lock the image store"))?;
    let typed = asked.image.strip_prefix("docker://").unwrap_or(&asked.image);
    let found = image::find(&store, typed)?;
    let name = match (&asked.destination, found.name) {
        (Some(destination), _) => destination.clone(),
        (None, Some(name)) => name,
        (None, None) => {
            return Err(Report::new(
                exit_code::USAGE,
                format!("`{typed}` is a digest and does not say where to push to"),
            )
            .hint("name a destination: sandpod push DIGEST REGISTRY/NAME:TAG")
            .into());
        }
    };
    let reference = pull::parse(&name)?;
    let refused = |error: crate::image::registries::Refused| {
        Report::new(exit_code::FAILURE, format!("could not push {reference}")).because(error.to_string())
    };
    let endpoint = configuration.destination(&reference).map_err(refused)?;
    let names = store.names_of(found.image.manifest);
    let names = names.map_err(|error| error.into_report("could not read the names of the image"))?;
    // The registry may have the blobs by another name of the same image.
    let others = names.iter().filter_map(|name| image_reference::parse(&name.name).ok());
    let others: Vec<String> = others
        .filter(|other| other.registry == reference.registry && other.repository != reference.repository)
        .map(|other| other.repository)
        .collect();
    let mut out = Shown::new(asked.quiet, asked.json);
    images::push(&store, &found.image, &reference.to_string(), &endpoint, &others, &mut out)?;
    out.finish()?;
    let manifest = found.image.manifest;
    if asked.json {
        let line = serde_json::json!({ "event": "done", "image": reference.to_string(), "manifest": manifest });
        return Ok(print::text(&format!("{line}\n"))?).map(|()| 0);
    }
    Ok(print::text(&if asked.quiet { format!("{manifest}\n") } else { format!("{reference}@{manifest}\n") })?)
        .map(|()| 0)
}
