//! What pause holds for all containers: namespaces, hostname, directories, volumes.

use super::{HostPathPlan, MemoryVolume, NamespaceMode, PodDirs, SandboxNamespaces};
use crate::host::Facts;
use crate::manifest::{Volume, VolumeSource};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// containerd's default for a sandbox's /dev/shm, in bytes.
const SHM_SIZE: u64 = 64 << 20;
/// A DNS label (RFC 1035), and where the kubelet cuts a pod's hostname.
const HOSTNAME_MAX: usize = 63;

/// What the pod shares with the host, and its containers with each other.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sharing {
    pub(super) process_namespace: bool,
    pub(super) host_network: bool,
    pub(super) host_ipc: bool,
    pub(super) host_pid: bool,
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

/// A container's own pid namespace nests in the pod's, so that pause's end is its end (pid_namespaces(7)).
pub(super) fn container_pid(sharing: &Sharing) -> NamespaceMode {
    match sharing {
        Sharing { host_pid: true, .. } => NamespaceMode::Node,
        Sharing { process_namespace: true, .. } => NamespaceMode::Pod,
        Sharing { .. } => NamespaceMode::Container,
    }
}

/// As the kubelet chooses it. A pod on the host's network has the host's name there; one that is asked for by
/// `hostname` is still given, since the uts namespace is the pod's own.
pub(super) fn hostname(
    asked: Option<&str>,
    pod_name: &str,
    net: NamespaceMode,
    facts: &Facts,
) -> Result<String, Report> {
    let wanted = match (asked, net) {
        (Some(asked), _) => asked,
        (None, NamespaceMode::Node) => return Ok(facts.hostname.clone()),
        (None, _) => pod_name,
    };
    let cut = wanted.char_indices().nth(HOSTNAME_MAX).map_or(wanted, |(end, _)| &wanted[..end]);
    // Only a cut can leave these at the end; the manifest's own rules forbid them.
    let hostname = cut.trim_end_matches(['-', '.']);
    if hostname.is_empty() {
        return Err(Report::new(exit_code::USAGE, format!("no hostname can be made of `{wanted}`")));
    }
    Ok(hostname.to_owned())
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

pub(super) fn volumes(declared: &[Volume], sharing: &Sharing) -> Volumes {
    let mut volumes = Volumes::default();
    if !sharing.host_ipc {
        volumes.memory.push(MemoryVolume { path: "shm".into(), size: Some(SHM_SIZE) });
    }
    for Volume { name, source } in declared {
        match source {
            VolumeSource::EmptyDirDisk => volumes.disk.push(name.clone()),
            VolumeSource::EmptyDirMemory { size_limit } => {
                let path = std::path::Path::new("volumes").join(name);
                volumes.memory.push(MemoryVolume { path, size: *size_limit });
            }
            VolumeSource::HostPath { path, kind } => {
                volumes.host_paths.push(HostPathPlan { volume: name.clone(), path: path.clone(), kind: *kind });
            }
        }
    }
    volumes
}
