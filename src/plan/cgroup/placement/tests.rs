use super::super::super::fixtures::*;
use super::super::*;
use super::*;
use crate::host::{Facts, NoDelegation};
use crate::manifest::Pod;
use crate::plan::{AskedIn, Request, plan};

fn limited() -> Pod {
    pod(vec![sized("app", "cpu=1 memory=256Mi", ""), sized("side", "memory=128Mi", "")])
}

fn on(cgroup: CgroupFacts) -> Facts {
    Facts { cgroup, ..facts_for_tests() }
}

fn with_delegation(delegation: Delegation) -> Facts {
    on(CgroupFacts { delegation, ..delegated("") })
}

fn tree(pod: &Pod, facts: &Facts) -> CgroupTree {
    match plan_on(pod, facts).expect("a plan").sandbox.cgroup {
        CgroupPlan::Tree(tree) => tree,
        CgroupPlan::Inherited => panic!("no tree"),
    }
}

#[test]
fn controllers_are_those_that_are_needed_or_measured() {
    let usual = tree(&limited(), &facts_for_tests());
    assert_eq!(usual.parent, CgroupParent::Directory { path: DELEGATED.into(), leave: true });
    assert_eq!(
        (usual.name.as_str(), &usual.controllers[..]),
        ("sandpod-web-0123456789ab", &["cpu", "memory", "pids"].map(str::to_owned)[..])
    );
    let many = tree(&limited(), &on(delegated("cpu cpuset hugetlb io memory misc pids rdma")));
    assert_eq!(many.controllers, ["cpu", "io", "memory", "pids"]);
    let mut huge = limited();
    huge.spec.containers[0].resources.limits.hugepages.insert(2 << 20, 2 << 20);
    assert!(tree(&huge, &on(delegated("cpu hugetlb memory"))).controllers.contains(&"hugetlb".to_owned()));
}

#[test]
fn defaults_are_left_out_where_their_controller_is_missing() {
    let plain = pod(vec![container("a")]);
    let files = |controllers: &str| -> Vec<String> {
        let plan = plan_on(&plain, &on(delegated(controllers))).expect("a plan");
        plan.containers[0].cgroup.iter().map(|setting| setting.value.file()).collect()
    };
    assert_eq!(files("cpu memory pids"), ["cpu.weight", "memory.oom.group", "pids.max"]);
    assert_eq!(files("memory"), ["memory.oom.group"]);
    assert!(files("").is_empty());
    assert!(tree(&plain, &on(delegated(""))).settings.is_empty());
}

#[test]
fn a_controller_that_is_needed_and_not_delegated_is_an_error_with_its_fix() {
    let report = plan_on(&limited(), &on(delegated("memory pids"))).unwrap_err();
    assert_eq!(report.exit_code, exit_code::FAILURE);
    assert_eq!(report.what, "the cgroup controller `cpu` is not delegated, and the pod needs it");
    assert_eq!(
        report.chain,
        [
            "needed by spec.containers[0].resources.limits.cpu (cpu.max, cpu.weight)".to_owned(),
            format!("{DELEGATED}/cgroup.controllers says: memory pids"),
        ]
    );
    let hint = report.hint.expect("a fix");
    for part in [
        "/etc/systemd/system/user@.service.d/delegate.conf",
        "[Service]\\nDelegate=cpu cpuset io memory pids\\n",
        "systemctl daemon-reload",
        "--cgroups=disabled",
    ] {
        assert!(hint.contains(part), "{hint}");
    }
}

/// Nobody who typed `--memory` has to know what a manifest calls it.
#[test]
fn what_was_typed_is_named_as_it_was_typed() {
    let mut typed = pod(vec![sized("main", "cpu=1 memory=64Mi", "")]);
    typed.metadata.annotations.insert("sandpod.dev/pids-limit".into(), "100".into());
    let request = Request { asked_in: AskedIn::Options, ..request() };
    let report = plan(&typed, &on(delegated("")), &request).unwrap_err();
    assert_eq!(
        report.chain[..3],
        [
            "needed by --cpus (cpu.max, cpu.weight)",
            "needed by --memory (memory.max, memory.low)",
            "needed by --pids-limit (pids.max)",
        ]
    );
    let report = plan(&typed, &with_delegation(Delegation::None(NoDelegation::Version1)), &request).unwrap_err();
    assert!(report.chain.iter().all(|line| !line.contains("spec.")), "{report:?}");
}

#[test]
fn the_fix_depends_on_who_delegates() {
    let hint =
        |delegation: Delegation, pod: &Pod| plan_on(pod, &with_delegation(delegation)).unwrap_err().hint.unwrap();
    let plain = Delegation::Directory {
        path: "/sys/fs/cgroup/jobs/alice".into(),
        controllers: BTreeSet::from(["pids".to_owned()]),
        ours: Membership::Outside,
    };
    assert!(
        hint(plain, &limited()).contains("echo '+cpu +memory' | sudo tee /sys/fs/cgroup/jobs/cgroup.subtree_control")
    );
    let scope = || Delegation::SystemdScope { controllers: BTreeSet::from(["memory".to_owned()]) };
    assert!(hint(scope(), &limited()).contains("Delegate="));
    let mut huge = pod(vec![sized("a", "memory=64Mi hugepages-2Mi=2Mi", "")]);
    assert!(hint(scope(), &huge).contains("systemd cannot delegate it"));
    huge.spec.containers[0].resources.limits.hugepages.clear();
    assert!(plan_on(&huge, &with_delegation(scope())).is_ok());
}

#[test]
fn a_scope_is_named_like_the_pod() {
    let controllers = ["cpu", "memory", "pids"].map(str::to_owned).into();
    let tree = tree(&limited(), &with_delegation(Delegation::SystemdScope { controllers }));
    assert_eq!(tree.parent, CgroupParent::SystemdScope { unit: "sandpod-web-0123456789ab.scope".into() });
}

#[test]
fn names_fit_into_a_directory_and_a_unit() {
    let id = "0123456789ab";
    assert_eq!(tree_name("a.b-c", id), "sandpod-a.b-c-0123456789ab");
    let long = tree_name(&"x".repeat(253), id);
    assert_eq!(long.len() + SUPERVISOR.len(), 255);
    assert!(long.starts_with("sandpod-xxx") && long.ends_with("x-0123456789ab"));
}

#[test]
fn without_a_delegation_limits_are_refused_and_the_rest_runs() {
    let none = || with_delegation(Delegation::None(NoDelegation::Version1));
    let plan = plan_on(&pod(vec![container("a")]), &none()).expect("nothing was asked");
    assert_eq!(plan.sandbox.cgroup, CgroupPlan::Inherited);
    assert!(plan.containers[0].cgroup.is_empty());
    assert_eq!(plan.degradations[0].name, degradation::NO_CGROUP);
    assert!(plan.degradations[0].meaning.contains(&NoDelegation::Version1.reason()));

    let report = plan_on(&limited(), &none()).unwrap_err();
    assert_eq!(report.chain[0], NoDelegation::Version1.reason());
    assert_eq!(
        report.chain[1..],
        [
            "needed by spec.containers[0].resources.limits.cpu (cpu.max, cpu.weight)",
            "needed by spec.containers[0,1].resources.limits.memory (memory.max, memory.low)",
        ]
    );
    let hint = report.hint.expect("a fix");
    assert!(hint.ends_with(&NoDelegation::Version1.fix()) && hint.starts_with("--cgroups=disabled"), "{hint}");
}

#[test]
fn a_parent_that_was_asked_for_is_used_or_refused() {
    let why = NoDelegation::Asked { path: "/sys/fs/cgroup/x".into(), why: "it is not there".into() };
    let facts = with_delegation(Delegation::None(why.clone()));
    let report = plan_on(&pod(vec![container("a")]), &facts).unwrap_err();
    assert_eq!(report.chain, [why.reason()]);
}

#[test]
fn disabled_waives_limits_by_name() {
    let disabled = |pod: &Pod| {
        let request = Request { cgroups: CgroupsChoice::Disabled, ..request() };
        plan(pod, &facts_for_tests(), &request).expect("a plan")
    };
    let waived = disabled(&limited());
    assert_eq!(waived.sandbox.cgroup, CgroupPlan::Inherited);
    assert_eq!(waived.degradations[0].name, degradation::NO_LIMITS);
    let meaning = &waived.degradations[0].meaning;
    assert!(
        meaning.ends_with("limits and requests of cpu, memory are not enforced") && meaning.len() < 100,
        "{meaning}"
    );
    assert!(disabled(&pod(vec![container("a")])).degradations.is_empty());
}

#[test]
fn a_parent_that_is_asked_for_is_used_or_refused_whatever_is_lacking() {
    let lacks = [
        NoDelegation::NotMounted,
        NoDelegation::Version1,
        NoDelegation::Hybrid { in_v1: ["cpu".to_owned()].into() },
        NoDelegation::ReadOnly { mount: "/sys/fs/cgroup".into(), container: None },
        NoDelegation::OutOfSight { own: "/../x".into(), mount: "/sys/fs/cgroup".into() },
        NoDelegation::Asked { path: "/x".into(), why: "there is no such cgroup".into() },
    ];
    for why in lacks {
        let delegation = Delegation::None(why.clone());
        let asked = CgroupFacts { asked: Some("/x".into()), delegation: delegation.clone(), ..delegated("") };
        let report = plan_on(&pod(vec![container("a")]), &on(asked)).unwrap_err();
        assert_eq!(report.exit_code, exit_code::FAILURE);
        assert_eq!(report.what, "the cgroup of --cgroup-parent cannot be used");
        assert!(report.chain.iter().any(|line| line.contains("--cgroup-parent /x")), "{report:?}");
        let hint = report.hint.expect("a fix");
        assert!(hint.contains("--cgroup-parent"), "{hint}");
        let plain = plan_on(&pod(vec![container("a")]), &with_delegation(delegation)).map(|plan| plan.degradations);
        assert_eq!(plain.is_ok(), !matches!(why, NoDelegation::Asked { .. }), "not asked for: {plain:?}");
    }
}
