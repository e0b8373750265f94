//! Every bad manifest in `bad-manifests/` against the message that a user gets, word for word, in `NAME.stderr`.
//!
//! `UPDATE=1 cargo test --test manifests bad::` writes the expectations anew; read the diff before you commit it.

// A test reads its own fixtures, and measures.
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sandpod::manifest;

/// What a user is told of a manifest, and the exit status: `sandpod plan NAME`, run in the manifest's directory so that
/// messages hold its bare name.
fn refuse(directory: &Path, name: &str) -> Result<(String, i32), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandpod"));
    refused(command.args(["plan", name]).env_clear().current_dir(directory))
}

fn refused(command: &mut Command) -> Result<(String, i32), String> {
    let output = command.output().unwrap();
    match output.status.code() {
        Some(status) if status != 0 && output.stdout.is_empty() => {
            Ok((String::from_utf8(output.stderr).unwrap(), status))
        }
        status => Err(format!("{command:?}: status {status:?}, stdout {}", String::from_utf8_lossy(&output.stdout))),
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad-manifests")
}

/// Files of `bad-manifests/` with one of these extensions.
fn files(extensions: &[&str]) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
    let wanted = |path: &PathBuf| path.extension().is_some_and(|found| extensions.iter().any(|name| *name == found));
    entries.filter(wanted).collect()
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn every_bad_manifest_gets_its_message() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = String::new();
    let mut expectations = BTreeSet::new();
    let manifests = files(&["yaml", "json"]);
    for path in &manifests {
        let name = name_of(path);
        let found = match refuse(&fixtures(), name) {
            Ok((message, status)) => format!("{message}[exit status {status}]\n"),
            Err(accepted) => {
                writeln!(wrong, "{accepted}").unwrap();
                continue;
            }
        };
        let expectation = path.with_extension("stderr");
        assert!(expectations.insert(expectation.clone()), "two manifests share {}", expectation.display());
        if update {
            std::fs::write(&expectation, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&expectation).unwrap_or_else(|error| format!("({error})\n"));
        if expected != found {
            writeln!(wrong, "--- {name}: expected\n{expected}--- {name}: found\n{found}").unwrap();
        }
    }
    for stale in files(&["stderr"]).difference(&expectations) {
        writeln!(wrong, "{} has no manifest", stale.display()).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}\nrun with UPDATE=1 if the new messages are right");
    assert!(manifests.len() >= 60, "only {} bad manifests: were some lost?", manifests.len());
}

/// Nested `$(NAME)` double with each variable: 900 bytes would be terabytes.
#[test]
fn variables_that_double() {
    let mut text = String::from("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [");
    text.push_str("{name: a, image: 'host:', env: [{name: V0, value: xxxxxxxxxx}");
    for number in 1..30 {
        let before = number - 1;
        write!(text, ",{{name: V{number},value: $(V{before})$(V{before})}}").unwrap();
    }
    text.push_str("]}]}}");
    refuse_fast(text.as_bytes(), "spec.containers[0].env[14].value");
}

/// None of them too long for itself, but all of them together.
#[test]
fn many_long_variables() {
    let mut text = String::from("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [");
    write!(text, "{{name: a, image: 'host:', env: [{{name: A, value: {}}}", "x".repeat(120_000)).unwrap();
    for number in 0..20_000 {
        write!(text, ",{{name: V{number},value: $(A)}}").unwrap();
    }
    text.push_str("]}]}}");
    refuse_fast(text.as_bytes(), "all that execve(2) takes here");
}

/// None of them too much for a container, but all of them for a pod.
#[test]
fn many_containers_with_long_variables() {
    let mut text = String::from("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [");
    write!(text, "{{name: a, image: 'host:', env: &env [{{name: A, value: {}}}", "x".repeat(1000)).unwrap();
    for number in 0..120 {
        write!(text, ",{{name: V{number},value: $(A)$(A)$(A)$(A)$(A)$(A)$(A)$(A)$(A)$(A)}}").unwrap();
    }
    text.push_str("]}");
    for number in 0..300 {
        write!(text, ",{{name: c{number}, image: 'host:', env: *env}}").unwrap();
    }
    text.push_str("]}}");
    refuse_fast(text.as_bytes(), "the most that a pod may have");
}

/// Each mount has its volume's path again: 70 kB of manifest would be 170 MB of plan.
#[test]
fn one_long_path_mounted_often() {
    let mut text = String::from("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {volumes: [{name: v, ");
    write!(
        text,
        "hostPath: {{path: /{}}}}}], containers: [{{name: c, image: 'host:', volumeMounts: &m [",
        "x/".repeat(2000)
    )
    .unwrap();
    for number in 0..1000 {
        write!(text, "{{name: v, mountPath: /m{number}}},").unwrap();
    }
    text.push_str("]}");
    for number in 0..20 {
        write!(text, ",{{name: c{number}, image: 'host:', volumeMounts: *m}}").unwrap();
    }
    text.push_str("]}}");
    refuse_fast(text.as_bytes(), "the most that a pod may have");
}

/// An annotation may be longer than what execve takes.
#[test]
fn a_long_annotation_as_a_variable() {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    long: {}\nspec:\n  containers:\n  - name: a\n    \
         image: 'host:'\n    env:\n    - name: A\n      valueFrom: {{fieldRef: {{fieldPath: \"metadata.annotations['long']\"}}}}\n",
        "x".repeat(140_000)
    );
    refuse_fast(text.as_bytes(), "bomb.yaml:13:18: spec.containers[0].env[0].valueFrom");
}

#[test]
fn quotes_escaped_ten_thousand_times() {
    let text = format!("a: [{}]\n", r#""\'", "#.repeat(100_000));
    refuse_fast(text.as_bytes(), "error");
}

/// A position is there to be opened in an editor.
#[test]
fn a_long_file_name_is_not_cut() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("a-directory-with-a-long-name".repeat(3)).join("and-another".repeat(4));
    std::fs::create_dir_all(&deep).unwrap();
    let file = deep.join("web.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: 1}\n").unwrap();
    let (message, _) = refuse(directory.path(), file.to_str().unwrap()).unwrap();
    assert!(message.contains(&format!("  {}:4:20: spec.containers: must be a list", file.display())), "{message}");
}

#[test]
fn plan_as_json_gives_its_errors_as_json_too() {
    let plan = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandpod"));
        let output = command.args(["plan", "--json", name]).env_clear().current_dir(fixtures()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: "), "stderr keeps its words");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let bad = plan("unknown-field-typo.yaml");
    assert_eq!((&bad["file"], &bad["exit_code"]), (&"unknown-field-typo.yaml".into(), &2.into()));
    let problem = &bad["problems"][0];
    assert!(problem["position"]["line"].is_u64() && problem["position"]["column"].is_u64(), "{bad:#}");
    assert!(problem["message"].as_str().unwrap().contains("did you mean"), "{bad:#}");
    assert_eq!(problem["class"], "invalid");
    assert_eq!(plan("unsupported-probes.yaml")["problems"][0]["class"], "unsupported");
    // What is wrong only on this host, or beside the rest of the manifest.
    let contradiction = plan("default-container.yaml");
    assert!(contradiction["field"].as_str().unwrap().ends_with("default-container"), "{contradiction:#}");
}

#[test]
fn no_message_can_steer_a_terminal() {
    for path in files(&["yaml", "json"]) {
        let name = name_of(&path);
        let (message, _) = refuse(&fixtures(), name).unwrap();
        let bad = message.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
        assert_eq!(bad, None, "{name}");
        assert!(message.lines().all(|line| line.chars().count() < 500), "{name} has an endless line");
    }
}

/// Processor time, which other processes change little, of refusing `text` with a message that contains `expected`.
#[track_caller]
fn work(text: &[u8], expected: &str) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bomb.yaml"), text).unwrap();
    // The limits are for what explodes: 5 minutes, 4 GB. `times` tells of the shell, and then of its children.
    let script = "ulimit -t 300 -v 4000000; \"$0\" plan bomb.yaml; status=$?; times >times; exit $status";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_sandpod")]).env_clear().current_dir(directory.path());
    let (message, status) = refused(&mut shell).unwrap();
    assert!(message.contains(expected), "{message}");
    assert_eq!(status, 2, "{message}");
    assert!(message.len() < 20_000, "{} bytes of message", message.len());
    let times = std::fs::read_to_string(directory.path().join("times")).unwrap();
    let seconds = |time: &str| {
        let (minutes, seconds) = time.strip_suffix('s')?.split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    };
    let children = times.lines().nth(1).unwrap();
    children.split_whitespace().map(|time| seconds(time).unwrap()).sum()
}

/// What cannot be told from a process that does nothing.
const LEAST_WORK: f64 = 0.2;

/// A manifest of the greatest size, wrong in every line.
fn typos(count: u32) -> String {
    let mut text = String::from("kind: Pod\n");
    for number in 0..count {
        writeln!(text, "typo{number}: 1").unwrap();
    }
    text
}

/// What is made to be slow is refused with not much more work than an honest file of the greatest size takes.
#[track_caller]
fn refuse_fast(text: &[u8], expected: &str) {
    static HONEST: OnceLock<f64> = OnceLock::new();
    let honest = HONEST.get_or_init(|| work(typos(80_000).as_bytes(), "(80003 errors)")).max(LEAST_WORK);
    let took = work(text, expected);
    assert!(took < 3.0 * honest, "{took} s; a megabyte of typos takes {honest} s");
}

/// `text(n)` is n lines of which each is wrong: twice as many are about twice the work.
#[track_caller]
fn grows_evenly(lines: u32, text: impl Fn(u32) -> String, expected: &str) {
    let half = work(text(lines / 2).as_bytes(), "more of this kind, at ").max(LEAST_WORK);
    let whole = text(lines);
    assert!(whole.len() < manifest::MAX_TEXT_BYTES);
    let whole = work(whole.as_bytes(), expected);
    assert!(whole < 3.0 * half, "{lines} lines take {whole} s, half of them {half} s");
}

#[test]
fn a_100_mb_file() {
    let mut text = b"apiVersion: v1\n".to_vec();
    text.resize(100_000_000, b'#');
    refuse_fast(&text, "longer than 1048576 bytes");
}

#[test]
fn the_size_limit_is_exact() {
    let text = vec![b'\n'; manifest::MAX_TEXT_BYTES + 1];
    refuse_fast(&text, "longer than 1048576 bytes");
    refuse_fast(&text[1..], "is empty");
}

#[test]
fn a_billion_laughs() {
    let mut text = String::from("a0: &a0 lol\n");
    for level in 1..=9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    refuse_fast(text.as_bytes(), "too large here once its aliases are written out");
}

#[test]
fn a_long_text_aliased_often() {
    let mut text = format!("a: &a \"{}\"\nb:\n", "x".repeat(500_000));
    text.push_str(&"- *a\n".repeat(50_000));
    refuse_fast(text.as_bytes(), "too large here once its aliases are written out");
}

#[test]
fn a_chain_of_aliases_that_nests() {
    let mut text = String::from("- &a0 [x]\n");
    for level in 1..2000 {
        writeln!(text, "- &a{level} [*a{}]", level - 1).unwrap();
    }
    refuse_fast(text.as_bytes(), "nested more than 64 deep");
}

#[test]
fn merge_keys_that_multiply() {
    let keys: String = (0..1000).map(|number| format!("k{number}: v, ")).collect();
    let mut text = format!("a: &a {{{keys}}}\n<<:\n");
    text.push_str(&"- *a\n".repeat(100_000));
    refuse_fast(text.as_bytes(), "too large here once its aliases are written out");
}

#[test]
fn deep_nesting() {
    refuse_fast("[".repeat(100_000).as_bytes(), "nested more than 64 deep");
    refuse_fast("{a: ".repeat(100_000).as_bytes(), "nested more than 64 deep");
    refuse_fast("- ".repeat(100_000).as_bytes(), "nested more than 64 deep");
    let steps: String = (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    refuse_fast(steps.as_bytes(), "nested more than 64 deep");
}

#[test]
fn a_megabyte_of_typos() {
    grows_evenly(80_000, typos, "(80003 errors)");
}

#[test]
fn thousands_of_volumes_and_wrong_mounts() {
    let text = |count| {
        let mut text = String::from("kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec:\n  volumes:\n");
        for number in 0..count {
            writeln!(text, "  - name: a-rather-long-name-of-a-volume-{number}").unwrap();
        }
        text.push_str("  containers:\n  - name: a\n    image: 'host:'\n    volumeMounts:\n");
        for number in 0..count {
            writeln!(text, "    - {{name: a-rather-long-name-of-volume-{number}, mountPath: /m{number}}}").unwrap();
        }
        text
    };
    grows_evenly(9000, text, "(9000 errors)");
    // A suggestion for each compares each name with each.
    refuse_fast(text(9000).as_bytes(), "did you mean `a-rather-long-name-of-a-volume-");
}

#[test]
fn one_key_of_a_megabyte() {
    let text = format!("? {}\n: 1\n", "k".repeat(1_000_000));
    refuse_fast(text.as_bytes(), "unknown field");
}
