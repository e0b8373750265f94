//! Decides everything, does nothing: no file, environment, process, clock or chance in here.
//!
//! [`plan`] is the whole interface: the manifest and the host's facts in, every value that the engine needs out.
//! One file per concern: `idmap` (which host id stands behind which id), `sandbox` (what pause holds), `container`
//! (puts one container together from `root`, `mounts`, `security` and `process`), `degradation` (what this host cannot
//! give), `network` (how it reaches the outside), `names` (what it is called), `dns` (who answers for names), `ports` and
//! `host_ports` (which ports of the host lead into it), `sysctls` (settings of its namespaces), `downward` (what a
//! container is told of its pod), `resources` (limits and requests), `cgroup` (where they are written), `storage` (limits
//! of what is on disk), `admission` (whether there is room), `render` (a plan as text). A refusal is a [`Report`]; the
//! plan never weakens what the manifest asks.
//!
//! Every manifest struct is destructured without `..` on its way in, so a field that nobody enforces does not compile.

pub mod admission;
mod annotations;
pub mod cgroup;
mod container;
pub mod degradation;
mod dns;
mod downward;
mod expansion;
#[cfg(test)]
mod fixtures;
mod host_ports;
pub mod idmap;
mod mounts;
mod names;
pub mod network;
pub mod ports;
mod process;
pub mod render;
pub mod resources;
mod root;
mod sandbox;
mod security;
pub mod storage;
mod sysctls;
#[cfg(test)]
mod tests;
mod types;
pub mod update;

pub use types::*;

use crate::host::{Facts, UserNamespaces};
use crate::manifest::{Metadata, Pod, PodSpec};
use crate::report::{Report, exit_code};
use annotations::Annotations;
use idmap::{IdMapPlan, UsernsChoice};
use network::{HostLoopback, Join, NetworkChoice, NetworkPlan};

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

/// Decides everything about `pod` on the host of `facts`.
///
/// # Errors
/// A manifest that contradicts itself or asks for what must not be (exit code 2), or one that this host cannot run as
/// written (exit code 125); each with its fix where there is one.
pub fn plan(pod: &Pod, facts: &Facts, request: &Request) -> Result<PodPlan, Report> {
    require_user_namespaces(facts)?;
    let Pod { metadata, spec } = pod;
    let Metadata { name, namespace, labels, annotations } = metadata;
    let PodSpec {
        containers,
        volumes,
        restart_policy,
        termination_grace_period,
        share_process_namespace,
        host_network: _, // by `network`
        host_ipc,
        host_pid,
        // By `names`.
        hostname: _,
        subdomain: _,
        set_hostname_as_fqdn: _,
        host_aliases: _,
        dns_policy: _,
        dns_config: _,
        security_context,
        resources: asked, // decided with the containers' own, by `resources`
    } = spec;
    let Request { id, name: name_asked, publish, .. } = request;

    let known = annotations::read(annotations)?;
    let main = main_container(&known, containers)?;
    let mut degradations = Vec::new();
    let (network, idmap) = network_and_ids(spec, &known, facts, request, &mut degradations)?;
    let sharing = sandbox::Sharing {
        process_namespace: *share_process_namespace,
        host_network: network == NetworkPlan::Host,
        host_ipc: *host_ipc,
        host_pid: *host_pid,
    };
    let name = name_asked.as_ref().unwrap_or(name);
    let volumes_planned = sandbox::volumes(volumes, &sharing);
    let mut namespaces = sandbox::namespaces(&sharing)?;
    let wish = names::Wish::of(name, namespace.as_deref(), spec);
    let names::Names { hostname, etc_files, degradation } = names::decide(&wish, network.inside(), facts)?;
    degradations.extend(degradation);
    let wish = host_ports::Wish { containers, publish, main: &main, proxy_protocol: known.proxy_protocol.as_ref() };
    let ports = host_ports::decide(&wish, namespaces.net, facts)?;
    let (resources, cgroup) = limits(spec, name, &known, facts, request, &mut degradations)?;
    if let cgroup::CgroupPlan::Tree(_) = &cgroup {
        // Its root is the container's own cgroup.
        namespaces.cgroup = NamespaceMode::Container;
    }
    let sysctls = sysctls::decide(&security_context.sysctls, &namespaces, &network, &idmap)?;
    let sandbox = SandboxPlan {
        id: id.clone(),
        name: name.clone(),
        namespace: namespace.clone(),
        labels: labels.clone(),
        annotations: annotations.clone(),
        idmap,
        namespaces,
        dirs: sandbox::dirs(id, facts),
        memory_volumes: volumes_planned.memory,
        disk_volumes: volumes_planned.disk,
        host_paths: volumes_planned.host_paths,
        etc_files,
        sysctls,
        port_targets: host_ports::targets(&ports, &network),
        network,
        hostname,
        ports,
        cgroup,
        resources: asked.clone(),
        qos: resources.qos,
        memory_total: facts.cgroup.capacity.memory_total,
        storage: storage::decide(containers, volumes),
        claim: resources.claim,
    };
    let scope = container::PodScope {
        facts,
        sandbox: &sandbox,
        siblings: containers,
        volumes,
        container_pid: sandbox::container_pid(&sharing),
        security: security_context,
    };
    let containers = containers
        .iter()
        .zip(resources.containers)
        .map(|(container, resources)| container::plan(container, resources, &scope))
        .collect::<Result<Vec<_>, _>>()?;
    storage::check(&sandbox.storage, &containers)?;
    degradations.extend(degradation::of_pod(&sandbox, &containers, facts));
    let lifecycle =
        LifecyclePlan { restart_policy: *restart_policy, termination_grace_period: *termination_grace_period };
    Ok(PodPlan { sandbox, containers, main, lifecycle, degradations })
}

/// A network that is joined brings its user namespace along, so the two are one decision.
fn network_and_ids(
    spec: &PodSpec,
    known: &Annotations,
    facts: &Facts,
    request: &Request,
    degradations: &mut Vec<Degradation>,
) -> Result<(NetworkPlan, IdMapPlan), Report> {
    let wish = network::Wish {
        choice: request.network,
        annotated: known.network,
        host_network: spec.host_network,
        host_pid: spec.host_pid,
        host_loopback: request.host_loopback,
    };
    if let Some(join) = &request.join {
        return network::join(wish, join, request.userns);
    }
    let wanted = idmap::Wish::new(request.userns, known);
    let (idmap, few_ids) = idmap::decide(facts, &wanted, &spec.containers, &spec.volumes)?;
    let (network, no_network) = network::decide(wish, &facts.network)?;
    degradations.extend(few_ids.into_iter().chain(no_network));
    Ok((network, idmap))
}

/// What the pod may use, where that is written, and whether there is room for it.
fn limits(
    spec: &PodSpec,
    name: &str,
    known: &Annotations,
    facts: &Facts,
    request: &Request,
    degradations: &mut Vec<Degradation>,
) -> Result<(resources::Decided, cgroup::CgroupPlan), Report> {
    let mut resources = resources::decide(spec, known, &facts.cgroup.capacity)?;
    if request.asked_in == AskedIn::Options {
        resources.name_options();
    }
    let (cgroup, no_cgroups) = cgroup::place((name, &request.id), &mut resources, &facts.cgroup, request.cgroups)?;
    admission::admit(&resources.claim, spec.containers.len(), &facts.cgroup.capacity, &request.admission)?;
    degradations.extend(no_cgroups);
    Ok((resources, cgroup))
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
        .because(format!("it says `{wanted}`; the containers are {}", names.join(", "))))
}
