//! What a cgroup's files say it uses (kernel cgroup-v2.rst, "Core Interface Files", "Controllers"; psi.rst).
//!
//! Parsers are pure functions over text. A file that is not there (a controller that is not enabled, an older kernel)
//! is `None` and never 0: nothing measured is not the same as nothing used.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// One cgroup at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupUsage {
    pub cpu: Option<CpuUsage>,
    pub memory: MemoryUsage,
    pub pids: PidsUsage,
    pub io: Option<IoUsage>,
    pub pressure: PressureOfAll,
}

/// `cpu.stat`, which is there also without the controller, and `cpu.max`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuUsage {
    pub usage_microseconds: u64,
    pub user_microseconds: u64,
    pub system_microseconds: u64,
    /// Enforcement periods that have gone by, and those in which the quota ran out; `None` without the controller.
    pub periods: Option<u64>,
    pub throttled_periods: Option<u64>,
    pub throttled_microseconds: Option<u64>,
    pub max: Option<CpuMax>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuMax {
    pub quota_microseconds: Limit,
    pub period_microseconds: u64,
}

/// Of the memory controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryUsage {
    pub current_bytes: Option<u64>,
    /// Linux 5.19 and later.
    pub peak_bytes: Option<u64>,
    pub max_bytes: Option<Limit>,
    /// `current` without page cache that nobody has used lately: what kubelet calls the working set.
    pub working_set_bytes: Option<u64>,
    pub swap_current_bytes: Option<u64>,
    pub swap_max_bytes: Option<Limit>,
    pub stat: Option<MemoryStat>,
    pub events: Option<MemoryEvents>,
}

/// From `memory.stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStat {
    pub anon_bytes: u64,
    pub file_bytes: u64,
    /// tmpfs and shared memory: also emptyDirs of `medium: Memory`.
    pub shmem_bytes: Option<u64>,
    /// Linux 5.18 and later.
    pub kernel_bytes: Option<u64>,
    pub inactive_file_bytes: Option<u64>,
}

/// `memory.events`, this cgroup and everything below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryEvents {
    /// Times that usage was about to go over `memory.max`.
    pub max: u64,
    /// Times that reclaim did not help then.
    pub oom: u64,
    /// Processes that the OOM killer has ended.
    pub oom_kill: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PidsUsage {
    /// Threads count, too.
    pub current: Option<u64>,
    /// Linux 6.1 and later.
    pub peak: Option<u64>,
    pub max: Option<Limit>,
}

/// `io.stat`, the sum over all devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IoUsage {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

/// `cpu.pressure`, `memory.pressure`, `io.pressure`; `None` where the kernel keeps none (`psi=0`, no `CONFIG_PSI`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PressureOfAll {
    pub cpu: Option<Pressure>,
    pub memory: Option<Pressure>,
    pub io: Option<Pressure>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited at once; not told for the cpu before Linux 5.13.
    pub full: Option<Stall>,
}

/// Shares of the last 10, 60 and 300 seconds, and the time since the cgroup was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stall {
    pub avg10_percent: f64,
    pub avg60_percent: f64,
    pub avg300_percent: f64,
    pub total_microseconds: u64,
}

/// `max`, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Max,
    Of(u64),
}

impl Limit {
    #[must_use]
    pub fn parse(text: &str) -> Option<Limit> {
        match text.trim() {
            "max" => Some(Limit::Max),
            number => number.parse().ok().map(Limit::Of),
        }
    }
}

/// As the kernel writes it: `"max"`, or a number.
impl Serialize for Limit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Limit::Max => serializer.serialize_str("max"),
            Limit::Of(number) => serializer.serialize_u64(*number),
        }
    }
}

/// From `cgroup.freeze` and `cgroup.events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Frozen {
    No,
    /// Asked for, and not yet true of every process.
    Freezing,
    Yes,
}

/// What the cgroup of this directory uses; `None` when there is no such cgroup (any more).
#[must_use]
pub fn usage(cgroup: &Path) -> Option<CgroupUsage> {
    // Every cgroup but the root of the hierarchy has it.
    file(cgroup, "cgroup.events")?;
    let stat = file(cgroup, "memory.stat").map(|text| memory_stat(&text));
    let current_bytes = number(cgroup, "memory.current");
    let inactive = stat.and_then(|stat| stat.inactive_file_bytes);
    let pressure = |name: &str| file(cgroup, name).and_then(|text| pressure(&text));
    Some(CgroupUsage {
        cpu: file(cgroup, "cpu.stat")
            .and_then(|text| cpu_stat(&text))
            .map(|stat| CpuUsage { max: file(cgroup, "cpu.max").and_then(|text| cpu_max(&text)), ..stat }),
        memory: MemoryUsage {
            current_bytes,
            peak_bytes: number(cgroup, "memory.peak"),
            max_bytes: limit(cgroup, "memory.max"),
            working_set_bytes: current_bytes.zip(inactive).map(|(current, inactive)| current.saturating_sub(inactive)),
            swap_current_bytes: number(cgroup, "memory.swap.current"),
            swap_max_bytes: limit(cgroup, "memory.swap.max"),
            stat,
            events: memory_events(cgroup),
        },
        pids: PidsUsage {
            current: number(cgroup, "pids.current"),
            peak: number(cgroup, "pids.peak"),
            max: limit(cgroup, "pids.max"),
        },
        io: file(cgroup, "io.stat").map(|text| io_stat(&text)),
        pressure: PressureOfAll {
            cpu: pressure("cpu.pressure"),
            memory: pressure("memory.pressure"),
            io: pressure("io.pressure"),
        },
    })
}

/// `None`: no memory controller, or no such cgroup.
#[must_use]
pub fn memory_events(cgroup: &Path) -> Option<MemoryEvents> {
    let text = file(cgroup, "memory.events")?;
    let value = |key| keyed(&text, key).unwrap_or(0);
    Some(MemoryEvents { max: value("max"), oom: value("oom"), oom_kill: value("oom_kill") })
}

/// `None`: no such cgroup, or a kernel before 5.2.
#[must_use]
pub fn frozen(cgroup: &Path) -> Option<Frozen> {
    let asked = number(cgroup, "cgroup.freeze")? == 1;
    let done = keyed(&file(cgroup, "cgroup.events")?, "frozen") == Some(1);
    Some(match (asked, done) {
        (false, _) => Frozen::No,
        (true, false) => Frozen::Freezing,
        (true, true) => Frozen::Yes,
    })
}

/// The processes of this cgroup itself, in order; `None` when there is no such cgroup (any more).
#[must_use]
pub fn processes(cgroup: &Path) -> Option<Vec<i32>> {
    let mut pids: Vec<i32> = file(cgroup, "cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect();
    // 0 is a process that our pid namespace does not show. The file is not sorted, and may repeat (cgroup-v2.rst).
    pids.retain(|pid| *pid != 0);
    pids.sort_unstable();
    pids.dedup();
    Some(pids)
}

/// The directories of the cgroups one level below, by name.
#[must_use]
pub fn children(cgroup: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(cgroup) else { return Vec::new() };
    let directories = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut paths: Vec<PathBuf> = directories.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// `None` also for a file that cannot be read: a pressure file says EOPNOTSUPP where PSI is switched off.
fn file(cgroup: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(cgroup.join(name)).ok()
}

fn number(cgroup: &Path, name: &str) -> Option<u64> {
    file(cgroup, name)?.trim().parse().ok()
}

fn limit(cgroup: &Path, name: &str) -> Option<Limit> {
    Limit::parse(&file(cgroup, name)?)
}

/// One value of a flat keyed file: `KEY VALUE` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == key).then(|| value.trim().parse().ok())?
    })
}

fn cpu_stat(text: &str) -> Option<CpuUsage> {
    Some(CpuUsage {
        usage_microseconds: keyed(text, "usage_usec")?,
        user_microseconds: keyed(text, "user_usec")?,
        system_microseconds: keyed(text, "system_usec")?,
        periods: keyed(text, "nr_periods"),
        throttled_periods: keyed(text, "nr_throttled"),
        throttled_microseconds: keyed(text, "throttled_usec"),
        max: None,
    })
}

fn cpu_max(text: &str) -> Option<CpuMax> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(CpuMax { quota_microseconds: Limit::parse(quota)?, period_microseconds: period.parse().ok()? })
}

fn memory_stat(text: &str) -> MemoryStat {
    MemoryStat {
        anon_bytes: keyed(text, "anon").unwrap_or(0),
        file_bytes: keyed(text, "file").unwrap_or(0),
        shmem_bytes: keyed(text, "shmem"),
        kernel_bytes: keyed(text, "kernel"),
        inactive_file_bytes: keyed(text, "inactive_file"),
    }
}

/// `MAJOR:MINOR rbytes=… wbytes=… rios=… wios=… …`; a device that has done nothing may stand there alone.
fn io_stat(text: &str) -> IoUsage {
    let mut sum = IoUsage::default();
    for (key, value) in text.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
        let Ok(value) = value.parse::<u64>() else { continue };
        match key {
            "rbytes" => sum.read_bytes += value,
            "wbytes" => sum.written_bytes += value,
            "rios" => sum.reads += value,
            "wios" => sum.writes += value,
            _ => {}
        }
    }
    sum
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with `full`.
fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| text.lines().find_map(|line| stall(line.strip_prefix(kind)?));
    Some(Pressure { some: line("some ")?, full: line("full ") })
}

fn stall(fields: &str) -> Option<Stall> {
    let field = |key: &str| {
        fields.split_ascii_whitespace().find_map(|word| word.split_once('=').filter(|(found, _)| *found == key))
    };
    let percent = |key: &str| field(key)?.1.parse().ok();
    Some(Stall {
        avg10_percent: percent("avg10")?,
        avg60_percent: percent("avg60")?,
        avg300_percent: percent("avg300")?,
        total_microseconds: field("total")?.1.parse().ok()?,
    })
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
