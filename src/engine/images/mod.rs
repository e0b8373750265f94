//! Brings images into the store: the manifest before the plan, the layers after it, since the plan decides the id map.
//!
//! Three processes with three levels of trust (docs/decisions/0031): the command, which is this module; the *puller*, which
//! talks to registries; an *unpacker* for each layer. The command is single-threaded, gives each what it needs, and compares
//! digests before it believes a document.

mod layers;
mod progress;
mod puller;
mod puller_role;
mod push;
mod removal;
mod unpacker;
mod unpacker_role;

pub use progress::{BlobPushed, Event, Progress, Silent};
pub use push::push;
pub use removal::remove_trees;

use layers::Layers;
use puller::{Document, Puller, Trouble};

use crate::image::archive;
use crate::image::descriptor::{self, Descriptor, Document as Parsed};
use crate::image::platform::{self, Platform};
use crate::image::registries::Endpoint;
use crate::image::store::{ImageStore, StoreError};
use crate::image::{Digest, StoredImage};
use crate::manifest::{ImageSource, PullPolicy};
use crate::plan::idmap::IdMapPlan;
use crate::report::{Report, exit_code};

/// Plays the role of the puller or of the unpacker when the first word of the command line names it, and does not return then.
/// Looked at before anything else.
pub fn play() {
    puller_role::play();
    unpacker_role::play();
}

/// Asks a registry, by the puller, whether it takes the credentials of an endpoint.
///
/// # Errors
/// It does not, or it cannot be asked.
pub fn check_login(endpoint: &Endpoint) -> Result<(), Report> {
    let mut puller = Puller::start(std::slice::from_ref(endpoint))?;
    puller.login(0)?.map(drop).map_err(|Trouble { why, hint, is_final: _ }| {
        let report = Report::new(exit_code::FAILURE, format!("could not log in to {}", endpoint.host)).because(why);
        match hint {
            Some(hint) => report.hint(hint),
            None => report,
        }
    })
}

/// One image that is wanted. The caller holds the store's shared lock meanwhile.
pub struct Pull<'s> {
    store: &'s ImageStore,
    source: &'s ImageSource,
    /// The canonical name in the store.
    name: String,
    /// In the order to ask.
    endpoints: Vec<Endpoint>,
    /// Started when a registry is asked first.
    puller: Option<Puller>,
    /// The endpoint that had the manifest; it is asked for layers first.
    from: usize,
}

impl<'s> Pull<'s> {
    #[must_use]
    pub fn new(store: &'s ImageStore, source: &'s ImageSource, endpoints: Vec<Endpoint>) -> Pull<'s> {
        Pull { store, source, name: source.to_string(), endpoints, puller: None, from: 0 }
    }

    /// The image by its manifest and configuration, from the store or from a registry, as the policy says. It has its name
    /// in the store then.
    ///
    /// # Errors
    /// It is not here and must not or cannot be fetched.
    pub fn resolve(
        &mut self,
        policy: PullPolicy,
        wanted: &Platform,
        out: &mut dyn Progress,
    ) -> Result<StoredImage, Report> {
        let here = self.store.find(&self.name).map_err(|error| self.of_store(error))?;
        let here = here.filter(|image| runs_on(wanted, image));
        match (policy, here) {
            (PullPolicy::Never | PullPolicy::IfNotPresent, Some(image)) => Ok(image),
            (PullPolicy::Never, None) => {
                Err(Report::new(exit_code::FAILURE, format!("image `{}` is not in the store", self.name))
                    .because(format!("it was not fetched, since the pull policy is Never (for {wanted})"))
                    .hint(format!("fetch it: sandpod pull {}", self.name)))
            }
            (PullPolicy::Always | PullPolicy::IfNotPresent, _) => self.fetch(wanted, out),
        }
    }

    /// Unpacks all layers for an id map, each to a tree of its own or merged into one; fetches those whose blobs are not in
    /// the store.
    ///
    /// # Errors
    /// A layer that cannot be fetched or unpacked.
    pub fn ensure(
        &mut self,
        image: &StoredImage,
        merged: bool,
        idmap: &IdMapPlan,
        out: &mut dyn Progress,
    ) -> Result<(), Report> {
        let layers = Layers::new(self, idmap, out)?;
        if merged { layers.bring_merged(image) } else { layers.bring(image) }
    }

    fn fetch(&mut self, wanted: &Platform, out: &mut dyn Progress) -> Result<StoredImage, Report> {
        if self.source.path().is_some() {
            let image = archive::import(self.store, self.source, wanted);
            let image = image.map_err(|error| self.failed(error.to_string()))?;
            return check_platform(wanted, &image).map_err(|why| self.failed(why)).map(|()| image);
        }
        let mut troubles = Vec::new();
        for endpoint in 0..self.endpoints.len() {
            let host = self.endpoints[endpoint].host.clone();
            out.say(&Event::Asking { image: &self.name, host: &host });
            match self.fetch_from(endpoint, wanted)? {
                Ok(image) => {
                    self.from = endpoint;
                    let bytes = image.layers.iter().map(|layer| layer.size).sum();
                    let (manifest, layers) = (image.manifest, image.layers.len());
                    let platform = image.platform.to_string();
                    out.say(&Event::Resolved { image: &self.name, manifest, platform: &platform, layers, bytes });
                    return Ok(image);
                }
                Err(trouble) if trouble.is_final || endpoint + 1 == self.endpoints.len() => {
                    troubles.push(trouble);
                    break;
                }
                Err(trouble) => {
                    out.say(&Event::NextEndpoint { host: &host, why: &trouble.why });
                    troubles.push(trouble);
                }
            }
        }
        Err(self.report_of(troubles))
    }

    /// Index, manifest and configuration, as far as they are not in the store.
    fn fetch_from(&mut self, endpoint: usize, wanted: &Platform) -> Result<Result<StoredImage, Trouble>, Report> {
        let reference = self.endpoints[endpoint].reference.clone();
        let mut document = match self.puller()?.manifest(endpoint, &reference)? {
            Ok(document) => document,
            Err(trouble) => return Ok(Err(trouble)),
        };
        if let Err(why) = check_digest(&document, reference.parse().ok()) {
            return Ok(Err(useless(why)));
        }
        let manifest = match descriptor::parse(&document.bytes, &document.media_type) {
            Ok(Parsed::Manifest(manifest)) => manifest,
            Ok(Parsed::Index(images)) => {
                let chosen = match choose(wanted, &images) {
                    Ok(chosen) => chosen,
                    Err(why) => return Ok(Err(useless(why))),
                };
                if let Some(image) = self.store.image(chosen.digest).map_err(|error| self.of_store(error))? {
                    return self.name_it(image).map(Ok);
                }
                document = match self.puller()?.manifest(endpoint, &chosen.digest.to_string())? {
                    Ok(document) => document,
                    Err(trouble) => return Ok(Err(trouble)),
                };
                if let Err(why) = check_digest(&document, Some(chosen.digest)) {
                    return Ok(Err(useless(why)));
                }
                match descriptor::parse(&document.bytes, &document.media_type) {
                    // `; charset=utf-8` says nothing of it (RFC 9110, 8.3).
                    Ok(Parsed::Manifest(manifest)) if essence(&document.media_type) == chosen.media_type => manifest,
                    Ok(_) => {
                        let (sent, says) = (&document.media_type, &chosen.media_type);
                        return Ok(Err(useless(format!("the index names a `{says}`, and it was sent as `{sent}`"))));
                    }
                    Err(error) => return Ok(Err(useless(error.to_string()))),
                }
            }
            Err(error) => return Ok(Err(useless(error.to_string()))),
        };
        let digest = Digest::of(&document.bytes);
        if let Some(image) = self.store.image(digest).map_err(|error| self.of_store(error))? {
            return match check_platform(wanted, &image) {
                Ok(()) => self.name_it(image).map(Ok),
                Err(why) => Ok(Err(useless(why))),
            };
        }
        let config = match self.puller()?.config(endpoint, manifest.config.digest, manifest.config.size)? {
            Ok(config) => config,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let image = match StoredImage::parse(&document.bytes, &config.bytes) {
            Ok(image) => image,
            Err(error) => return Ok(Err(useless(error.to_string()))),
        };
        if let Err(why) = check_platform(wanted, &image) {
            return Ok(Err(useless(why)));
        }
        self.store.add(&document.bytes, &config.bytes, &image).map_err(|error| self.of_store(error))?;
        self.name_it(image).map(Ok)
    }

    fn name_it(&self, image: StoredImage) -> Result<StoredImage, Report> {
        self.store.set_name(&self.name, image.manifest).map_err(|error| self.of_store(error))?;
        Ok(image)
    }

    fn puller(&mut self) -> Result<&mut Puller, Report> {
        let started = match self.puller.take() {
            Some(puller) => puller,
            None => Puller::start(&self.endpoints)?,
        };
        Ok(self.puller.insert(started))
    }

    fn failed(&self, why: impl Into<String>) -> Report {
        Report::new(exit_code::FAILURE, format!("could not pull `{}`", self.name)).because(why)
    }

    fn of_store(&self, error: StoreError) -> Report {
        error.into_report(format!("could not pull `{}`", self.name))
    }

    /// All places that were asked; the hint of the last one, since mirrors come before it.
    fn report_of(&self, troubles: Vec<Trouble>) -> Report {
        let mut report = Report::new(exit_code::FAILURE, format!("could not pull `{}`", self.name));
        for trouble in troubles {
            report = report.because(trouble.why);
            report.hint = trouble.hint;
        }
        report
    }
}

fn runs_on(wanted: &Platform, image: &StoredImage) -> bool {
    platform::choose(wanted, &[(image.platform.clone(), ())]).is_some()
}

fn check_platform(wanted: &Platform, image: &StoredImage) -> Result<(), String> {
    if runs_on(wanted, image) {
        return Ok(());
    }
    Err(format!("it is an image for {}, and {wanted} is wanted", image.platform))
}

fn choose(wanted: &Platform, images: &[(Platform, Descriptor)]) -> Result<Descriptor, String> {
    platform::choose(wanted, images).cloned().ok_or_else(|| {
        let mut there: Vec<String> = images.iter().map(|(platform, _)| platform.to_string()).collect();
        there.dedup();
        let there = if there.is_empty() { "none at all".to_owned() } else { there.join(", ") };
        format!("it has no image for {wanted}; it has: {there}")
    })
}

fn check_digest(document: &Document, expected: Option<Digest>) -> Result<(), String> {
    let found = Digest::of(&document.bytes);
    match expected {
        Some(expected) if expected != found => Err(format!("the document has the digest {found}, not {expected}")),
        _ => Ok(()),
    }
}

/// A media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// What an endpoint sent is of no use. Another may have better: a mirror may be out of date, or broken.
fn useless(why: String) -> Trouble {
    Trouble { why, hint: None, is_final: false }
}

fn could_not(what: &str, why: impl Into<String>) -> Report {
    Report::new(exit_code::FAILURE, format!("could not {what}")).because(why)
}
