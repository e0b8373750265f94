//! `sandpod tree`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::TreeArguments;
use super::table::table;
use super::{Outcome, cgroups, client, print, store};
use crate::host::processes::{self, NAMESPACES};
use crate::host::usage::{self, Frozen};
use crate::plan::cgroup::of_supervisor;
use crate::state::{ContainerState, StoredPod};
use crate::sys::process::ProcessId;
use crate::sys::terminal;

/// Cgroups with their processes, and who shares which namespace.
pub(crate) fn tree(asked: &TreeArguments) -> Outcome {
    let store = store()?;
    let pods = match &asked.pod {
        Some(named) => vec![store.find(named)?],
        None => store.list()?.into_iter().filter(|pod| pod.status().is_live()).collect(),
    };
    if let Some(ended) = pods.iter().find(|pod| !pod.status().is_live()) {
        return Err(client::not_running(ended).into());
    }
    let views: Vec<View> = pods.iter().map(view).collect();
    if asked.json {
        print::json(&views)?;
    } else {
        let width = terminal::window_size(std::os::fd::AsFd::as_fd(&std::io::stdout())).ok();
        let width = width.map(|size| usize::from(size.columns)).filter(|width| *width > 0);
        print::text(&views.iter().map(|view| text(view, width)).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(0)
}

/// What is looked up of one pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    name: String,
    id: String,
    /// `None`: without one, the groups below are made by mount namespace, and their processes stand below their parents.
    cgroup: Option<PathBuf>,
    groups: Vec<Group>,
    namespaces: Vec<Namespace>,
}

/// A cgroup, or what would be in it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    frozen: bool,
    processes: Vec<Process>,
    groups: Vec<Group>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    pid: i32,
    command: String,
    children: Vec<Process>,
}

/// As lsns(8) lists them.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Namespace {
    #[serde(rename = "type")]
    kind: &'static str,
    /// `None`: may not be looked at.
    inode: Option<u64>,
    shared_by: Vec<String>,
}

/// Who is asked for its namespaces: the host (as the supervisor sees it), pause, and the first process of a container.
struct Member {
    name: String,
    pid: i32,
}

fn view(pod: &StoredPod) -> View {
    let members = members(pod);
    let cgroup = cgroups::of_pod(pod).map(Path::to_owned);
    let groups = match &cgroup {
        Some(top) => {
            // Beside the pod's; under its short name.
            let supervisor = Group { name: SUPERVISOR.to_owned(), ..group(&of_supervisor(top)) };
            // As `plan` has them: sandpod's own first.
            let (pause, containers): (Vec<_>, Vec<_>) =
                usage::children(top).into_iter().partition(|child| child.ends_with(PAUSE));
            [supervisor].into_iter().chain(pause.iter().chain(&containers).map(|child| group(child))).collect()
        }
        None => by_parent(&members, &processes::parents(), &|pid| processes::namespace(pid, "mnt")),
    };
    let namespaces = namespaces(&members, processes::namespace);
    View { name: pod.name.clone(), id: pod.id.clone(), cgroup, groups, namespaces }
}

/// The supervisor first, then pause, then the containers that run.
fn members(pod: &StoredPod) -> Vec<Member> {
    let Some(record) = pod.record() else { return Vec::new() };
    let running = record.containers.iter().filter_map(|container| match &container.state {
        ContainerState::Running { process, .. } => Some((container.name.as_str(), *process)),
        ContainerState::Waiting { .. } | ContainerState::Terminated { .. } => None,
    });
    let own = [(SUPERVISOR, record.supervisor), (PAUSE, record.pause)];
    own.into_iter()
        .filter_map(|(name, process)| Some((name, process?)))
        .chain(running)
        .filter(|(_, process): &(&str, ProcessId)| process.is_alive())
        .map(|(name, process)| Member { name: name.to_owned(), pid: process.pid })
        .collect()
}

const SUPERVISOR: &str = "supervisor";
const PAUSE: &str = "pause";

fn group(cgroup: &Path) -> Group {
    let pids = usage::processes(cgroup).unwrap_or_default();
    Group {
        name: cgroup.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        frozen: usage::frozen(cgroup).is_some_and(|state| state != Frozen::No),
        processes: pids.into_iter().filter_map(|pid| process(pid, Vec::new())).collect(),
        groups: usage::children(cgroup).iter().map(|child| group(child)).collect(),
    }
}

/// `None`: it has gone since.
fn process(pid: i32, children: Vec<Process>) -> Option<Process> {
    Some(Process { pid, command: processes::command(pid)?, children })
}

/// Without cgroups: whose mount namespace a process is in says whose it is (every container has its own, and `exec`
/// joins it), also where a shared pid namespace has made pause its parent. What has none of ours is its parent's.
fn by_parent(
    members: &[Member],
    parents: &BTreeMap<i32, i32>,
    mount_namespace: &dyn Fn(i32) -> Option<u64>,
) -> Vec<Group> {
    let of_members: Vec<Option<u64>> = members.iter().map(|member| mount_namespace(member.pid)).collect();
    let owner = |pid: i32| -> Option<usize> {
        let mut at = pid;
        // Bounded: a parent that changes while we look must not lead us in a circle.
        for _ in 0..=parents.len() {
            if let Some(index) = members.iter().position(|member| member.pid == at) {
                return Some(index);
            }
            let inside = mount_namespace(at);
            // The supervisor's is the host's, and everybody's.
            let known = |index: &usize| members[*index].name != SUPERVISOR && of_members[*index] == inside;
            if inside.is_some()
                && let Some(index) = (0..members.len()).find(known)
            {
                return Some(index);
            }
            at = *parents.get(&at)?;
        }
        None
    };
    let owners: BTreeMap<i32, usize> = parents.keys().filter_map(|pid| Some((*pid, owner(*pid)?))).collect();
    let groups = members.iter().enumerate().map(|(index, member)| {
        let ours: Vec<i32> = owners.iter().filter(|(_, owner)| **owner == index).map(|(pid, _)| *pid).collect();
        let inner = |pid: &i32| parents.get(pid).is_some_and(|parent| ours.contains(parent));
        let tops = ours.iter().filter(|pid| !inner(pid)).filter_map(|pid| family(*pid, &ours, parents));
        Group { name: member.name.clone(), frozen: false, processes: tops.collect(), groups: Vec::new() }
    });
    groups.collect()
}

fn family(pid: i32, ours: &[i32], parents: &BTreeMap<i32, i32>) -> Option<Process> {
    let children = ours.iter().filter(|child| parents.get(child) == Some(&pid) && **child != pid);
    process(pid, children.filter_map(|child| family(*child, ours, parents)).collect())
}

/// Those of pause and the containers; the host is named where one of them is its.
fn namespaces(members: &[Member], inode: impl Fn(i32, &str) -> Option<u64>) -> Vec<Namespace> {
    let mut found: Vec<Namespace> = Vec::new();
    for kind in NAMESPACES {
        let begin = found.len();
        for member in members {
            let inode = inode(member.pid, kind);
            let name = if member.name == SUPERVISOR { "host".to_owned() } else { member.name.clone() };
            match found[begin..].iter_mut().find(|known| known.inode == inode) {
                Some(known) => known.shared_by.push(name),
                None => found.push(Namespace { kind, inode, shared_by: vec![name] }),
            }
        }
    }
    found.retain(|namespace| namespace.shared_by != ["host"]);
    found
}

fn text(view: &View, width: Option<usize>) -> String {
    let mut text = match &view.cgroup {
        Some(cgroup) => format!("{} {} {}\n", view.name, view.id, print::escape(&cgroup.to_string_lossy())),
        None => format!("{} {} without a cgroup: processes below their parents\n", view.name, view.id),
    };
    let branches: Vec<Branch> = view.groups.iter().map(Branch::of_group).collect();
    draw(&branches, "", width, &mut text);
    let heading = ["TYPE", "INODE", "SHARED BY"].map(str::to_owned).to_vec();
    let rows = view.namespaces.iter().map(|namespace| {
        let inode = namespace.inode.map_or_else(|| "not readable".to_owned(), |inode| inode.to_string());
        vec![namespace.kind.to_owned(), inode, namespace.shared_by.join(", ")]
    });
    text + &table(&[heading].into_iter().chain(rows).collect::<Vec<_>>())
}

/// One line of the drawing and what hangs on it.
struct Branch {
    label: String,
    below: Vec<Branch>,
}

impl Branch {
    fn of_group(group: &Group) -> Branch {
        let state = if group.frozen { " (frozen)" } else { "" };
        let below = group.groups.iter().map(Branch::of_group).chain(group.processes.iter().map(Branch::of_process));
        Branch { label: format!("{}{state}", group.name), below: below.collect() }
    }

    fn of_process(process: &Process) -> Branch {
        let below = process.children.iter().map(Branch::of_process).collect();
        Branch { label: format!("{} {}", process.pid, process.command), below }
    }
}

fn draw(branches: &[Branch], indent: &str, width: Option<usize>, text: &mut String) {
    for (index, branch) in branches.iter().enumerate() {
        let (fork, rest) = if index + 1 == branches.len() { ("└─", "  ") } else { ("├─", "│ ") };
        let line = format!("{indent}{fork}{}", print::escape(&branch.label));
        match width {
            Some(width) if line.chars().count() > width => {
                text.extend(line.chars().take(width.saturating_sub(1)));
                text.push('…');
            }
            _ => text.push_str(&line),
        }
        text.push('\n');
        draw(&branch.below, &format!("{indent}{rest}"), width, text);
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
