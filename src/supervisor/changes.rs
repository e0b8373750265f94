//! Other limits for a pod that runs: first decided as a whole, then written, all or nothing; then kept, for restarts of
//! containers and for whoever reads the plan.

use std::path::Path;

use super::event_loop::Supervisor;
use crate::engine::cgroup::{self, Change as Write};
use crate::plan::PodPlan;
use crate::plan::cgroup::{CgroupPlan, Setting, Value};
use crate::plan::update::{self, Change};
use crate::report::{Report, exit_code};
use crate::state;

impl Supervisor<'_> {
    /// The plan with every change since the start: only amounts and what they come to differ.
    pub(super) fn plan_now(&self) -> &PodPlan {
        self.changed.as_ref().unwrap_or(self.plan)
    }

    pub(super) fn update(&mut self, change: &Change) -> Result<(), Report> {
        let what = || format!("could not update pod `{}`", self.plan.sandbox.name);
        let before = self.plan_now();
        let after = update::update(before, change)?;
        let writes = self.writes(before, &after);
        cgroup::change(&writes).map_err(|failure| {
            failure.into_report(what()).hint("nothing was changed: values that had been written were set back")
        })?;
        match state::replace_plan(before, &after) {
            Ok(lock) => self.plan_lock = Some(lock),
            Err(error) => {
                // In force and not written down would be forgotten by `inspect`: back to what is written.
                let _ = cgroup::change(&self.writes(&after, before));
                return Err(Report::new(exit_code::FAILURE, what()).because(error.to_string()));
            }
        }
        self.changed = Some(after);
        Ok(())
    }

    /// Every value that differs. The pod's memory is widened before its containers' and narrowed after it: were its limit
    /// for a moment less than theirs together, the kernel would take memory from a container that nobody changes, or kill
    /// in it. No other value takes anything away from who has it.
    fn writes<'p>(&'p self, before: &PodPlan, after: &PodPlan) -> Vec<Write<'p>> {
        let Some(cgroups) = &self.cgroups else { return Vec::new() };
        let write = |cgroup: &'p Path| move |setting: Setting| Write { cgroup, setting };
        let pod = update::differences(pod_settings(before), pod_settings(after)).into_iter().map(write(cgroups.path()));
        let all = self.containers.iter().zip(before.containers.iter().zip(&after.containers));
        // Who does not run gets a fresh leaf with the new values when it does.
        let live = all.filter(|(container, _)| container.running.is_some() || container.starting.is_some());
        let leaves = live.filter_map(|(container, plans)| Some((container.leaf.as_ref()?, plans)));
        let containers = leaves.flat_map(|(leaf, (before, after))| {
            let limits = update::differences(&before.cgroup, &after.cgroup);
            // What holds, and what the container sees, which may be its own to change.
            let seen = limits.clone().into_iter().map(|setting| Setting { asked_by: None, ..setting });
            limits.into_iter().map(write(leaf.limited())).chain(seen.map(write(leaf.path())))
        });
        if memory_limit(after) >= memory_limit(before) {
            pod.chain(containers).collect()
        } else {
            containers.chain(pod).collect()
        }
    }
}

fn pod_settings(plan: &PodPlan) -> &[Setting] {
    match &plan.sandbox.cgroup {
        CgroupPlan::Tree(tree) => &tree.settings,
        CgroupPlan::Inherited => &[],
    }
}

/// Bytes; without a limit more than any.
fn memory_limit(plan: &PodPlan) -> u64 {
    let limit = pod_settings(plan).iter().find_map(|setting| match setting.value {
        Value::MemoryMax(limit) => limit,
        _ => None,
    });
    limit.unwrap_or(u64::MAX)
}
