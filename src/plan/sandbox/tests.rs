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
fn volumes_go_where_they_live() {
    let plan = planned(&with(|pod| {
        pod.spec.volumes = vec![
            volume("disk", VolumeSource::EmptyDirDisk { size_limit: None }),
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

#[test]
fn enter_is_a_file_of_no_owner_where_a_tracer_could_open_it() {
    let tracer = |capability: &'static str| {
        move |pod: &mut Pod| {
            pod.spec.containers[1].security_context.capabilities_add = vec![capability.to_owned()];
        }
    };
    let enter = |capability, userns: &str, kernel| {
        let facts = Facts { kernel, ..facts_for_tests() };
        let mut pod = with(tracer(capability));
        pod.metadata.annotations.insert(crate::plan::annotations::USERNS.to_owned(), userns.to_owned());
        plan_on(&pod, &facts).expect("a plan").sandbox.enter
    };
    for userns in ["root-is-you", "single"] {
        assert_eq!(enter("SYS_PTRACE", userns, (6, 3)), EnterFile::Unmapped);
        assert_eq!(enter("ALL", userns, (7, 0)), EnterFile::Unmapped);
        assert_eq!(enter("SYS_PTRACE", userns, (6, 2)), EnterFile::Memory);
        assert_eq!(enter("SYS_ADMIN", userns, (6, 18)), EnterFile::Memory);
    }
    assert_eq!(enter("SYS_PTRACE", "isolated", (6, 18)), EnterFile::Memory);
}
