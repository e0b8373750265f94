//! How much execve(2) takes: one string, and all arguments and variables together. Counted while they are put together, so
//! that a few hundred bytes of a manifest cannot become gigabytes.

use std::path::PathBuf;

use super::{ContainerPlan, Mount, MountKind, ProcessPlan, RootPlan};
use crate::host::Facts;
use crate::report::{Report, exit_code};

/// MAX_ARG_STRLEN (32 pages) without the NUL at the end, in bytes.
pub(super) const MAX_STRING: usize = 131_071;
/// What the kernel grants whatever the stack limit is (ARG_MAX), and the most that it grants (`bprm_stack_limits`).
const LEAST: u64 = 128 << 10;
const MOST: u64 = 6 << 20;
/// For the program's path, and what the kernel itself puts there.
const RESERVED: u64 = 8 << 10;
/// Each string has a NUL, and a pointer to it.
const PER_STRING: usize = 1 + size_of::<usize>();
/// Bytes of all containers of a pod together: the plan is kept in memory and on disk.
pub(super) const MOST_OF_POD: usize = 16 << 20;

/// What one container's arguments and variables take.
pub(super) struct Space<'a> {
    container: &'a str,
    used: usize,
    limit: usize,
}

impl<'a> Space<'a> {
    pub(super) fn of(container: &'a str, facts: &Facts) -> Space<'a> {
        let quarter = facts.stack_limit.map_or(MOST, |bytes| bytes / 4).clamp(LEAST, MOST);
        Space { container, used: 0, limit: usize::try_from(quarter - RESERVED).unwrap_or(usize::MAX) }
    }

    /// Counts a string of this many bytes; `what` names it.
    pub(super) fn take(&mut self, bytes: usize, what: &str) -> Result<(), Report> {
        if bytes > MAX_STRING {
            return Err(self.too_long(what));
        }
        self.used += bytes + PER_STRING;
        if self.used <= self.limit {
            return Ok(());
        }
        let Space { container, limit, .. } = self;
        Err(Report::new(exit_code::USAGE, format!("container `{container}`: its arguments and variables are too long"))
            .because(format!(
                "with {what} they take more than {limit} bytes, all that execve(2) takes here: a quarter of the stack \
                 limit (ulimit -s)"
            ))
            .hint("put long texts into files, and mount them"))
    }

    /// Gives back what a string took that another one replaces.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.used -= bytes + PER_STRING;
    }

    pub(super) fn too_long(&self, what: &str) -> Report {
        Report::new(exit_code::USAGE, format!("container `{}`: {what} is too long", self.container))
            .because(format!("it has more than {MAX_STRING} bytes, all that execve(2) takes for one string"))
            .hint("put the text into a file, and mount it")
    }
}

/// Bytes of what a container's plan holds of the manifest's texts, and of what every container has.
pub(super) fn used_by(container: &ContainerPlan) -> usize {
    let ProcessPlan { argv, env, .. } = &container.process;
    let layers: &[PathBuf] = match &container.root {
        RootPlan::Overlay { lowers: layers } | RootPlan::Copy { sources: layers } => layers,
        RootPlan::HostTree { .. } => &[],
    };
    let words = argv.iter().map(String::len);
    let variables = env.iter().map(|(name, value)| name.len() + value.len());
    let layers = layers.iter().map(|layer| layer.as_os_str().len());
    words.chain(variables).chain(layers).chain(container.mounts.iter().map(of_mount)).sum()
}

/// A mount repeats its volume's path.
fn of_mount(mount: &Mount) -> usize {
    let source = match &mount.kind {
        MountKind::PodTmpfs { source } | MountKind::HostPath { source } => source.as_os_str().len(),
        MountKind::DiskVolume { name } => name.len(),
        MountKind::ImageFiles { manifest: _, trees } => trees.iter().map(|tree| tree.as_os_str().len()).sum(),
        _ => 0,
    };
    size_of::<Mount>() + mount.destination.as_os_str().len() + source
}

/// `index`: the container with which the pod's become too many.
pub(super) fn too_many(index: usize) -> Report {
    Report::new(exit_code::USAGE, "the plan of the pod's containers is too long")
        .because(format!(
            "their arguments, variables and mounts take more than {MOST_OF_POD} bytes together, the most that a pod may \
             have"
        ))
        .hint("put long texts into files and mount them, or make several pods of it")
        .about(format!("spec.containers[{index}]"))
}
