use std::path::{Path, PathBuf};

use super::super::switches::{self, Caller};
use super::super::user::Privileges;
use super::*;
use crate::host::recorded::Recorded;
use crate::host::{
    Confinement, Dir, HostUser, LayerFacts, MapLine, OverlaySupport, OwnIdMap, ProcVisibility, RootfsFact, SubIdRange,
    UserNamespaces,
};
use crate::sys::probe::errno;

const EVERYTHING: [MapLine; 1] = [MapLine { inside: 0, outside: 0, count: u32::MAX }];

/// A host on which everything works.
fn good() -> Facts {
    let dir = |path: &str| Dir { path: PathBuf::from(path), fallback: None };
    let range = vec![SubIdRange { start: 100_000, count: 65536 }];
    Facts {
        user: HostUser { uid: 1001, gid: 1001, name: Some("ana".to_owned()) },
        own_map: OwnIdMap { uids: EVERYTHING.to_vec(), gids: EVERYTHING.to_vec() },
        subuids: range.clone(),
        subgids: range,
        newuidmap: IdMapTool::Privileged(PathBuf::from("/usr/bin/newuidmap")),
        newgidmap: IdMapTool::Privileged(PathBuf::from("/usr/bin/newgidmap")),
        may_write_maps: false,
        layers: LayerFacts::default(),
        user_namespaces: UserNamespaces::Allowed,
        confinement: Confinement::default(),
        overlay: OverlaySupport::Native,
        procfs: ProcVisibility::Full,
        procfs_points: vec!["/proc".into()],
        sysfs: ProcVisibility::Full,
        runtime_dir: dir("/run/user/1001/sandpod"),
        data_dir: dir("/home/ana/.local/share/sandpod"),
        kernel: (6, 12),
        hostname: "h".to_owned(),
        stack_limit: None,
        unprivileged_port_start: 1024,
        mqueue: true,
        hosts: String::new(),
        resolv_conf: String::new(),
        host_root: None,
        rootfs: Vec::new(),
        cgroup: super::super::CgroupFacts::default(),
        network: super::super::NetworkFacts::default(),
        warnings: Vec::new(),
    }
}

fn says(step: Step, errno: i32, facts: &Facts, words: &[&str]) {
    let text = advice(step, errno, facts).unwrap_or_else(|| panic!("no advice for {step:?}, errno {errno}"));
    for word in words {
        assert!(text.contains(word), "{step:?}, errno {errno}: `{word}` is not in: {text}");
    }
}

/// Facts of a user (not root) on a host with these files below /proc.
fn with_switches(files: &[(&str, &str)]) -> Facts {
    let tree = Recorded::new(files);
    let caller = Caller {
        uid: 1001,
        gid: 1001,
        privileges: Privileges::default(),
        uid_map: &EVERYTHING,
        gid_map: &EVERYTHING,
        executable: Path::new("/opt/sandpod"),
    };
    Facts { user_namespaces: switches::probe(tree.path(), caller), ..good() }
}

/// Each row of the lab's table "user namespaces are off", as its kernels answered.
#[test]
fn the_diagnosis_of_every_way_to_switch_user_namespaces_off() {
    let clone = Step::CreateNamespaces;

    let debian = with_switches(&[("sys/kernel/unprivileged_userns_clone", "0\n")]);
    says(clone, errno::EPERM, &debian, &["kernel.unprivileged_userns_clone is 0", "sudo sysctl -w kernel.", "=1"]);

    let none = with_switches(&[("sys/user/max_user_namespaces", "0\n")]);
    says(clone, errno::ENOSPC, &none, &["not disk space", "user.max_user_namespaces is 0", "sudo sysctl -w user."]);

    let no_net = with_switches(&[("sys/user/max_user_namespaces", "9\n"), ("sys/user/max_net_namespaces", "0\n")]);
    says(clone, errno::ENOSPC, &no_net, &["not disk space", "user.max_net_namespaces is 0"]);

    let restrict = ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
    let no_policy = with_switches(&[restrict, ("self/attr/current", "unconfined\n")]);
    says(clone, errno::EACCES, &no_policy, &["apparmor_restrict_unprivileged_userns is 1", "apparmor_parser -r"]);

    // The clone succeeds and everything after it fails, also where sandpod already runs in the profile.
    for label in ["unconfined\n", "unprivileged_userns (enforce)\n"] {
        let ubuntu = with_switches(&[restrict, ("self/attr/current", label)]);
        let words = ["no rights", "apparmor_restrict_unprivileged_userns is 1", "\"/opt/sandpod\"", "=0"];
        says(Step::WriteIdMaps, errno::EPERM, &ubuntu, &words);
        says(Step::MountFilesystems, errno::EACCES, &ubuntu, &words);
    }
}

#[test]
fn a_switch_is_not_blamed_for_what_it_does_not_do() {
    let facts = with_switches(&[("sys/user/max_net_namespaces", "0\n")]);
    for (step, errno) in [(Step::ExecuteCommand, errno::EACCES), (Step::CreateRecord, errno::ENOSPC)] {
        assert!(!advice(step, errno, &facts).expect("a row").contains("max_net"), "{step:?}");
    }
}

#[test]
fn namespaces_where_no_switch_forbids_them() {
    let facts = good();
    for (errno, words) in [
        (errno::EPERM, ["seccomp", "chroot"]),
        (errno::ENOSPC, ["not disk space", "32 deep"]),
        (errno::EUSERS, ["kernel limit", "lsns"]),
        (errno::EACCES, ["AppArmor", "dmesg"]),
        (errno::EINVAL, ["/proc/self/ns", "kernel"]),
        (errno::ENOSYS, ["clone3", "seccomp"]),
        (errno::EAGAIN, ["ulimit -u", "pids.max"]),
        (errno::EBUSY, ["cgroup", "Delegate=yes"]),
        (errno::ENOMEM, ["memory", "free -h"]),
    ] {
        says(Step::CreateNamespaces, errno, &facts, &words);
        says(Step::CreateContainer, errno, &facts, &words);
    }
    says(Step::CreateNamespaces, errno::EINVAL, &Facts { kernel: (5, 4), ..facts }, &["5.4 is too old"]);
}

#[test]
fn id_maps_that_were_refused() {
    let step = Step::WriteIdMaps;
    says(step, errno::EPERM, &good(), &["/etc/subuid", "usermod --add-subuids", "ana`"]);
    says(step, errno::EINVAL, &good(), &["overlap"]);
    says(step, errno::ETIMEDOUT, &good(), &["getent passwd"]);
    let missing = Facts { newgidmap: IdMapTool::Missing, ..good() };
    says(step, errno::EPERM, &missing, &["apt install uidmap", "--userns=single"]);
    let path = PathBuf::from("/opt/bin/newuidmap");
    let weak = Facts {
        newuidmap: IdMapTool::Unprivileged { path, why: "nosuid".to_owned(), fix: "remount it".to_owned() },
        ..good()
    };
    says(step, errno::EPERM, &weak, &["/opt/bin/newuidmap", "nosuid", "remount it", "--userns=single"]);
    says(Step::CreateRecord, errno::EFBIG, &good(), &["ulimit -f"]);
    let nameless = Facts { user: HostUser { uid: 1001, gid: 1001, name: None }, ..good() };
    says(step, errno::EPERM, &nameless, &["1001`"]);
}

#[test]
fn a_masked_proc_is_named_with_what_masks_it() {
    let by = ["/proc/a", "/proc/b", "/proc/c", "/proc/d"].map(PathBuf::from).to_vec();
    let masked = Facts { procfs: ProcVisibility::Masked { by }, ..good() };
    for step in [Step::MountFilesystems, Step::SetUpSandbox] {
        says(step, errno::EPERM, &masked, &["/proc/a, /proc/b, /proc/c and more", "systempaths=unconfined"]);
        says(step, errno::EPERM, &good(), &["seccomp"]);
    }
    let none = Facts { procfs: ProcVisibility::Masked { by: Vec::new() }, ..good() };
    says(Step::MountFilesystems, errno::EPERM, &none, &["mount -t proc"]);
}

#[test]
fn what_a_container_refuses_has_that_containers_fix() {
    use crate::host::Container::{Docker, Kubernetes, Podman};
    let within = |container, seccomp, apparmor: Option<&str>| Facts {
        confinement: Confinement { container: Some(container), seccomp, apparmor: apparmor.map(str::to_owned) },
        ..good()
    };
    let docker = within(Docker, true, Some("docker-default (enforce)"));
    for (step, errno) in [
        (Step::StartSupervisor, errno::ENOSYS),
        (Step::StartSupervisor, errno::EPERM),
        (Step::CreateNamespaces, errno::EPERM),
        (Step::SetUpSandbox, errno::EPERM),
    ] {
        says(
            step,
            errno,
            &docker,
            &["Seccomp: 2", "--security-opt seccomp=unconfined", "docker-default", "apparmor=unconfined"],
        );
    }
    says(
        Step::SetUpSandbox,
        errno::EACCES,
        &docker,
        &["`docker-default (enforce)`", "--security-opt apparmor=unconfined"],
    );
    let kubernetes = within(Kubernetes, true, None);
    says(
        Step::CreateNamespaces,
        errno::EPERM,
        &kubernetes,
        &["securityContext.seccompProfile.type: Unconfined", "hostUsers: false"],
    );
    says(Step::SetUpSandbox, errno::EACCES, &kubernetes, &["securityContext.appArmorProfile.type: Unconfined"]);
    let by = vec![PathBuf::from("/proc/kcore")];
    for (container, fix) in [
        (Docker, "--security-opt systempaths=unconfined"),
        (Podman, "--security-opt unmask=ALL"),
        (Kubernetes, "`securityContext.procMount: Unmasked` for the container, with `hostUsers: false`"),
    ] {
        let facts = Facts { procfs: ProcVisibility::Masked { by: by.clone() }, ..within(container, false, None) };
        says(Step::MountFilesystems, errno::EPERM, &facts, &["/proc/kcore", fix]);
    }
}

#[test]
fn root_without_the_capability_that_its_map_needs() {
    let root = Facts { user: HostUser { uid: 0, gid: 0, name: None }, ..good() };
    says(Step::WriteIdMaps, errno::EPERM, &root, &["CAP_SETFCAP", "--cap-add SETFCAP"]);
}

#[test]
fn overlays() {
    let step = Step::BuildRoot;
    let rootfs = RootfsFact {
        dir: PathBuf::from("/srv/r"),
        owner: Some(1001),
        error: None,
        mounts_below: vec![PathBuf::from("/srv/r/mnt")],
        too_deep: false,
    };
    says(step, errno::EINVAL, &Facts { rootfs: vec![rootfs], ..good() }, &["/srv/r/mnt", "umount"]);
    says(step, errno::EINVAL, &good(), &["XDG_DATA_HOME", "NFS"]);
    says(step, errno::EIO, &Facts { kernel: (6, 1), ..good() }, &["6.6", "tmpfs", "XDG_DATA_HOME"]);
    says(step, errno::EIO, &good(), &["dmesg"]);
    says(step, errno::EBUSY, &good(), &["sandpod rm"]);
    let missing = Facts { overlay: OverlaySupport::Missing { why: "older than 5.11".to_owned() }, ..good() };
    for errno in [errno::ENODEV, errno::EPERM] {
        says(step, errno, &missing, &["older than 5.11", "modprobe overlay"]);
    }
}

#[test]
fn directories_and_limits() {
    let facts = good();
    let home = "/home/ana/.local/share/sandpod";
    for step in [Step::CreateRecord, Step::PrepareVolumes] {
        says(step, errno::ENOSPC, &facts, &["df -h", home, "df -i"]);
        says(step, errno::EDQUOT, &facts, &["quota"]);
        says(step, errno::EROFS, &facts, &["read-only", "XDG_DATA_HOME", home]);
    }
    // Nothing of ours is to be moved then.
    says(Step::MountFilesystems, errno::EROFS, &facts, &["mount point", "touch", "volumeMount"]);
    says(Step::MountFilesystems, errno::EACCES, &facts, &["chmod o+rx", "dmesg"]);
    says(Step::BuildRoot, errno::EACCES, &facts, &["rootfs:", "chmod o+rx"]);
    says(Step::CreateRecord, errno::EACCES, &facts, &["ls -ld", "/run/user/1001/sandpod"]);
    says(Step::StartPortProxy, errno::EMFILE, &facts, &["each published port", "fewer ports"]);
    for step in Step::ALL {
        says(*step, errno::EMFILE, &facts, &["ulimit -n"]);
        says(*step, errno::ENOMEM, &facts, &["free -h"]);
        assert!(advice(*step, errno::ETIMEDOUT, &facts).is_some(), "{step:?}");
    }
}

#[test]
fn the_users_command() {
    for (errno, word) in [
        (errno::ENOENT, "interpreter"),
        (errno::EACCES, "chmod +x"),
        (errno::ENOEXEC, "architecture"),
        (errno::E2BIG, "too long"),
        (errno::ELOOP, "symbolic links"),
        (errno::EPERM, "forbids"),
    ] {
        says(Step::ExecuteCommand, errno, &good(), &[word]);
    }
    says(Step::DropPrivileges, errno::EINVAL, &good(), &["runAsUser"]);
    let single = Facts { subuids: Vec::new(), ..good() };
    says(Step::DropPrivileges, errno::EINVAL, &single, &["only one", "usermod"]);
    says(Step::StartPause, errno::EACCES, &good(), &["vm.memfd_noexec"]);
    says(Step::EnterPod, errno::ESRCH, &good(), &["ended"]);
    says(Step::OpenSources, errno::EACCES, &good(), &["chmod o+x"]);
}

#[test]
fn advice_is_a_sentence_or_two_and_never_a_riddle() {
    let facts = with_switches(&[("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")]);
    for facts in [facts, good()] {
        for step in Step::ALL {
            for errno in 0..140 {
                let Some(text) = advice(*step, errno, &facts) else { continue };
                assert!(text.len() < 700, "{step:?} {errno}: {text}");
                assert!(!text.contains("  ") && !text.ends_with('.'), "{step:?} {errno}: {text}");
            }
        }
    }
    assert_eq!(advice(Step::PlanPod, errno::EXDEV, &good()), None);
}
