//! Where the command line touches the layers below. One function for each.

use std::path::PathBuf;

use crate::host::{self, Facts};
use crate::manifest::{self, Pod};
use crate::plan::idmap::{self, IdMapPlan, UsernsChoice};
use crate::plan::{self, PodDirs, PodPlan, render};
use crate::report::Report;
use crate::state::CreatedPod;
use crate::step::Step;
use crate::supervisor;
use crate::sys::socket::Channel;

pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) userns: UsernsChoice,
}

pub(crate) use crate::supervisor::{AtEnd, FirstAttach};

pub(crate) fn parse(bytes: &[u8], name: &str) -> Result<Pod, Report> {
    manifest::parse_bytes(bytes, name).map_err(manifest::ManifestErrors::into_report)
}

pub(crate) fn probe(host_image: bool, rootfs: Vec<PathBuf>) -> Result<Facts, Report> {
    host::probe(&host::Asked { host_image, rootfs })
}

pub(crate) fn plan(pod: &Pod, facts: &Facts, request: &Request) -> Result<PodPlan, Report> {
    let Request { id, name, userns } = request;
    plan::plan(pod, facts, &plan::Request { id: id.clone(), name: name.clone(), userns: *userns })
}

pub(crate) fn render(plan: &PodPlan) -> String {
    render::Text(plan).to_string()
}

pub(crate) fn advice(step: Step, errno: i32) -> Option<String> {
    let facts = probe(false, Vec::new()).ok()?;
    host::advice(step, errno, &facts)
}

/// (runtime, data) as `host::probe` chooses them; one rule for all verbs.
pub(crate) fn places() -> Result<(PathBuf, PathBuf), Report> {
    let facts = probe(false, Vec::new())?;
    Ok((facts.runtime_dir.path, facts.data_dir.path))
}

/// Forks the supervisor, which keeps `created.lock`. Its `StartReply` comes on the channel.
pub(crate) fn start_supervisor(
    created: CreatedPod,
    plan: &PodPlan,
    at_end: AtEnd,
    attach: Option<FirstAttach>,
) -> Result<Channel, Report> {
    let what = format!("could not start pod `{}`", plan.sandbox.name);
    supervisor::spawn(created, plan, at_end, attach).map_err(|failure| failure.into_report(what))
}

/// Everything on disk and every live process; errors gathered.
pub(crate) fn remove_pod(dirs: &PodDirs, idmap: &IdMapPlan) -> Vec<Report> {
    crate::engine::remove::remove_pod(dirs, idmap, &[])
}

/// For a pod whose plan cannot be read: with the widest map this user can have, which holds every id it can have used.
pub(crate) fn remove_without_plan(dirs: &PodDirs) -> Vec<Report> {
    match probe(false, Vec::new()) {
        Ok(facts) => remove_pod(dirs, &idmap::widest(&facts)),
        Err(report) => vec![report],
    }
}
