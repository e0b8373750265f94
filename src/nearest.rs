//! The name that was probably meant.

/// Longer names get no suggestion: the distance costs the product of both lengths.
const MAX_LENGTH: usize = 64;

/// How sure a suggestion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Closeness {
    /// A slip of the finger: one edit, or only upper and lower case.
    Slip,
    /// Part of the longer name: `path` for `mountPath`.
    Part,
    Similar,
}

/// The candidate that `wanted` most likely stands for; the first of equally good ones.
pub(crate) fn nearest<'c>(wanted: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<(&'c str, Closeness)> {
    let wanted: Vec<char> = wanted.to_lowercase().chars().collect();
    if wanted.is_empty() || wanted.len() > MAX_LENGTH {
        return None;
    }
    let mut best: Option<(&str, Closeness, usize)> = None;
    for candidate in candidates {
        let name: Vec<char> = candidate.to_lowercase().chars().collect();
        let distance = distance(&wanted, &name);
        let Some(closeness) = closeness(&wanted, &name, distance) else { continue };
        if best.is_none_or(|(_, so_far, least)| (closeness, distance) < (so_far, least)) {
            best = Some((candidate, closeness, distance));
        }
    }
    best.map(|(name, closeness, _)| (name, closeness))
}

fn closeness(wanted: &[char], name: &[char], distance: usize) -> Option<Closeness> {
    let shorter = wanted.len().min(name.len());
    // Below three letters one edit already makes another word: `fs` is no slip of `fc`.
    if distance == 0 || (distance == 1 && shorter >= 3) {
        return Some(Closeness::Slip);
    }
    // `environment` for `env`, but no two-letter word for all that end in it.
    let longer = wanted.starts_with(name) && shorter >= 3;
    if longer || (shorter >= 4 && (name.starts_with(wanted) || name.ends_with(wanted))) {
        return Some(Closeness::Part);
    }
    (distance <= shorter / 3).then_some(Closeness::Similar)
}

/// Optimal string alignment: inserts, deletes, replaces, and swaps of neighbours, each once.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut two_rows_up: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(two_rows_up[j - 2] + 1);
            }
            row.push(least);
        }
        two_rows_up = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 7] = ["env", "command", "args", "mountPath", "volumeMounts", "hostNetwork", "fc"];

    #[test]
    fn finds_what_was_meant() {
        for (typed, meant) in [
            ("comand", Some("command")),
            ("Command", Some("command")),
            ("agrs", Some("args")),
            ("path", Some("mountPath")),
            ("volumeMount", Some("volumeMounts")),
            ("volumesMount", Some("volumeMounts")),
            ("hostnetwork", Some("hostNetwork")),
            ("host_network", Some("hostNetwork")),
            ("argument", None),
            ("environment", Some("env")),
            ("fs", None),
            ("x", None),
            ("", None),
            ("restartPolicy", None),
        ] {
            assert_eq!(nearest(typed, NAMES).map(|found| found.0), meant, "{typed}");
        }
        assert_eq!(nearest(&"a".repeat(1 << 20), NAMES), None);
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("agrs"), &chars("args")), 1);
        assert_eq!(distance(&chars(""), &chars("abc")), 3);
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
    }
}
