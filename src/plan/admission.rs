//! Whether there is room for the whole pod, before anything of it is started.

use super::Admission;
use super::cgroup::Claim;
use crate::host::Capacity;
use crate::manifest::{Resource, written};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// Processes beside one for each container: supervisor, pause, and a launcher with its fork.
const OWN_PROCESSES: u64 = 4;

/// Refuses a pod that does not fit, naming everything that is missing.
///
/// What has a fixed size (cpus, the memory of the host and of the cgroups above) is held against the claims of all pods
/// that run. MemAvailable is held against this claim alone: what the others use is no longer in it, and what they
/// claim but do not use cannot be told from it.
///
/// # Errors
/// Naming them.
pub fn admit(claim: &Claim, containers: usize, capacity: &Capacity, admission: &Admission) -> Result<(), Report> {
    let Admission::Checked { others } = admission else { return Ok(()) };
    let sum = |of: fn(&Claim) -> u64| others.iter().map(|(_, claim)| of(claim)).fold(0, u64::saturating_add);
    let taken = Claim { cpu_millis: sum(|claim| claim.cpu_millis), memory: sum(|claim| claim.memory) };
    let missing: Vec<String> = [cpu(claim, &taken, capacity), memory(claim, &taken, capacity)]
        .into_iter()
        .flatten()
        .chain(processes(containers, capacity))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let report = Report::new(exit_code::FAILURE, "the pod requests more than there is; nothing was started");
    let report = missing.into_iter().fold(report, Report::because);
    let holders: Vec<String> = others.iter().filter(|(_, claim)| *claim != Claim::default()).map(shown).collect();
    let report =
        if holders.is_empty() { report } else { report.because(format!("pods that run hold {}", holders.join(", "))) };
    let ways = if holders.is_empty() { "lower the requests" } else { "lower the requests, or stop another pod" };
    Err(report.hint(format!("{ways}; --overcommit starts it all the same")))
}

fn shown((name, claim): &(String, Claim)) -> String {
    format!("{} cpu and {} (`{name}`)", cpus(claim.cpu_millis), memory_up(claim.memory))
}

/// One thing that is not to be had: how much is wanted, beside what, and how much there is where.
struct Shortage {
    wanted: String,
    beside: Option<String>,
    there: String,
    lacking: String,
}

impl Shortage {
    fn line(self, resource: Resource) -> String {
        let Shortage { wanted, beside, there, lacking } = self;
        let beside = beside.map(|taken| format!(" beside {taken} of other pods")).unwrap_or_default();
        format!("{resource}: {wanted} requested{beside}, but {there}: {lacking} too little")
    }
}

fn cpu(claim: &Claim, taken: &Claim, capacity: &Capacity) -> Vec<String> {
    if claim.cpu_millis == 0 {
        return Vec::new();
    }
    let host = (capacity.cpu_millis > 0).then(|| {
        let there = format!("sandpod may use {} (sched_getaffinity)", cpus(capacity.cpu_millis));
        (capacity.cpu_millis, there)
    });
    let above = capacity.ancestors.iter().filter_map(|above| {
        let limit = above.cpu_millis?;
        Some((limit, format!("cpu.max of {} comes to {}", above.path.display(), cpus(limit))))
    });
    let together = claim.cpu_millis.saturating_add(taken.cpu_millis);
    let short = host.into_iter().chain(above).filter(|(limit, _)| together > *limit);
    let line = |(limit, there)| Shortage {
        wanted: cpus(claim.cpu_millis),
        beside: (taken.cpu_millis > 0).then(|| cpus(taken.cpu_millis)),
        there,
        lacking: cpus(together - limit),
    };
    short.map(|found| line(found).line(Resource::Cpu)).collect()
}

fn memory(claim: &Claim, taken: &Claim, capacity: &Capacity) -> Vec<String> {
    if claim.memory == 0 {
        return Vec::new();
    }
    let host = capacity.memory_total.map(|total| (total, taken.memory, format!("the host has {}", memory_down(total))));
    let above = capacity.ancestors.iter().filter_map(|above| {
        let limit = above.memory_max?;
        let there = format!("memory.max of {} is {}", above.path.display(), memory_down(limit));
        Some((limit, taken.memory, there))
    });
    let free = capacity.memory_available.map(|free| (free, 0, format!("only {} are available", memory_down(free))));
    let line = |(limit, taken, there): (u64, u64, String)| {
        let together = claim.memory.saturating_add(taken);
        (together > limit).then(|| {
            let lacking = memory_up(together - limit);
            let beside = (taken > 0).then(|| memory_up(taken));
            Shortage { wanted: memory_up(claim.memory), beside, there, lacking }.line(Resource::Memory)
        })
    };
    host.into_iter().chain(above).chain(free).filter_map(line).collect()
}

fn processes(containers: usize, capacity: &Capacity) -> Vec<String> {
    let needed = OWN_PROCESSES.saturating_add(containers as u64);
    let short = capacity.ancestors.iter().filter_map(|above| {
        let limit = above.pids_max.filter(|limit| needed > *limit)?;
        Some(format!("processes: {needed} are the least, but pids.max of {} is {limit}", above.path.display()))
    });
    short.collect()
}

fn cpus(millis: u64) -> String {
    written(Resource::Cpu, millis)
}

/// As in a manifest; no finer than a mebibyte, and never less than it is.
fn memory_up(bytes: u64) -> String {
    mebibytes(bytes, bytes.div_ceil(1 << 20))
}

/// Never more than it is.
fn memory_down(bytes: u64) -> String {
    mebibytes(bytes, bytes >> 20)
}

fn mebibytes(bytes: u64, rounded: u64) -> String {
    if bytes < 1 << 20 { written(Resource::Memory, bytes) } else { format!("{rounded}Mi") }
}
