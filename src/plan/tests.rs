use proptest::prelude::*;

use super::fixtures::*;
use super::*;
use crate::manifest::{Image, VolumeSource};

#[test]
fn forbidden_user_namespaces_name_switch_value_and_fix() {
    let mut facts = facts_for_tests();
    facts.user_namespaces = UserNamespaces::Forbidden {
        switch: "/proc/sys/user/max_user_namespaces".into(),
        value: "0".into(),
        fix: "sudo sysctl user.max_user_namespaces=15000".into(),
    };
    let report = plan_on(&pod(vec![container("a")]), &facts).unwrap_err();
    assert_eq!(report.exit_code, exit_code::FAILURE);
    assert_eq!(report.chain, ["/proc/sys/user/max_user_namespaces is 0"]);
    assert_eq!(report.hint.as_deref(), Some("sudo sysctl user.max_user_namespaces=15000"));
}

#[test]
fn main_is_the_first_or_the_annotated_container() {
    let mut pod = pod(vec![container("a"), container("b")]);
    assert_eq!(planned(&pod).main, "a");
    pod.metadata.annotations.insert(annotations::MAIN.into(), "b".into());
    assert_eq!(planned(&pod).main, "b");
    pod.metadata.annotations.insert(annotations::MAIN.into(), "c".into());
    let report = refused(&pod);
    assert_eq!(report.exit_code, exit_code::USAGE);
    assert_eq!(report.chain, ["it says `c`; the containers are `a`, `b`"]);
}

#[test]
fn our_annotations_are_known_or_refused() {
    let with = |key: &str, value: &str| {
        let mut pod = pod(vec![container("a")]);
        pod.metadata.annotations.insert(key.into(), value.into());
        pod
    };
    assert!(refused(&with("sandpod.dev/usrns", "auto")).what.contains("`sandpod.dev/usrns`"));
    let report = refused(&with(annotations::USERNS, "Isolated"));
    assert_eq!(report.chain, ["it can be `auto`, `root-is-you`, `isolated`, `single`"]);
    let plan = planned(&with("example.com/anything", "kept"));
    assert_eq!(plan.sandbox.annotations["example.com/anything"], "kept");
}

#[test]
fn the_command_line_names_the_pod() {
    let request = Request { name: Some("other".into()), ..request() };
    let plan = plan(&pod(vec![container("a")]), &facts_for_tests(), &request).unwrap();
    assert_eq!((plan.sandbox.name.as_str(), plan.sandbox.hostname.as_str()), ("other", "other"));
    assert_eq!(plan.sandbox.id, "0123456789ab");
}

#[test]
fn logs_are_of_the_container() {
    let log = &planned(&pod(vec![container("a")])).containers[0].log;
    assert_eq!(log.path.to_str(), Some("/home/alice/.local/share/sandpod/pods/0123456789ab/a.log"));
    assert_eq!((log.max_size, log.max_files), (10_485_760, 5));
}

#[test]
fn no_name_of_a_container_takes_the_place_of_another_file_of_the_pod() {
    let containers = ["root", "log", "plan", "panic", "volumes", "json"];
    let of_containers = containers.iter().flat_map(|name| [container_root(name), container_log(name)]);
    let mut names: Vec<String> =
        ["plan.json", "plan.tmp", "panic.txt", "volumes"].map(str::to_owned).into_iter().chain(of_containers).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "{names:?}");
}

fn any_pod() -> impl Strategy<Value = Pod> {
    let container = (any::<bool>(), 0_u32..70_000, any::<bool>(), "[a-z/]{0,6}");
    (prop::collection::vec(container, 1..4), any::<[bool; 5]>()).prop_map(
        |(containers, [net, ipc, pid, share, src])| {
            let made = containers.into_iter().enumerate().map(|(number, (host, user, read_only, path))| {
                let mut made = container_named(number);
                made.image = if host { Image::Host } else { Image::Rootfs(ROOTFS.into()) };
                made.security_context.run_as_user = Some(user);
                made.security_context.read_only_root_filesystem = read_only;
                made.volume_mounts = vec![mounted("v", &format!("/{path}"))];
                made
            });
            let mut pod = pod(made.collect());
            let source = if src { host_path("/src") } else { VolumeSource::EmptyDirMemory { size_limit: None } };
            pod.spec.volumes = vec![volume("v", source)];
            (pod.spec.host_network, pod.spec.host_ipc) = (net, ipc);
            (pod.spec.host_pid, pod.spec.share_process_namespace) = (pid, share);
            pod
        },
    )
}

fn container_named(number: usize) -> crate::manifest::Container {
    container(&format!("c{number}"))
}

proptest! {
    #[test]
    fn a_plan_depends_on_its_inputs_alone_and_survives_json(pod in any_pod()) {
        let facts = facts_for_tests();
        let first = plan_on(&pod, &facts);
        prop_assert_eq!(&first, &plan_on(&pod, &facts));
        if let Ok(plan) = first {
            let json = serde_json::to_string(&plan).unwrap();
            prop_assert_eq!(serde_json::from_str::<PodPlan>(&json).unwrap(), plan);
        }
    }

    #[test]
    fn every_process_has_an_id_of_the_host(pod in any_pod()) {
        if let Ok(plan) = plan_on(&pod, &facts_for_tests()) {
            for container in &plan.containers {
                let super::IdOrName::Id(uid) = container.process.uid else { panic!("no image names a user here") };
                prop_assert!(plan.sandbox.idmap.host_uid(uid).is_some());
            }
        }
    }
}
