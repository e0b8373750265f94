use super::super::fixtures::*;
use super::*;
use crate::host::Ipv6Routes;
use crate::manifest::{EnvValue, EnvVar, Pod};
use crate::plan::Request;
use crate::plan::network::NetworkChoice;

fn asking(pod_field: PodField) -> EnvVar {
    EnvVar { name: "ASKED".into(), value: EnvValue::Field(pod_field) }
}

fn asking_amount(container: Option<&str>, role: Role, resource: Resource, divisor: u64) -> EnvVar {
    let container = container.map(str::to_owned);
    EnvVar { name: "ASKED".into(), value: EnvValue::Resource(ResourceField { container, role, resource, divisor }) }
}

/// What the first container's variable says.
fn answer(mut pod: Pod, variable: EnvVar, change: impl Fn(&mut Request, &mut Facts)) -> Result<String, Report> {
    pod.spec.containers[0].env = vec![variable, env("COPY", "$(ASKED)")];
    let (mut request, mut facts) = (request(), facts_for_tests());
    change(&mut request, &mut facts);
    let process = super::super::plan(&pod, &facts, &request)?.containers.remove(0).process;
    let value = |name: &str| process.env.iter().find(|(known, _)| known == name).expect("there").1.clone();
    assert_eq!(value("ASKED"), value("COPY"));
    Ok(value("ASKED"))
}

#[test]
fn the_pods_fields() {
    let mut web = pod(vec![container("a")]);
    web.metadata.labels.insert("tier".into(), "front $(NONE)".into());
    let of = |field: PodField| answer(web.clone(), asking(field), |_, _| ()).expect("an answer");
    assert_eq!(of(PodField::Name), "web");
    assert_eq!(of(PodField::Namespace), "default");
    assert_eq!(of(PodField::Uid), "0123456789ab");
    // Not expanded: it is no text of the manifest's `value`.
    assert_eq!(of(PodField::Label("tier".into())), "front $(NONE)");
    assert_eq!(of(PodField::Annotation("none".into())), "");
    assert_eq!(of(PodField::NodeName), "workstation");
    assert_eq!(of(PodField::PodIp), "10.0.2.100");
}

#[test]
fn the_address_is_that_of_the_network() {
    let of = |field: PodField, choice, ipv6| {
        answer(pod(vec![container("a")]), asking(field), |request, facts| {
            request.network = Some(choice);
            facts.network.ipv6 = if ipv6 { Ipv6Routes::Default } else { Ipv6Routes::None };
        })
    };
    assert_eq!(of(PodField::PodIps, NetworkChoice::Private, true).expect("two"), "10.0.2.100,fd00::ff:fe00:64");
    assert_eq!(of(PodField::PodIp, NetworkChoice::None, true).expect("lo"), "127.0.0.1");
    let report = of(PodField::PodIp, NetworkChoice::Host, false).expect_err("which of them?");
    assert!(report.what.contains("`a`") && report.what.contains("`ASKED`"), "{report:?}");
}

#[test]
fn amounts_are_rounded_up_to_whole_divisors() {
    let of = |variable: EnvVar| {
        let containers = vec![sized("a", "cpu=1500m memory=100Mi ephemeral-storage=2Gi", "cpu=200m"), container("b")];
        answer(pod(containers), variable, |_, _| ()).expect("an answer")
    };
    use Resource::{Cpu, EphemeralStorage, HugePages, Memory};
    for (container, role, resource, divisor, expected) in [
        (None, Role::Limit, Cpu, 1000, "2"),
        (None, Role::Limit, Cpu, 1, "1500"),
        (None, Role::Request, Cpu, 1, "200"),
        (None, Role::Limit, Memory, 1 << 20, "100"),
        (None, Role::Limit, Memory, 1 << 30, "1"),
        // Not requested: the limit.
        (None, Role::Request, Memory, 1, "104857600"),
        // No limit: what the host has.
        (Some("b"), Role::Limit, Cpu, 1000, "4"),
        (Some("b"), Role::Limit, Memory, 1 << 30, "8"),
        (Some("b"), Role::Request, Cpu, 1, "0"),
        (None, Role::Limit, EphemeralStorage, 1 << 20, "2048"),
        (None, Role::Request, EphemeralStorage, 1 << 30, "2"),
        (Some("b"), Role::Request, EphemeralStorage, 1, "0"),
        (Some("b"), Role::Limit, HugePages(2 << 20), 1, "0"),
    ] {
        assert_eq!(
            of(asking_amount(container, role, resource, divisor)),
            expected,
            "{container:?} {role:?} {resource}"
        );
    }
}

#[test]
fn the_pods_own_limit_is_nearer_than_the_hosts() {
    let mut web = pod(vec![container("a")]);
    web.spec.resources = resources("memory=2Gi", "");
    let variable = asking_amount(None, Role::Limit, Resource::Memory, 1 << 30);
    assert_eq!(answer(web, variable, |_, _| ()).expect("an answer"), "2");
}

#[test]
fn what_nobody_knows_is_refused() {
    let variable = asking_amount(Some("c"), Role::Limit, Resource::Cpu, 1);
    let report = answer(pod(vec![container("a")]), variable, |_, _| ()).expect_err("no such container");
    assert_eq!(report.exit_code, exit_code::USAGE);
    let variable = asking_amount(None, Role::Limit, Resource::Memory, 1);
    let unknown = |_: &mut Request, facts: &mut Facts| facts.cgroup.capacity.memory_total = None;
    answer(pod(vec![container("a")]), variable, unknown).expect_err("how much?");
    let variable = asking_amount(None, Role::Limit, Resource::EphemeralStorage, 1);
    let report = answer(pod(vec![container("a")]), variable, |_, _| ()).expect_err("there is no limit");
    assert_eq!(report.hint.as_deref(), Some("set limits.ephemeral-storage"));
}
