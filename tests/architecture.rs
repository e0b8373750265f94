//! What docs/architecture.md and the design promise about the source itself, checked.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sandpod::plan::degradation;
use sandpod::step::Step;

/// `src/PATH` and its text, for every Rust file.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut ahead = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(path) = ahead.pop() {
        if path.is_dir() {
            ahead.extend(fs::read_dir(&path).expect("readdir").map(|entry| entry.expect("entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(&root).expect("below").to_str().expect("UTF-8").to_owned();
            found.push((name, fs::read_to_string(&path).expect("read")));
        }
    }
    found.sort();
    assert!(found.len() > 50, "this looks at the whole of src/");
    found
}

/// Files that only tests are compiled from.
fn is_test(name: &str) -> bool {
    let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem == "tests" || stem.ends_with("_tests") || ["testing", "fixture", "fixtures", "recorded"].contains(&stem)
}

/// The code without comments, strings left alone, and without what stands below `#[cfg(test)] mod`.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_page_lists_the_steps_in_the_codes_order() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).expect("the page");
    let listed: Vec<String> = page
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.split_once(". `")?;
            let (name, _) = rest.split_once('`')?;
            Some((number.parse::<usize>().ok()?, name.to_owned()))
        })
        .enumerate()
        .map(|(place, (number, name))| {
            assert_eq!(number, place + 1, "the steps are numbered in order");
            name
        })
        .collect();
    let declared: Vec<String> = Step::ALL
        .iter()
        .map(|step| serde_json::to_value(step).expect("JSON").as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(listed, declared);
}

/// Who may use whom; see `SHARED` for what everybody may.
const EDGES: &[(&str, &[&str])] = &[
    ("cli", &["manifest", "host", "image", "plan", "state", "supervisor", "engine", "proxy", "sys"]),
    ("manifest", &[]),
    ("host", &["sys"]),
    ("image", &["manifest", "sys"]),
    ("plan", &["manifest", "host", "image"]),
    ("state", &["plan", "sys"]),
    ("engine", &["image", "manifest", "plan", "proxy", "sys"]),
    ("supervisor", &["engine", "plan", "state", "sys"]),
    ("proxy", &["sys"]),
    ("sys", &[]),
    ("pause", &[]),
];
/// Words and pure functions that belong to no layer, and what the build says of itself.
const SHARED: &[&str] = &["report", "step", "nearest", "bind_conflict", "testing", "TINY_PROGRAMS"];

#[test]
fn who_uses_whom() {
    let mut wrong = BTreeSet::new();
    let mut used = BTreeSet::new();
    for (name, text) in sources() {
        let Some((module, _)) = name.split_once('/') else { continue };
        let (_, allowed) =
            EDGES.iter().find(|(from, _)| *from == module).unwrap_or_else(|| panic!("src/{module} is new"));
        for (place, _) in code(&text).match_indices("crate::") {
            let rest = &code(&text)[place + "crate::".len()..];
            let targets: Vec<String> = match rest.strip_prefix('{') {
                Some(group) => group.split('}').next().unwrap_or_default().split(',').map(first_word).collect(),
                None => vec![first_word(rest)],
            };
            for target in targets.iter().filter(|target| !target.is_empty() && *target != module) {
                if allowed.contains(&target.as_str()) || SHARED.contains(&target.as_str()) {
                    used.insert((module.to_owned(), target.clone()));
                } else if !is_test(&name) {
                    wrong.insert(format!("src/{name} uses {target}, which src/{module} may not"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let unused: Vec<_> = EDGES
        .iter()
        .flat_map(|(from, allowed)| allowed.iter().map(move |to| ((*from).to_owned(), (*to).to_owned())))
        .filter(|edge| !used.contains(edge))
        .collect();
    assert!(unused.is_empty(), "no longer used, take them away: {unused:?}");
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Numbers of signals are in one table. The programs of `src/pause` are built apart from the rest.
#[test]
fn signals_have_one_table() {
    let mut found = Vec::new();
    for (name, text) in sources() {
        let is_number = |line: &&str| {
            let Some((constant, value)) = line.trim_start().split_once('=') else { return false };
            constant.contains("const SIG") && value.trim().trim_end_matches(';').parse::<i32>().is_ok()
        };
        if !name.starts_with("pause/") {
            found.extend(text.lines().filter(is_number).map(|line| format!("src/{name}: {line}")));
        }
    }
    assert!(found.is_empty(), "use sys::signals: {found:#?}");
}

/// docs/what-is-tested.md: every name in its tables is a test of the file that comes before it.
#[test]
fn the_page_of_tests_names_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/what-is-tested.md")).expect("the page");
    let cells = page.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.rsplit(" | ").next());
    let (mut file, mut text, mut count) = ("", String::new(), 0);
    let mut missing = Vec::new();
    for word in cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        if word.ends_with(".rs") {
            file = word;
            text = fs::read_to_string(root.join(file)).unwrap_or_default();
            continue;
        }
        // Between the attribute and the function there may be others, and comments.
        let before = text.split_once(&format!("fn {word}(")).and_then(|(before, _)| before.rsplit_once("#[test]"));
        if before.is_none_or(|(_, between)| between.contains("fn ")) {
            missing.push(format!("{file}: {word}"));
        }
        count += 1;
    }
    assert!(count > 100, "the page has rows of tests: {count}");
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

/// What touches the kernel is in two directories.
#[test]
fn unsafe_code_and_kernel_crates_stay_in_their_place() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        if name.starts_with("sys/") || name.starts_with("pause/") {
            continue;
        }
        for (number, line) in code(&text).lines().enumerate() {
            let words = || line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let path = |name: &str| line.match_indices(&format!("{name}::")).any(|(at, _)| !line[..at].ends_with('u'));
            if path("nix") || path("libc") || words().any(|word| word == "unsafe") {
                wrong.push(format!("src/{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Longer than this and nobody reads it in one go.
const LONG: usize = 400;
/// Where a cut would tear apart what belongs together, up to here.
const VERY_LONG: usize = 450;
/// Files between the two, and why.
const WHOLE: &[(&str, &str)] = &[];

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let lines = text.lines().count();
        let excused = WHOLE.iter().any(|(whole, _)| *whole == name);
        assert!(!excused || lines > LONG, "src/{name} has become short: take its excuse away");
        if lines > if excused { VERY_LONG } else { LONG } {
            wrong.push(format!("src/{name} has {lines} lines"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Words that name nothing.
const EMPTY_WORDS: &[&str] =
    &["utils", "util", "common", "helpers", "helper", "manager", "handler", "info", "data", "ctx", "misc", "imp"];

#[test]
fn names_say_something() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        for part in Path::new(&name).with_extension("").iter().filter_map(|part| part.to_str()) {
            if part.split('_').any(|word| EMPTY_WORDS.contains(&word)) {
                wrong.push(format!("src/{name}"));
            }
        }
        let code = code(&text);
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            if !["struct", "enum", "trait", "type", "mod", "union"].contains(&word) {
                continue;
            }
            let Some(named) = words.next() else { break };
            if words_of(named).iter().any(|part| EMPTY_WORDS.contains(&part.as_str())) {
                wrong.push(format!("src/{name}: {word} {named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `PodData` and `pod_data` are both `pod`, `data`.
fn words_of(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        if c != '_'
            && let Some(last) = words.last_mut()
        {
            last.extend(c.to_lowercase());
        }
    }
    words
}

/// Whoever reads about security is told of everything that a host may fail to give.
#[test]
fn the_page_about_security_names_every_degradation() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let page = fs::read_to_string(page).expect("the page");
    let missing: Vec<_> = degradation::NAMES.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A page that names a file of ours names one that is there.
#[test]
fn pages_point_to_files_that_exist() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = vec![top.join("README.md")];
    for dir in ["docs", "docs/decisions"] {
        pages.extend(fs::read_dir(top.join(dir)).expect("readdir").map(|entry| entry.expect("entry").path()));
    }
    let mut wrong = Vec::new();
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(page).expect("read");
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.trim_end_matches('/');
            let ours = [
                "cli/",
                "manifest/",
                "host/",
                "image/",
                "plan/",
                "state/",
                "engine/",
                "supervisor/",
                "proxy/",
                "sys/",
                "pause/",
                "src/",
            ];
            if !ours.iter().any(|start| path.starts_with(start)) || path.contains(['*', '{', ' ', '<', '…']) {
                continue;
            }
            if !top.join("src").join(path).exists() && !top.join(path).exists() {
                wrong.push(format!("{}: `{quoted}`", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
