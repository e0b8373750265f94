//! Which lines are printed of many problems.

use std::collections::HashMap;

use super::Problem;

pub(super) const MAX_LINES: usize = 50;
/// More than this many problems of one kind are grouped.
const MANY: usize = 10;
/// How many of a group are printed in full.
const IN_FULL: usize = 3;
/// How many further ones of a group are named by their positions.
const MAX_POSITIONS: usize = 8;

/// One line for each problem, in their order; a group's summary follows the last one of it that is printed in full.
/// `unkept`: how many more there were.
pub(super) fn lines(source_name: &str, problems: &[Problem], unkept: usize) -> Vec<String> {
    let mut groups: HashMap<String, Vec<usize>> = HashMap::new();
    let kinds: Vec<String> = problems.iter().map(kind).collect();
    for (index, kind) in kinds.iter().enumerate() {
        groups.entry(kind.clone()).or_default().push(index);
    }
    let mut lines = Vec::new();
    let mut covered = 0;
    for (index, (problem, kind)) in problems.iter().zip(&kinds).enumerate() {
        if lines.len() >= MAX_LINES {
            break;
        }
        let group = &groups[kind];
        let place = group.partition_point(|member| *member < index);
        if group.len() <= MANY || place < IN_FULL {
            lines.push(format!("{source_name}:{problem}"));
            covered += 1;
        }
        if group.len() > MANY && place + 1 == IN_FULL {
            let others: Vec<&Problem> = group[IN_FULL..].iter().map(|member| &problems[*member]).collect();
            lines.push(summary(&others));
            covered += others.len();
        }
    }
    let rest = problems.len() + unkept - covered;
    if rest > 0 {
        lines.push(format!("and {rest} more"));
    }
    lines
}

fn summary(others: &[&Problem]) -> String {
    let positions: Vec<String> =
        others.iter().filter_map(|problem| problem.position).take(MAX_POSITIONS).map(|at| at.to_string()).collect();
    let more = if others.len() > positions.len() { ", …" } else { "" };
    format!("and {} more of this kind, at {}{more}", others.len(), positions.join(", "))
}

/// The message without what differs from place to place: quoted words and numbers.
fn kind(problem: &Problem) -> String {
    let mut kind = String::new();
    let mut quote = None;
    for letter in problem.message.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if matches!(letter, '`' | '"') => {
                quote = Some(letter);
                kind.push(letter);
            }
            None if letter.is_ascii_digit() => {}
            None => kind.push(letter),
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Position, ProblemClass};

    fn problem(line: usize, message: String) -> Problem {
        Problem {
            position: Some(Position { line, column: 3 }),
            path: "spec.x".to_owned(),
            message,
            class: ProblemClass::Invalid,
        }
    }

    /// No two are of one kind.
    fn different(count: usize) -> Vec<Problem> {
        (1..=count).map(|line| problem(line, "x".repeat(line))).collect()
    }

    #[test]
    fn few_of_a_kind_are_all_printed() {
        let ten: Vec<Problem> = (1..=10).map(|line| problem(line, format!("no volume `v{line}`"))).collect();
        assert_eq!(lines("web.yaml", &ten, 0).len(), 10);
        assert_eq!(lines("web.yaml", &ten, 0)[9], "web.yaml:10:3: spec.x: no volume `v10`");
    }

    #[test]
    fn many_of_a_kind_do_not_hide_others() {
        let mut problems: Vec<Problem> = (1..=100).map(|line| problem(line, format!("no volume `v{line}`"))).collect();
        problems.push(problem(101, "is required".to_owned()));
        assert_eq!(
            lines("web.yaml", &problems, 0),
            [
                "web.yaml:1:3: spec.x: no volume `v1`",
                "web.yaml:2:3: spec.x: no volume `v2`",
                "web.yaml:3:3: spec.x: no volume `v3`",
                "and 97 more of this kind, at 4:3, 5:3, 6:3, 7:3, 8:3, 9:3, 10:3, 11:3, …",
                "web.yaml:101:3: spec.x: is required",
            ]
        );
    }

    #[test]
    fn many_are_counted_and_few_are_printed() {
        let printed = lines("web.yaml", &different(60), 140);
        assert_eq!(printed.len(), MAX_LINES + 1);
        assert_eq!(printed[MAX_LINES], "and 150 more");
        assert_eq!(lines("web.yaml", &different(50), 0).len(), 50);
    }
}
