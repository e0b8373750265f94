//! Who a container's process is and what it may do.

use std::path::PathBuf;

use super::IdOrName;
use super::container::PodScope;
use super::degradation;
use super::idmap::{ContainerId, UsernsMode};
use super::image::Known;
use crate::manifest::{ContainerSecurityContext, LINUX_CAPABILITIES, PodSecurityContext};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// containerd's default set (`defaultUnixCaps`), which is Kubernetes' in practice, without three that podman leaves out, too:
/// NET_RAW, since a raw packet to 127.0.0.1 would be the host's loopback (docs/security.md); MKNOD and AUDIT_WRITE, which are
/// of no use in a user namespace (the kernel refuses device nodes and audit messages there). In capabilities(7)'s order.
pub(super) const DEFAULT_CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "SETFCAP",
];

/// The kubelet's `defaultMaskedPaths` (pkg/securitycontext/util.go), and below them what podman or we mask besides, since it
/// tells of the host and no container needs it. A path that this kernel lacks is skipped.
pub(super) const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/kallsyms",
    "/sys/dev/block",
    "/sys/kernel/debug",
    "/sys/kernel/notes",
    "/sys/kernel/slab",
    "/sys/kernel/tracing",
    "/sys/kernel/vmcoreinfo",
];

/// The kubelet's `defaultReadonlyPaths`.
pub(super) const READ_ONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn paths(list: &[&str]) -> Vec<PathBuf> {
    list.iter().map(PathBuf::from).collect()
}

/// `readOnlyRootFilesystem`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RootAccess {
    ReadWrite,
    ReadOnly,
}

impl RootAccess {
    pub(super) fn is_read_only(self) -> bool {
        self == RootAccess::ReadOnly
    }
}

pub(super) struct Security {
    pub(super) uid: IdOrName,
    pub(super) gid: Option<IdOrName>,
    pub(super) no_new_privs: bool,
    pub(super) capabilities: Vec<String>,
    pub(super) root_access: RootAccess,
}

/// The container's own settings, where it has them, else the pod's.
pub(super) fn plan(
    container: &str,
    security: &ContainerSecurityContext,
    image: Known<'_>,
    scope: &PodScope<'_>,
) -> Result<Security, Report> {
    let ContainerSecurityContext {
        run_as_user,
        run_as_group,
        run_as_non_root,
        read_only_root_filesystem,
        allow_privilege_escalation,
        capabilities_add,
        capabilities_drop,
    } = security;
    let PodSecurityContext {
        run_as_user: pod_user,
        run_as_group: pod_group,
        run_as_non_root: pod_non_root,
        sysctls: _, // the pod's, by `sysctls`
    } = scope.security;
    let (user, group) = (run_as_user.or(*pod_user), run_as_group.or(*pod_group));
    let config = image.config();
    let (image_user, image_group) = image_ids(&config.user);
    if run_as_non_root.or(*pod_non_root) == Some(true) {
        refuse_root(container, user, &image_user, image)?;
    }
    let uid = user.map_or(image_user, |id| IdOrName::Id(ContainerId(id)));
    // The image's group belongs to the image's user.
    let image_group = image_group.filter(|_| user.is_none());
    let gid = group.map(|id| IdOrName::Id(ContainerId(id))).or(image_group);
    let asked = |field: Field, asked: Option<u32>| Asked { field, by_manifest: asked.is_some() };
    if let IdOrName::Id(uid) = uid
        && scope.sandbox.idmap.host_uid(uid).is_none()
    {
        return Err(unmapped(container, asked(Field::User, user), uid, scope));
    }
    if let Some(IdOrName::Id(gid)) = gid
        && scope.sandbox.idmap.host_gid(gid).is_none()
    {
        return Err(unmapped(container, asked(Field::Group, group), gid, scope));
    }
    Ok(Security {
        uid,
        gid,
        // Off unless asked for, unlike Kubernetes: a setuid program inside gains nothing by default (design §11).
        no_new_privs: *allow_privilege_escalation != Some(true),
        capabilities: capabilities(capabilities_add, capabilities_drop),
        root_access: if *read_only_root_filesystem { RootAccess::ReadOnly } else { RootAccess::ReadWrite },
    })
}

/// `User` of an image: `user`, `user:group`, each a number or a name (image-spec, config.md). Empty: root. A name is looked up
/// in the container's own files, once it has them.
fn image_ids(user: &str) -> (IdOrName, Option<IdOrName>) {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { IdOrName::Id(ContainerId(0)) } else { id_or_name(user) };
    (user, group.filter(|group| !group.is_empty()).map(id_or_name))
}

/// Decimal digits and nothing else, and not the id that means "no change" (setresuid(2)), are a number.
fn id_or_name(text: &str) -> IdOrName {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(id) if digits && id != u32::MAX => IdOrName::Id(ContainerId(id)),
        _ => IdOrName::Name(text.to_owned()),
    }
}

/// The kubelet's check (verifyRunAsNonRoot), in its words. `host:` and `rootfs:` have no user of their own: root.
fn refuse_root(container: &str, user: Option<u32>, of_image: &IdOrName, image: Known<'_>) -> Result<(), Report> {
    let cause = match (user, of_image) {
        (Some(0), _) => "container's runAsUser breaks non-root policy".to_owned(),
        (Some(_), _) => return Ok(()),
        (None, _) if matches!(image, Known::Unknown) => return Ok(()),
        (None, IdOrName::Id(ContainerId(0))) => "container has runAsNonRoot and image will run as root".to_owned(),
        (None, IdOrName::Id(_)) => return Ok(()),
        (None, IdOrName::Name(name)) => format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        ),
    };
    Err(Report::new(exit_code::USAGE, format!("container `{container}` must not run as root"))
        .because(cause)
        .hint("set securityContext.runAsUser to an id other than 0"))
}

#[derive(Clone, Copy)]
enum Field {
    User,
    Group,
}

/// Who asks for an id: the manifest, or else the image.
#[derive(Clone, Copy)]
struct Asked {
    field: Field,
    by_manifest: bool,
}

fn unmapped(container: &str, asked: Asked, id: ContainerId, scope: &PodScope<'_>) -> Report {
    let Asked { field, by_manifest } = asked;
    let idmap = &scope.sandbox.idmap;
    let (name, entries) = match (field, by_manifest) {
        (Field::User, true) => ("runAsUser", &idmap.uids),
        (Field::User, false) => ("the image's user", &idmap.uids),
        (Field::Group, true) => ("runAsGroup", &idmap.gids),
        (Field::Group, false) => ("the image's group", &idmap.gids),
    };
    let ids: u32 = entries.iter().map(|entry| entry.count).sum();
    let last = ids.saturating_sub(1);
    let report =
        Report::new(exit_code::FAILURE, format!("container `{container}`: {name} {} has no id in this pod", id.0))
            .because(format!("mode `{}` maps ids 0 to {last} here ({})", idmap.mode.word(), idmap.why));
    if id.0 >= super::idmap::MAX_IDS {
        return report.hint(format!("a pod has at most {} ids: choose a smaller one", super::idmap::MAX_IDS));
    }
    match (idmap.mode, super::idmap::full_map_lack(scope.facts)) {
        (UsernsMode::Single, Some(lack)) => report.hint(lack.fix),
        (UsernsMode::Single, None) => report.hint("use another mode: --userns=auto"),
        _ => report.hint(match field {
            Field::User => degradation::more_subids_fix(scope.facts, degradation::IdKind::Uid),
            Field::Group => degradation::more_subids_fix(scope.facts, degradation::IdKind::Gid),
        }),
    }
}

/// Whatever is in the pod's user namespace (ptrace(2)).
pub(super) fn may_trace(security: &ContainerSecurityContext) -> bool {
    capabilities(&security.capabilities_add, &security.capabilities_drop).iter().any(|name| name == "SYS_PTRACE")
}

/// containerd's order (CRI's WithCapabilities): `add: [ALL]`, `drop: [ALL]`, then single ones added, then dropped. So
/// `drop: [ALL], add: [KILL]` leaves KILL, and a name in both lists is dropped.
fn capabilities(add: &[String], drop: &[String]) -> Vec<String> {
    let all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let base = match (all(drop), all(add)) {
        (true, _) => &[][..],
        (false, true) => &LINUX_CAPABILITIES,
        (false, false) => DEFAULT_CAPABILITIES,
    };
    let kept = |name: &&&str| {
        let listed = |list: &[String]| list.iter().any(|asked| asked == **name);
        (base.contains(name) || listed(add)) && !listed(drop)
    };
    LINUX_CAPABILITIES.iter().filter(kept).map(|name| (*name).to_owned()).collect()
}
