//! Cause and fix of the errors that a user can meet: one pure table, where error messages find their hints.
//!
//! The errno alone misleads: ENOSPC of clone3(2) is a limit and no disk, EINVAL of an overlay is a mount in the way.
//! The step it happened in and the facts of the host say what is meant.

use super::{Facts, IdMapTool};
use crate::step::Step;
use crate::sys::probe::errno::{
    E2BIG, EACCES, EAGAIN, EDQUOT, EFBIG, EINVAL, EISDIR, ELIBBAD, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENOENT,
    ENOEXEC, ENOMEM, ENOSPC, ENOSYS, ENOTDIR, EPERM, EROFS, ESRCH, ETIMEDOUT, ETXTBSY,
};

mod confinement;
mod roots;

use confinement::{forbidden, mounting, namespaces};
use roots::{in_root, overlay, sources};

/// One or two sentences: why `errno` came at `step` on this host, and the exact fix. `None` where the error's own text
/// says all there is to say.
#[must_use]
pub fn advice(step: Step, errno: i32, facts: &Facts) -> Option<String> {
    forbidden(step, errno, facts).or_else(|| at_step(step, errno, facts)).or_else(|| anywhere(step, errno, facts))
}

fn at_step(step: Step, errno: i32, facts: &Facts) -> Option<String> {
    match step {
        Step::MakeCgroups => cgroups(errno),
        // Its fork is a clone3, too.
        Step::StartSupervisor => spawning(errno).or_else(|| confinement::forking(errno, facts)),
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
        // verify_root_map in the kernel's user_namespace.c.
        EPERM if facts.user.uid == 0 && !facts.may_write_maps => {
            "since Linux 5.12 uid 0 may be in a map only if its writer has CAP_SETFCAP: give the container that capability \
             (docker and podman: `--cap-add SETFCAP`, with SETUID and SETGID for a pod of several ids; Kubernetes: \
             `securityContext.capabilities.add: [SETFCAP]`), or run sandpod as an ordinary user"
                .to_owned()
        }
        EPERM | EACCES | ENOENT => match (&facts.newuidmap, &facts.newgidmap) {
            (IdMapTool::Missing, _) | (_, IdMapTool::Missing) => {
                format!("newuidmap and newgidmap are not both there: {install}, or run with `--userns=single`")
            }
            (IdMapTool::Unprivileged { path, why, fix }, _) | (_, IdMapTool::Unprivileged { path, why, fix }) => {
                let path = path.display();
                format!("{path} cannot write id maps: {why}; {fix}, or run with `--userns=single`")
            }
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
        EFBIG => {
            "the limit of a file's size is reached, which sandpod has from the shell that started it: raise it there \
                  (`ulimit -f unlimited`; `ulimit -Hf` shows how far you may)"
                .to_owned()
        }
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
