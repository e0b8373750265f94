use super::super::fixtures::*;
use super::*;
use crate::host::Facts;
use crate::manifest::Pod;
use crate::plan::cgroup::Claim;

fn planned(pod: &Pod) -> PodPlan {
    plan_on(pod, &facts_for_tests()).expect("a plan")
}

fn change(container: Option<&str>, limits: &str, requests: &str) -> Change {
    Change { container: container.map(str::to_owned), limits: amounts(limits), requests: amounts(requests), pids: None }
}

fn pod_settings(plan: &PodPlan) -> &[Setting] {
    match &plan.sandbox.cgroup {
        CgroupPlan::Tree(tree) => &tree.settings,
        CgroupPlan::Inherited => panic!("no tree"),
    }
}

/// File and value, in any order.
fn values(settings: &[Setting]) -> Vec<String> {
    let mut values: Vec<String> =
        settings.iter().map(|setting| format!("{} {}", setting.value.file(), setting.value)).collect();
    values.sort();
    values
}

fn all_values(plan: &PodPlan) -> Vec<Vec<String>> {
    let containers = plan.containers.iter().map(|container| values(&container.cgroup));
    containers.chain([values(pod_settings(plan))]).collect()
}

fn refused(pod: &Pod, change: &Change, part: &str) {
    let report = update(&planned(pod), change).expect_err(part);
    let said = format!("{} {:?} {:?}", report.what, report.chain, report.hint);
    assert!(said.contains(part), "{said}");
}

fn scores(plan: &PodPlan) -> Vec<i32> {
    plan.containers.iter().map(|container| container.process.oom_score_adj).collect()
}

/// The one law of updates: the result is as if the manifest had said so.
#[test]
fn an_update_gives_what_the_other_manifest_would_have_given() {
    let before = || pod(vec![sized("app", "cpu=1 memory=256Mi", "memory=64Mi"), sized("side", "memory=128Mi", "")]);
    for (asked, after) in [
        (
            change(Some("app"), "memory=512Mi", ""),
            pod(vec![sized("app", "cpu=1 memory=512Mi", "memory=64Mi"), sized("side", "memory=128Mi", "")]),
        ),
        (
            change(Some("side"), "cpu=500m memory=64Mi", ""),
            pod(vec![sized("app", "cpu=1 memory=256Mi", "memory=64Mi"), sized("side", "cpu=500m memory=64Mi", "")]),
        ),
        (
            change(Some("app"), "", "cpu=250m memory=0"),
            pod(vec![sized("app", "cpu=1 memory=256Mi", "cpu=250m memory=0"), sized("side", "memory=128Mi", "")]),
        ),
        (change(None, "memory=300Mi", ""), {
            let mut pod = before();
            pod.spec.resources = resources("memory=300Mi", "");
            pod
        }),
    ] {
        let updated = update(&planned(&before()), &asked).expect("updated");
        assert_eq!(all_values(&updated), all_values(&planned(&after)), "{asked:?}");
        assert_eq!(updated.sandbox.claim, planned(&after).sandbox.claim, "{asked:?}");
        assert_eq!(scores(&updated), scores(&planned(&after)), "{asked:?}");
        // Again is nothing more.
        assert_eq!(update(&updated, &asked).expect("updated"), updated);
    }
}

#[test]
fn a_first_limit_brings_its_companions() {
    let before = planned(&pod(vec![sized("app", "", "cpu=100m")]));
    let updated = update(&before, &change(Some("app"), "memory=64Mi", "")).expect("updated");
    let app = values(&updated.containers[0].cgroup);
    for value in ["memory.max 67108864", "memory.swap.max 0", "memory.low 67108864", "pids.max 4096"] {
        assert!(app.contains(&value.to_owned()), "{value}: {app:?}");
    }
    assert!(values(pod_settings(&updated)).contains(&"memory.max 67108864".to_owned()));
    assert_eq!(updated.sandbox.claim, Claim { cpu_millis: 100, memory: 64 << 20 });
    assert!(scores(&updated) < scores(&before), "who requests more of the host's memory is killed later");
}

/// As the API server does (KEP-1287).
#[test]
fn the_qos_class_does_not_change() {
    let best_effort = pod(vec![container("app")]);
    refused(&best_effort, &change(Some("app"), "memory=64Mi", ""), "would change from BestEffort to Burstable");
    refused(&best_effort, &change(None, "memory=64Mi", ""), "only --pids can be changed");
    let one = Change { pids: Some(PidsLimit::Of(9)), ..change(Some("app"), "", "") };
    assert_eq!(update(&planned(&best_effort), &one).expect("no class has it").sandbox.qos, QosClass::BestEffort);

    let burstable = pod(vec![sized("app", "memory=64Mi", "")]);
    refused(&burstable, &change(Some("app"), "cpu=1", ""), "would change from Burstable to Guaranteed");
    update(&planned(&burstable), &change(Some("app"), "cpu=1", "cpu=500m")).expect("still Burstable");

    let guaranteed = pod(vec![sized("app", "cpu=1 memory=64Mi", "")]);
    refused(&guaranteed, &change(Some("app"), "", "cpu=500m"), "would change from Guaranteed to Burstable");
    update(&planned(&guaranteed), &change(Some("app"), "cpu=2", "")).expect("its request follows");
    update(&planned(&guaranteed), &change(Some("app"), "cpu=2", "cpu=2")).expect("both");
}

#[test]
fn processes_of_a_container_and_of_the_pod() {
    let before = planned(&pod(vec![container("app"), sized("side", "", "memory=16Mi")]));
    let of = |container: Option<&str>, pids| Change { pids: Some(pids), ..change(container, "", "") };
    let one = update(&before, &of(Some("side"), PidsLimit::Of(50))).expect("updated");
    assert!(values(&one.containers[1].cgroup).contains(&"pids.max 50".to_owned()));
    assert_eq!(one.containers[0], before.containers[0]);
    let all = update(&one, &of(None, PidsLimit::Of(90))).expect("updated");
    assert!(values(pod_settings(&all)).contains(&"pids.max 90".to_owned()));
    // It is kept by what comes later.
    let later = update(&all, &change(Some("side"), "memory=64Mi", "")).expect("updated");
    assert!(values(&later.containers[1].cgroup).contains(&"pids.max 50".to_owned()));
    assert!(values(pod_settings(&later)).contains(&"pids.max 90".to_owned()));
}

#[test]
fn what_no_manifest_may_say_no_update_may() {
    let two = pod(vec![sized("app", "memory=256Mi", "memory=64Mi"), sized("side", "memory=128Mi", "")]);
    refused(&two, &change(Some("app"), "memory=32Mi", ""), "would request 64Mi memory, more than its limit of 32Mi");
    refused(&two, &change(Some("app"), "memory=32Mi", ""), "lower the request, too, with --memory-request");
    refused(&two, &change(Some("app"), "", "memory=1Gi"), "raise the limit, too, with --memory,");
    // Not a word about giving what was given.
    let both = change(Some("app"), "memory=32Mi", "memory=40Mi");
    refused(&two, &both, "--memory-request must not be more than --memory");
    refused(
        &two,
        &change(None, "memory=200Mi", ""),
        "container `app` would have a memory limit of 256Mi, the pod one of",
    );
    refused(&two, &change(None, "", "memory=100Mi"), "its containers would request 192Mi memory, the pod 100Mi");
    refused(&two, &change(Some("nobody"), "memory=1Gi", ""), "it has no container `nobody`");
}

#[test]
fn what_is_not_delegated_is_named() {
    let facts = Facts { cgroup: delegated("memory"), ..facts_for_tests() };
    let plan = plan_on(&pod(vec![sized("app", "memory=256Mi", "")]), &facts).expect("a plan");
    let report = update(&plan, &change(Some("app"), "cpu=1", "cpu=500m")).expect_err("no cpu");
    assert!(report.chain[0].contains("needs the cgroup controller `cpu`"), "{report:?}");
    update(&plan, &change(Some("app"), "memory=1Gi", "")).expect("memory is there");
    let mut bare = plan;
    bare.sandbox.cgroup = CgroupPlan::Inherited;
    assert!(update(&bare, &change(Some("app"), "memory=1Gi", "")).is_err());
}

#[test]
fn only_what_differs_is_written_and_what_is_gone_is_set_back() {
    let setting = |value| Setting { value, asked_by: None };
    let before = [setting(Value::MemoryMax(Some(1))), setting(Value::MemoryLow(1)), setting(Value::CpuWeight(5))];
    let after = [setting(Value::MemoryMax(Some(2))), setting(Value::CpuWeight(5)), setting(Value::PidsMax(None))];
    assert_eq!(values(&differences(&before, &after)), ["memory.low 0", "memory.max 2", "pids.max max"]);
    assert_eq!(differences(&after, &after), []);
}
