//! Decides everything, does nothing: no file, environment, process, clock or chance in here.
//!
//! [`plan`] is the whole interface: the manifest and the host's facts in, every value that the engine needs out.
//! One file per concern: `idmap` (which host id each id is), `sandbox` (puts what pause holds together), `container`
//! (puts one container together from `image`, `root`, `mounts`, `security` and `process`), `arguments` (how much execve(2) takes),
//! `syscall_filter` (which system calls no container makes), `degradation` (what this host cannot give), `layers` (where
//! the writable layers are), `network` (how it reaches the outside), `names` (what it is called), `dns` (who answers for
//! names), `ports` and `host_ports` (which ports of the host lead into it), `sysctls` (settings of its namespaces),
//! `downward` (what a container learns of its pod), `resources` (limits and requests), `cgroup` (where they are written),
//! `storage` (limits of what is on disk), `dirs` (where a pod is on disk, and the index of all pods), `admission` (whether
//! there is room), `render` (a plan as text). A refusal is a [`Report`]; the plan never weakens what the manifest asks.
//!
//! Every manifest struct is destructured without `..` on its way in, so a field that nobody enforces does not compile.

pub mod admission;
mod annotations;
mod arguments;
pub mod cgroup;
mod container;
pub mod degradation;
pub mod dirs;
mod dns;
mod downward;
mod expansion;
#[cfg(test)]
mod fixtures;
mod host_path;
mod host_ports;
pub mod idmap;
mod image;
mod layers;
mod mounts;
mod names;
pub mod network;
pub mod ports;
pub mod process;
pub mod render;
pub mod resources;
mod root;
mod sandbox;
mod security;
pub mod storage;
pub mod syscall_filter;
mod sysctls;
#[cfg(test)]
mod tests;
mod types;
pub mod update;

pub use dirs::PodDirs;
pub use image::merges_layers;
pub use types::*;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::host::{Facts, UserNamespaces};
use crate::image::StoredImage;
use crate::manifest::{Metadata, Pod, PodSpec};
use crate::report::{Report, exit_code};
use annotations::Annotations;
pub use annotations::NETWORK as NETWORK_ANNOTATION;
use idmap::UsernsChoice;
use network::{HostLoopback, Join, NetworkChoice};

/// What the command line adds to the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// 12 hexadecimal digits; chance is the caller's affair.
    pub id: String,
    /// `--name`: instead of `metadata.name`.
    pub name: Option<String>,
    /// `--userns`; with `Auto` the annotation `sandpod.dev/userns` decides, if there is one.
    pub userns: UsernsChoice,
    pub cgroups: CgroupsChoice,
    pub admission: Admission,
    pub asked_in: AskedIn,
    /// `--network`. Without it the manifest decides; without a word there, it is one of the pod's own, through whichever
    /// user-mode network there is, or `lo` alone, by name (`no-network`), where there is none.
    pub network: Option<NetworkChoice>,
    /// `--network pod:NAME`; then `network` says nothing.
    pub join: Option<Join>,
    /// `--allow-host-loopback`
    pub host_loopback: HostLoopback,
    /// `-p`.
    pub publish: Vec<ports::Mapping>,
    /// By [`ImageSource`](crate::manifest::ImageSource) as text; their layers need not be here.
    pub images: BTreeMap<String, StoredImage>,
    pub unknown_images: UnknownImages,
    /// The store's directory.
    pub images_dir: PathBuf,
}

/// What becomes of an image whose configuration is not in [`Request::images`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownImages {
    Refused,
    /// `plan --offline`: the plan says what it does not know, and cannot be done.
    Shown,
}

/// Where the user wrote what the pod asks for: what is said of it names the words that stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedIn {
    Manifest,
    /// `run --image`: `--memory` is spec.containers[0].resources.limits.memory.
    Options,
}

/// `--cgroups`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupsChoice {
    /// Those that are delegated; limits of the manifest that they cannot hold are refused.
    Auto,
    /// None, and limits of the manifest are waived, by name (`no-limits`).
    Disabled,
}

/// Whether the pod's claim is held against what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// `others`: name and claim of each pod that runs.
    Checked { others: Vec<(String, cgroup::Claim)> },
    /// `--overcommit`.
    Waived,
}

/// All that there is to decide from.
struct Inputs<'a> {
    metadata: &'a Metadata,
    spec: &'a PodSpec,
    known: &'a Annotations<'a>,
    main: &'a str,
    facts: &'a Facts,
    request: &'a Request,
}

impl Inputs<'_> {
    fn name(&self) -> &str {
        self.request.name.as_ref().unwrap_or(&self.metadata.name)
    }
}

/// Decides everything about `pod` on the host of `facts`.
///
/// # Errors
/// A manifest that contradicts itself or asks for what must not be (exit code 2), or one that this host cannot run as
/// written (exit code 125); each with its fix where there is one.
pub fn plan(pod: &Pod, facts: &Facts, request: &Request) -> Result<PodPlan, Report> {
    require_user_namespaces(facts)?;
    let Pod { metadata, spec } = pod;
    let known = annotations::read(&metadata.annotations)?;
    let main = main_container(&known, &spec.containers)?;
    let inputs = Inputs { metadata, spec, known: &known, main: &main, facts, request };
    let sandbox::Decided { sandbox, resources, mut degradations } = sandbox::plan(&inputs)?;
    let containers = containers(&inputs, &sandbox, resources)?;
    storage::check(&sandbox.storage, &containers)?;
    degradations.extend(degradation::powerless_capabilities(&spec.containers, &sandbox));
    degradations.extend(image::volumes_left_out(spec, &containers, request));
    degradations.extend(degradation::of_pod(&sandbox, &containers, facts));
    degradations.extend(layers::degradations(&sandbox, &containers, facts));
    let lifecycle =
        LifecyclePlan { restart_policy: spec.restart_policy, termination_grace_period: spec.termination_grace_period };
    Ok(PodPlan { sandbox, containers, main, lifecycle, degradations })
}

fn containers(
    inputs: &Inputs<'_>,
    sandbox: &SandboxPlan,
    resources: Vec<resources::OfContainer>,
) -> Result<Vec<ContainerPlan>, Report> {
    let Inputs { spec, facts, request, .. } = inputs;
    let scope = container::PodScope {
        facts,
        request,
        sandbox,
        siblings: &spec.containers,
        volumes: &spec.volumes,
        container_pid: sandbox::container_pid(&sandbox::Sharing::of(spec, &sandbox.network)),
        security: &spec.security_context,
    };
    let mut plans = Vec::new();
    let mut space = 0;
    for (index, (container, resources)) in spec.containers.iter().zip(resources).enumerate() {
        let plan = container::plan(container, resources, &scope)?;
        space += arguments::used_by(&plan);
        if space > arguments::MOST_OF_POD {
            return Err(arguments::too_many(index));
        }
        plans.push(plan);
    }
    Ok(plans)
}

/// Without a user namespace there is no pod, so this is said before anything else.
fn require_user_namespaces(facts: &Facts) -> Result<(), Report> {
    match &facts.user_namespaces {
        UserNamespaces::Allowed => Ok(()),
        UserNamespaces::Forbidden { switch, value, fix } => {
            Err(Report::new(exit_code::FAILURE, "this host forbids user namespaces, which every pod needs")
                .because(format!("{switch} is {value}"))
                .hint(fix.clone()))
        }
    }
}

/// The first container, unless `kubectl`'s own annotation names another.
fn main_container(known: &Annotations, containers: &[crate::manifest::Container]) -> Result<String, Report> {
    let Some(wanted) = known.default_container else {
        let first = containers.first().ok_or_else(|| Report::new(exit_code::USAGE, "the pod has no container"))?;
        return Ok(first.name.clone());
    };
    if containers.iter().any(|c| c.name == wanted) {
        return Ok(wanted.to_owned());
    }
    let names: Vec<_> = containers.iter().map(|c| format!("`{}`", c.name)).collect();
    Err(Report::new(exit_code::USAGE, format!("annotation {} names no container of the pod", annotations::MAIN))
        .about(annotations::path(annotations::MAIN))
        .because(format!("it says `{wanted}`; the containers are {}", names.join(", "))))
}
