//! Names of pods in the completion of a real shell.

use std::process::Command;

use crate::support::cli_support::{Home, Said};

/// What bash would offer for the last of these words.
fn offered(home: &Home, words: &[&str]) -> Vec<String> {
    let script = home.run(&["completions", "bash"]).ends_with(0).stdout;
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let test = format!(
        "{script}\nCOMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         _sandpod_with_pods \"${{COMP_WORDS[0]}}\" \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        quoted.join(" ")
    );
    // The environment that sandpod gets, and it itself in PATH.
    let sandpod = home.command(&[]);
    let mut bash = Command::new("/bin/bash");
    bash.args(["--norc", "-c", &test]).env_clear().current_dir(home.path());
    bash.envs(sandpod.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let said = Said::by(bash).ends_with(0);
    assert_eq!(said.stderr, "", "{}", said.explain());
    said.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_names_of_pods_where_a_pod_is_meant() {
    if !std::path::Path::new("/bin/bash").exists() {
        return;
    }
    let home = Home::new();
    for (id, name) in [("0123456789ab", "web"), ("ba9876543210", "worker"), ("aa9876543210", "job")] {
        drop(home.pod(id, name, &["main"]));
    }
    let sandpod = env!("CARGO_BIN_EXE_sandpod");
    let of = |words: &[&str]| offered(&home, &[&[sandpod], words].concat());
    assert_eq!(of(&["logs", ""]), ["job", "web", "worker"]);
    assert_eq!(of(&["logs", "w"]), ["web", "worker"]);
    assert_eq!(of(&["logs", "--tail", "5", "-f", "j"]), ["job"]);
    assert_eq!(of(&["logs", "--tail", "=", "5", "j"]), ["job"]);
    assert_eq!(of(&["stop", "web", "job", "w"]), ["web", "worker"]);
    // The second operand of logs, what an option is given, and verbs: none of them is a pod.
    for words in [&["logs", "web", "w"][..], &["logs", "--container", "w"], &["ps", "w"], &["w"]] {
        let found = of(words);
        assert!(!found.contains(&"worker".to_owned()), "{words:?}: {found:?}");
    }
    assert!(of(&["logs", "--t"]).contains(&"--tail".to_owned()));
    assert_eq!(of(&["wa"]), ["wait"]);
}
