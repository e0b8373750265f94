//! What containers say of their own end, and containers whose command cannot be executed.

use crate::support::{Home, Pod, and, idle, once, sh, until};
use serde_json::{Value, json};

/// What `inspect` and `ps --json` say of one container; both must say the same.
fn state(pod: &Pod, container: &str) -> Value {
    let listed: Value =
        serde_json::from_str(&pod.home.sandpod(&["ps", "-a", "--json"]).ends_with(0).stdout).expect("JSON");
    let inspected = pod.inspect();
    let row = listed.as_array().expect("a list").iter().find(|row| row["id"] == inspected["id"]).expect("it is listed");
    let (short, long) = (&row["states"][container], &inspected["containers"][container]);
    for key in ["reason", "message", "lastExit", "lastReason", "lastMessage"] {
        assert_eq!(short[key], long[key], "{key}");
    }
    json!({
        "state": short["state"], "exit": short["exit"], "reason": short["reason"], "message": short["message"],
        "lastExit": short["lastExit"], "lastReason": short["lastReason"], "lastMessage": short["lastMessage"],
    })
}

/// The pod, once it has ended.
fn ended<'h>(home: &'h Home, containers: &[Value]) -> Pod<'h> {
    let pod = home.start(&json!({ "restartPolicy": "Never", "containers": containers }));
    home.sandpod(&["wait", &pod.name]);
    pod
}

#[test]
fn a_termination_message_is_what_the_container_has_written() {
    let Some(home) = Home::new("termination_message") else { return };
    let at = |path: &str| json!({ "terminationMessagePath": path });
    let user = json!({ "securityContext": { "runAsUser": 1000, "runAsGroup": 1000, "readOnlyRootFilesystem": true } });
    let containers = [
        sh("default", "echo out; printf 'disk full' > /dev/termination-log; exit 3"),
        and(sh("path", "printf there > /var/tmp/last-words"), at("/var/tmp/last-words")),
        and(sh("user", "printf 'of 1000' > /dev/termination-log"), user),
        sh("silent", "exit 4"),
    ];
    let pod = ended(&home, &containers);
    let message = |container: &str| state(&pod, container)["message"].clone();
    assert_eq!(message("default"), "disk full");
    assert_eq!(state(&pod, "default")["exit"], 3);
    assert_eq!(message("path"), "there");
    assert_eq!(message("user"), "of 1000");
    assert_eq!(message("silent"), Value::Null);
}

#[test]
fn a_message_is_at_most_4096_bytes_and_12_kib_for_a_pod() {
    let Some(home) = Home::new("termination_limits") else { return };
    let write = "i=0; while [ $i -lt 1000 ]; do printf '%04d,' $i; i=$((i+1)); done > /dev/termination-log";
    let pod = ended(&home, &[sh("one", write)]);
    let message = state(&pod, "one")["message"].as_str().expect("a message").to_owned();
    assert_eq!((message.len(), message.ends_with("0998,0999,")), (4096, true));
    pod.does(&["rm"]);
    let four: Vec<Value> = ["a", "b", "c", "d"].map(|name| sh(name, write)).into();
    let pod = ended(&home, &four);
    assert_eq!(state(&pod, "d")["message"].as_str().expect("a message").len(), 3072);
}

#[test]
fn without_a_message_the_end_of_the_log_can_take_its_place() {
    let Some(home) = Home::new("termination_fallback") else { return };
    let policy = json!({ "terminationMessagePolicy": "FallbackToLogsOnError" });
    let fallback = |name: &str, script: &str| and(sh(name, script), policy.clone());
    let containers = [
        fallback("failed", "echo first; echo cannot go on >&2; exit 1"),
        fallback("well", "echo fine"),
        fallback("both", "echo to the log; printf written > /dev/termination-log; exit 1"),
        fallback("long", "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; exit 1"),
        sh("file", "echo only to the log; exit 1"),
    ];
    let pod = ended(&home, &containers);
    let message = |container: &str| state(&pod, container)["message"].clone();
    // Two streams: which of the two lines came first is not known.
    let failed = message("failed");
    assert!(failed == "first\ncannot go on\n" || failed == "cannot go on\nfirst\n", "{failed}");
    assert_eq!(message("well"), Value::Null);
    assert_eq!(message("both"), "written");
    let long = message("long").as_str().expect("a message").to_owned();
    assert_eq!((long.lines().count(), long.lines().last()), (80, Some("line 99")));
    assert_eq!(message("file"), Value::Null);
}

#[test]
fn each_life_begins_without_a_message() {
    let Some(home) = Home::new("termination_lives") else { return };
    let dir = home.directory("seen", 0o777);
    let script = "if [ -e /seen/it ]; then wc -c < /dev/termination-log > /seen/size; sleep 1000 & wait; fi; \
        : > /seen/it; printf 'first life' > /dev/termination-log; exit 7";
    let mounted = json!({ "volumeMounts": [{ "name": "seen", "mountPath": "/seen" }] });
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [and(sh("main", script), mounted)],
        "volumes": [{ "name": "seen", "hostPath": { "path": dir } }],
    });
    let pod = home.start(&spec);
    let size =
        until("the second life", || std::fs::read_to_string(dir.join("size")).ok().filter(|text| text.ends_with('\n')));
    assert_eq!(size.trim(), "0");
    let now = state(&pod, "main");
    assert_eq!((&now["state"], &now["message"]), (&json!("Running"), &Value::Null));
    assert_eq!((&now["lastExit"], &now["lastMessage"]), (&json!(7), &json!("first life")));
}

#[test]
fn a_message_path_that_would_hide_the_sandbox_is_refused() {
    let Some(home) = Home::new("termination_path") else { return };
    for path in ["/proc/x", "/dev"] {
        let container = and(sh("main", ":"), json!({ "terminationMessagePath": path }));
        home.run(&once([container])).ends_with(2).complains("terminationMessagePath").complains(path);
    }
    let container = and(sh("main", ":"), json!({ "terminationMessagePolicy": "Files" }));
    home.run(&once([container])).ends_with(2).complains("did you mean `File`");
}

const BROKEN: &str = "/no/such/program";

fn broken() -> Value {
    json!({ "name": "broken", "image": "host:", "command": [BROKEN] })
}

#[test]
fn a_command_that_cannot_be_executed_is_retried_while_the_others_go_on() {
    let Some(home) = Home::new("start_error_retried") else { return };
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [broken(), idle("good")] });
    let manifest = home.manifest(&spec);
    let said = home.sandpod(&["run", "-d", manifest.to_str().expect("UTF-8")]).ends_with(127);
    let said = said.complains("container `broken`").complains(BROKEN).complains("ENOENT");
    assert!(!said.stdout.trim().is_empty(), "the pod's id: {}", said.explain());
    let pod = Pod { home: &home, name: home.test.clone() };
    assert_eq!(pod.sh("good", "echo alive"), "alive");
    // The first restart is immediate, the second waits for ten seconds.
    until("it waits for the second restart", || {
        let record = &pod.inspect()["record"]["containers"][0];
        (record["restarts"] == 1 && record["state"]["Waiting"]["reason"] == "RunContainerError").then_some(())
    });
    let waiting = state(&pod, "broken");
    assert_eq!((&waiting["state"], &waiting["exit"]), (&json!("Waiting"), &Value::Null));
    assert!(waiting["message"].as_str().expect("why").contains(BROKEN), "{waiting}");
    assert_eq!((&waiting["lastExit"], &waiting["lastReason"]), (&json!(128), &json!("StartError")));
    pod.does(&["stop"]);
    let now = state(&pod, "broken");
    assert_eq!(
        (&now["state"], &now["exit"], &now["reason"]),
        (&json!("Terminated"), &json!(128), &json!("StartError"))
    );
    assert_eq!(home.sandpod(&["wait", "-c", "broken", &pod.name]).ends_with(0).stdout, "127\n");
}

#[test]
fn a_command_that_cannot_be_executed_and_is_not_retried_fails_its_container_alone() {
    let Some(home) = Home::new("start_error_never") else { return };
    let closed = json!({ "name": "broken", "image": "host:", "command": ["/etc"] });
    let good = sh("good", "until [ -e /dev/shm/over ]; do sleep 0.05; done; echo over");
    let manifest = home.manifest(&once([good, closed]));
    let manifest = manifest.to_str().expect("UTF-8");
    home.sandpod(&["run", "-d", manifest]).ends_with(126).complains("container `broken`").complains("EACCES");
    let pod = Pod { home: &home, name: home.test.clone() };
    let now = state(&pod, "broken");
    assert_eq!(
        (&now["state"], &now["exit"], &now["reason"]),
        (&json!("Terminated"), &json!(128), &json!("StartError"))
    );
    assert!(now["message"].as_str().expect("why").contains("/etc"), "{now}");
    pod.sh("good", ": > /dev/shm/over");
    home.sandpod(&["wait", &pod.name]).ends_with(0);
    assert_eq!(home.sandpod(&["wait", "-c", "broken", &pod.name]).ends_with(0).stdout, "126\n");
    assert!(pod.logs("good").contains("over"));
}

/// In the foreground as well: the pod goes on, and the exit status is the shell's, not Kubernetes'.
#[test]
fn a_foreground_run_says_what_could_not_be_executed() {
    let Some(home) = Home::new("start_error_foreground") else { return };
    let said = home.run(&once([sh("main", "echo worked"), broken()])).ends_with(127);
    assert!(said.stdout.contains("worked"), "{}", said.explain());
    said.complains("container `broken`").complains(BROKEN);
}
