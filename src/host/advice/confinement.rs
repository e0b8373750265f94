//! What a switch of this host refuses, or the container around us: its seccomp filter, its AppArmor profile, the masks on
//! its /proc and /sys.

use crate::host::{Confinement, Container, Facts, ProcVisibility, UserNamespaces};
use crate::step::Step;
use crate::sys::probe::errno::{EACCES, EBUSY, EINVAL, ENODEV, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM, EUSERS};

/// With user namespaces switched off, whatever fails first is that switch's doing.
pub(super) fn forbidden(step: Step, errno: i32, facts: &Facts) -> Option<String> {
    let UserNamespaces::Forbidden { switch, value, fix } = &facts.user_namespaces else { return None };
    let off = format!("{switch} is {value} here; {fix}");
    match (step, errno) {
        (Step::CreateNamespaces | Step::CreateContainer, ENOSPC | EUSERS) => {
            Some(format!("this is a kernel limit, not disk space: {off}"))
        }
        (Step::CreateNamespaces | Step::CreateContainer, EPERM | EACCES | EINVAL) => {
            Some(format!("this host forbids user namespaces: {off}"))
        }
        // Ubuntu's `unprivileged_userns` profile: the namespace is made, but nothing is allowed in it.
        (
            Step::WriteIdMaps
            | Step::BecomeRoot
            | Step::SetUpSandbox
            | Step::EnterPod
            | Step::BuildRoot
            | Step::MountFilesystems,
            EPERM | EACCES,
        ) => Some(format!("this host gives a new user namespace no rights: {off}")),
        _ => None,
    }
}

/// clone3(2) and unshare(2) where no switch that can be read forbids them.
pub(super) fn namespaces(errno: i32, facts: &Facts) -> Option<String> {
    let (major, minor) = facts.kernel;
    let text = match errno {
        EPERM => format!("no switch of this kernel forbids user namespaces, so {}", by_filter(facts)),
        ENOSPC | EUSERS => {
            "this is a kernel limit, not disk space: a user.max_*_namespaces of this or an outer user namespace is used \
             up, or user namespaces are nested 32 deep; compare `sysctl user` with `lsns`, and raise the limit with \
             `sudo sysctl -w user.max_user_namespaces=15000`"
                .to_owned()
        }
        EACCES => format!(
            "{}; or the pod's cgroup is not yours: `--cgroups=disabled` goes without",
            by_security_module(facts)
        ),
        EINVAL | ENOSYS if facts.kernel < (5, 7) => {
            format!("Linux {major}.{minor} is too old: clone3 into a cgroup needs 5.7; boot a newer kernel")
        }
        ENOSYS => format!("to clone3 the default profile of docker says that there is no such call: {}", by_filter(facts)),
        EINVAL => "this kernel lacks one of the namespaces: `ls /proc/self/ns` must list user, mnt, pid, net, ipc, uts \
                   and cgroup; boot a distribution's standard kernel"
            .to_owned(),
        EBUSY | EOPNOTSUPP => "the pod's cgroup cannot take processes: its parent must have controllers enabled for its \
                               children and hold no process itself; start sandpod with `systemd-run --user --scope -p \
                               Delegate=yes`"
            .to_owned(),
        _ => return None,
    };
    Some(text)
}

/// mount(2), move_mount(2) and mknod in the pod.
pub(super) fn mounting(errno: i32, facts: &Facts) -> Option<String> {
    match (errno, &facts.procfs) {
        (EPERM, ProcVisibility::Masked { by }) if by.is_empty() => Some(
            "the kernel gives no new /proc where none is to be seen: mount one (`mount -t proc proc /proc`) before \
             sandpod starts"
                .to_owned(),
        ),
        (EPERM, ProcVisibility::Masked { by }) => {
            let shown: Vec<_> = by.iter().take(3).map(|path| path.display().to_string()).collect();
            let more = if by.len() > shown.len() { " and more" } else { "" };
            Some(format!(
                "the kernel gives no new /proc while parts of the one here are covered ({}{more}): an outer container \
                 masks it; {}",
                shown.join(", "),
                unmask(facts.confinement.container)
            ))
        }
        (EPERM, _) => Some(format!("a mount was refused that the kernel allows a pod's root: {}", by_filter(facts))),
        (EACCES, _) => {
            Some(format!("a mount was refused that the kernel allows a pod's root: {}", by_security_module(facts)))
        }
        (ENODEV, _) => Some(
            "the kernel does not know this file system, or may not load its module: `cat /proc/filesystems` lists those \
             it knows"
                .to_owned(),
        ),
        (ENOSPC, _) => Some(
            "this is a kernel limit or a full tmpfs, not your disk: compare `wc -l /proc/self/mountinfo` with `sysctl \
             fs.mount-max`, and see sizeLimit of memory volumes"
                .to_owned(),
        ),
        _ => None,
    }
}

/// clone3(2) without a namespace.
pub(super) fn forking(errno: i32, facts: &Facts) -> Option<String> {
    match errno {
        ENOSYS if facts.kernel >= (5, 3) => namespaces(ENOSYS, facts),
        EPERM => Some(by_filter(facts)),
        _ => None,
    }
}

/// EPERM, or ENOSYS: a seccomp filter, where there is one; else what answers alike.
fn by_filter(facts: &Facts) -> String {
    let Confinement { container, seccomp, apparmor } = &facts.confinement;
    let filter = if *seccomp {
        "a seccomp filter is in force here (`Seccomp: 2` in /proc/self/status)"
    } else {
        "something around sandpod refused it, as the seccomp filter of an outer container does"
    };
    let profile = apparmor.as_ref().map_or(String::new(), |label| {
        format!("; the AppArmor profile `{label}` is in force, too: {}", apparmor_fix(*container))
    });
    let others = match container {
        Some(_) => "",
        None => "; without a container it is RestrictNamespaces= of a systemd unit, or a chroot",
    };
    format!("{filter}: {}{profile}{others}", seccomp_fix(*container))
}

/// EACCES.
fn by_security_module(facts: &Facts) -> String {
    let Confinement { container, seccomp: _, apparmor } = &facts.confinement;
    let module = match apparmor {
        Some(label) => format!("the AppArmor profile `{label}` is in force here"),
        None => "a security module refused it, AppArmor or SELinux (`sudo dmesg | grep -i denied` names the rule)"
            .to_owned(),
    };
    format!("{module}: {}", apparmor_fix(*container))
}

fn seccomp_fix(container: Option<Container>) -> &'static str {
    match container {
        Some(Container::Docker | Container::Podman) => "start the container with `--security-opt seccomp=unconfined`",
        Some(Container::Kubernetes) => {
            "set `securityContext.seccompProfile.type: Unconfined` for the container, with `hostUsers: false` for its pod"
        }
        Some(Container::Sandpod) | None => {
            "docker and podman: `--security-opt seccomp=unconfined`; Kubernetes: \
             `securityContext.seccompProfile.type: Unconfined`"
        }
    }
}

fn apparmor_fix(container: Option<Container>) -> &'static str {
    match container {
        Some(Container::Docker | Container::Podman) => "start the container with `--security-opt apparmor=unconfined`",
        Some(Container::Kubernetes) => "set `securityContext.appArmorProfile.type: Unconfined` for the container",
        Some(Container::Sandpod) | None => {
            "docker and podman: `--security-opt apparmor=unconfined`; Kubernetes: \
             `securityContext.appArmorProfile.type: Unconfined`"
        }
    }
}

fn unmask(container: Option<Container>) -> &'static str {
    match container {
        Some(Container::Docker) => "start it with `--security-opt systempaths=unconfined`",
        Some(Container::Podman) => "start it with `--security-opt unmask=ALL`",
        Some(Container::Kubernetes) => {
            "set `securityContext.procMount: Unmasked` for the container, with `hostUsers: false` for its pod"
        }
        Some(Container::Sandpod) | None => {
            "start that with `--security-opt systempaths=unconfined` (docker), `--security-opt unmask=ALL` (podman), or \
             `securityContext.procMount: Unmasked` with `hostUsers: false` (Kubernetes)"
        }
    }
}
