//! `sandpod stats`

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::arguments::StatsArguments;
use super::table::{bytes, table};
use super::{Failure, Outcome, cgroups, client, print, store};
use crate::host::usage::{self, CgroupUsage, Limit, Pressure};
use crate::plan::cgroup::of_supervisor;
use crate::state::StoredPod;

/// Between two looks: cpu time is a counter, so a percentage needs two.
const INTERVAL: Duration = Duration::from_secs(1);
/// To the upper left corner, and clear what is below.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

/// What the pods' cgroups use. A pod without one is an error, after all others have been shown.
pub(crate) fn stats(asked: &StatsArguments) -> Outcome {
    let find = || -> Result<Vec<StoredPod>, Failure> {
        match &asked.pod {
            Some(named) => Ok(vec![store()?.find(named)?]),
            None => {
                let mut pods = store()?.list()?;
                pods.retain(|pod| pod.status().is_live());
                Ok(pods)
            }
        }
    };
    let pods = find()?;
    if let Some(ended) = pods.iter().find(|pod| !pod.status().is_live()) {
        return Err(client::not_running(ended).into());
    }
    let lacking: Vec<_> = pods
        .iter()
        .filter(|pod| cgroups::of_pod(pod).is_none())
        .map(|pod| cgroups::lacking(pod, format!("could not measure pod `{}`", pod.name)))
        .collect();
    if !lacking.is_empty() && lacking.len() == pods.len() {
        return Err(Failure::Reports(lacking));
    }
    if pods.is_empty() && !asked.watch {
        show(&[], asked)?;
        return Ok(0);
    }
    let mut looks = Looks::default();
    looks.take(&pods);
    loop {
        std::thread::sleep(INTERVAL);
        let pods = find()?;
        let rows = looks.take(&pods);
        show(&rows, asked)?;
        if !asked.watch {
            break;
        }
        // One named pod is watched to its end; all pods are watched until Ctrl-C.
        if asked.pod.is_some() && !pods.iter().any(|pod| pod.status().is_live()) {
            return Ok(0);
        }
    }
    if lacking.is_empty() { Ok(0) } else { Err(Failure::Reports(lacking)) }
}

fn show(rows: &[Row], asked: &StatsArguments) -> std::io::Result<()> {
    match (asked.json, asked.watch) {
        (true, false) => print::json(&rows),
        // One line for each look, so that whoever reads the stream knows where one ends.
        (true, true) => print::text(&format!("{}\n", serde_json::to_string(rows)?)),
        (false, true) => {
            // Or an empty table would look like one that hangs.
            let idle = if rows.is_empty() { "no pod is running; Ctrl-C ends this\n" } else { "" };
            let (before, after) = if std::io::stdout().is_terminal() { (REDRAW, "") } else { ("", "\n") };
            print::text(&format!("{before}{}{idle}{after}", text(rows)))
        }
        (false, false) => print::text(&text(rows)),
    }
}

/// What a cgroup of a pod is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Part {
    Pod,
    Container,
    /// Sandpod's own share.
    Supervisor,
    Pause,
}

/// One cgroup at one look.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    pod: String,
    id: String,
    part: Part,
    container: Option<String>,
    cgroup: PathBuf,
    /// Of one cpu, since the look before.
    cpu_percent: Option<f64>,
    #[serde(flatten)]
    usage: CgroupUsage,
}

/// What was seen at the look before.
#[derive(Debug, Default)]
struct Looks {
    at: Option<Instant>,
    cpu: BTreeMap<PathBuf, u64>,
}

impl Looks {
    /// Every cgroup that is there now: of each pod first the whole, then its containers, then sandpod's own.
    fn take(&mut self, pods: &[StoredPod]) -> Vec<Row> {
        let now = Instant::now();
        let elapsed = self.at.map(|before| now.duration_since(before));
        let mut rows = Vec::new();
        for pod in pods {
            for (part, container, cgroup) in parts(pod) {
                let Some(usage) = usage::usage(&cgroup) else { continue };
                let cpu_percent = usage.cpu.zip(elapsed).map(|(cpu, elapsed)| {
                    // Not seen before: it was made since then, with its counter at 0.
                    let before = self.cpu.get(&cgroup).copied().unwrap_or(0);
                    percent(cpu.usage_microseconds.saturating_sub(before), elapsed)
                });
                rows.push(Row {
                    pod: pod.name.clone(),
                    id: pod.id.clone(),
                    part,
                    container,
                    cgroup,
                    cpu_percent,
                    usage,
                });
            }
        }
        self.at = Some(now);
        self.cpu =
            rows.iter().filter_map(|row| Some((row.cgroup.clone(), row.usage.cpu?.usage_microseconds))).collect();
        rows
    }
}

fn parts(pod: &StoredPod) -> Vec<(Part, Option<String>, PathBuf)> {
    let (Some(top), Some(record)) = (cgroups::of_pod(pod), pod.record()) else { return Vec::new() };
    let container = |container: &crate::state::ContainerRecord| {
        Some((Part::Container, Some(container.name.clone()), cgroups::of_container(pod, container)?))
    };
    [(Part::Pod, None, top.to_owned())]
        .into_iter()
        .chain(record.containers.iter().filter_map(container))
        .chain([(Part::Supervisor, None, of_supervisor(top)), (Part::Pause, None, top.join("pause"))])
        .collect()
}

/// Rounded to hundredths: the clock is not better than that.
fn percent(used_microseconds: u64, elapsed: Duration) -> f64 {
    let elapsed = elapsed.as_secs_f64().max(f64::EPSILON);
    (used_microseconds as f64 / 1e6 / elapsed * 1e4).round() / 1e2
}

/// Pods and containers; sandpod's own share is in the pod's and in the JSON.
fn text(rows: &[Row]) -> String {
    let heading =
        ["POD", "CONTAINER", "CPU %", "MEMORY / LIMIT", "PIDS / LIMIT", "READ / WRITTEN", "STALLED % CPU/MEM/IO"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().filter(|row| matches!(row.part, Part::Pod | Part::Container)).map(cells));
    table(&lines)
}

fn cells(row: &Row) -> Vec<String> {
    let Row { pod, container, cpu_percent, usage, .. } = row;
    let CgroupUsage { memory, pids, io, pressure, .. } = usage;
    let of_limit = |current: Option<u64>, max: Option<Limit>, shown: fn(u64) -> String| match (current, max) {
        (None, _) => "-".to_owned(),
        (Some(current), None | Some(Limit::Max)) => format!("{} / max", shown(current)),
        (Some(current), Some(Limit::Of(max))) => format!("{} / {}", shown(current), shown(max)),
    };
    let stalled = |of: Option<Pressure>| of.map_or("-".to_owned(), |found| format!("{:.1}", found.some.avg10_percent));
    vec![
        pod.clone(),
        container.clone().unwrap_or_else(|| "(all)".to_owned()),
        cpu_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}")),
        of_limit(memory.current_bytes, memory.max_bytes, bytes),
        of_limit(pids.current, pids.max, |count| count.to_string()),
        io.map_or_else(|| "-".to_owned(), |io| format!("{} / {}", bytes(io.read_bytes), bytes(io.written_bytes))),
        [pressure.cpu, pressure.memory, pressure.io].map(stalled).join("/"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::usage::{CpuUsage, IoUsage, MemoryUsage, PidsUsage};

    fn row(usage: CgroupUsage) -> Row {
        Row {
            pod: "web".to_owned(),
            id: "0123456789ab".to_owned(),
            part: Part::Container,
            container: Some("nginx".to_owned()),
            cgroup: "/c/nginx.1".into(),
            cpu_percent: Some(12.34),
            usage,
        }
    }

    #[test]
    fn a_row_of_the_table() {
        let used = CgroupUsage {
            memory: MemoryUsage {
                current_bytes: Some(12 << 20),
                max_bytes: Some(Limit::Of(256 << 20)),
                ..MemoryUsage::default()
            },
            pids: PidsUsage { current: Some(3), max: Some(Limit::Max), peak: None },
            io: Some(IoUsage { read_bytes: 4096, ..IoUsage::default() }),
            ..CgroupUsage::default()
        };
        assert_eq!(cells(&row(used)), ["web", "nginx", "12.3", "12Mi / 256Mi", "3 / max", "4Ki / 0", "-/-/-"]);
        // What is not measured is not 0.
        assert_eq!(cells(&row(CgroupUsage::default()))[3..6], ["-", "-", "-"]);
    }

    #[test]
    fn json_has_numbers_with_their_units() {
        let usage = CgroupUsage {
            cpu: Some(CpuUsage { usage_microseconds: 5, ..CpuUsage::default() }),
            ..CgroupUsage::default()
        };
        let json = serde_json::to_value(row(usage)).expect("JSON");
        assert_eq!((&json["cpuPercent"], &json["cpu"]["usageMicroseconds"]), (&12.34.into(), &5.into()));
        assert_eq!((&json["part"], &json["container"]), (&"container".into(), &"nginx".into()));
        assert!(json["memory"]["currentBytes"].is_null(), "{json}");
    }

    #[test]
    fn a_cpu_that_is_used_all_the_time_is_at_100_percent() {
        assert!((percent(2_000_000, Duration::from_secs(2)) - 100.0).abs() < 1e-9);
        assert!((percent(200_000, Duration::from_secs(1)) - 20.0).abs() < 1e-9);
    }
}
