//! A pod by what the user typed: its name, or the beginning of its id.

use super::stored::StoredPod;
use crate::nearest::nearest;
use crate::report::{Report, exit_code};

/// The one pod that `typed` means. A name wins over an id prefix; `pod/NAME` is kubectl's way to write it.
///
/// # Errors
/// None, with the nearest names; or several, with all of them.
pub(super) fn find(mut pods: Vec<StoredPod>, typed: &str) -> Result<StoredPod, Report> {
    // No name has a slash.
    let typed = ["pod/", "pods/", "po/"].iter().find_map(|kind| typed.strip_prefix(kind)).unwrap_or(typed);
    if let Some(at) = pods.iter().position(|pod| pod.name == typed) {
        return Ok(pods.swap_remove(at));
    }
    let matches: Vec<usize> =
        (0..pods.len()).filter(|&at| !typed.is_empty() && pods[at].id.starts_with(typed)).collect();
    match matches[..] {
        [at] => Ok(pods.swap_remove(at)),
        [] => Err(unknown(&pods, typed)),
        _ => {
            let report = Report::new(exit_code::FAILURE, format!("`{typed}` means more than one pod"));
            Err(matches
                .iter()
                .fold(report, |report, &at| report.because(format!("{} {}", pods[at].id, pods[at].name)))
                .hint("give more digits of the id, or the name"))
        }
    }
}

fn unknown(pods: &[StoredPod], typed: &str) -> Report {
    let report = Report::new(exit_code::FAILURE, format!("there is no pod `{typed}`"));
    if let Some((kind, _)) = typed.split_once('/') {
        return report.hint(format!("of all kinds there are only pods here, no `{kind}`: `sandpod ps -a` lists them"));
    }
    match nearest(typed, pods.iter().map(|pod| pod.name.as_str())) {
        Some((name, _)) => report.hint(format!("did you mean `{name}`? `sandpod ps -a` lists all pods")),
        None if pods.is_empty() => report.hint("there are no pods at all; `sandpod run FILE` makes one"),
        None => report.hint("`sandpod ps -a` lists all pods"),
    }
}
