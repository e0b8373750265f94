//! Usage, help, pages, colours, and a stdout that closes early.

use crate::support::cli_support::{Home, Said};

const VERBS: [&str; 31] = [
    "cp",
    "load",
    "save",
    "image",
    "images",
    "rmi",
    "run",
    "port",
    "port-forward",
    "plan",
    "ps",
    "pull",
    "inspect",
    "stats",
    "tree",
    "logs",
    "exec",
    "attach",
    "wait",
    "stop",
    "update",
    "pause",
    "unpause",
    "kill",
    "rm",
    "push",
    "login",
    "logout",
    "version",
    "completions",
    "man",
];

#[test]
fn bad_usage_ends_with_2_and_says_nothing_on_stdout() {
    let home = Home::new();
    let cases: &[&[&str]] = &[
        &[],
        &["nope"],
        &["run"],
        &["run", "a.yaml", "b.yaml"],
        &["run", "a.yaml", "--image", "host:"],
        &["run", "a.yaml", "--", "ls"],
        &["run", "a.yaml", "-it"],
        &["run", "--image", "host:", "-d", "-t"],
        &["run", "a.yaml", "--userns", "none"],
        &["logs"],
        &["logs", "web", "--tail", "many"],
        &["exec", "web"],
        &["rm"],
        &["rm", "-a", "web"],
        &["stop", "web", "-t", "-1"],
        &["completions", "tcsh"],
        &["ps", "--yaml"],
    ];
    for case in cases {
        home.run(case).ends_with(2).silently();
    }
}

#[test]
fn bad_words_that_only_sandpod_understands_end_with_2() {
    let home = Home::new();
    let run = |rest: &[&str]| home.run(&[&["run", "--image", "host:"], rest, &["--", "true"]].concat());
    run(&["--name", "Web"]).ends_with(2).silently().complains("DNS-1123");
    run(&["--volume", "/etc"]).ends_with(2).silently().complains("hint: write SRC:DST");
    run(&["--volume", "/no/such/dir:/a"]).ends_with(2).complains("No such file");
    run(&["--user", "root"]).ends_with(2).complains("`root` is not an id");
    run(&["--env", "SANDPOD_UNSET"]).ends_with(2).complains("environment variable not found");
    run(&["-it"]).ends_with(2).complains("need a terminal");
    run(&["--memory", "64"]).ends_with(2).complains("--memory 64").complains("64Mi");
    run(&["--cgroups", "disabled", "--cgroup-parent", "/x"]).ends_with(2).complains("leave one of them out");
    // The same twice is no contradiction.
    run(&["--cgroups", "auto", "--cgroup-parent", "/x"]).ends_with(125).complains("--cgroup-parent");
    home.run(&["run", "--image", "NGINX"]).ends_with(2).silently();
    home.run(&["run", "--pull=never", "--image", "nginx"]).ends_with(125).silently().complains("is not in the store");
    home.run(&["kill", "-s", "TREM", "web"]).ends_with(2).complains("did you mean `TERM`");
    home.run(&["logs", "web", "--since", "yesterday"]).ends_with(2).complains("for example");
    home.run(&["man", "rnu"]).ends_with(2).complains("did you mean `run`");
}

#[test]
fn a_manifest_that_cannot_be_read() {
    let home = Home::new();
    home.run(&["run", "absent.yaml"]).ends_with(2).silently().complains("could not read the manifest absent.yaml");
    home.run(&["plan", "."]).ends_with(2).complains("it is a directory");
}

#[test]
fn every_verb_has_help_a_page_and_a_place_in_every_completion() {
    let home = Home::new();
    for verb in VERBS {
        home.run(&[verb, "--help"]).ends_with(0).says("Usage: sandpod");
        home.run(&["man", verb])
            .ends_with(0)
            .says(&format!(".TH sandpod-{verb} 1"))
            .says(concat!("sandpod ", env!("CARGO_PKG_VERSION")));
    }
    home.run(&["man"]).ends_with(0).says(".TH sandpod 1");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.run(&["completions", shell]).ends_with(0).stdout;
        for verb in VERBS {
            assert!(script.contains(verb), "{shell} lacks {verb}");
        }
    }
    assert_eq!(
        VERBS.len(),
        home.run(&["--help"])
            .stdout
            .lines()
            .filter(|line| line.starts_with("  ") && !line.trim_start().starts_with('-'))
            .count()
    );
}

#[test]
fn the_version_is_the_packages() {
    let home = Home::new();
    home.run(&["version"]).ends_with(0).says(concat!("sandpod ", env!("CARGO_PKG_VERSION"), "\n"));
    let json: serde_json::Value = serde_json::from_str(&home.run(&["version", "--json"]).stdout).expect("JSON");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn colours_only_where_somebody_wants_them() {
    let home = Home::new();
    let with = |name: &str, value: &str| {
        let mut command = home.command(&["wait", "nope"]);
        command.env(name, value);
        Said::by(command).ends_with(125).stderr
    };
    assert!(with("CLICOLOR_FORCE", "1").contains("\u{1b}["));
    assert!(!with("NO_COLOR", "1").contains('\u{1b}'));
    assert!(!with("SOME_OTHER", "1").contains('\u{1b}'));
}

#[test]
fn whoever_closes_our_stdout_hears_no_complaint() {
    let home = Home::new();
    for line in ["completions bash", "man run", "version", "ps -a"] {
        let (reader, writer) = std::io::pipe().expect("pipe");
        drop(reader);
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = home.command(&words);
        command.stdout(writer);
        let said = Said::by(command).ends_with(0);
        assert_eq!(said.stderr, "", "{line}");
    }
}

#[test]
fn what_a_name_holds_does_not_steer_the_terminal() {
    let home = Home::new();
    let said = home.run(&["inspect", "a\u{1b}[2Jb"]).ends_with(125).complains("`a\\u{1b}[2Jb`");
    assert!(!said.stderr.contains('\u{1b}'));
}
