//! Habits of other tools' users, and what they should have typed.

use clap::error::{ContextKind, ErrorKind};

/// What helps with a command line that was refused; `typed` begins with the program's name.
pub(crate) fn tip(kind: ErrorKind, typed: &[String]) -> Option<&'static str> {
    let verb = typed.get(1)?.as_str();
    match (kind, verb) {
        (ErrorKind::UnknownArgument | ErrorKind::ArgumentConflict, "run" | "plan") => {
            let words = typed.get(2..)?;
            let ours = words.iter().position(|word| word == "--").unwrap_or(words.len());
            if let Some(tip) = words[..ours].iter().find_map(|word| of_a_network(word)) {
                return Some(tip);
            }
            let names_file = words[..ours].iter().any(|word| word == "-f" || word == "--file" || word == "--filename");
            names_file.then_some("the manifest needs no option: sandpod run pod.yaml")
        }
        (ErrorKind::UnknownArgument, "port-forward")
            if typed.iter().any(|word| word == "-n" || word.starts_with("--namespace")) =>
        {
            Some("there are no namespaces here: leave it out")
        }
        (ErrorKind::InvalidSubcommand, "expose" | "proxy") => {
            Some("`sandpod run -p HOST:CONTAINER pod.yaml`, or `sandpod port-forward POD PORT` while it runs")
        }
        (ErrorKind::InvalidSubcommand, "network") => Some(
            "each pod has a network of its own: `sandpod run --network MODE`; `sandpod ps -o wide` shows addresses",
        ),
        (ErrorKind::InvalidSubcommand, "start" | "create" | "apply" | "play" | "kube") => {
            Some("`sandpod run pod.yaml`")
        }
        (ErrorKind::InvalidSubcommand, "delete" | "remove" | "down") => Some("`sandpod rm -f POD`"),
        (ErrorKind::InvalidSubcommand, "describe") => Some("`sandpod inspect POD`"),
        (ErrorKind::InvalidSubcommand, "get" | "list" | "ls") => Some("`sandpod ps`"),
        (ErrorKind::InvalidSubcommand, "top") => Some("`sandpod stats`"),
        (ErrorKind::InvalidSubcommand, "restart") => Some("`sandpod rm -f POD`, and `sandpod run` again"),
        (ErrorKind::InvalidSubcommand, "help") => Some("`sandpod --help`, or `sandpod VERB --help`"),
        _ => None,
    }
}

/// clap's own tips, which would contradict ours: that `--net` is to come after `--`, or that `--pids` was meant by `--pod`.
pub(crate) fn drop_guesses(usage: &mut clap::Error) {
    for guess in [ContextKind::Suggested, ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand] {
        usage.remove(guess);
    }
}

/// Words of docker run and podman run about networks.
fn of_a_network(word: &str) -> Option<&'static str> {
    let option = word.split_once('=').map_or(word, |(option, _)| option);
    match option {
        "--net" => Some("it is called --network: --network host"),
        "-P" | "--publish-all" | "--expose" => Some("-p PORT publishes a port of the pod at a free one of the host"),
        "--pod" | "--link" => Some("--network pod:NAME shares the network of another pod"),
        "--add-host" | "--no-hosts" => Some("names are in the manifest: spec.hostAliases"),
        "--dns-search" | "--dns-opt" | "--dns-option" => Some("that is in the manifest: spec.dnsConfig"),
        "--sysctl" => Some("that is in the manifest: spec.securityContext.sysctls"),
        "--cap-add" | "--cap-drop" => {
            Some("that is in the manifest: securityContext.capabilities of the container; ping and low ports need none")
        }
        "--ip" | "--ip6" | "--mac-address" | "--network-alias" => {
            Some("a pod's addresses are its own affair: others reach the ports that it publishes (-p)")
        }
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
        says("sandpod run -f pod.yaml", "needs no option");
        assert_eq!(of(ErrorKind::UnknownArgument, "sandpod run --image host: --nope 1 -- sh"), None);
        assert_eq!(of(ErrorKind::UnknownArgument, "sandpod ps --filter x"), None);
        says("sandpod run --net host --image host: -- true", "--network host");
        says("sandpod run --add-host=a:1 pod.yaml", "hostAliases");
        says("sandpod run --image host: --sysctl a=1 -- sh", "sysctls");
        // Of the command, not ours.
        assert_eq!(of(ErrorKind::UnknownArgument, "sandpod run --image host: --nope -- curl --net"), None);
        says("sandpod port-forward -n default web 80", "no namespaces");
    }

    #[test]
    fn verbs_of_other_tools() {
        assert!(of(ErrorKind::InvalidSubcommand, "sandpod describe web").is_some_and(|tip| tip.contains("inspect")));
        assert_eq!(of(ErrorKind::InvalidSubcommand, "sandpod nonsense"), None);
        assert_eq!(tip(ErrorKind::InvalidSubcommand, &[]), None);
    }
}
