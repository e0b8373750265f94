//! Other amounts for a pod that runs: what the plan says then, as if the manifest had said so.
//!
//! An update that would change the QoS class is refused, as in Kubernetes (KEP-1287; `ValidatePodResize`: "Pod QOS Class may
//! not change as a result of resizing"). Within a class `oom_score_adj` follows the amounts, from a container's next life on,
//! again as there: that of a running process stays, since an ordinary user could only raise it.

use serde::{Deserialize, Serialize};

use super::cgroup::{CgroupPlan, CgroupTree, QosClass, Setting, Value};
use super::resources::{self, Wanted};
use super::{ContainerPlan, PodPlan};
use crate::manifest::{Amounts, Resource, Resources, written};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// What is asked for; what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `None`: the pod's own (`spec.resources`).
    pub container: Option<String>,
    pub limits: Amounts,
    pub requests: Amounts,
    pub pids: Option<PidsLimit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidsLimit {
    Max,
    Of(u64),
}

/// What an update can change.
const CHANGEABLE: [Resource; 2] = [Resource::Cpu, Resource::Memory];

/// The plan as it is after the change; every rule of a manifest holds for it, too.
///
/// # Errors
/// The pod has no cgroups or no such container; a controller is not there; amounts that contradict each other.
pub fn update(plan: &PodPlan, change: &Change) -> Result<PodPlan, Report> {
    let mut plan = plan.clone();
    let what = || format!("could not update pod `{}`", plan.sandbox.name);
    let refuse = |why: String| Report::new(exit_code::FAILURE, what()).because(why);
    let index = match &change.container {
        Some(name) => {
            let found = plan.containers.iter().position(|container| container.name == *name);
            Some(found.ok_or_else(|| refuse(format!("it has no container `{name}`")))?)
        }
        None => None,
    };
    if plan.sandbox.cgroup == CgroupPlan::Inherited {
        return Err(refuse("it has no cgroup of its own".to_owned()));
    }
    merge(index.map_or(&mut plan.sandbox.resources, |index| &mut plan.containers[index].resources), change);
    check(&plan, change).map_err(|(why, fix)| refuse(why).hint(fix))?;

    let (class, before) = (resources::qos(&wanted(&plan)), plan.sandbox.qos);
    if class != before {
        let why = format!(
            "its QoS class would change from {before:?} to {class:?}, which an update may not, as in Kubernetes"
        );
        return Err(refuse(why).hint(class_fix(before)));
    }
    let scores: Vec<i32> = (0..plan.containers.len())
        .map(|index| resources::oom_score_adj(index, &wanted(&plan), class, plan.sandbox.memory_total))
        .collect();
    for (container, score) in plan.containers.iter_mut().zip(scores) {
        container.process.oom_score_adj = score;
    }
    let settings = Decided::of(&plan);
    plan.sandbox.claim = resources::claim_of(&wanted(&plan));
    let CgroupPlan::Tree(tree) = &mut plan.sandbox.cgroup else { return Ok(plan) };
    let pids = change.pids.map(pids_setting);
    let pod_pids = pids.clone().filter(|_| index.is_none());
    let before = std::mem::take(&mut tree.settings);
    tree.settings = replaced(before, settings.pod, pod_pids, tree).map_err(&refuse)?;
    for (at, (container, new)) in plan.containers.iter_mut().zip(settings.containers).enumerate() {
        let pids = pids.clone().filter(|_| index == Some(at));
        let before = std::mem::take(&mut container.cgroup);
        container.cgroup = replaced(before, with_swap(new), pids, tree).map_err(&refuse)?;
    }
    Ok(plan)
}

/// What must be written into one cgroup so that it goes from the one to the other.
#[must_use]
pub fn differences(before: &[Setting], after: &[Setting]) -> Vec<Setting> {
    let changed = after.iter().filter(|setting| !before.iter().any(|known| known.value == setting.value)).cloned();
    let gone = before.iter().filter(|known| !after.iter().any(|setting| setting.value.file() == known.value.file()));
    let reset = gone.map(|known| Setting { value: unlimited(&known.value), asked_by: known.asked_by.clone() });
    changed.chain(reset).collect()
}

/// The kernel's default.
fn unlimited(value: &Value) -> Value {
    match value {
        Value::CpuMax { period, .. } => Value::CpuMax { quota: None, period: *period },
        Value::CpuWeight(_) => Value::CpuWeight(100),
        Value::MemoryMax(_) => Value::MemoryMax(None),
        Value::MemoryLow(_) => Value::MemoryLow(0),
        Value::MemorySwapMax(_) => Value::MemorySwapMax(None),
        Value::PidsMax(_) => Value::PidsMax(None),
        Value::MemoryOomGroup | Value::HugetlbMax { .. } => value.clone(),
    }
}

fn merge(resources: &mut Resources, change: &Change) {
    for resource in CHANGEABLE {
        if let Some(amount) = change.limits.get(resource) {
            resources.limits.set(resource, amount);
        }
        if let Some(amount) = change.requests.get(resource) {
            resources.requests.set(resource, amount);
        }
    }
}

fn wanted(plan: &PodPlan) -> Wanted<'_> {
    Wanted {
        pod: &plan.sandbox.resources,
        containers: plan.containers.iter().map(|container| &container.resources).collect(),
    }
}

/// As the manifest's reader checks them (`ValidateContainerResourceRequirements`, `validatePodResources` of Kubernetes).
fn check(plan: &PodPlan, change: &Change) -> Result<(), (String, String)> {
    let pod = &plan.sandbox.resources;
    for resource in CHANGEABLE {
        let shown = |amount| written(resource, amount);
        let own = |who: &str, of: &Resources| match (of.requests.get(resource), of.limits.get(resource)) {
            (Some(request), Some(limit)) if request > limit => {
                let why = format!(
                    "{who} would request {} {resource}, more than its limit of {}",
                    shown(request),
                    shown(limit)
                );
                Err((why, fix(resource, change)))
            }
            _ => Ok(()),
        };
        own("the pod", pod)?;
        for ContainerPlan { name, resources, .. } in &plan.containers {
            own(&format!("container `{name}`"), resources)?;
            if let (Some(limit), Some(most)) = (resources.limits.get(resource), pod.limits.get(resource))
                && limit > most
            {
                let why = format!(
                    "container `{name}` would have a {resource} limit of {}, the pod one of {}",
                    shown(limit),
                    shown(most)
                );
                return Err((why, room_first(change)));
            }
        }
        let together = plan.containers.iter().filter_map(|container| container.resources.request(resource));
        let together = together.fold(0, u64::saturating_add);
        if let Some(most) = pod.request(resource).filter(|most| together > *most) {
            let why = format!("its containers would request {} {resource}, the pod {}", shown(together), shown(most));
            return Err((why, room_first(change)));
        }
    }
    Ok(())
}

/// What keeps a pod in its class.
fn class_fix(class: QosClass) -> String {
    let stays = match class {
        QosClass::Guaranteed => "of a Guaranteed pod change limit and request together",
        QosClass::Burstable => "to stay Burstable, give a request less than its limit",
        QosClass::BestEffort => "of a BestEffort pod only --pids can be changed",
    };
    format!("{stays}; another class needs another start, with these amounts from the beginning")
}

/// Which of the two levels has to change before the one that was asked for.
fn room_first(change: &Change) -> String {
    match change.container {
        Some(_) => "raise the pod's own first: `sandpod update` without -c".to_owned(),
        None => "lower those of the containers first: `sandpod update -c CONTAINER`".to_owned(),
    }
}

/// The option that is not given yet; of two that contradict each other, both.
fn fix(resource: Resource, change: &Change) -> String {
    let (limit, request) =
        if resource == Resource::Cpu { ("--cpus", "--cpu-request") } else { ("--memory", "--memory-request") };
    match (change.limits.get(resource), change.requests.get(resource)) {
        (Some(_), Some(_)) => format!("{request} must not be more than {limit}"),
        (Some(_), None) => format!("lower the request, too, with {request}, or choose more for {limit}"),
        (None, _) => format!("raise the limit, too, with {limit}, or choose less for {request}"),
    }
}

/// The settings that amounts come to.
struct Decided {
    pod: Vec<Setting>,
    containers: Vec<Vec<Setting>>,
}

impl Decided {
    fn of(plan: &PodPlan) -> Decided {
        let wanted = wanted(plan);
        let containers = (0..plan.containers.len()).map(|index| resources::amounts_of_container(index, &wanted));
        Decided { containers: containers.collect(), pod: resources::amounts_of_pod(&wanted) }
    }
}

/// A first limit of memory is one without swap beside it, as at the start (the kubelet's NoSwap).
fn with_swap(mut settings: Vec<Setting>) -> Vec<Setting> {
    if settings.iter().any(|setting| matches!(setting.value, Value::MemoryMax(Some(_)))) {
        settings.push(Setting { value: Value::MemorySwapMax(Some(0)), asked_by: None });
    }
    settings
}

fn pids_setting(limit: PidsLimit) -> Setting {
    let limit = match limit {
        PidsLimit::Max => None,
        PidsLimit::Of(count) => Some(count),
    };
    Setting { value: Value::PidsMax(limit), asked_by: Some("--pids".to_owned()) }
}

/// The old settings with `new` in the place of those of the same resources. What was set for another reason stays.
fn replaced(
    before: Vec<Setting>,
    new: Vec<Setting>,
    pids: Option<Setting>,
    tree: &CgroupTree,
) -> Result<Vec<Setting>, String> {
    let by_amount = |value: &Value| {
        matches!(value, Value::CpuMax { .. } | Value::CpuWeight(_) | Value::MemoryMax(_) | Value::MemoryLow(_))
    };
    let mut settings = Vec::new();
    for setting in new.into_iter().chain(pids) {
        let kept = before.iter().any(|known| known.value.file() == setting.value.file());
        let controller = setting.value.controller();
        if !tree.controllers.iter().any(|known| known == controller) {
            match &setting.asked_by {
                Some(field) => {
                    return Err(format!(
                        "{field} needs the cgroup controller `{controller}`, which the pod's cgroup does not have"
                    ));
                }
                None => continue,
            }
        }
        // What was decided about swap at the start is not decided anew.
        if kept && matches!(setting.value, Value::MemorySwapMax(_)) {
            continue;
        }
        settings.push(setting);
    }
    let replaced =
        |known: &Setting| by_amount(&known.value) || settings.iter().any(|new| new.value.file() == known.value.file());
    let rest: Vec<Setting> = before.into_iter().filter(|known| !replaced(known)).collect();
    Ok(settings.into_iter().chain(rest).collect())
}
