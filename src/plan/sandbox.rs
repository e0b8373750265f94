//! Puts the pod together but for its containers: what pause holds, and all that is decided for the pod as a whole.

use super::cgroup::{self, CgroupPlan};
use super::idmap::{self, IdMapPlan, UsernsMode};
use super::network::{self, NetworkPlan};
use super::ports::PublishedPort;
use super::{
    AskedIn, Degradation, EnterFile, HostPathPlan, Inputs, MemoryVolume, NamespaceMode, PodDirs, SandboxNamespaces,
    SandboxPlan, admission, host_ports, layers, names, resources, security, storage, sysctls,
};
use crate::host::Facts;
use crate::manifest::{Container, Metadata, PodSpec, Volume, VolumeSource};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// containerd's default for a sandbox's /dev/shm, in bytes.
const SHM_SIZE: u64 = 64 << 20;

/// The pod, and what is left to decide about its containers.
pub(super) struct Decided {
    pub(super) sandbox: SandboxPlan,
    /// In the order of the containers.
    pub(super) resources: Vec<resources::OfContainer>,
    pub(super) degradations: Vec<Degradation>,
}

pub(super) fn plan(inputs: &Inputs<'_>) -> Result<Decided, Report> {
    let Inputs { metadata, spec, facts, request, .. } = inputs;
    let Metadata { name: _, generate_name: _, namespace, labels, annotations } = metadata; // `Inputs::name`
    let PodSpec {
        containers,
        volumes,
        restart_policy: _, // by `plan`
        termination_grace_period: _,
        share_process_namespace: _, // by `Sharing`
        host_network: _,
        host_ipc: _,
        host_pid: _,
        hostname: _, // by `names`
        subdomain: _,
        set_hostname_as_fqdn: _,
        host_aliases: _,
        dns_policy: _,
        dns_config: _,
        security_context,
        resources: resources_asked, // decided with the containers' own, by `resources`
    } = spec;
    let mut degradations = Vec::new();

    let (network, idmap) = network_and_ids(inputs, &mut degradations)?;
    let sharing = Sharing::of(spec, &network);
    let namespaces = namespaces(&sharing)?;
    let names = names(inputs, &network, &mut degradations)?;
    let ports = ports(inputs, namespaces.net)?;
    let (resources, cgroup) = limits(inputs, &mut degradations)?;
    let namespaces = SandboxNamespaces { cgroup: cgroup_namespace(&cgroup), ..namespaces };
    let sysctls = sysctls::decide(&security_context.sysctls, &namespaces, &network, &idmap)?;
    let Volumes { memory, disk, host_paths } = volumes_of(volumes, &sharing);

    let sandbox = SandboxPlan {
        enter: enter_file(&idmap, containers, facts),
        id: request.id.clone(),
        name: inputs.name().to_owned(),
        namespace: namespace.clone(),
        labels: labels.clone(),
        annotations: annotations.clone(),
        idmap,
        namespaces,
        dirs: dirs(&request.id, facts),
        layers: layers::place(&request.id, facts).unwrap_or_default(),
        memory_volumes: memory,
        disk_volumes: disk,
        host_paths,
        etc_files: names.etc_files,
        sysctls,
        port_targets: host_ports::targets(&ports, &network),
        network,
        hostname: names.hostname,
        ports,
        cgroup,
        resources: resources_asked.clone(),
        qos: resources.qos,
        memory_total: facts.cgroup.capacity.memory_total,
        storage: storage::decide(containers, volumes),
        claim: resources.claim,
    };
    Ok(Decided { sandbox, resources: resources.containers, degradations })
}

/// A network that is joined brings its user namespace along, so the two are one decision.
fn network_and_ids(
    inputs: &Inputs<'_>,
    degradations: &mut Vec<Degradation>,
) -> Result<(NetworkPlan, IdMapPlan), Report> {
    let Inputs { spec, known, facts, request, .. } = inputs;
    let asked = &spec.security_context.sysctls;
    let host_paths = spec.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::HostPath { path, .. } => Some(path.as_path()),
        VolumeSource::EmptyDirDisk { .. } | VolumeSource::EmptyDirMemory { .. } | VolumeSource::Image { .. } => None,
    });
    let wish = network::Wish {
        choice: request.network,
        annotated: known.network,
        host_network: spec.host_network,
        host_pid: spec.host_pid,
        host_procfs: network::shows_processes(host_paths, &facts.procfs_points),
        tracer: spec.containers.iter().find(|c| security::may_trace(&c.security_context)).map(|c| c.name.as_str()),
        host_loopback: request.host_loopback,
        ipv6_off: sysctls::ipv6_off(asked.iter().map(|sysctl| (sysctl.file.as_path(), sysctl.value.as_str())))
            .is_some(),
    };
    let wanted = idmap::Wish::new(request.userns, known);
    if let Some(join) = &request.join {
        return network::join(wish, join, &wanted, &facts.procfs_points);
    }
    let (idmap, few_ids) = idmap::decide(facts, &wanted, &spec.containers, &spec.volumes)?;
    let (network, lost) = network::decide(wish, &facts.network)?;
    degradations.extend(few_ids.into_iter().chain(lost));
    Ok((network, idmap))
}

/// A process that executes a memfd of yours is open to SYS_PTRACE where you have an id in the pod. Nothing else is, so only
/// such a pod pays for the other file.
fn enter_file(idmap: &IdMapPlan, containers: &[Container], facts: &Facts) -> EnterFile {
    // Of a tmpfs, in a user namespace (the kernel's commit 7a80e5b8c6fa).
    const IDMAPPED_TMPFS: (u32, u32) = (6, 3);
    let you_are_inside = match idmap.mode {
        UsernsMode::RootIsYou | UsernsMode::Single => true,
        UsernsMode::Isolated => false,
    };
    let traced = containers.iter().any(|container| security::may_trace(&container.security_context));
    if you_are_inside && traced && facts.kernel >= IDMAPPED_TMPFS { EnterFile::Unmapped } else { EnterFile::Memory }
}

fn names(
    inputs: &Inputs<'_>,
    network: &NetworkPlan,
    degradations: &mut Vec<Degradation>,
) -> Result<names::Names, Report> {
    let wish = names::Wish::of(inputs.name(), inputs.metadata.namespace.as_deref(), inputs.spec);
    let mut names = names::decide(&wish, network.inside(), inputs.facts)?;
    degradations.append(&mut names.degradations);
    Ok(names)
}

fn ports(inputs: &Inputs<'_>, net: NamespaceMode) -> Result<Vec<PublishedPort>, Report> {
    let wish = host_ports::Wish {
        containers: &inputs.spec.containers,
        publish: &inputs.request.publish,
        main: inputs.main,
        proxy_protocol: inputs.known.proxy_protocol.as_ref(),
    };
    host_ports::decide(&wish, net, inputs.facts)
}

/// What the pod may use, where that is written, and whether there is room for it.
fn limits(
    inputs: &Inputs<'_>,
    degradations: &mut Vec<Degradation>,
) -> Result<(resources::Decided, CgroupPlan), Report> {
    let Inputs { spec, known, facts, request, .. } = inputs;
    let mut resources = resources::decide(spec, known, &facts.cgroup.capacity)?;
    if request.asked_in == AskedIn::Options {
        resources.name_options();
    }
    let name = (inputs.name(), request.id.as_str());
    let (cgroup, no_cgroups) = cgroup::place(name, &mut resources, &facts.cgroup, request.cgroups)?;
    admission::admit(&resources.claim, spec.containers.len(), &facts.cgroup.capacity, &request.admission)?;
    degradations.extend(no_cgroups);
    Ok((resources, cgroup))
}

/// What the pod shares with the host, and its containers with each other.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sharing {
    pub(super) process_namespace: bool,
    pub(super) host_network: bool,
    pub(super) host_ipc: bool,
    pub(super) host_pid: bool,
}

impl Sharing {
    /// `hostNetwork` is one of several words about the network, which decides between them.
    pub(super) fn of(spec: &PodSpec, network: &NetworkPlan) -> Sharing {
        Sharing {
            process_namespace: spec.share_process_namespace,
            host_network: *network == NetworkPlan::Host,
            host_ipc: spec.host_ipc,
            host_pid: spec.host_pid,
        }
    }
}

pub(super) fn namespaces(sharing: &Sharing) -> Result<SandboxNamespaces, Report> {
    if sharing.host_pid && sharing.process_namespace {
        // Kubernetes' own rule (ValidatePodSpec): one of them would have to be dropped in silence.
        return Err(Report::new(exit_code::USAGE, "hostPID and shareProcessNamespace cannot both be true"));
    }
    let node_if = |host: bool| if host { NamespaceMode::Node } else { NamespaceMode::Pod };
    Ok(SandboxNamespaces {
        pid: node_if(sharing.host_pid),
        net: node_if(sharing.host_network),
        ipc: node_if(sharing.host_ipc),
        uts: NamespaceMode::Pod,
        cgroup: NamespaceMode::Pod,
    })
}

/// With a cgroup of its own, a container sees that as the root of all.
fn cgroup_namespace(cgroup: &CgroupPlan) -> NamespaceMode {
    match cgroup {
        CgroupPlan::Tree(_) => NamespaceMode::Container,
        CgroupPlan::Inherited => NamespaceMode::Pod,
    }
}

/// A container's own pid namespace nests in the pod's, so that pause's end is its end (pid_namespaces(7)).
pub(super) fn container_pid(sharing: &Sharing) -> NamespaceMode {
    match sharing {
        Sharing { host_pid: true, .. } => NamespaceMode::Node,
        Sharing { process_namespace: true, .. } => NamespaceMode::Pod,
        Sharing { .. } => NamespaceMode::Container,
    }
}

pub(super) fn dirs(id: &str, facts: &Facts) -> PodDirs {
    let of = |base: &std::path::Path| base.join("pods").join(id);
    PodDirs { runtime: of(&facts.runtime_dir.path), data: of(&facts.data_dir.path) }
}

#[derive(Debug, Default)]
pub(super) struct Volumes {
    pub(super) memory: Vec<MemoryVolume>,
    pub(super) disk: Vec<String>,
    pub(super) host_paths: Vec<HostPathPlan>,
}

fn volumes_of(declared: &[Volume], sharing: &Sharing) -> Volumes {
    let mut volumes = Volumes::default();
    if !sharing.host_ipc {
        volumes.memory.push(MemoryVolume { path: "shm".into(), size: Some(SHM_SIZE) });
    }
    for Volume { name, source } in declared {
        match source {
            VolumeSource::EmptyDirDisk { size_limit: _ } => volumes.disk.push(name.clone()),
            VolumeSource::EmptyDirMemory { size_limit } => {
                let path = std::path::Path::new("volumes").join(name);
                volumes.memory.push(MemoryVolume { path, size: *size_limit });
            }
            VolumeSource::HostPath { path, kind } => {
                volumes.host_paths.push(HostPathPlan { volume: name.clone(), path: path.clone(), kind: *kind });
            }
            // Nothing is made for it: it is mounted from the store.
            VolumeSource::Image { .. } => {}
        }
    }
    volumes
}
