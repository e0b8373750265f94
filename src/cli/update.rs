//! `sandpod update`

use std::path::Path;

use super::arguments::UpdateArguments;
use super::table::bytes;
use super::{Outcome, cgroups, client, source, store};
use crate::host::{self, CgroupQuery, usage};
use crate::manifest::{self, Amounts, Resource, Resources, Role};
use crate::plan::cgroup::{CgroupPlan, Claim, Setting, Value};
use crate::plan::update::{self, Change, PidsLimit};
use crate::plan::{Admission, PodPlan, admission};
use crate::report::{Report, exit_code};
use crate::state::{Store, StoredPod};
use crate::supervisor::protocol::{Reply, Request};

/// Everything is checked first; then the supervisor writes all values or none.
pub(crate) fn update(asked: &UpdateArguments) -> Outcome {
    let mut change = change(asked)?;
    let store = store()?;
    // Before the present limits are read, until the supervisor has answered, or two updates would both be measured against what was there before.
    let _admission = (!asked.overcommit).then(|| store.lock_admission()).transpose()?;
    let pod = store.find(&asked.pod)?;
    let what = format!("could not update pod `{}`", pod.name);
    if !pod.status().is_live() {
        return Err(client::not_running(&pod).into());
    }
    if cgroups::of_pod(&pod).is_none() {
        return Err(cgroups::lacking(&pod, what).into());
    }
    let Some(before) = &pod.plan else {
        return Err(Report::new(exit_code::FAILURE, what).because("its plan cannot be read").into());
    };
    change.container = match &asked.container {
        Some(named) => Some(client::container(&pod, Some(named))?),
        None => only_container(before),
    };
    let after = update::update(before, &change)?;
    if !asked.force {
        check_usage(&pod, before, &after)?;
    }
    if !asked.overcommit {
        admit(&store, &pod, before, &after)?;
    }
    let Some(conversation) = client::ask(&pod, &Request::Update(change), &[])? else {
        return Err(client::not_running(&pod.reload()).into());
    };
    match conversation.reply()? {
        Some((Reply::Done, _)) => Ok(0),
        Some((other, _)) => Err(client::unexpected(&other).into()),
        None => Err(client::not_running(&pod.reload()).into()),
    }
}

/// In a pod of one container whose limits are that container's, they are what is meant.
fn only_container(plan: &PodPlan) -> Option<String> {
    match plan.containers.as_slice() {
        [only] if plan.sandbox.resources == Resources::default() => Some(only.name.clone()),
        _ => None,
    }
}

fn change(asked: &UpdateArguments) -> Result<Change, Report> {
    let UpdateArguments { memory, memory_request, cpus, cpu_request, pids, .. } = asked;
    let mut change = Change::default();
    let set = |amounts: &mut Amounts, (option, text): (&str, &Option<String>), resource, role| {
        let Some(text) = text else { return Ok(()) };
        let amount = manifest::amount(resource, role, text).map_err(|wrong| usage_error(option, &wrong))?;
        amounts.set(resource, amount);
        Ok::<(), Report>(())
    };
    set(&mut change.limits, ("memory", memory), Resource::Memory, Role::Limit)?;
    set(&mut change.limits, ("cpus", cpus), Resource::Cpu, Role::Limit)?;
    set(&mut change.requests, ("memory-request", memory_request), Resource::Memory, Role::Request)?;
    set(&mut change.requests, ("cpu-request", cpu_request), Resource::Cpu, Role::Request)?;
    if let Some(text) = pids {
        let limit = manifest::pids_limit(text).map_err(|wrong| usage_error("pids", &wrong))?;
        change.pids = Some(limit.map_or(PidsLimit::Max, PidsLimit::Of));
    }
    Ok(change)
}

fn usage_error(option: &str, wrong: &str) -> Report {
    Report::new(exit_code::USAGE, format!("--{option}: {wrong}"))
}

/// A limit below what is in use: the kernel reclaims what it can, and its OOM killer takes the rest (cgroup-v2.rst,
/// "memory.max").
fn check_usage(pod: &StoredPod, before: &PodPlan, after: &PodPlan) -> Result<(), Report> {
    let whole = cgroups::of_pod(pod)
        .map(|path| too_small("the pod", path, pod_settings(before), pod_settings(after)))
        .unwrap_or_default();
    let containers = pod.record().map(|record| record.containers.as_slice()).unwrap_or_default();
    let parts = containers.iter().filter_map(|container| {
        let of = |plan: &PodPlan| plan.containers.iter().find(|found| found.name == container.name).cloned();
        let leaf = cgroups::of_container(pod, container)?;
        too_small(&format!("container `{}`", container.name), &leaf, &of(before)?.cgroup, &of(after)?.cgroup)
    });
    let wrong: Vec<String> = parts.chain(whole).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let report = Report::new(exit_code::FAILURE, format!("could not update pod `{}`", pod.name));
    Err(wrong.into_iter().fold(report, Report::because).hint(
        "choose more, or --force: the kernel then reclaims what it can, and kills processes if that is not enough",
    ))
}

/// In words, where a lowered limit is below what cannot simply be dropped from the page cache.
fn too_small(who: &str, cgroup: &Path, before: &[Setting], after: &[Setting]) -> Option<String> {
    let max = |settings: &[Setting]| {
        settings.iter().find_map(|setting| match setting.value {
            Value::MemoryMax(limit) => limit,
            _ => None,
        })
    };
    let limit = max(after)?;
    if max(before).is_some_and(|old| limit >= old) {
        return None;
    }
    let memory = usage::usage(cgroup)?.memory;
    let used = memory.working_set_bytes.or(memory.current_bytes).filter(|used| *used > limit)?;
    Some(format!("{who} uses {} of memory now, more than the limit of {}", bytes(used), bytes(limit)))
}

fn pod_settings(plan: &PodPlan) -> &[Setting] {
    match &plan.sandbox.cgroup {
        CgroupPlan::Tree(tree) => &tree.settings,
        CgroupPlan::Inherited => &[],
    }
}

/// As at the start: the whole claim against what has a fixed size, what is added to it against what is free.
fn admit(store: &Store, pod: &StoredPod, before: &PodPlan, after: &PodPlan) -> Result<(), Report> {
    let (old, new) = (before.sandbox.claim, after.sandbox.claim);
    let more = Claim {
        cpu_millis: new.cpu_millis.saturating_sub(old.cpu_millis),
        memory: new.memory.saturating_sub(old.memory),
    };
    if more == Claim::default() {
        return Ok(());
    }
    let parent = cgroups::of_pod(pod).and_then(Path::parent).map(Path::to_owned);
    let asked = host::Asked { cgroup: parent.map_or(CgroupQuery::Skip, CgroupQuery::Below), ..host::Asked::default() };
    let capacity = host::probe(&asked)?.cgroup.capacity;
    let free = host::Capacity { memory_available: capacity.memory_available, ..host::Capacity::default() };
    let fixed = host::Capacity { memory_available: None, ..capacity };
    let others = source::others(store, Some(&pod.id), |most| admission::admit(&new, 0, &fixed, most).is_ok())?;
    admission::admit(&new, 0, &fixed, &others)
        .and_then(|()| admission::admit(&more, 0, &free, &Admission::Checked { others: Vec::new() }))
        .map_err(|refusal| {
            let what = format!("could not update pod `{}`: it would request more than there is", pod.name);
            Report { what, ..refusal }.hint("request less, stop another pod, or --overcommit")
        })
}
