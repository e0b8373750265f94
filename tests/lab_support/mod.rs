//! Pods in a guest of scripts/lab, and the cgroups of theirs as the kernel shows them.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "tests act, and tell")]

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[path = "../rounds/mod.rs"]
mod rounds;
#[path = "../support/mod.rs"]
pub(crate) mod support;

use support::{Home, Pod, Said, has_program, is_live, skip};

/// Which guest this is; scripts/lab/lanes says what each is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Systemd,
    Plain,
    Session,
    Qemu,
    NoCpu,
    Bare,
}

impl Lane {
    fn of_this_guest() -> Option<Lane> {
        let name = std::env::var("SANDPOD_LAB_LANE").ok()?;
        Some(match name.as_str() {
            "systemd" => Lane::Systemd,
            "plain" => Lane::Plain,
            "session" => Lane::Session,
            "qemu" => Lane::Qemu,
            "no-cpu" => Lane::NoCpu,
            "bare" => Lane::Bare,
            _ => panic!("SANDPOD_LAB_LANE={name} is no lane"),
        })
    }
}

/// In QEMU without KVM.
pub(crate) fn is_emulated() -> bool {
    std::env::var_os("SANDPOD_LAB_EMULATED").is_some()
}

/// True in an ordinary user's session under systemd, as some of the guests have it; false after a SKIP.
pub(crate) fn in_a_session(test: &str) -> bool {
    let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let session = std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| Path::new(&dir).starts_with("/run/user"));
    let there = first.trim() == "systemd" && session && std::env::var_os("SANDPOD_LAB").is_some();
    if !there {
        skip(test, "it needs a guest of scripts/lab with systemd");
    }
    there
}

/// A user's directories and, below the user's cgroups, whatever sandpod makes there. Dropped, nothing may be left.
pub(crate) struct Lab {
    pub(crate) home: Home,
    pub(crate) lane: Lane,
    // Fields are dropped in this order: `home` removes the pods first.
    _after: NoTreeLeft,
    _took: Took,
}

impl Lab {
    /// `None` after a SKIP: outside the lab there may be no cgroup v2, and no cgroup that could be played with.
    pub(crate) fn enter(test: &str) -> Option<Lab> {
        let Some(lane) = Lane::of_this_guest() else {
            skip(test, "it needs a guest of scripts/lab");
            return None;
        };
        // Scripts for containers are perl where they must fork without a shell's ideas about failures.
        let home = Home::with(test, &["perl", "unshare"])?;
        // The pods' runtime directory is the test's own; systemd and its bus are found there as in the real one.
        let session = PathBuf::from(format!("/run/user/{}", home.user.uid));
        for name in ["bus", "systemd"] {
            if session.join(name).exists() {
                symlink(session.join(name), home.path().join("run").join(name)).expect("symlink");
            }
        }
        assert_eq!(trees(home.user.uid), Vec::<PathBuf>::new(), "left by an earlier test");
        let uid = home.user.uid;
        let took = Took { test: test.to_owned(), since: Instant::now() };
        Some(Lab { home, lane, _after: NoTreeLeft { uid }, _took: took })
    }

    /// How often a test repeats what depends on the moment; an emulated processor is too slow for as many rounds as
    /// User-Mode Linux.
    pub(crate) fn rounds(&self, test: &str, short: u32, long: u32) -> usize {
        let divisor = if is_emulated() { 5 } else { 1 };
        rounds::rounds(test, short / divisor, long / divisor) as usize
    }

    pub(crate) fn manifest(&self, name: &str, annotations: &Value, spec: &Value) -> PathBuf {
        let metadata = json!({ "name": name, "annotations": annotations });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
        self.home.file(&format!("{name}.json"), pod.to_string(), 0o644)
    }

    /// `run -d` with annotations and options.
    #[track_caller]
    pub(crate) fn start_with(&self, annotations: &Value, spec: &Value, options: &[&str]) -> Pod<'_> {
        let manifest = self.manifest(&self.home.test, annotations, spec);
        let manifest = manifest.to_str().expect("UTF-8");
        self.home.sandpod(&[&["run", "-d", "-q"], options, &[manifest]].concat()).ends_with(0);
        Pod { home: &self.home, name: self.home.test.clone() }
    }

    /// `run -d`.
    #[track_caller]
    pub(crate) fn start(&self, spec: &Value) -> Pod<'_> {
        self.start_with(&json!({}), spec, &[])
    }

    /// Trees of pods that are there now.
    pub(crate) fn trees(&self) -> Vec<PathBuf> {
        trees(self.home.user.uid)
    }

    /// After whatever ended a pod: no cgroup of it within a moment (systemd removes a scope of its own accord).
    #[track_caller]
    pub(crate) fn no_tree_stays(&self, why: &str) {
        let left = vanished(|| self.trees());
        assert!(left.is_empty(), "cgroups are left: {why}\n{}", listing(&left));
    }
}

/// Says how long a test was: the lab has four minutes.
struct Took {
    test: String,
    since: Instant,
}

impl Drop for Took {
    fn drop(&mut self) {
        eprintln!("{} took {:.1?}", self.test, self.since.elapsed());
    }
}

struct NoTreeLeft {
    uid: u32,
}

impl Drop for NoTreeLeft {
    fn drop(&mut self) {
        let left = vanished(|| trees(self.uid));
        if !std::thread::panicking() {
            assert!(left.is_empty(), "cgroups are left after rm:\n{}", listing(&left));
        }
        // A failed test must not fail the next one.
        for tree in left {
            let _ = fs::write(tree.join("cgroup.kill"), "1");
            for dir in below(&tree).iter().rev() {
                let _ = fs::remove_dir(dir);
            }
        }
    }
}

/// What is still there after five seconds.
pub(crate) fn vanished<T>(mut remaining: impl FnMut() -> Vec<T>) -> Vec<T> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left = remaining();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn listing(trees: &[PathBuf]) -> String {
    let line = |dir: &PathBuf| {
        let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        let shown = procs.lines().map(|pid| format!("{pid} {}", command_line(pid))).collect::<Vec<_>>();
        format!("{}: {shown:?}", dir.display())
    };
    trees.iter().flat_map(|tree| below(tree)).map(|dir| line(&dir)).collect::<Vec<_>>().join("\n")
}

/// Every `sandpod-…` cgroup of the user's, a scope of systemd's included: each guest lays cgroups out as systemd does.
fn trees(uid: u32) -> Vec<PathBuf> {
    let top = PathBuf::from(format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service"));
    let ours = |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("sandpod-"));
    below(&top).into_iter().filter(ours).collect()
}

/// A directory and all below it, a parent before its children.
fn below(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let mut at = 0;
    while at < found.len() {
        let entries = fs::read_dir(&found[at]).into_iter().flatten().flatten();
        found.extend(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        at += 1;
    }
    found
}

/// A cgroup as its files show it.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup(pub(crate) PathBuf);

impl Cgroup {
    /// The pod's own.
    #[track_caller]
    pub(crate) fn of(pod: &Pod) -> Cgroup {
        let path = pod.inspect()["record"]["cgroup"].as_str().map(PathBuf::from);
        Cgroup(path.expect("the record says where its cgroup is"))
    }

    /// That of a container's present life, where its limits are. Its processes are in `container` below.
    #[track_caller]
    pub(crate) fn of_container(pod: &Pod, container: &str) -> Cgroup {
        let leaf = pod.recorded(container)["leaf"].as_str().expect("it has been started").to_owned();
        Cgroup(Cgroup::of(pod).0.join(leaf))
    }

    #[track_caller]
    pub(crate) fn read(&self, file: &str) -> String {
        let path = self.0.join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn number(&self, file: &str) -> u64 {
        let text = self.read(file);
        text.parse().unwrap_or_else(|_| panic!("{file} is no number: {text}"))
    }

    /// One value of a flat keyed file: `oom_kill` of `memory.events`.
    #[track_caller]
    pub(crate) fn field(&self, file: &str, key: &str) -> u64 {
        let text = self.read(file);
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{file} has no {key}:\n{text}")).parse().expect("a number")
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.0.join(file), text)
    }

    /// Of this cgroup and all below it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let lists = below(&self.0).into_iter().filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
        lists.flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    }

    /// Every limit of this cgroup and of all below it, as `path/file value`.
    pub(crate) fn limits(&self) -> Vec<String> {
        let files =
            ["memory.max", "memory.low", "memory.swap.max", "memory.oom.group", "cpu.max", "cpu.weight", "pids.max"];
        let shown = |dir: &PathBuf, file: &str| {
            let value = fs::read_to_string(dir.join(file)).ok()?;
            Some(format!("{}/{file} {}", dir.display(), value.trim_end()))
        };
        below(&self.0)
            .iter()
            .flat_map(|dir| files.iter().filter_map(|file| shown(dir, file)).collect::<Vec<_>>())
            .collect()
    }
}

/// Living processes with `mark` on their command lines.
pub(crate) fn marked(mark: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| command_line(&pid.to_string()).contains(mark) && is_live(*pid)).collect()
}

pub(crate) fn command_line(pid: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// A container of `perl -e SCRIPT MARK`.
pub(crate) fn perl(name: &str, script: &str, mark: &str) -> Value {
    json!({ "name": name, "image": "host:", "command": ["perl", "-e", script, mark] })
}

/// The fields of a container that limit it: `limited(&[("memory", "64Mi")])`.
pub(crate) fn limits(amounts: &[(&str, &str)]) -> Value {
    let amounts: serde_json::Map<String, Value> =
        amounts.iter().map(|(name, amount)| ((*name).to_owned(), json!(amount))).collect();
    json!({ "resources": { "limits": amounts } })
}

/// A program that only the lab's guests are sure to have.
pub(crate) fn has(name: &str) -> bool {
    has_program(name)
}

/// What a failure needs: the command's own words and the state of the machine.
pub(crate) fn explained(said: &Said) -> String {
    format!("{}\n{:?}", said.explain(), fs::read_to_string("/proc/self/cgroup"))
}
