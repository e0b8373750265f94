//! A pod by what the user typed: its name, or the beginning of its id.

use super::store::StoredPod;
use crate::report::{Report, exit_code};

/// The one pod that `typed` means. A name wins over an id prefix.
///
/// # Errors
/// None, with the nearest names; or several, with all of them.
pub(super) fn find(mut pods: Vec<StoredPod>, typed: &str) -> Result<StoredPod, Report> {
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
    match nearest(typed, pods.iter().map(|pod| pod.name.as_str())) {
        Some(name) => report.hint(format!("did you mean `{name}`? `sandpod ps -a` lists all pods")),
        None if pods.is_empty() => report.hint("there are no pods at all; `sandpod run FILE` makes one"),
        None => report.hint("`sandpod ps -a` lists all pods"),
    }
}

/// The candidate that is fewest edits away, when that is at most a third of the typed name.
pub fn nearest<'n>(typed: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    candidates
        .filter(|name| name.len().abs_diff(typed.len()) <= typed.len() / 3 + 1)
        .map(|name| (edits(typed, name), name))
        .min()
        .filter(|(edits, _)| *edits <= (typed.chars().count() / 3).max(1))
        .map(|(_, name)| name)
}

/// How many letters were left out, added, mistaken, or swapped with their neighbour (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mistaken = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = mistaken.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("web", "web"), 0);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("mian", "main"), 1);
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let names = ["nginx-busybox", "web"];
        assert_eq!(nearest("nginx-busybx", names.into_iter()), Some("nginx-busybox"));
        assert_eq!(nearest("wep", names.into_iter()), Some("web"));
        assert_eq!(nearest("database", names.into_iter()), None);
    }
}
