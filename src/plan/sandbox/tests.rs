use super::super::PodPlan;
use super::super::fixtures::*;
use super::*;
use crate::manifest::Pod;
use NamespaceMode::{Container, Node, Pod as Shared};

fn with(change: impl Fn(&mut Pod)) -> Pod {
    let mut pod = pod(vec![container("a"), container("b")]);
    change(&mut pod);
    pod
}

#[test]
fn namespaces_of_sandbox_and_containers() {
    type Case = (&'static str, fn(&mut Pod), [NamespaceMode; 4]);
    let cases: [Case; 5] = [
        ("default", |_| {}, [Shared, Shared, Shared, Container]),
        ("shareProcessNamespace", |pod| pod.spec.share_process_namespace = true, [Shared, Shared, Shared, Shared]),
        ("hostPID", |pod| pod.spec.host_pid = true, [Node, Shared, Shared, Node]),
        ("hostNetwork", |pod| pod.spec.host_network = true, [Shared, Node, Shared, Container]),
        ("hostIPC", |pod| pod.spec.host_ipc = true, [Shared, Shared, Node, Container]),
    ];
    for (name, change, [pid, net, ipc, container_pid]) in cases {
        let PodPlan { sandbox, containers, .. } = planned(&with(change));
        let expected = SandboxNamespaces { pid, net, ipc, uts: Shared, cgroup: Container };
        assert_eq!(sandbox.namespaces, expected, "{name}");
        assert!(containers.iter().all(|container| container.pid == container_pid), "{name}");
    }
}

#[test]
fn host_pid_and_shared_pid_contradict() {
    let report = refused(&with(|pod| (pod.spec.host_pid, pod.spec.share_process_namespace) = (true, true)));
    assert_eq!(report.exit_code, exit_code::USAGE);
}

#[test]
fn hostname_as_the_kubelet_makes_it() {
    let of = |name: &str, asked: Option<&str>, host_network| {
        let pod = with(|pod| {
            pod.metadata.name = name.into();
            pod.spec.hostname = asked.map(Into::into);
            pod.spec.host_network = host_network;
        });
        planned(&pod).sandbox.hostname
    };
    assert_eq!(of("web", None, false), "web");
    assert_eq!(of("web.example", None, false), "web.example");
    assert_eq!(of("web", Some("front"), false), "front");
    assert_eq!(of("web", None, true), "workstation");
    assert_eq!(of("web", Some("front"), true), "front");
    assert_eq!(of(&"a".repeat(64), None, false), "a".repeat(63));
    assert_eq!(of(&format!("{}-.-bcd", "a".repeat(60)), None, false), "a".repeat(60));
}

#[test]
fn volumes_go_where_they_live() {
    let plan = planned(&with(|pod| {
        pod.spec.volumes = vec![
            volume("disk", VolumeSource::EmptyDirDisk),
            volume("memory", VolumeSource::EmptyDirMemory { size_limit: Some(4096) }),
            volume("unlimited", VolumeSource::EmptyDirMemory { size_limit: None }),
            volume("src", host_path("/home/alice")),
        ];
    }));
    let memory: Vec<_> = plan.sandbox.memory_volumes.iter().map(|v| (v.path.to_str().unwrap(), v.size)).collect();
    assert_eq!(memory, [("shm", Some(64 << 20)), ("volumes/memory", Some(4096)), ("volumes/unlimited", None)]);
    assert_eq!(plan.sandbox.disk_volumes, ["disk"]);
    assert_eq!(plan.sandbox.host_paths[0].path.to_str(), Some("/home/alice"));
    assert_eq!(plan.sandbox.dirs.runtime.to_str(), Some("/run/user/1000/sandpod/pods/0123456789ab"));
}
