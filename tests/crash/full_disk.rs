//! A runtime directory that is full while a pod runs.

use std::time::Duration;

use crate::crash_support::{Ground, Said, skip};

const SOON: Duration = Duration::from_secs(20);

/// Runs sandpod in a mount namespace where the runtime directory is a file system of its own, which is full before the pod
/// ends.
fn ends_on_a_full_disk(ground: &Ground, limit: &str, fill: &str) -> Said {
    let manifest = ground.write(
        "pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: pod}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: a\n    \
         image: \"host:\"\n    command: [sh, -c, \"trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done\"]\n",
    );
    let binary = env!("CARGO_BIN_EXE_sandpod");
    let script = format!(
        "mount -t tmpfs -o {limit} tmpfs run || exit 99
        {binary} run -d -q --network none {manifest} || exit 98
        until [ \"$({binary} logs pod)\" = ready ]; do sleep 0.1; done
        {fill}
        {binary} kill -s TERM pod || exit 97
        {binary} wait pod
        {binary} ps -a
        {binary} inspect pod
        {binary} rm -f pod"
    );
    let mut command = ground.program("unshare");
    command.args(["-rm", "sh", "-c", &script]);
    Said::by(command)
}

#[test]
fn how_a_pod_ended_is_known_also_on_a_full_runtime_directory() {
    let Some(ground) = Ground::new("how_a_pod_ended_on_a_full_disk") else { return };
    let probe = ends_on_a_full_disk(&ground, "size=10m", ":");
    if probe.code != Some(0) {
        return skip("how_a_pod_ended_on_a_full_disk", &format!("unshare -rm: {}", probe.explain()));
    }
    let bytes = "head -c 2000000 /dev/zero >run/filler 2>/dev/null && exit 96";
    let inodes = "n=0; while touch run/filler.$n; do n=$((n+1)); done 2>/dev/null";
    for (limit, fill) in [("size=1m", bytes), ("size=10m,nr_inodes=100", inodes)] {
        let said = ends_on_a_full_disk(&ground, limit, fill).ends_with(0);
        assert!(said.stdout.starts_with(|id: char| id.is_ascii_hexdigit()), "{limit}: {}", said.explain());
        assert!(!said.stdout.contains("supervisor was killed"), "{limit}: {}", said.explain());
        assert!(said.stdout.contains("\"status\": \"Failed\""), "{limit}: {}", said.explain());
        assert!(said.stdout.contains("\"exit\": 3"), "{limit}: {}", said.explain());
        ground.no_process_stays(SOON, limit);
    }
    ground.is_empty("rm -f");
}

/// Each error names the file system that is full, the errno, and what to do.
#[test]
fn a_start_on_a_full_disk_says_which_one_it_is() {
    let Some(ground) = Ground::new("a_start_on_a_full_disk") else { return };
    let manifest = ground.write(
        "pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: pod}\nspec:\n  containers:\n  - {name: a, image: \"host:\", \
         command: [sleep, \"1000\"]}\n",
    );
    let binary = env!("CARGO_BIN_EXE_sandpod");
    let start = |place: &str, limit: &str, fill: &str| {
        let script = format!(
            "mount -t tmpfs -o {limit} tmpfs {place} || exit 99
            cd {place}; {fill}; cd ..
            {binary} run -d -q --network none {manifest}
            code=$?; {binary} rm -f -a; exit $code"
        );
        let mut command = ground.program("unshare");
        command.args(["-rm", "sh", "-c", &script]);
        Said::by(command)
    };
    let probe = start("share", "size=10m", ":");
    if probe.code != Some(0) {
        return skip("a_start_on_a_full_disk", &format!("unshare -rm: {}", probe.explain()));
    }
    for place in ["run", "share"] {
        let directory = ground.path().join(place);
        let directory = directory.display();
        for (limit, fill, words, look) in [
            ("size=1m", "head -c 2000000 /dev/zero >filler 2>/dev/null", "is full (", "df -h"),
            ("size=10m,nr_inodes=4", ":", "has no inodes left (", "df -i"),
        ] {
            let said = start(place, limit, fill).ends_with(125);
            let hint = said.stderr.split_once("hint: ").expect("a hint").1.replace("\n      ", " ");
            assert!(said.stderr.contains("No space left on device (ENOSPC)"), "{place}, {limit}: {}", said.explain());
            assert!(!said.stderr.contains("os error"), "{place}, {limit}: {}", said.explain());
            assert!(
                hint.starts_with(&format!("the file system of {directory}")),
                "{place}, {limit}: {}",
                said.explain()
            );
            assert!(hint.contains(words) && hint.contains(look), "{place}, {limit}: {}", said.explain());
            ground.no_process_stays(SOON, limit);
        }
    }
}
