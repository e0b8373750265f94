use super::super::fixtures::*;
use super::*;
use crate::manifest::Pod;
use crate::plan::annotations;

/// `FILE VALUE (FIELD)`, one a line.
fn shown(settings: &[Setting]) -> Vec<String> {
    let line = |Setting { value, asked_by }: &Setting| match asked_by {
        Some(field) => format!("{} {value} ({field})", value.file()),
        None => format!("{} {value}", value.file()),
    };
    settings.iter().map(line).collect()
}

fn decided(pod: &Pod) -> Decided {
    let known = annotations::read(&pod.metadata.annotations).expect("annotations");
    decide(&pod.spec, &known, &facts_for_tests().cgroup.capacity).expect("decided")
}

fn value_of(settings: &[Setting], file: &str) -> Option<String> {
    settings.iter().find(|setting| setting.value.file() == file).map(|setting| setting.value.to_string())
}

/// The seed's pod: two limits, and their sum above them.
#[test]
fn the_pods_cgroup_is_the_sum_of_its_containers() {
    let decided = decided(&pod(vec![sized("app", "memory=256Mi", ""), sized("sidecar", "memory=128Mi", "")]));
    let max = |settings: &[Setting]| value_of(settings, "memory.max");
    assert_eq!(max(&decided.containers[0].settings).as_deref(), Some("268435456"));
    assert_eq!(max(&decided.containers[1].settings).as_deref(), Some("134217728"));
    assert_eq!(
        shown(&decided.pod),
        [
            "memory.max 402653184 (spec.containers[].resources.limits.memory)",
            "memory.low 402653184 (spec.containers[].resources.limits.memory)",
        ]
    );
    assert_eq!((decided.qos, decided.claim), (QosClass::Burstable, Claim { cpu_millis: 0, memory: 384 << 20 }));
}

#[test]
fn every_value_names_its_field() {
    let decided = decided(&pod(vec![sized("app", "cpu=500m memory=512Mi", "cpu=250m memory=256Mi")]));
    let place = "spec.containers[0].resources";
    assert_eq!(
        shown(&decided.containers[0].settings),
        [
            format!("cpu.max 50000 100000 ({place}.limits.cpu)"),
            format!("cpu.weight 10 ({place}.requests.cpu)"),
            format!("memory.max 536870912 ({place}.limits.memory)"),
            format!("memory.low 268435456 ({place}.requests.memory)"),
            "memory.swap.max 0".to_owned(),
            "memory.oom.group 1".to_owned(),
            "pids.max 4096".to_owned(),
        ]
    );
    assert_eq!(value_of(&decided.pod, "cpu.max").as_deref(), Some("50000 100000"));
}

#[test]
fn a_pod_without_resources_has_only_defaults() {
    let decided = decided(&pod(vec![container("a")]));
    assert_eq!(shown(&decided.containers[0].settings), ["cpu.weight 1", "memory.oom.group 1", "pids.max 4096"]);
    assert_eq!(shown(&decided.pod), [] as [&str; 0]);
    assert_eq!((decided.qos, decided.claim), (QosClass::BestEffort, Claim::default()));
    assert_eq!(decided.containers[0].oom_score_adj, 1000);
}

#[test]
fn one_container_without_a_limit_leaves_the_pod_without_one() {
    let decided = decided(&pod(vec![sized("a", "cpu=1 memory=64Mi", ""), sized("b", "cpu=1", "memory=32Mi")]));
    assert_eq!(value_of(&decided.pod, "memory.max"), None);
    assert_eq!(value_of(&decided.pod, "memory.low"), Some((96_u64 << 20).to_string()));
    assert_eq!(value_of(&decided.pod, "cpu.max").as_deref(), Some("200000 100000"));
}

#[test]
fn the_pods_own_resources_come_before_sums() {
    let mut pod = pod(vec![sized("a", "", "cpu=100m memory=16Mi"), sized("b", "memory=32Mi", "")]);
    pod.spec.resources = resources("cpu=2 memory=128Mi", "memory=100Mi");
    let decided = decided(&pod);
    assert_eq!(
        shown(&decided.pod),
        [
            "cpu.max 200000 100000 (spec.resources.limits.cpu)",
            "cpu.weight 4 (spec.containers[].resources.requests.cpu)",
            "memory.max 134217728 (spec.resources.limits.memory)",
            "memory.low 104857600 (spec.resources.requests.memory)",
        ]
    );
    // A container without a limit has the pod's.
    let [a, b] = &decided.containers[..] else { panic!("two containers") };
    assert_eq!(value_of(&a.settings, "memory.max").as_deref(), Some("134217728"));
    assert_eq!(value_of(&b.settings, "memory.max").as_deref(), Some("33554432"));
    assert_eq!(decided.claim, Claim { cpu_millis: 100, memory: 100 << 20 });
}

#[test]
fn a_pods_limit_is_its_request_where_no_container_requests() {
    let mut pod = pod(vec![container("a"), container("b")]);
    pod.spec.resources = resources("cpu=2 memory=128Mi", "");
    let decided = decided(&pod);
    assert_eq!((decided.qos, decided.claim), (QosClass::Guaranteed, Claim { cpu_millis: 2000, memory: 128 << 20 }));
    assert_eq!(value_of(&decided.containers[0].settings, "cpu.weight"), Some(cpu_weight(2000).to_string()));
}

#[test]
fn huge_pages_are_limited_by_size_and_summed() {
    let huge = |name: &str, amount: &str| sized(name, &format!("memory=64Mi hugepages-2Mi={amount}"), "");
    let decided = decided(&pod(vec![huge("a", "4Mi"), huge("b", "6Mi"), container("c")]));
    assert_eq!(value_of(&decided.containers[0].settings, "hugetlb.2MB.max").as_deref(), Some("4194304"));
    assert_eq!(value_of(&decided.pod, "hugetlb.2MB.max").as_deref(), Some("10485760"));
    assert_eq!([kernel_page_name(64 << 10), kernel_page_name(1 << 30)], ["64KB", "1GB"]);
}

#[test]
fn the_kubelets_formulas() {
    for (millis, quota) in [(1, 1000), (10, 1000), (11, 1100), (200, 20_000), (500, 50_000), (2500, 250_000)] {
        assert_eq!(cpu_quota(millis), quota, "{millis}m");
    }
    for (millis, weight) in
        [(0, 1), (1, 1), (100, 4), (500, 20), (1000, 39), (2000, 79), (256_000, 10_000), (u64::MAX, 10_000)]
    {
        assert_eq!(cpu_weight(millis), weight, "{millis}m");
    }
}

/// KEP-753's examples: an init container, and the sidecars before it, against all that run together.
#[test]
fn the_effective_request_is_that_of_the_most_demanding_moment() {
    use InitKind::{First, Sidecar};
    let effective = |apps: &[Option<u64>], init: &[(InitKind, Option<u64>)]| effective(apps.iter().copied(), init);
    assert_eq!(effective(&[], &[]), None);
    assert_eq!(effective(&[None, None], &[(First, None)]), None);
    assert_eq!(effective(&[Some(2), None, Some(3)], &[]), Some(5));
    assert_eq!(effective(&[Some(2)], &[(First, Some(7)), (First, Some(4))]), Some(7), "they run one after another");
    assert_eq!(effective(&[Some(2)], &[(Sidecar, Some(3)), (First, Some(1))]), Some(5), "a sidecar stays");
    assert_eq!(effective(&[Some(2)], &[(Sidecar, Some(3)), (First, Some(4))]), Some(7), "beside the sidecar before it");
    assert_eq!(effective(&[Some(2)], &[(First, Some(4)), (Sidecar, Some(3))]), Some(5), "not the one after it");
    assert_eq!(effective(&[Some(u64::MAX), Some(1)], &[]), Some(u64::MAX));
}

#[test]
fn the_class_is_kubernetes() {
    use QosClass::{BestEffort, Burstable, Guaranteed};
    let class = |containers: &[(&str, &str)]| {
        let sized =
            containers.iter().enumerate().map(|(n, (limits, requests))| sized(&format!("c{n}"), limits, requests));
        qos(&Wanted::from(&pod(sized.collect()).spec))
    };
    assert_eq!(class(&[("", ""), ("", "")]), BestEffort);
    assert_eq!(class(&[("", "cpu=0 memory=0")]), BestEffort, "nothing is nothing");
    assert_eq!(class(&[("cpu=1 memory=1Gi", "")]), Guaranteed, "requests default to limits");
    assert_eq!(class(&[("cpu=1 memory=1Gi", "cpu=1 memory=1Gi"), ("cpu=2 memory=2Gi", "")]), Guaranteed);
    assert_eq!(class(&[("cpu=1 memory=1Gi", "cpu=500m")]), Burstable);
    assert_eq!(class(&[("cpu=1 memory=1Gi", ""), ("", "")]), Burstable);
    assert_eq!(class(&[("memory=1Gi", "")]), Burstable);
    assert_eq!(class(&[("cpu=1 memory=1Gi", "cpu=0")]), Burstable);
    assert_eq!(class(&[("", "cpu=1m")]), Burstable);
}

#[test]
fn oom_scores_follow_the_class() {
    let scores = |pod: &Pod| -> Vec<i32> { decided(pod).containers.iter().map(|of| of.oom_score_adj).collect() };
    assert_eq!(scores(&pod(vec![sized("a", "cpu=1 memory=1Gi", "")])), [-997]);
    // Of 8 GiB.
    assert_eq!(scores(&pod(vec![sized("a", "", "memory=2Gi"), container("b")])), [750, 999]);
    let mut shared = pod(vec![sized("a", "", "memory=1Gi"), container("b")]);
    shared.spec.resources = resources("", "memory=3Gi");
    assert_eq!(scores(&shared), [750, 875], "what is left of the pod's request is divided");
}

#[test]
fn processes_are_limited_by_annotation() {
    for (text, value) in [("100", "100"), ("max", "max")] {
        let mut pod = pod(vec![container("a")]);
        pod.metadata.annotations.insert(PIDS_LIMIT.into(), text.into());
        let settings = &decided(&pod).containers[0].settings;
        let line = format!("pids.max {value} (metadata.annotations.sandpod.dev/pids-limit)");
        assert!(shown(settings).contains(&line), "{settings:?}");
    }
}

#[test]
fn limited_swap_is_the_part_that_the_request_is_of_the_memory() {
    let swap = |limits: &str, requests: &str| {
        let mut pod = pod(vec![sized("a", limits, requests)]);
        pod.metadata.annotations.insert(SWAP.into(), "limited".into());
        let settings = &decided(&pod).containers[0].settings;
        assert!(shown(settings).iter().any(|line| line.ends_with("(metadata.annotations.sandpod.dev/swap)")));
        value_of(settings, "memory.swap.max").expect("a value").parse::<u64>().expect("a number")
    };
    // 2 of 8 GiB, of 2 GiB of swap.
    assert_eq!(swap("memory=4Gi", "memory=2Gi"), 512 << 20);
    assert_eq!(swap("", "memory=2Gi"), 512 << 20);
    assert_eq!(swap("memory=2Gi", "memory=2Gi"), 0, "request and limit are equal");
    assert_eq!(swap("cpu=1 memory=2Gi", ""), 0, "Guaranteed");
    assert_eq!(swap("", ""), 0, "BestEffort");
    assert_eq!(swap("", "memory=900Gi"), 2 << 30, "never more than there is");
}

#[test]
fn limited_swap_needs_to_know_the_host() {
    let mut pod = pod(vec![sized("a", "", "memory=1Gi")]);
    pod.metadata.annotations.insert(SWAP.into(), "limited".into());
    let mut facts = facts_for_tests();
    facts.cgroup.capacity.swap_total = None;
    assert!(plan_on(&pod, &facts).unwrap_err().what.contains(SWAP));
}
