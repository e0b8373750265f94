//! Memory that no process holds, and limits too small for anything.

use serde_json::{Value, json};

use crate::lab_support::support::{Pod, and, idle, is_live, once, sh, until};
use crate::lab_support::{Cgroup, Lab, limits};

/// Cpu and memory: with the same requests that is a Guaranteed pod.
fn guaranteed(container: Value) -> Value {
    and(container, limits(&[("memory", "24Mi"), ("cpu", "400m")]))
}

/// Fills a tmpfs, whose pages are charged to its cgroup and belong to no process: the OOM killer looks for one to blame.
fn filler(directory: &str) -> Value {
    let script = format!("busybox dd if=/dev/zero of={directory}/big bs=1M count=48; sleep 1000");
    let container = guaranteed(sh("filler", &script));
    if directory == "/dev/shm" {
        return container;
    }
    and(container, json!({ "volumeMounts": [{ "name": "memory", "mountPath": directory }] }))
}

fn supervisor(pod: &Pod) -> u32 {
    u32::try_from(pod.inspect()["supervisor"].as_u64().expect("it runs")).expect("a pid")
}

#[test]
fn a_full_tmpfs_ends_who_filled_it() {
    let Some(lab) = Lab::enter("a_full_tmpfs_ends_who_filled_it") else { return };
    for directory in ["/dev/shm", "/memory"] {
        let pod = lab.start(&json!({
            "restartPolicy": "Never", "containers": [guaranteed(idle("neighbour")), filler(directory)],
            "volumes": [{ "name": "memory", "emptyDir": { "medium": "Memory" } }],
        }));
        let (supervisor, neighbour) = (supervisor(&pod), pod.pid("neighbour"));
        assert_eq!(pod.inspect()["qosClass"], "Guaranteed", "{}", pod.inspect());
        let ended = until("the filler is killed", || {
            let state = pod.recorded("filler")["state"]["Terminated"].clone();
            (!state.is_null()).then_some(state)
        });
        assert_eq!(ended["reason"], "OOMKilled", "{directory}: {ended}");
        assert_eq!(pod.inspect()["containers"]["filler"]["exit"], 137, "{directory}");
        assert!(is_live(supervisor), "{directory}: the supervisor");
        assert_eq!(pod.pid("neighbour"), neighbour, "{directory}");
        assert_eq!(Cgroup::of_container(&pod, "neighbour").field("memory.events", "oom_kill"), 0, "{directory}");
        assert_eq!(pod.sh("neighbour", "echo alive"), "alive", "{directory}");
        pod.does(&["rm", "-f"]);
    }
}

/// The pod's limit is its only container's: whichever is met first, nobody else is to blame, and there is a verdict.
#[test]
fn a_full_tmpfs_of_a_single_container() {
    let Some(lab) = Lab::enter("a_full_tmpfs_of_a_single_container") else { return };
    let pod = lab.start(&once([filler("/dev/shm")]));
    let supervisor = supervisor(&pod);
    until("the pod has ended", || (!is_live(supervisor)).then_some(()));
    let inspected = pod.inspect();
    assert_eq!(inspected["containers"]["filler"]["exit"], 137, "{}", inspected["record"]);
    assert_eq!(pod.recorded("filler")["state"]["Terminated"]["reason"], "OOMKilled", "{}", inspected["record"]);
    assert!(inspected["status"].as_str().is_some_and(|status| status == "Failed"), "{}", inspected["status"]);
}

/// What cannot start says so; either way nothing is left.
#[test]
fn limits_too_small_to_start_in() {
    let Some(lab) = Lab::enter("limits_too_small_to_start_in") else { return };
    let memory = ["1Mi", "512Ki", "64Ki"].map(|limit| ("memory", limit));
    let rounds = memory.into_iter().chain([("cpu", "10m")]).map(|limit| (limit, false)).chain([(memory[2], true)]);
    for (limit, beside) in rounds {
        // Alone, pause has to fit in, too: the pod's limit is that of its containers together.
        let main = and(sh("main", "echo ran"), limits(&[limit]));
        let spec = if beside {
            once([main, sh("beside", ":")])
        } else {
            json!({"restartPolicy": "Never", "containers": [main] })
        };
        let manifest = lab.home.manifest(&spec);
        let said = lab.home.sandpod(&["run", "--rm", "-q", manifest.to_str().expect("UTF-8")]);
        eprintln!("{limit:?}: {}", said.explain());
        match said.code {
            Some(0) => assert!(said.stdout.contains("ran\n"), "{limit:?}"),
            // It began, and was killed.
            Some(137) => assert_eq!(limit.0, "memory"),
            Some(125) => drop(said.complains("OOM killer").complains("memory limit")),
            _ => panic!("{limit:?}: {}", said.explain()),
        }
        assert_eq!(lab.home.remains(), Vec::<std::path::PathBuf>::new(), "{limit:?}");
        lab.no_tree_stays(&format!("{limit:?}"));
    }
}
