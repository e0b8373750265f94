//! From what was typed to a plan: the first half of `run`, and all of `plan`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::arguments::{Cgroups, PullWhen, SourceArguments, image_or_file};
use super::images::{self, Asking, Images};
use super::{adjust, compose, networks, publish};
use crate::host::{self, CgroupQuery, Facts};
use crate::manifest::{self, Image, ManifestErrors, Pod, PullPolicy};
use crate::plan::cgroup::Claim;
use crate::plan::network::NetworkChoice;
use crate::plan::{self, Admission, AskedIn, NETWORK_ANNOTATION, PodPlan, UnknownImages};
use crate::report::{Report, exit_code};
use crate::state::{AdmissionLock, Store};
use crate::step::Step;

/// A manifest is refused above 1 MiB; one byte more is enough to know.
const MAX_MANIFEST: u64 = (1 << 20) + 1;

/// The pod that was asked for, what this host allows, and everything decided about it.
pub(crate) struct Planned {
    pub(crate) facts: Facts,
    pub(crate) plan: PodPlan,
    /// What of the manifest the command line takes the place of.
    pub(crate) replaced: Vec<String>,
    /// Kept in the store as long as this is.
    pub(crate) images: Option<Images>,
}

/// Whether the plan is going to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Show {
        /// No registry is asked.
        offline: bool,
    },
    Run {
        /// No word about images.
        quiet: bool,
    },
}

/// Why there is no plan.
pub(crate) enum Refused {
    /// Of the manifest, each problem with its place.
    Manifest(ManifestErrors),
    Other(Report),
}

impl From<ManifestErrors> for Refused {
    fn from(errors: ManifestErrors) -> Refused {
        Refused::Manifest(errors)
    }
}

impl From<Report> for Refused {
    fn from(report: Report) -> Refused {
        Refused::Other(report)
    }
}

impl Refused {
    pub(crate) fn into_report(self) -> Report {
        match self {
            Refused::Manifest(errors) => errors.into_report(),
            Refused::Other(report) => report,
        }
    }
}

/// Puts the place of the field that a refusal is about on its first line: `web.yaml:7:5: spec.containers[0].args`.
/// `source`: the manifest's bytes and name.
fn located(mut report: Report, source: Option<&(Vec<u8>, String)>) -> Report {
    if let (Some(field), Some((bytes, name))) = (&report.field, source)
        && let Some(position) = manifest::position(bytes, field)
    {
        report.chain.insert(0, format!("{name}:{position}: {field}"));
    }
    report
}

/// A manifest that was read. It is read once: stdin and a FIFO give it only once.
pub(crate) struct Manifest {
    /// Its bytes, and the name that errors give it.
    source: (Vec<u8>, String),
    pod: Pod,
}

/// Checks what no host has to be looked at for, and reads the manifest, if there is one.
pub(crate) fn read(asked: &SourceArguments) -> Result<Option<Manifest>, Refused> {
    if let Some(name) = &asked.name {
        compose::check_name(name)?;
    }
    if asked.host.cgroup_parent.is_some() && asked.host.cgroups == Cgroups::Disabled {
        let what = "--cgroup-parent says where the pod's cgroups are made, --cgroups=disabled that there are none";
        return Err(Report::new(exit_code::USAGE, what).hint("leave one of them out").into());
    }
    let Some(file) = asked.file.as_deref() else { return Ok(None) };
    let (text, name) = read_file(file)?;
    let pod = manifest::parse_bytes(&text, &name)?;
    Ok(Some(Manifest { source: (text, name), pod }))
}

/// What to say of a manifest whose name could be that of an image.
pub(crate) fn is_no_image(asked: &SourceArguments) -> Option<String> {
    let file = asked.file.as_deref().filter(|file| !image_or_file::is_manifest_name(file.as_os_str()))?;
    let name = file.display();
    Some(format!("`{name}` is a file here, and so the manifest; --image {name} means an image of that name"))
}

/// Whether each plan of this pod has another name.
pub(crate) fn makes_up_name(asked: &SourceArguments, manifest: Option<&Manifest>) -> bool {
    asked.name.is_none() && manifest.is_none_or(|manifest| manifest.pod.metadata.generate_name.is_some())
}

/// Composes the pod where there is no manifest, probes the host, and plans. Changes nothing of pods.
pub(crate) fn planned(
    asked: &SourceArguments,
    manifest: Option<&Manifest>,
    purpose: Purpose,
) -> Result<Planned, Refused> {
    let source = manifest.map(|manifest| &manifest.source);
    let mut pod = match manifest {
        Some(manifest) => manifest.pod.clone(),
        None => compose::pod(&asked.single, asked.name.as_deref())?,
    };
    if let Some(prefix) = pod.metadata.generate_name.as_deref().filter(|_| asked.name.is_none()) {
        pod.metadata.name = compose::generated_name(prefix, compose::chance()?);
    }
    adjust::adjust(&asked.pod, &mut pod)?;
    publish::check_host_network(&asked.network, &pod, source)?;
    let publish::Published { mappings, replaced } = publish::publish(&asked.network.publish, &mut pod)?;
    let facts = probe(&pod, asked)?;
    let (asking, quiet) = match purpose {
        Purpose::Show { offline: true } => (Asking::Offline, true),
        Purpose::Show { offline: false } => (asking(asked), true),
        Purpose::Run { quiet } => (asking(asked), quiet),
    };
    let images = images::resolve(&pod, &facts, asking, quiet)?;
    let id = format!("{:012x}", compose::chance()? & 0xffff_ffff_ffff);
    let admission = admission(&plan::resources::claim(&pod.spec), pod.spec.containers.len(), &facts, asked)?;
    let request = plan::Request {
        id,
        name: asked.name.clone(),
        userns: asked.host.userns.into(),
        cgroups: asked.host.cgroups.into(),
        admission,
        asked_in: if asked.file.is_some() { AskedIn::Manifest } else { AskedIn::Options },
        network: asked.network.choice(),
        join: asked.network.of_pod().map(|pod| networks::join(&store(&facts), pod)).transpose()?,
        host_loopback: asked.network.host_loopback(),
        publish: mappings,
        images: images.as_ref().map(Images::by_source).unwrap_or_default(),
        unknown_images: match asking {
            Asking::Offline => UnknownImages::Shown,
            Asking::AsManifest | Asking::For(_) => UnknownImages::Refused,
        },
        images_dir: images_dir(&facts.data_dir.path),
    };
    let plan = plan::plan(&pod, &facts, &request).map_err(|report| located(report, source))?;
    if asked.single.interactive {
        check_stdin(&plan, asked)?;
    }
    Ok(Planned { facts, plan, replaced, images })
}

fn asking(asked: &SourceArguments) -> Asking {
    match asked.pull {
        None => Asking::AsManifest,
        Some(PullWhen::Always) => Asking::For(PullPolicy::Always),
        Some(PullWhen::Missing) => Asking::For(PullPolicy::IfNotPresent),
        Some(PullWhen::Never) => Asking::For(PullPolicy::Never),
    }
}

/// `-i` with a manifest.
fn check_stdin(plan: &PodPlan, asked: &SourceArguments) -> Result<(), Report> {
    if asked.file.as_deref() == Some(Path::new("-")) {
        return Err(Report::new(exit_code::USAGE, "-i passes stdin on, but the manifest is read from it")
            .hint("write the manifest to a file"));
    }
    if plan.containers.iter().any(|container| container.name == plan.main && container.process.stdin) {
        return Ok(());
    }
    Err(Report::new(exit_code::USAGE, format!("-i passes stdin to container `{}`, which has none", plan.main))
        .hint("write `stdin: true` (and `stdinOnce: true` for a stdin that ends with yours) into the container"))
}

/// Where images are kept, in the user's data directory.
pub(crate) fn images_dir(data: &Path) -> PathBuf {
    data.join("images")
}

/// All pods of the user whom `facts` describe.
pub(crate) fn store(facts: &Facts) -> Store {
    Store::new(&facts.runtime_dir.path, &facts.data_dir.path)
}

/// The claims that this pod's is held against.
fn admission(claim: &Claim, containers: usize, facts: &Facts, asked: &SourceArguments) -> Result<Admission, Report> {
    if asked.host.overcommit {
        return Ok(Admission::Waived);
    }
    if *claim == Claim::default() {
        return Ok(Admission::Checked { others: Vec::new() });
    }
    let fits = |others: &Admission| plan::admission::admit(claim, containers, &facts.cgroup.capacity, others).is_ok();
    others(&store(facts), None, fits)
}

/// Measures the planned pod's claim against those of the other pods once more, under a lock that is to be held until the
/// pod's record is made: of two pods that are started at once and fit only one by one, one is refused. Apart from the plan,
/// since the lock must not be held while images are pulled.
pub(crate) fn admit(
    planned: &Planned,
    asked: &SourceArguments,
    manifest: Option<&Manifest>,
) -> Result<Option<AdmissionLock>, Report> {
    let Planned { facts, plan, .. } = planned;
    let (claim, containers) = (&plan.sandbox.claim, plan.containers.len());
    if asked.host.overcommit || *claim == Claim::default() {
        return Ok(None);
    }
    let lock = store(facts).lock_admission()?;
    let admission = admission(claim, containers, facts, asked)?;
    plan::admission::admit(claim, containers, &facts.cgroup.capacity, &admission)
        .map_err(|report| located(report, manifest.map(|manifest| &manifest.source)))?;
    Ok(Some(lock))
}

/// The claims of the pods that run, but for `except`. Where there is room beside all claims that are on disk, no pod is
/// read to learn whether it has ended.
pub(crate) fn others(
    store: &Store,
    except: Option<&str>,
    fits: impl Fn(&Admission) -> bool,
) -> Result<Admission, Report> {
    if let Some(mut others) = store.most_claims() {
        others.retain(|(id, _)| Some(id.as_str()) != except);
        let most = Admission::Checked { others };
        if fits(&most) {
            return Ok(most);
        }
    }
    Ok(Admission::Checked { others: store.claims(except)? })
}

fn probe(pod: &Pod, asked: &SourceArguments) -> Result<Facts, Report> {
    let images = || pod.spec.containers.iter().map(|container| &container.image);
    let rootfs: Vec<PathBuf> = images()
        .filter_map(|image| match image {
            Image::Rootfs(directory) => Some(directory.clone()),
            Image::Host | Image::Stored(_) => None,
        })
        .collect();
    let cgroup = match (&asked.host.cgroup_parent, asked.host.cgroups) {
        (Some(parent), _) => CgroupQuery::Below(parent.clone()),
        (None, Cgroups::Auto) => CgroupQuery::Find,
        (None, Cgroups::Disabled) => CgroupQuery::Skip,
    };
    let annotated = pod.metadata.annotations.get(NETWORK_ANNOTATION).map(String::as_str);
    let pasta = asked.network.choice() == Some(NetworkChoice::Pasta) || annotated == Some(NetworkChoice::Pasta.word());
    host::probe(&host::Asked { host_image: images().any(|image| *image == Image::Host), rootfs, cgroup, pasta })
}

/// The manifest's bytes, never more than the cap, and the name that errors give it. A FIFO is read like a file.
fn read_file(file: &Path) -> Result<(Vec<u8>, String), Report> {
    let (name, opened) = if file == Path::new("-") {
        ("stdin".to_owned(), Ok(None))
    } else {
        (file.display().to_string(), File::open(file).map(Some))
    };
    let mut bytes = Vec::new();
    opened
        .and_then(|opened| match opened {
            Some(file) => file.take(MAX_MANIFEST).read_to_end(&mut bytes),
            None => io::stdin().lock().take(MAX_MANIFEST).read_to_end(&mut bytes),
        })
        .map_err(|error| unreadable(&name, &error))?;
    Ok((bytes, name))
}

fn unreadable(name: &str, error: &io::Error) -> Report {
    let mut report = Report::new(exit_code::USAGE, format!("could not read the manifest {name}"))
        .because(Step::ReadManifest.doing())
        .because(crate::sys::describe_io(error));
    report.cause = error.raw_os_error().map(|errno| (Step::ReadManifest, errno));
    match error.kind() {
        io::ErrorKind::IsADirectory => report.hint("it is a directory: name the file in it"),
        io::ErrorKind::NotFound => report.hint("`-` reads the manifest from stdin"),
        _ => report,
    }
}
