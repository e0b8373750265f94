//! `sandpod image`: what is in the store.

mod archive;
mod inspect;
mod ls;
mod rm;

use super::arguments::{ImageArguments, ImageTagArguments, ImageVerb};
use super::{Outcome, images, login, pull, push};
use crate::host::{self, CgroupQuery, Facts};
use crate::image::store::{Found, ImageStore};
use crate::image::{Digest, StoredImage};
use crate::manifest::ImageSource;
use crate::report::{Report, exit_code};

pub(crate) use archive::{load, save};
pub(crate) use ls::ls;
pub(crate) use rm::rm;

pub(crate) fn image(asked: &ImageArguments) -> Outcome {
    match &asked.verb {
        ImageVerb::Ls(asked) => ls(asked),
        ImageVerb::Inspect(asked) => inspect::inspect(asked),
        ImageVerb::History(asked) => inspect::history(asked),
        ImageVerb::Tag(asked) => tag(asked),
        ImageVerb::Rm(asked) => rm(asked),
        ImageVerb::Prune(asked) => rm::prune(asked),
        ImageVerb::Load(asked) => load(asked),
        ImageVerb::Save(asked) => save(asked),
        ImageVerb::Pull(asked) => pull::pull(asked),
        ImageVerb::Push(asked) => push::push(asked),
        ImageVerb::Login(asked) => login::login(asked),
        ImageVerb::Logout(asked) => login::logout(asked),
    }
}

fn facts() -> Result<Facts, Report> {
    host::probe(&host::Asked { host_image: false, rootfs: Vec::new(), cgroup: CgroupQuery::Skip, pasta: false })
}

/// What was typed: a name as `pull` and `run` understand it, or the beginning of a digest.
pub(crate) fn find(store: &ImageStore, typed: &str) -> Result<Found, Report> {
    let failed = |error: crate::image::store::StoreError| error.into_report(format!("could not look for `{typed}`"));
    let meanings = ImageSource::parse(typed).ok().map(|source| images::meanings(&source));
    for name in meanings.iter().flatten().flatten() {
        if let Some(found) = store.find_typed(typed, Some(&name.to_string())).map_err(failed)? {
            return Ok(found);
        }
    }
    if let Some(found) = store.find_typed(typed, None).map_err(failed)? {
        return Ok(found);
    }
    // What a short name means is of no interest where it is the beginning of a digest.
    Err(meanings.and_then(Result::err).unwrap_or_else(|| {
        Report::new(exit_code::FAILURE, format!("there is no image `{typed}`"))
            .hint(format!("`sandpod image ls` lists the images; `sandpod pull {typed}` fetches it"))
    }))
}

/// As docker shows an image: 12 digits of its configuration's digest.
fn id(image: &StoredImage) -> String {
    image.config_digest.hex().chars().take(12).collect()
}

/// Bytes of a blob that is here.
fn blob_bytes(store: &ImageStore, digest: Digest) -> u64 {
    store.blob(digest).ok().flatten().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len())
}

fn tag(asked: &ImageTagArguments) -> Outcome {
    let store = pull::open_store(&facts()?)?;
    let _lock = store.shared().map_err(|error| error.into_report("could not lock the image store"))?;
    let found = find(&store, &asked.image)?;
    let reference = pull::parse(&asked.name)?;
    if reference.digest.is_some() {
        let what = format!("`{}` has a digest, which no other image can have", asked.name);
        return Err(Report::new(exit_code::USAGE, what).hint("name a tag: [REGISTRY/]NAME:TAG").into());
    }
    let name = reference.to_string();
    let named = store.set_name(&name, found.image.manifest);
    named.map_err(|error| error.into_report(format!("could not give the image the name `{name}`")))?;
    Ok(0)
}
