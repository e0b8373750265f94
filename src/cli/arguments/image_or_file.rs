//! `run IMAGE CMD…` beside `run FILE`: which of the two a command line means, and the one form that the parser knows.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Arg, Args, Command};

use super::{PlanArguments, RunArguments};

/// Whether a name is that of a manifest wherever it is typed, as docs/running.md says.
pub(crate) fn is_manifest_name(name: &OsStr) -> bool {
    let text = name.to_string_lossy();
    text == "-"
        || [".yaml", ".yml", ".json"].iter().any(|end| text.ends_with(end))
        || ["/", "./", "../"].iter().any(|begin| text.starts_with(begin))
}

/// The command line with `--image IMAGE -- CMD…` in the place of `IMAGE CMD…`. What follows the image belongs to the command,
/// as with docker and podman: it is not parsed.
pub(crate) fn with_option(typed: Vec<OsString>, exists: impl Fn(&Path) -> bool) -> Vec<OsString> {
    let definitions = match typed.get(1).and_then(|verb| verb.to_str()) {
        Some("run") => RunArguments::augment_args(Command::new("run")),
        Some("plan") => PlanArguments::augment_args(Command::new("plan")),
        _ => return typed,
    };
    let Some(found) = first_operand(&typed, &definitions) else { return typed };
    let (options, operands) = typed.split_at(found.at);
    let [first, rest @ ..] = operands else { return typed };
    let option = OsString::from("--image");
    let (image, command): (&[OsString], &[OsString]) = if found.has_image {
        (&[], operands)
    } else if is_manifest_name(first) || exists(Path::new(first)) {
        return typed;
    } else {
        let rest = if rest.first().is_some_and(|word| word == "--") { &rest[1..] } else { rest };
        (&[option, first.clone()], rest)
    };
    let dashes = if command.is_empty() { None } else { Some(OsString::from("--")) };
    options.iter().chain(image).cloned().chain(dashes).chain(command.iter().cloned()).collect()
}

struct Operand {
    at: usize,
    /// `--image` comes before it.
    has_image: bool,
}

/// The first word that is neither an option nor the value of one. `None`: there is none before `--`, or an option is
/// unknown, which the parser refuses.
fn first_operand(typed: &[OsString], definitions: &Command) -> Option<Operand> {
    let mut has_image = false;
    let mut at = 2;
    loop {
        let word = typed.get(at)?.to_string_lossy();
        at += 1;
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let option = by_long(definitions, name)?;
            has_image |= name == "image";
            at += usize::from(takes_value(option) && value.is_none());
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            // `-it`, `-v SRC:DST`, `-vSRC:DST`
            for (index, letter) in letters.char_indices() {
                if takes_value(by_short(definitions, letter)?) {
                    at += usize::from(index + letter.len_utf8() == letters.len());
                    break;
                }
            }
        } else {
            return Some(Operand { at: at - 1, has_image });
        }
    }
}

fn by_long<'a>(definitions: &'a Command, name: &str) -> Option<&'a Arg> {
    definitions.get_arguments().find(|option| {
        option.get_long() == Some(name) || option.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

fn by_short(definitions: &Command, letter: char) -> Option<&Arg> {
    definitions.get_arguments().find(|option| {
        option.get_short() == Some(letter)
            || option.get_all_short_aliases().is_some_and(|aliases| aliases.contains(&letter))
    })
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_and_its_command_are_put_behind_the_option() {
        let becomes = |typed: &str, wanted: &str| {
            let typed = typed.split(' ').map(OsString::from).collect();
            let parsed = with_option(typed, |path| path == Path::new("here"));
            let words: Vec<_> = parsed.iter().map(|word| word.to_string_lossy()).collect();
            assert_eq!(words.join(" "), wanted);
        };
        becomes("sandpod run nginx", "sandpod run --image nginx");
        becomes("sandpod run -it --rm busybox sh -c ls", "sandpod run -it --rm --image busybox -- sh -c ls");
        becomes("sandpod run host: -- ls --color", "sandpod run --image host: -- ls --color");
        becomes("sandpod run -itv a:b -p80:80 -w /x x ls", "sandpod run -itv a:b -p80:80 -w /x --image x -- ls");
        becomes("sandpod run --name=a --pids 3 x --rm", "sandpod run --name=a --pids 3 --image x -- --rm");
        becomes("sandpod plan --json docker://x true", "sandpod plan --json --image docker://x -- true");
        becomes("sandpod run --image host: sleep 5", "sandpod run --image host: -- sleep 5");
        // The value of an option is no operand.
        becomes("sandpod run --name here x", "sandpod run --name here --image x");
        for same in [
            "sandpod run pod.yaml --rm",
            "sandpod run - -q",
            "sandpod run /x -q",
            "sandpod run ./x -q",
            "sandpod run ../x -q",
            "sandpod run here -q",
            "sandpod run a.yaml --image host:",
            "sandpod run --image host: -- ls",
            "sandpod run --image host: -v a:b",
            "sandpod run --nonsense x y",
            "sandpod run -Z x y",
            "sandpod run",
            "sandpod exec nginx ls",
            "sandpod",
        ] {
            becomes(same, same);
        }
    }
}
