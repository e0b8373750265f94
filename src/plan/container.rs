//! Puts one container together.

use super::resources::OfContainer;
use super::{
    ContainerPlan, LogPlan, NamespaceMode, PortPlan, Request, SandboxPlan, TerminationPlan, container_log, downward,
    image, mounts, process, root, security,
};
use crate::host::Facts;
use crate::manifest::{Container, ContainerPort, PodSecurityContext, TerminationMessagePolicy, Volume};
use crate::report::Report;

/// The kubelet's containerLogMaxSize, in bytes, and containerLogMaxFiles.
const LOG_MAX_SIZE: u64 = 10 << 20;
const LOG_MAX_FILES: u32 = 5;

/// What a container has to know of its pod.
pub(super) struct PodScope<'a> {
    pub(super) facts: &'a Facts,
    pub(super) request: &'a Request,
    pub(super) sandbox: &'a SandboxPlan,
    pub(super) siblings: &'a [Container],
    pub(super) volumes: &'a [Volume],
    pub(super) container_pid: NamespaceMode,
    pub(super) security: &'a PodSecurityContext,
}

pub(super) fn plan(
    container: &Container,
    resources: OfContainer,
    scope: &PodScope<'_>,
) -> Result<ContainerPlan, Report> {
    let Container {
        name,
        image,
        image_pull_policy: _, // by who brings the image, before there is a plan
        command,
        args,
        working_dir,
        env,
        stdin,
        stdin_once,
        tty,
        volume_mounts,
        ports,
        security_context,
        resources: asked,
        termination_message_path,
        termination_message_policy,
    } = container;
    let index = scope.siblings.iter().position(|sibling| std::ptr::eq(sibling, container)).unwrap_or_default();
    let place = &format!("spec.containers[{index}]");
    let about = |field: &'static str| move |report: Report| report.about(format!("{place}.{field}"));
    let known = image::known(name, image, scope.request).map_err(about("image"))?;
    let security = security::plan(name, security_context, known, scope).map_err(about("securityContext"))?;
    let root = root::plan(name, image, known, scope).map_err(about("image"))?;
    let stop_signal = known.stop_signal(name).map_err(about("image"))?;
    let declared = image::volumes(&known.config());
    let wish = mounts::Wish {
        container: name,
        volume_mounts,
        image_volumes: &declared,
        termination_message_path,
        root_access: security.root_access,
    };
    let mounts = mounts::plan(&wish, scope).map_err(about("volumeMounts"))?;
    let process = process::plan(process::Wish {
        container: name,
        place,
        image,
        known,
        command,
        args,
        working_dir: working_dir.as_deref(),
        env,
        stdin: *stdin,
        stdin_once: *stdin_once,
        tty: *tty,
        hostname: &scope.sandbox.hostname,
        security: &security,
        oom_score_adj: resources.oom_score_adj,
        sources: downward::Sources { sandbox: scope.sandbox, containers: scope.siblings, facts: scope.facts },
    })?;
    let log = LogPlan {
        path: scope.sandbox.dirs.data.join(container_log(name)),
        max_size: LOG_MAX_SIZE,
        max_files: LOG_MAX_FILES,
    };
    Ok(ContainerPlan {
        name: name.clone(),
        image: image.clone(),
        from_image: known.shown(),
        stop_signal,
        pid: scope.container_pid,
        cgroup: resources.settings,
        resources: asked.clone(),
        root,
        read_only_root: security.root_access.is_read_only(),
        mounts,
        masked_paths: security::paths(security::MASKED_PATHS),
        read_only_paths: security::paths(security::READ_ONLY_PATHS),
        process,
        ports: ports.iter().map(port).collect(),
        log,
        termination: TerminationPlan {
            falls_back_to_log: *termination_message_policy == TerminationMessagePolicy::FallbackToLogsOnError,
            limit: message_limit(scope.siblings.len()),
        },
    })
}

/// Bytes of one container's termination message: 4096, and 12 KiB for all containers of a pod together
/// (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>).
fn message_limit(containers: usize) -> u32 {
    let share = (12 << 10) / u32::try_from(containers.max(1)).unwrap_or(u32::MAX);
    share.min(4096)
}

fn port(port: &ContainerPort) -> PortPlan {
    let ContainerPort { name, container_port, protocol, host_port: _, host_ip: _ } = port; // by `host_ports`
    PortPlan { name: name.clone(), container_port: *container_port, protocol: *protocol }
}
