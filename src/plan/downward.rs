//! What a container is told of its pod by variables: Kubernetes' downward API (`pkg/fieldpath`, `pkg/api/v1/resource`).

use super::network::NetworkPlan;
use super::{SandboxPlan, names};
use crate::host::{AncestorLimits, Capacity, Facts};
use crate::manifest::{Container, PodField, Resource, ResourceField, Role};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// Where the answers are.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) sandbox: &'a SandboxPlan,
    pub(super) containers: &'a [Container],
    pub(super) facts: &'a Facts,
}

/// Whose question it is, for a refusal.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) container: &'a str,
    pub(super) variable: &'a str,
}

pub(super) fn field(field: &PodField, asking: Asking<'_>, sources: &Sources<'_>) -> Result<String, Report> {
    let Sources { sandbox, facts, .. } = sources;
    let of_map =
        |map: &std::collections::BTreeMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_default();
    Ok(match field {
        PodField::Name => sandbox.name.clone(),
        PodField::Namespace => sandbox.namespace.clone().unwrap_or_else(|| names::DEFAULT_NAMESPACE.to_owned()),
        PodField::Uid => sandbox.id.clone(),
        // What is not there is empty, as in Kubernetes.
        PodField::Label(key) => of_map(&sandbox.labels, key),
        PodField::Annotation(key) => of_map(&sandbox.annotations, key),
        PodField::NodeName => facts.hostname.clone(),
        PodField::PodIp => addresses(asking, sandbox)?.into_iter().next().unwrap_or_default(),
        PodField::PodIps => addresses(asking, sandbox)?.join(","),
    })
}

fn addresses(asking: Asking<'_>, sandbox: &SandboxPlan) -> Result<Vec<String>, Report> {
    if sandbox.network == NetworkPlan::Host {
        let Asking { container, variable } = asking;
        let what = format!("container `{container}`: variable `{variable}` is to have the pod's address");
        return Err(Report::new(exit_code::USAGE, what)
            .because("on the host's network the pod has all addresses of the host, and none of its own")
            .hint("write the address you mean as a `value`, or give the pod a network of its own"));
    }
    Ok(names::addresses(&sandbox.network).iter().map(ToString::to_string).collect())
}

/// A limit that a container does not have is the pod's, and without that what the host has, as in Kubernetes what the
/// node has. What is not requested is the limit that is written, else 0.
pub(super) fn resource(field: &ResourceField, asking: Asking<'_>, sources: &Sources<'_>) -> Result<String, Report> {
    let ResourceField { container, role, resource, divisor } = field;
    let named = container.as_deref().unwrap_or(asking.container);
    let found = sources.containers.iter().find(|container| container.name == named);
    let Some(Container { resources, .. }) = found else {
        let Asking { container, variable } = asking;
        return Err(Report::new(exit_code::USAGE, format!("container `{container}`: variable `{variable}`"))
            .because(format!("it is about a container `{named}`, and the pod has none")));
    };
    let amount = match role {
        Role::Request => resources.request(*resource).unwrap_or(0),
        Role::Limit => {
            let written = resources.limits.get(*resource).or_else(|| sources.sandbox.resources.limits.get(*resource));
            written.map_or_else(|| of_the_host(*resource, asking, sources.facts), Ok)?
        }
    };
    Ok(amount.div_ceil(*divisor).to_string())
}

/// Thousandths of a cpu, or bytes: what the host has, or a cgroup above the pod allows.
fn of_the_host(resource: Resource, asking: Asking<'_>, facts: &Facts) -> Result<u64, Report> {
    let Capacity { cpu_millis, memory_total, ancestors, .. } = &facts.cgroup.capacity;
    let (whole, above): (_, fn(&AncestorLimits) -> Option<u64>) = match resource {
        Resource::Cpu => (Some(*cpu_millis).filter(|&millis| millis > 0), |cgroup| cgroup.cpu_millis),
        Resource::Memory => (*memory_total, |cgroup| cgroup.memory_max),
        // That of a file system which others fill, too, and which nobody has looked at.
        Resource::EphemeralStorage => (None, |_| None),
        Resource::HugePages(_) => return Ok(0),
    };
    let least = whole.into_iter().chain(ancestors.iter().filter_map(above)).min();
    least.ok_or_else(|| {
        let Asking { container, variable } = asking;
        Report::new(exit_code::FAILURE, format!("container `{container}`: variable `{variable}`"))
            .because(format!("it is about a limit that is not set, and how much {resource} there is here is not known"))
            .hint(format!("set limits.{resource}"))
    })
}
