use super::super::fixtures::*;
use super::*;
use crate::host::Facts;
use crate::host::ProcVisibility;
use crate::manifest::Pod;
use crate::plan::{ContainerPlan, PodPlan};

/// A pod that mounts the disk volume `v` at each of the paths.
fn at(paths: &[&str]) -> Pod {
    let mut only = container("only");
    only.volume_mounts = paths.iter().map(|path| mounted("v", path)).collect();
    let mut pod = pod(vec![only]);
    pod.spec.volumes = vec![volume("v", VolumeSource::EmptyDirDisk { size_limit: None })];
    pod
}

fn first(plan: PodPlan) -> ContainerPlan {
    plan.containers.into_iter().next().unwrap()
}

fn destinations(plan: PodPlan) -> Vec<String> {
    first(plan).mounts.iter().map(|mount| mount.destination.display().to_string()).collect()
}

fn kind(plan: PodPlan, destination: &str) -> MountKind {
    first(plan).mounts.into_iter().find(|mount| mount.destination == Path::new(destination)).unwrap().kind
}

const DEFAULT: [&str; 11] = [
    "/proc",
    "/sys",
    "/dev",
    "/dev/pts",
    "/dev/shm",
    "/sys/fs/cgroup",
    "/dev/mqueue",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/dev/termination-log",
];

#[test]
fn defaults_come_first() {
    assert_eq!(destinations(planned(&at(&[]))), DEFAULT);
    let read_only: Vec<_> = first(planned(&at(&[]))).mounts.into_iter().filter(|mount| mount.read_only).collect();
    assert_eq!(
        read_only.iter().map(|m| m.destination.to_str().unwrap()).collect::<Vec<_>>(),
        ["/sys", "/sys/fs/cgroup"]
    );
}

#[test]
fn parents_come_before_children() {
    let order = destinations(planned(&at(&["/a/b/c/d", "/z/y", "/a/b", "/a/b/c", "/z"])));
    assert_eq!(
        order[7..],
        [
            "/z",
            "/etc/hostname",
            "/etc/hosts",
            "/etc/resolv.conf",
            "/dev/termination-log",
            "/z/y",
            "/a/b",
            "/a/b/c",
            "/a/b/c/d"
        ]
    );
    // A volume over the whole of /etc leaves the pod's own files visible.
    let order = destinations(planned(&at(&["/etc"])));
    assert_eq!(order[7..], ["/etc", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/termination-log"]);
}

#[test]
fn a_volume_takes_the_place_of_a_default() {
    for path in ["/dev/shm", "/etc/hosts", "/dev//shm/", "/etc/./hosts"] {
        let plain = plain(path).display().to_string();
        let order = destinations(planned(&at(&[path])));
        assert_eq!(order.iter().filter(|destination| **destination == plain).count(), 1, "{order:?}");
        assert_eq!(kind(planned(&at(&[path])), &plain), MountKind::DiskVolume { name: "v".into() });
    }
}

#[test]
fn the_sandbox_is_not_covered() {
    for path in ["/", "//", "/./", "/proc", "/proc/self", "/proc/sys/kernel", "/sys", "/sys/fs/cgroup", "/dev", "/dev/"]
    {
        let report = refused(&at(&[path]));
        assert_eq!(report.exit_code, exit_code::USAGE);
        assert!(report.what.contains("`v` cannot be mounted at"), "{path}: {report:?}");
    }
    for path in ["/process", "/system", "/dev/disk", "/device"] {
        planned(&at(&[path]));
    }
}

#[test]
fn one_place_twice_is_refused() {
    assert!(refused(&at(&["/a/b", "/a//b/"])).what.contains("two volumes are mounted at /a/b"));
}

#[test]
fn shared_with_the_host() {
    let with = |change: fn(&mut Pod)| {
        let mut pod = at(&[]);
        change(&mut pod);
        planned(&pod)
    };
    let host_ipc = || with(|pod| pod.spec.host_ipc = true);
    assert_eq!(kind(host_ipc(), "/dev/shm"), MountKind::HostPath { source: "/dev/shm".into() });
    assert_eq!(kind(host_ipc(), "/dev/mqueue"), MountKind::MqueueBind);
    assert!(host_ipc().sandbox.memory_volumes.is_empty());
    assert_eq!(kind(with(|pod| pod.spec.host_network = true), "/sys"), MountKind::SysBind);
    assert_eq!(kind(with(|pod| pod.spec.host_pid = true), "/proc"), MountKind::ProcBind);
    assert_eq!(kind(with(|pod| pod.spec.share_process_namespace = true), "/proc"), MountKind::Proc);

    let mut facts = facts_for_tests();
    facts.procfs = ProcVisibility::Masked { by: vec!["/proc/kcore".into()] };
    assert_eq!(kind(plan_on(&at(&[]), &facts).unwrap(), "/proc"), MountKind::ProcBind);
    assert_eq!(kind(plan_on(&at(&[]), &facts).unwrap(), "/sys"), MountKind::Sysfs);
    let sysfs = ProcVisibility::Masked { by: vec!["/sys/firmware".into()] };
    let masked = Facts { sysfs, ..facts_for_tests() };
    assert_eq!(kind(plan_on(&at(&[]), &masked).unwrap(), "/sys"), MountKind::SysBind);
}

#[test]
fn a_read_only_root_leaves_volumes_writable() {
    let mut pod = at(&["/data"]);
    pod.spec.containers[0].security_context.read_only_root_filesystem = true;
    pod.spec.containers[0].volume_mounts.push(VolumeMount { read_only: true, ..mounted("v", "/fixed") });
    let plan = first(planned(&pod));
    assert!(plan.read_only_root);
    let read_only = |path: &str| plan.mounts.iter().find(|m| m.destination == Path::new(path)).unwrap().read_only;
    assert!(!read_only("/data"));
    assert!(read_only("/fixed"));
    assert!(read_only("/etc/hosts"));
}

#[test]
fn each_kind_of_volume_has_its_source() {
    let source = |source: VolumeSource| {
        let mut pod = at(&["/v"]);
        pod.spec.volumes = vec![volume("v", source)];
        kind(planned(&pod), "/v")
    };
    assert_eq!(source(VolumeSource::EmptyDirDisk { size_limit: None }), MountKind::DiskVolume { name: "v".into() });
    let memory = VolumeSource::EmptyDirMemory { size_limit: None };
    assert_eq!(source(memory), MountKind::PodTmpfs { source: "volumes/v".into() });
    assert_eq!(source(host_path("/srv/x")), MountKind::HostPath { source: "/srv/x".into() });
}
