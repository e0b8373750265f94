//! A pod that runs, and what can be asked of it.

use std::fs;

use serde_json::Value;

use super::{Home, Said, until};

/// A running pod.
pub(crate) struct Pod<'a> {
    pub(crate) home: &'a Home,
    pub(crate) name: String,
}

impl Pod<'_> {
    pub(crate) fn exec(&self, container: &str, argv: &[&str]) -> Said {
        self.home.sandpod(&[&["exec", "-c", container, &self.name, "--"], argv].concat())
    }

    /// What a script says in a container; it must end with 0.
    #[track_caller]
    pub(crate) fn sh(&self, container: &str, script: &str) -> String {
        self.exec(container, &["busybox", "sh", "-c", script]).ends_with(0).stdout.trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn inspect(&self) -> Value {
        let said = self.home.sandpod(&["inspect", &self.name]).ends_with(0);
        serde_json::from_str(&said.stdout).expect("JSON")
    }

    /// The plan of its network; null where that is none of its own.
    #[track_caller]
    pub(crate) fn user_mode(&self) -> Value {
        self.inspect()["plan"]["sandbox"]["network"]["UserMode"].clone()
    }

    /// Of its network: `address`, `gateway` or `dns`. Which they are depends on the networks that the host is in.
    #[track_caller]
    pub(crate) fn ipv4(&self, which: &str) -> String {
        self.user_mode()["ipv4"][which].as_str().expect("a network of its own").to_owned()
    }

    #[track_caller]
    pub(crate) fn logs(&self, container: &str) -> String {
        self.home.sandpod(&["logs", "-c", container, &self.name]).ends_with(0).stdout
    }

    /// `sandpod VERB POD`, which must end with 0.
    #[track_caller]
    pub(crate) fn does(&self, words: &[&str]) -> Said {
        self.home.sandpod(&[words, &[self.name.as_str()]].concat()).ends_with(0)
    }

    /// The pid of its port proxy, among the supervisor's children.
    #[track_caller]
    pub(crate) fn port_proxy(&self) -> u32 {
        until("the proxy runs", || {
            let supervisor = self.inspect()["supervisor"].as_u64().expect("a pid");
            let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
            let mut pids = children.split_ascii_whitespace().map(|pid| pid.parse().expect("a pid"));
            pids.find(|pid: &u32| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sandpod:ports\n")
            })
        })
    }

    /// The pid of a container's first process, as the host counts.
    #[track_caller]
    pub(crate) fn pid(&self, container: &str) -> u32 {
        let pid = self.inspect()["containers"][container]["pid"].as_u64().expect("it runs");
        u32::try_from(pid).expect("a pid")
    }

    #[track_caller]
    pub(crate) fn restarts(&self, container: &str) -> u64 {
        self.recorded(container)["restarts"].as_u64().expect("a number")
    }

    #[track_caller]
    pub(crate) fn recorded(&self, container: &str) -> Value {
        let inspected = self.inspect();
        let records = inspected["record"]["containers"].as_array().expect("containers").clone();
        records.into_iter().find(|record| record["name"] == container).expect("known")
    }
}
