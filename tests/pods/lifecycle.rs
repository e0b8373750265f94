//! Restarts, ends, names, several pods at once, logs and memory.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::rounds::rounds;
use crate::support::{Home, Reaped, and, idle, is_live, memory_kb, once, sh, until};
use serde_json::{Value, json};

fn with_policy(policy: &str, container: Value) -> Value {
    let counter = json!([{ "name": "v", "mountPath": "/v" }]);
    json!({
        "restartPolicy": policy, "volumes": [{ "name": "v", "emptyDir": {} }],
        "containers": [and(container, json!({ "volumeMounts": counter }))],
    })
}

/// Fails in its first life, succeeds in its second.
const SECOND_TIME: &str = "echo life >> /v/lives; [ $(wc -l < /v/lives) -ge 2 ]";

#[test]
fn restart_policies() {
    let Some(home) = Home::new("restart_policies") else { return };
    let never = home.start_with("never", &with_policy("Never", sh("main", SECOND_TIME)), &[]);
    home.sandpod(&["wait", "never"]).ends_with(0).says("1\n");
    assert_eq!(never.restarts("main"), 0);
    assert_eq!(never.inspect()["status"], "Failed");

    let on_failure = home.start_with("on-failure", &with_policy("OnFailure", sh("main", SECOND_TIME)), &[]);
    home.sandpod(&["wait", "on-failure"]).ends_with(0).says("0\n");
    assert_eq!(on_failure.restarts("main"), 1);
    assert_eq!(on_failure.inspect()["status"], "Succeeded");

    // Always: also after success. The first restart is immediate, the second waits ten seconds.
    let always = home.start_with("always", &with_policy("Always", sh("main", "echo life; exit 0")), &[]);
    until("back-off", || {
        let state = always.recorded("main")["state"]["Waiting"]["reason"].clone();
        (always.restarts("main") == 1 && state == "CrashLoopBackOff").then_some(())
    });
    assert_eq!(always.logs("main"), "life\nlife\n");
    always.does(&["stop"]);
    assert_eq!(always.inspect()["status"], "Succeeded");
}

/// A pod is measured against the claims of others under a lock, which goes neither to its supervisor nor stays behind.
#[test]
fn pods_that_claim_start_beside_each_other() {
    let Some(home) = Home::new("pods_that_claim") else { return };
    let claims = json!({ "resources": { "requests": { "cpu": "10m", "memory": "1Mi" } } });
    let spec = json!({ "restartPolicy": "Never", "containers": [and(idle("main"), claims)] });
    let first = home.start_with("first", &spec, &["--cgroups=disabled"]);
    let second = home.start_with("second", &spec, &["--cgroups=disabled"]);
    for pod in [&first, &second] {
        let inspected = pod.inspect();
        assert_eq!(inspected["plan"]["sandbox"]["claim"], json!({ "cpu_millis": 10, "memory": 1 << 20 }));
        assert_eq!(inspected["plan"]["sandbox"]["qos"], "Burstable");
    }
}

#[test]
fn stop_is_sigterm_then_sigkill() {
    let Some(home) = Home::new("stop_is_sigterm") else { return };
    let polite = sh("polite", "trap 'echo goodbye; exit 3' TERM; echo ready; while :; do sleep 1000 & wait $!; done");
    let deaf = sh("deaf", "trap '' TERM; echo ready; while :; do sleep 1000; done");
    let pod = home
        .start(&json!({ "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [polite, deaf] }));
    for container in ["polite", "deaf"] {
        until("its trap is set", || pod.logs(container).contains("ready").then_some(()));
    }
    let started = Instant::now();
    pod.does(&["stop"]);
    assert!(started.elapsed() >= Duration::from_secs(1), "the deaf one had its second");
    assert!(pod.logs("polite").ends_with("goodbye\n"));
    let exit = |container: &str| pod.inspect()["containers"][container]["exit"].clone();
    assert_eq!((exit("polite"), exit("deaf")), (json!(3), json!(137)));
    pod.does(&["stop"]);
    pod.does(&["rm"]);

    // -t 0 is SIGKILL at once, whatever the manifest says.
    let spec = json!({ "terminationGracePeriodSeconds": 1000, "containers": [sh("deaf", "trap '' TERM; while :; do sleep 1000; done")] });
    let pod = home.start(&spec);
    pod.does(&["stop", "-t", "0"]);
    assert_eq!(pod.inspect()["containers"]["deaf"]["exit"], 137);
}

#[test]
fn kill_sends_the_signal_that_is_asked_for() {
    let Some(home) = Home::new("kill_sends") else { return };
    let one = sh("one", "trap 'echo usr1' USR1; echo ready; while :; do sleep 1000 & wait $!; done");
    let two = sh("two", "trap 'echo usr1; exit 9' USR1; echo ready; while :; do sleep 1000 & wait $!; done");
    let pod = home.start(&once([one, two]));
    for container in ["one", "two"] {
        until("its trap is set", || pod.logs(container).contains("ready").then_some(()));
    }
    pod.does(&["kill", "-s", "USR1", "-c", "one"]);
    until("one has heard", || pod.logs("one").contains("usr1").then_some(()));
    assert!(!pod.logs("two").contains("usr1"));
    pod.does(&["kill", "-s", "10"]);
    home.sandpod(&["wait", "-c", "two", &pod.name]).ends_with(0).says("9\n");
    pod.does(&["kill"]);
    home.sandpod(&["wait", &pod.name]).ends_with(0).says("137\n");
}

#[test]
fn one_name_one_pod() {
    let Some(home) = Home::new("one_name_one_pod") else { return };
    let spec = json!({ "containers": [idle("main")] });
    let first = home.start_with("web", &spec, &[]);
    let id = first.inspect()["id"].clone();
    let manifest = home.manifest_of("web", &spec);
    let again = home.sandpod(&["run", "-d", manifest.to_str().expect("UTF-8")]).ends_with(125);
    again.complains("web").complains("hint: ");
    assert_eq!(home.remains().len(), 2, "only the first pod's");
    // Another name, and both live.
    let second = home.start_with("web", &spec, &["--name", "other"]);
    let other = crate::support::Pod { home: &home, name: "other".to_owned() };
    assert_eq!(first.inspect()["id"], id);
    let listed = home.sandpod(&["ps"]).ends_with(0).stdout;
    assert!(listed.contains("web") && listed.contains("other"), "{listed}");
    let net = |pod: &crate::support::Pod<'_>| pod.inspect()["containers"]["main"]["namespaces"]["net"].clone();
    assert_ne!(net(&first), net(&other));
    drop(second);
    // An ended pod keeps its name until it is removed.
    first.does(&["stop"]);
    home.sandpod(&["run", "-d", manifest.to_str().expect("UTF-8")]).ends_with(125);
    first.does(&["rm"]);
    home.start_with("web", &spec, &[]);
}

#[test]
fn commands_race_on_one_pod() {
    let Some(home) = Home::new("commands_race") else { return };
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [idle("main")] });
    let manifest = home.manifest_of("race", &spec);
    let manifest = manifest.to_str().expect("UTF-8");
    for _ in 0..rounds("commands_race_on_one_pod", 10, 300) {
        let words: [&[&str]; 5] = [
            &["run", "-d", "-q", manifest],
            &["stop", "race"],
            &["rm", "-f", "race"],
            &["ps", "-a"],
            &["exec", "race", "--", "true"],
        ];
        let children: Vec<_> = words
            .iter()
            .map(|words| {
                let mut command = home.command(words);
                Reaped(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
            })
            .collect();
        for mut child in children {
            let status = until("no deadlock", || child.0.try_wait().expect("wait"));
            let code = status.code().expect("no crash");
            assert!([0, 125, 137, 143].contains(&code), "{code}");
        }
    }
    home.sandpod(&["rm", "-fa"]).ends_with(0);
    assert!(home.remains().is_empty());
}

/// A flood in one container: another is served, memory stays, and the logs keep to their size.
#[test]
fn a_log_flood_is_bounded() {
    let Some(home) = Home::new("a_log_flood") else { return };
    let flood = "echo ready; while [ ! -e /dev/shm/go ]; do sleep 0.05; done; exec yes 0123456789012345678901234567890123456789";
    let pod =
        home.start(&json!({ "terminationGracePeriodSeconds": 0, "containers": [sh("flood", flood), idle("calm")] }));
    let supervisor = u32::try_from(pod.inspect()["supervisor"].as_u64().expect("it runs")).expect("a pid");
    for _ in 0..3 {
        pod.sh("calm", "true");
    }
    let before = memory_kb(supervisor, "VmHWM");
    let logs = home.path().join("share/sandpod/pods").join(pod.inspect()["id"].as_str().expect("id"));
    pod.sh("calm", "touch /dev/shm/go");
    let started = Instant::now();
    let mut answers = 0;
    while started.elapsed() < Duration::from_secs(2) {
        pod.sh("calm", "true");
        answers += 1;
    }
    assert!(answers >= 5, "{answers} answers in two seconds");
    let after = memory_kb(supervisor, "VmHWM");
    assert!(after < before * 3 + 2048, "from {before} kB to {after} kB");
    let files: Vec<_> = fs::read_dir(&logs).expect("logs").map(|entry| entry.expect("entry")).collect();
    let is_log = |name: &str| name.starts_with("flood.log") && !name.ends_with(".index");
    let flood: Vec<_> = files.iter().filter(|file| is_log(&file.file_name().to_string_lossy())).collect();
    let sizes: Vec<u64> = flood.iter().filter_map(|file| Some(file.metadata().ok()?.len())).collect();
    assert!(sizes.len() <= 5 && sizes.iter().all(|size| *size <= 11 << 20), "{sizes:?}");
    assert!(sizes.iter().sum::<u64>() > 1 << 20, "it did flood: {sizes:?}");
}

/// A client that attaches and never reads holds back only the container that it attached to.
#[test]
fn an_unread_client_stalls_nobody_else() {
    let Some(home) = Home::new("an_unread_client") else { return };
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [sh("flood", "exec yes"), idle("calm")] });
    let pod = home.start(&spec);
    let supervisor = u32::try_from(pod.inspect()["supervisor"].as_u64().expect("it runs")).expect("a pid");
    let before = memory_kb(supervisor, "VmHWM");
    let mut attach = home.command(&["attach", "-c", "flood", &pod.name]);
    let attached = Reaped(attach.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts"));
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        assert_eq!(pod.sh("calm", "echo fine"), "fine");
    }
    assert!(memory_kb(supervisor, "VmHWM") < before * 3 + 2048);
    drop(attached);
    pod.sh("calm", "true");
}

#[test]
fn logs_follow_tail_and_since() {
    let Some(home) = Home::new("logs_follow") else { return };
    let script = "for i in 1 2 3 4 5; do echo line $i; done; echo err >&2; sleep 1; echo last";
    let pod = home.start(&once([sh("main", script)]));
    let followed = home.sandpod(&["logs", "-f", &pod.name]).ends_with(0).stdout;
    let lines: Vec<_> = followed.lines().collect();
    // stdout and stderr are two pipes: nobody knows the order between them.
    assert!(lines.len() == 7 && lines[6] == "last" && lines.contains(&"err") && lines.contains(&"line 5"), "{lines:?}");
    assert_eq!(home.sandpod(&["logs", "--tail", "1", &pod.name]).ends_with(0).stdout, "last\n");
    assert_eq!(home.sandpod(&["logs", "--tail", "0", &pod.name]).ends_with(0).stdout, "");
    assert_eq!(home.sandpod(&["logs", "--since", "1h", &pod.name]).ends_with(0).stdout, followed);
    let stamped = home.sandpod(&["logs", "-t", &pod.name]).ends_with(0).stdout;
    let last = stamped.lines().last().expect("lines").split(' ').next().expect("a time").to_owned();
    assert_eq!(home.sandpod(&["logs", "--since", &last, &pod.name]).ends_with(0).stdout, "last\n");
}

/// `kill -9` of pause takes every process with it; what `ps` then says is true, and the name is free after `rm`.
#[test]
fn the_pod_dies_with_pause() {
    let Some(home) = Home::new("the_pod_dies_with_pause") else { return };
    for shared in [false, true] {
        let daemon = "setsid sleep 1000 & exec sleep 1000";
        let spec = json!({ "shareProcessNamespace": shared, "containers": [sh("one", daemon), idle("two")] });
        let pod = home.start(&spec);
        let (one, two) = (pod.pid("one"), pod.pid("two"));
        let pause = pod.inspect()["pause"]["pid"].as_u64().expect("it runs").to_string();
        home.said(home.program("/bin/kill", &["-9", &pause]), b"").ends_with(0);
        until("all are dead", || (!is_live(one) && !is_live(two)).then_some(()));
        until("ps says so", || (pod.inspect()["status"] == "Failed").then_some(()));
        pod.does(&["rm"]);
    }
}
