//! Removes trees that were taken out of the store: their files belong to the ids of the map that they were unpacked for.

use std::os::fd::AsFd as _;

use crate::engine::remove::remove_in_userns;
use crate::engine::tree::{empty_directory, remove_tree};
use crate::image::store::{MapLines, RemovedTree};
use crate::plan::idmap::{ContainerId, HostId, IdMapPlan, MapEntry};
use crate::report::{Report, exit_code};

/// Removes each tree; `widest` is the map with every id that this user can have, for a tree whose own map is not known, and
/// says who writes maps on this host. Returns the bytes of the files that are gone, and why others are not.
pub fn remove_trees(trees: &[RemovedTree], widest: &IdMapPlan) -> (u64, Vec<Report>) {
    let mut freed = 0;
    let mut failed = Vec::new();
    for tree in trees {
        match remove(tree, widest) {
            Ok(()) => freed += tree.bytes,
            Err(report) => failed.push(report),
        }
    }
    (freed, failed)
}

fn remove(tree: &RemovedTree, widest: &IdMapPlan) -> Result<(), Report> {
    let RemovedTree { parent, name, map, bytes: _ } = tree;
    let what = || format!("could not remove the unpacked layer {}", name.display());
    let report = |error: &crate::sys::Error| Report::new(exit_code::FAILURE, what()).because(error.to_string());
    // Enough where all files are ours. What it leaves can be emptied by the ids of the map.
    if remove_tree(parent.as_fd(), name).is_empty() {
        return Ok(());
    }
    let idmap = map.as_ref().map_or_else(|| widest.clone(), |lines| with_lines(widest, lines));
    let inside = remove_in_userns(parent.as_fd(), name, &idmap, empty_directory);
    let errors = remove_tree(parent.as_fd(), name);
    match (inside, errors.first()) {
        (_, None) => Ok(()),
        (Err(failure), Some(_)) => Err(failure.into_report(what())),
        (Ok(inside), Some(error)) => Err(report(inside.first().unwrap_or(error))),
    }
}

fn with_lines(widest: &IdMapPlan, lines: &MapLines) -> IdMapPlan {
    let entries = |lines: &[[u32; 3]]| {
        let entry = |&[inside, outside, count]: &[u32; 3]| MapEntry {
            inside: ContainerId(inside),
            outside: HostId(outside),
            count,
        };
        lines.iter().map(entry).collect()
    };
    IdMapPlan { uids: entries(&lines.uids), gids: entries(&lines.gids), ..widest.clone() }
}
