//! A small plan for tests of this layer and of the command line.

use std::path::{Path, PathBuf};

use super::Store;
use crate::plan::PodPlan;

impl Store {
    pub(crate) fn dirs_of(&self, id: &str) -> (PathBuf, PathBuf) {
        (self.runtime().join("pods").join(id), self.data().join("pods").join(id))
    }
}

pub(crate) fn plan(store: &Store, id: &str, name: &str) -> PodPlan {
    let (runtime, data) = store.dirs_of(id);
    from_json(id, name, &runtime, &data)
}

fn from_json(id: &str, name: &str, runtime: &Path, data: &Path) -> PodPlan {
    serde_json::from_value(serde_json::json!({
        "sandbox": {
            "id": id, "name": name, "namespace": null, "labels": {}, "annotations": {},
            "idmap": { "mode": "single", "why": "a test", "uids": [], "gids": [], "writer": "Direct" },
            "namespaces": { "pid": "POD", "net": "POD", "ipc": "POD", "uts": "POD", "cgroup": "POD" },
            "hostname": name, "dirs": { "runtime": runtime, "data": data },
            "memory_volumes": [], "disk_volumes": [], "host_paths": [], "etc_files": [],
            "cgroup": "Inherited", "qos": "BestEffort", "claim": { "cpu_millis": 0, "memory": 0 },
        },
        "containers": [],
        "main": "main",
        "lifecycle": { "restart_policy": "Never", "termination_grace_period": { "secs": 30, "nanos": 0 } },
        "degradations": [],
    }))
    .expect("a plan")
}
