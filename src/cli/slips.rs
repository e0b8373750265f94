//! Habits of other tools' users, and what they should have typed.

use clap::error::ErrorKind;

/// What helps with a command line that was refused; `typed` begins with the program's name.
pub(crate) fn tip(kind: ErrorKind, typed: &[String]) -> Option<&'static str> {
    let verb = typed.get(1)?.as_str();
    match (kind, verb) {
        (ErrorKind::UnknownArgument | ErrorKind::ArgumentConflict, "run" | "plan") => {
            let words = typed.get(2..)?;
            if words.iter().any(|word| word == "--") {
                return None;
            }
            let has_image = words.iter().any(|word| word == "--image" || word.starts_with("--image="));
            let names_file = words.iter().any(|word| word == "-f" || word == "--file" || word == "--filename");
            Some(match (has_image, names_file) {
                (true, _) => "a command comes after `--`: sandpod run --image host: -- sleep 5",
                (false, true) => "the manifest needs no option: sandpod run pod.yaml",
                (false, false) => {
                    "a pod is run from a manifest: sandpod run pod.yaml; or without one: sandpod run --image host: -- sh"
                }
            })
        }
        (ErrorKind::InvalidSubcommand, "start" | "create" | "apply" | "play" | "kube") => {
            Some("`sandpod run pod.yaml`")
        }
        (ErrorKind::InvalidSubcommand, "delete" | "remove" | "down") => Some("`sandpod rm -f POD`"),
        (ErrorKind::InvalidSubcommand, "describe") => Some("`sandpod inspect POD`"),
        (ErrorKind::InvalidSubcommand, "get" | "list" | "ls") => Some("`sandpod ps`"),
        (ErrorKind::InvalidSubcommand, "top") => Some("`sandpod stats`"),
        (ErrorKind::InvalidSubcommand, "restart") => Some("`sandpod rm -f POD`, and `sandpod run` again"),
        (ErrorKind::InvalidSubcommand, "cp") => Some("`sandpod exec -i POD -- tar …`, or a hostPath volume"),
        (ErrorKind::InvalidSubcommand, "help") => Some("`sandpod --help`, or `sandpod VERB --help`"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ErrorKind, line: &str) -> Option<&'static str> {
        tip(kind, &line.split(' ').map(str::to_owned).collect::<Vec<String>>())
    }

    #[test]
    fn a_command_of_docker_run() {
        let says = |line: &str, words: &str| {
            let tip = of(ErrorKind::UnknownArgument, line);
            assert!(tip.is_some_and(|tip| tip.contains(words)), "{line}: {tip:?}");
        };
        says("sandpod run --image host: sleep 5", "after `--`");
        says("sandpod run --image=host: bash", "after `--`");
        says("sandpod run ubuntu bash", "from a manifest");
        says("sandpod run -f pod.yaml", "needs no option");
        assert_eq!(of(ErrorKind::UnknownArgument, "sandpod run --image host: --nope 1 -- sh"), None);
        assert_eq!(of(ErrorKind::UnknownArgument, "sandpod ps --filter x"), None);
    }

    #[test]
    fn verbs_of_other_tools() {
        assert!(of(ErrorKind::InvalidSubcommand, "sandpod describe web").is_some_and(|tip| tip.contains("inspect")));
        assert_eq!(of(ErrorKind::InvalidSubcommand, "sandpod nonsense"), None);
        assert_eq!(tip(ErrorKind::InvalidSubcommand, &[]), None);
    }
}
