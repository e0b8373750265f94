//! The pod's cgroups: the tree, each value with the field that asked for it, and what the pod claims.

use std::fmt::{self, Display, Formatter};

use super::{path, row, word, words};
use crate::manifest::{Resource, written};
use crate::plan::cgroup::{CONTAINER, CgroupParent, CgroupPlan, CgroupTree, Claim, SUPERVISOR, Setting};
use crate::plan::{ContainerPlan, SandboxPlan};

pub(super) fn cgroups(f: &mut Formatter<'_>, sandbox: &SandboxPlan, containers: &[ContainerPlan]) -> fmt::Result {
    match &sandbox.cgroup {
        CgroupPlan::Inherited => writeln!(f, "\ncgroups: none of the pod's own")?,
        CgroupPlan::Tree(tree) => draw(f, tree, containers)?,
    }
    row(f, "qos", format_args!("{:?}", sandbox.qos))?;
    let Claim { cpu_millis, memory } = sandbox.claim;
    let amounts = [(Resource::Cpu, cpu_millis), (Resource::Memory, memory)];
    let claimed: Vec<_> = amounts.into_iter().filter(|(_, amount)| *amount > 0).collect();
    let claimed: Vec<_> = claimed.iter().map(|(name, amount)| format!("{name} {}", written(*name, *amount))).collect();
    row(f, "claim", if claimed.is_empty() { "nothing".to_owned() } else { claimed.join(", ") })?;
    for container in containers {
        let score = container.process.oom_score_adj;
        row(f, "oom score", format_args!("{score} for {} (raised, never lowered)", word(&container.name)))?;
    }
    Ok(())
}

fn draw(f: &mut Formatter<'_>, tree: &CgroupTree, containers: &[ContainerPlan]) -> fmt::Result {
    let CgroupTree { parent, name, controllers, settings, pause, nesting } = tree;
    writeln!(f, "\ncgroups")?;
    match parent {
        CgroupParent::Directory { path: directory, leave } => {
            let left = if *leave { ", which sandpod leaves first for a leaf of its own" } else { "" };
            row(f, "parent", format_args!("{}{left}", path(directory)))?;
        }
        CgroupParent::SystemdScope { unit } => row(f, "parent", format_args!("{} of your systemd", word(unit)))?,
    }
    row(f, "controllers", words(controllers))?;
    leaf(f, 2, &format!("{}{SUPERVISOR}/", word(name)), &[])?;
    leaf(f, 2, &format!("{}/", word(name)), settings)?;
    leaf(f, 4, "pause/", pause)?;
    containers.iter().try_for_each(|container| {
        leaf(f, 4, &format!("{}.<n>/", word(&container.name)), &container.cgroup)?;
        nesting.files().iter().try_for_each(|(name, most)| file(f, 4, name, most, None))?;
        // docs/decisions/0008: what holds is above; inside, the same values only tell programs how much they have.
        let again =
            if container.cgroup.is_empty() { "" } else { "; the controllers' values again, for who reads them inside" };
        leaf(f, 6, &format!("{CONTAINER}/{:8} its processes{again}", ""), &[])
    })
}

fn leaf(f: &mut Formatter<'_>, indent: usize, name: &str, settings: &[Setting]) -> fmt::Result {
    writeln!(f, "{:indent$}{name}", "")?;
    for Setting { value, asked_by } in settings {
        file(f, indent, &value.file(), value, asked_by.as_deref())?;
    }
    Ok(())
}

fn file(f: &mut Formatter<'_>, indent: usize, name: &str, value: impl Display, asked_by: Option<&str>) -> fmt::Result {
    let indent = indent + 4;
    writeln!(f, "{:indent$}{name:<22} {:<14} {}", "", value.to_string(), asked_by.unwrap_or("default"))
}
