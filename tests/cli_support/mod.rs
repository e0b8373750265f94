//! Runs the real binary against directories of its own, and explains its failures.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::disallowed_methods, reason = "tests may act")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sandpod::plan::PodPlan;
use sandpod::state::{CreatedPod, Store};

/// A user's directories, empty at first.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("run")).expect("mkdir");
        fs::create_dir(dir.path().join("share")).expect("mkdir");
        Home { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.path().join("run/sandpod")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("share/sandpod")
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(&self.runtime(), &self.data())
    }

    /// A pod on disk, with these containers, which is alive as long as the returned lock is.
    pub(crate) fn pod(&self, id: &str, name: &str, containers: &[&str]) -> CreatedPod {
        let plan = self.plan(id, name, containers);
        self.store().create(&plan, jiff::Timestamp::now()).expect("created")
    }

    pub(crate) fn plan(&self, id: &str, name: &str, containers: &[&str]) -> PodPlan {
        let (runtime, data) = (self.runtime().join("pods").join(id), self.data().join("pods").join(id));
        let container = |name: &&str| {
            serde_json::json!({
                "name": name, "image": "Host", "pid": "CONTAINER", "root": { "Overlay": { "lower": "/" } },
                "cgroup": [], "read_only_root": false, "mounts": [], "masked_paths": [], "read_only_paths": [], "ports": [],
                "process": {
                    "argv": ["true"], "env": [], "cwd": "/", "uid": 0, "gid": null, "no_new_privs": true,
                    "capabilities": [], "stdin": true, "tty": false, "oom_score_adj": 0,
                },
                "log": { "path": data.join(format!("{name}.log")), "max_size": 1000, "max_files": 5 },
            })
        };
        serde_json::from_value(serde_json::json!({
            "sandbox": {
                "id": id, "name": name, "namespace": null, "labels": {}, "annotations": {},
                "idmap": { "mode": "single", "why": "a test", "uids": [], "gids": [], "writer": "Direct" },
                "namespaces": { "pid": "POD", "net": "POD", "ipc": "POD", "uts": "POD", "cgroup": "POD" },
                "hostname": name, "dirs": { "runtime": runtime, "data": data },
                "memory_volumes": [], "disk_volumes": [], "host_paths": [], "etc_files": [],
                "cgroup": "Inherited", "qos": "BestEffort", "claim": { "cpu_millis": 0, "memory": 0 },
            },
            "containers": containers.iter().map(container).collect::<Vec<_>>(),
            "main": containers.first().unwrap_or(&"main"),
            "lifecycle": { "restart_policy": "Never", "termination_grace_period": { "secs": 30, "nanos": 0 } },
            "degradations": [],
        }))
        .expect("a plan")
    }

    /// Appends `HH:MM:SS stream tag text` records of one day to a container's log.
    pub(crate) fn log(&self, pod: &CreatedPod, container: &str, records: &[&str]) {
        let path = pod.dirs.data.join(format!("{container}.log"));
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).expect("log");
        for record in records {
            let (time, rest) = record.split_once(' ').expect("a time");
            std::io::Write::write_all(&mut file, format!("2026-11-21T{time}.000000000Z {rest}\n").as_bytes())
                .expect("write");
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandpod"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .env("XDG_DATA_HOME", self.path().join("share"))
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::by(self.command(arguments))
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) command: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn by(mut command: Command) -> Said {
        let output = command.output().expect("the binary runs");
        Said::from(format!("{command:?}"), output)
    }

    pub(crate) fn from(command: String, output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { command, code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub(crate) fn explain(&self) -> String {
        let Said { command, code, stdout, stderr } = self;
        format!("\n{command}\nended with {code:?}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }

    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Said {
        assert_eq!(self.code, Some(code), "{}", self.explain());
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Said {
        assert!(self.stdout.contains(text), "stdout lacks {text:?}: {}", self.explain());
        self
    }

    #[track_caller]
    pub(crate) fn complains(self, text: &str) -> Said {
        assert!(self.stderr.contains(text), "stderr lacks {text:?}: {}", self.explain());
        self
    }

    #[track_caller]
    pub(crate) fn silently(self) -> Said {
        assert!(self.stdout.is_empty(), "stdout is not empty: {}", self.explain());
        self
    }
}
