//! Cause and fix of the errors that a user can meet: one pure table, where error messages find their hints.
//!
//! The errno alone misleads: ENOSPC of clone3(2) is a limit and no disk, EINVAL of an overlay is a mount in the way.
//! The step it happened in and the facts of the host say what is meant.

use super::{Facts, IdMapTool, OverlaySupport, ProcVisibility, UserNamespaces};
use crate::step::Step;
use crate::sys::probe::errno::{
    E2BIG, EACCES, EAGAIN, EBUSY, EDQUOT, EINVAL, EIO, EISDIR, ELIBBAD, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENODEV,
    ENOENT, ENOEXEC, ENOMEM, ENOSPC, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, EROFS, ESRCH, ETIMEDOUT, ETXTBSY, EUSERS,
    EXDEV,
};

/// One or two sentences: why `errno` came at `step` on this host, and the exact fix. `None` where the error's own text
/// says all there is to say.
#[must_use]
pub fn advice(step: Step, errno: i32, facts: &Facts) -> Option<String> {
    forbidden(step, errno, facts).or_else(|| at_step(step, errno, facts)).or_else(|| anywhere(step, errno, facts))
}

/// With user namespaces switched off, whatever fails first is that switch's doing.
fn forbidden(step: Step, errno: i32, facts: &Facts) -> Option<String> {
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

fn at_step(step: Step, errno: i32, facts: &Facts) -> Option<String> {
    match step {
        Step::MakeCgroups => cgroups(errno),
        Step::StartSupervisor => spawning(errno),
        Step::CreateNamespaces | Step::CreateContainer => namespaces(errno, facts).or_else(|| spawning(errno)),
        Step::WriteIdMaps => id_maps(errno, facts),
        Step::BecomeRoot | Step::DropPrivileges => ids(errno, facts),
        Step::StartPause => pause(errno),
        Step::StartPortProxy if errno == EMFILE => Some(
            "each published port takes a socket or two, and twice as many for a moment: raise the limit of open files \
             (`ulimit -Hn` shows it; `ulimit -n 65536`), or publish fewer ports"
                .to_owned(),
        ),
        Step::EnterPod | Step::StartPortProxy => entering(errno),
        Step::SetUpSandbox => mounting(errno, facts),
        Step::MountFilesystems => in_root(errno).or_else(|| mounting(errno, facts)),
        Step::BuildRoot => overlay(errno, facts).or_else(|| mounting(errno, facts)),
        Step::PrepareVolumes | Step::OpenSources => sources(errno),
        Step::ExecuteCommand => executing(errno),
        Step::ReadManifest
        | Step::ParseManifest
        | Step::ProbeHost
        | Step::PlanPod
        | Step::BindPorts
        | Step::CreateRecord
        // Its own words have the fix.
        | Step::AttachNetwork
        | Step::EnterRoot
        | Step::OpenStdio => None,
    }
}

/// Below a cgroup that looked delegated.
fn cgroups(errno: i32) -> Option<String> {
    let text = match errno {
        EACCES | EPERM => {
            "the cgroup is not delegated to you, or you may not move processes between it and your own (cgroups(7), \
             delegation containment): start sandpod below it, as in `systemd-run --user --scope -p Delegate=yes sandpod …`"
        }
        EAGAIN => "cgroup.max.descendants or cgroup.max.depth of an outer cgroup is reached",
        EROFS => "this mount of the cgroup file system is read-only",
        _ => return None,
    };
    Some(format!("{text}; or run without: `--cgroups=disabled`"))
}

/// clone3(2) and unshare(2) where no switch that can be read forbids them.
fn namespaces(errno: i32, facts: &Facts) -> Option<String> {
    let (major, minor) = facts.kernel;
    let text = match errno {
        EPERM => "no switch of this kernel forbids user namespaces, so something around sandpod does: the seccomp filter \
                  of an outer container (docker or podman: add `--security-opt seccomp=unconfined`), \
                  RestrictNamespaces= of a systemd unit, or a chroot"
            .to_owned(),
        ENOSPC | EUSERS => {
            "this is a kernel limit, not disk space: a user.max_*_namespaces of this or an outer user namespace is used \
             up, or user namespaces are nested 32 deep; compare `sysctl user` with `lsns`, and raise the limit with \
             `sudo sysctl -w user.max_user_namespaces=15000`"
                .to_owned()
        }
        EACCES => "a security module refused it, AppArmor or SELinux (`sudo dmesg | grep -i denied` names the rule), or \
                   the pod's cgroup is not yours: `--cgroups=disabled` goes without"
            .to_owned(),
        EINVAL | ENOSYS if facts.kernel < (5, 7) => {
            format!("Linux {major}.{minor} is too old: clone3 into a cgroup needs 5.7; boot a newer kernel")
        }
        ENOSYS => "the seccomp filter of an outer container does not know clone3: update that container's runtime, or \
                   start it with `--security-opt seccomp=unconfined`"
            .to_owned(),
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

fn spawning(errno: i32) -> Option<String> {
    (errno == EAGAIN).then(|| {
        "the limit of processes is reached: raise `ulimit -u`, or pids.max of your cgroup (`systemctl set-property \
         user-$(id -u).slice TasksMax=infinity`)"
            .to_owned()
    })
}

fn id_maps(errno: i32, facts: &Facts) -> Option<String> {
    let install = "install them (`sudo apt install uidmap`, `sudo dnf install shadow-utils`)";
    let text = match errno {
        EPERM | EACCES | ENOENT => match (&facts.newuidmap, &facts.newgidmap) {
            (IdMapTool::Missing, _) | (_, IdMapTool::Missing) => {
                format!("newuidmap and newgidmap are not both there: {install}, or run with `--userns=single`")
            }
            (IdMapTool::Unprivileged { path, why }, _) | (_, IdMapTool::Unprivileged { path, why }) => format!(
                "{path} cannot write id maps: {why}. Repair it (`sudo chmod u+s {path}`), or run with `--userns=single`",
                path = path.display()
            ),
            (IdMapTool::Privileged(_), IdMapTool::Privileged(_)) => format!(
                "newuidmap or newgidmap refused the map: a range in it is not yours in /etc/subuid and /etc/subgid. {}",
                add_ranges(facts)
            ),
        },
        EINVAL => format!(
            "the kernel refused the map: ranges overlap, or hold an id that does not exist in this user namespace. {}",
            add_ranges(facts)
        ),
        ETIMEDOUT => "newuidmap or newgidmap did not answer: they look up your account, so see whether `getent passwd \
                      $(id -u)` hangs too (LDAP, SSSD)"
            .to_owned(),
        _ => return None,
    };
    Some(text)
}

fn add_ranges(facts: &Facts) -> String {
    let user = facts.user.name.clone().unwrap_or_else(|| facts.user.uid.to_string());
    format!("Give yourself ranges: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`")
}

/// setresuid(2), setresgid(2), setgroups(2), capset(2).
fn ids(errno: i32, facts: &Facts) -> Option<String> {
    match errno {
        EINVAL if facts.subuids.is_empty() || facts.subgids.is_empty() => Some(format!(
            "the id does not exist in the pod, which has only one: you have no subordinate ids. {}",
            add_ranges(facts)
        )),
        EINVAL => Some(
            "the id does not exist in the pod: runAsUser and runAsGroup must lie below the number of your subordinate \
             ids (`sandpod plan` shows the map)"
                .to_owned(),
        ),
        EPERM => Some(
            "the pod's root may not change ids: something took its capabilities away; `sudo dmesg | grep -i denied` \
             names a security module's rule"
                .to_owned(),
        ),
        _ => spawning(errno),
    }
}

/// memfd_create(2) with MFD_EXEC, and its execution.
fn pause(errno: i32) -> Option<String> {
    matches!(errno, EACCES | EPERM).then(|| {
        "pause is executed from memory, which vm.memfd_noexec=2 or a security module forbids: run `sudo sysctl -w \
         vm.memfd_noexec=1`, or see `sudo dmesg | grep -i denied`"
            .to_owned()
    })
}

/// setns(2) on pause.
fn entering(errno: i32) -> Option<String> {
    match errno {
        ESRCH => Some("the pod has just ended: its pause process is gone; `sandpod ps -a` shows how".to_owned()),
        EPERM => Some(
            "the pod's namespaces belong to another user namespace: run the command where the pod was started, as the \
             same user"
                .to_owned(),
        ),
        EINVAL => {
            Some("setns with a pidfd needs Linux 5.8, and a process with one thread; boot a newer kernel".to_owned())
        }
        _ => None,
    }
}

/// mount(2), move_mount(2) and mknod in the pod.
fn mounting(errno: i32, facts: &Facts) -> Option<String> {
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
                 masks it; start that with `--security-opt systempaths=unconfined` (docker) or `--security-opt \
                 unmask=ALL` (podman)",
                shown.join(", ")
            ))
        }
        (EPERM | EACCES, _) => Some(
            "a mount was refused that the kernel allows a pod's root: the seccomp filter of an outer container \
             (`--security-opt seccomp=unconfined`), AppArmor or SELinux (`sudo dmesg | grep -i denied`)"
                .to_owned(),
        ),
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

/// A mount point inside the container's root.
fn in_root(errno: i32) -> Option<String> {
    let text = match errno {
        EROFS => {
            "this mount point is not there, and cannot be made where the container's root is read-only (of `host:`, a \
             directory with mounts below it: `usr-read-only`): make it once on the host or in the rootfs (`sudo touch \
             FILE`, `sudo mkdir DIRECTORY`), or mount elsewhere"
        }
        EACCES => {
            "if this is an open, a directory on the way to the mount point is closed to the pod's ids: open it to others \
             (`sudo chmod o+rx DIRECTORY`); if it is a mount, AppArmor or SELinux refused it (`sudo dmesg | grep -i \
             denied`), or the seccomp filter of an outer container"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn overlay(errno: i32, facts: &Facts) -> Option<String> {
    if let (OverlaySupport::Missing { why }, ENODEV | EPERM | EINVAL) = (&facts.overlay, errno) {
        return Some(format!("this host has no overlayfs for users: {why}. Try `sudo modprobe overlay`"));
    }
    let data = facts.data_dir.path.display();
    match errno {
        EINVAL => Some(mounts_in_the_way(facts).unwrap_or_else(|| {
            format!(
                "overlayfs refused its directories: {data} may lie on a file system that cannot hold an upper layer \
                 (NFS, overlay, eCryptfs); set XDG_DATA_HOME to a directory on a local disk"
            )
        })),
        EIO if facts.kernel < (6, 6) => Some(format!(
            "overlayfs stores user xattrs in its upper layer, which tmpfs has only since Linux 6.6: set XDG_DATA_HOME to \
             a directory on a disk (now {data})"
        )),
        EIO => Some(format!("the disk under {data} or under the image reports errors: see `sudo dmesg`")),
        EBUSY => Some(format!(
            "another mount still uses this container's upper layer in {data}: `sandpod rm` the pod, or wait for it to end"
        )),
        EACCES => Some(
            "the root directory is closed to the pod's ids, which are not its owner: `sudo chmod o+rx` the directory that \
             rootfs: names, or name a copy of yours (`sudo cp -a` it, then `sudo chown -R`)"
                .to_owned(),
        ),
        ENOENT | ENOTDIR => sources(errno),
        _ => None,
    }
}

/// A directory with mounts below cannot be an overlay's lower layer in a user namespace: they are locked there.
fn mounts_in_the_way(facts: &Facts) -> Option<String> {
    let of_rootfs = facts.rootfs.iter().flat_map(|rootfs| &rootfs.mounts_below);
    let of_host = facts.host_root.iter().flat_map(|root| &root.dirs).flat_map(|dir| &dir.mounts_below);
    let first = of_rootfs.chain(of_host).next()?;
    Some(format!(
        "a directory with mounts below it cannot be the lower layer of an overlay in a user namespace: {first} is one; \
         unmount it (`sudo umount {first}`), or use a copy of the directory",
        first = first.display()
    ))
}

/// Paths of the manifest: `rootfs:`, hostPath, mount destinations.
fn sources(errno: i32) -> Option<String> {
    let text = match errno {
        ENOENT => {
            "this path of the manifest is not there: make it, or let a hostPath make it (`type: DirectoryOrCreate`)"
        }
        ENOTDIR => "a part of this path is a file where a directory was expected: compare the manifest with `ls -l`",
        EACCES => {
            "you may not go there: sandpod has your rights and no more; each directory on the way needs x for you, or, \
             with isolated ids, for others (`chmod o+x`, or `--userns=root-is-you`)"
        }
        ELOOP => "symbolic links lead in a circle, or through /proc where none may be followed: name the target itself",
        EXDEV => "a symbolic link in the image leads out of it: name the target itself",
        _ => return None,
    };
    Some(text.to_owned())
}

/// execve(2) of the user's command, inside the container.
fn executing(errno: i32) -> Option<String> {
    let text = match errno {
        ENOENT => {
            "the command is not in the container (PATH is the container's), or its interpreter is not: the `#!` line of \
             a script, the dynamic loader of a program built for another libc"
        }
        EACCES => {
            "the file is not executable for this user (`chmod +x`), is a directory, lies behind a directory without x, \
             or on a volume mounted noexec"
        }
        EISDIR => "the command is a directory: name a file in it",
        ENOEXEC => {
            "the file is no program for this machine: built for another architecture (`file` tells), empty, or a script \
             without a `#!` line"
        }
        ENOTDIR => "a part of the command's path is a file where a directory was expected",
        E2BIG => "command, args and env are too long together: the limit is a quarter of `ulimit -s`, 128 KiB for each",
        ETXTBSY => "the file is still open for writing: start the container once it is written",
        ELIBBAD | EINVAL => "the program or its dynamic loader is damaged: fetch the image again",
        ELOOP => "too many symbolic links or `#!` interpreters lead to the command",
        EPERM => "a security module, or a mount option of the volume it lies on, forbids executing this file",
        EAGAIN => "this user's limit of processes is reached: raise `ulimit -u`",
        _ => return None,
    };
    Some(text.to_owned())
}

/// What means the same wherever it happens.
fn anywhere(step: Step, errno: i32, facts: &Facts) -> Option<String> {
    let (data, runtime) = (facts.data_dir.path.display(), facts.runtime_dir.path.display());
    let text = match errno {
        ENOSPC => format!("no space is left: see `df -h {data} {runtime}`, and `df -i` for inodes"),
        EDQUOT => format!("your disk quota is used up: see `quota -s`; XDG_DATA_HOME moves {data} elsewhere"),
        EROFS => format!(
            "the file system is read-only: set XDG_DATA_HOME (now {data}) and XDG_RUNTIME_DIR (now {runtime}) to \
             directories you can write to"
        ),
        EACCES if step == Step::CreateRecord => format!(
            "{data} and {runtime} must belong to you with mode 0700: see `ls -ld {data} {runtime}`, or set \
             XDG_DATA_HOME and XDG_RUNTIME_DIR"
        ),
        EACCES if step == Step::ReadManifest => "you may not read this file: see `ls -l` on it".to_owned(),
        EMFILE => "this process's limit of open files is reached: raise it (`ulimit -n 4096`)".to_owned(),
        ENFILE => "the whole system's limit of open files is reached: raise it (`sudo sysctl -w fs.file-max=1000000`)"
            .to_owned(),
        ENOMEM => "memory ran out: see `free -h`, memory.max of your cgroup, and `ulimit -v`".to_owned(),
        EAGAIN => return spawning(errno),
        ENAMETOOLONG => {
            format!("a path is too long: set XDG_DATA_HOME and XDG_RUNTIME_DIR to shorter ones (now {data})")
        }
        ETIMEDOUT => {
            "a process of the pod did not answer in time: the machine is overloaded, or a file system hangs (NFS, \
                      FUSE); `sandpod logs` may say more"
                .to_owned()
        }
        ENOSYS => {
            let (major, minor) = facts.kernel;
            format!(
                "Linux {major}.{minor} lacks this call, or an outer container's seccomp filter hides it: 5.11 is needed"
            )
        }
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
