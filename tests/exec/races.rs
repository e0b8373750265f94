//! `exec` against the end of what it runs in, and many clients at once: whatever comes first, what is said is true.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::connect;
use crate::rounds::rounds;
use crate::support::{Home, LONG, Pod, Said, and, idle, until};
use sandpod::supervisor::protocol::{Reply, Request};
use sandpod::sys::socket::Channel;
use serde_json::json;

/// The line that says what went wrong, and the one below it.
fn what_was_said(said: &Said) -> (String, String) {
    let mut lines = said.stderr.lines();
    let what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    (what, lines.next().unwrap_or_default().trim().to_owned())
}

/// What an `exec` may say of a pod, or of its container `main`, that is just ending.
fn is_true(pod: &str, said: &Said) -> bool {
    let (what, why) = what_was_said(said);
    let ended = |what: &str| {
        what == format!("pod `{pod}` ended while the command was starting")
            || what == format!("pod `{pod}` ended while the command ran")
            || what == "container `main` ended while the command was starting"
            || what == "container `main` is not running"
    };
    match said.code {
        // It was done first, or was ended with the pod.
        Some(0 | 137) => said.stderr.is_empty(),
        Some(125) if what == format!("pod `{pod}` is not running") => {
            ["it is Succeeded", "it is Failed", "it has ended and was removed"]
                .iter()
                .any(|true_one| why.starts_with(true_one))
        }
        Some(125) => ended(&what) || what.starts_with("no pod ") || what.contains("there is no pod"),
        _ => false,
    }
}

/// Several `exec`s, one after the other, while `end` ends something. All that they said.
fn race(pod: &Pod<'_>, end: impl FnOnce() + Send) -> Vec<Said> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let runners: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut said = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        said.push(pod.exec("main", &["busybox", "true"]));
                    }
                    // And one after it.
                    said.push(pod.exec("main", &["busybox", "true"]));
                    said
                })
            })
            .collect();
        until("a command has run", || (pod.exec("main", &["busybox", "true"]).code == Some(0)).then_some(()));
        end();
        over.store(true, Ordering::Relaxed);
        runners.into_iter().flat_map(|runner| runner.join().expect("it ends")).collect()
    })
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill").success());
}

#[track_caller]
fn all_true(pod: &str, said: &[Said]) {
    let wrong: Vec<_> = said.iter().filter(|said| !is_true(pod, said)).collect();
    let wrong: Vec<_> = wrong.iter().map(|said| (said.code, &said.stdout, &said.stderr)).collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), said.len());
}

/// Starts a pod for each round, races, removes what is left.
fn rounds_of(home: &Home, how: &str, end: impl Fn(&Pod<'_>) + Sync) {
    let spec = json!({ "terminationGracePeriodSeconds": 1, "containers": [idle("main")] });
    for round in 0..rounds(&format!("exec against {how}"), 4, 60) {
        let pod = home.start_with(&format!("{how}{round}"), &spec, &[]);
        let said = race(&pod, || end(&pod));
        all_true(&pod.name, &said);
        home.sandpod(&["rm", "-f", &pod.name]);
    }
}

#[test]
fn against_stop() {
    let Some(home) = Home::new("against_stop") else { return };
    rounds_of(&home, "stop", |pod| drop(pod.does(&["stop"])));
}

#[test]
fn against_rm() {
    let Some(home) = Home::new("against_rm") else { return };
    rounds_of(&home, "rm", |pod| drop(pod.does(&["rm", "-f"])));
}

#[test]
fn against_the_death_of_pause_and_of_the_supervisor() {
    let Some(home) = Home::new("against_death") else { return };
    for who in ["pause", "supervisor"] {
        rounds_of(&home, who, |pod| {
            let pid = pod.inspect()["record"][who]["pid"].as_u64().expect("it runs");
            kill(u32::try_from(pid).expect("a pid"));
            until("the pod has ended", || {
                (pod.inspect()["record"]["phase"] != "Running" || who == "supervisor").then_some(())
            });
        });
    }
}

/// The container is started again each time, and takes commands again.
#[test]
fn against_the_end_of_a_container() {
    let Some(home) = Home::new("against_a_container") else { return };
    let main = and(idle("main"), json!({}));
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [main, idle("other")] });
    for round in 0..rounds("exec against a container", 4, 60) {
        let pod = home.start_with(&format!("restarts{round}"), &spec, &[]);
        let said = race(&pod, || drop(pod.does(&["kill", "-c", "main", "-s", "KILL"])));
        all_true(&pod.name, &said);
        pod.does(&["rm", "-f"]);
    }
}

/// Connections that wait for the pod's end.
fn waiting(pod: &Pod<'_>, count: usize) -> Vec<Channel> {
    let id = pod.inspect()["id"].as_str().expect("an id").to_owned();
    let control = pod.home.path().join("run/sandpod/pods").join(id).join("control.sock");
    let request = serde_json::to_vec(&Request::Wait { container: None }).expect("JSON");
    let connect = || {
        let channel = connect(&control);
        channel.send(&request, &[]).expect("send");
        channel
    };
    (0..count).map(|_| connect()).collect()
}

#[test]
fn four_hundred_clients_at_once() {
    let Some(home) = Home::new("many_clients") else { return };
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [idle("main")] });
    let pod = home.start_with(&home.test, &spec, &[]);
    let waiting = waiting(&pod, 400);
    assert_eq!(pod.exec("main", &["busybox", "echo", "served"]).ends_with(0).stdout, "served\n");
    pod.does(&["stop"]);
    for client in waiting {
        let message = client.receive_within(LONG).expect("receive").expect("a reply");
        let reply = serde_json::from_slice(&message.bytes).expect("JSON");
        assert!(matches!(reply, Reply::Exited { .. }), "{reply:?}");
    }
}

/// As many commands; all of them run at the same time.
#[test]
fn many_commands_at_once() {
    let Some(home) = Home::new("many_commands") else { return };
    let pod = home.start(&json!({ "terminationGracePeriodSeconds": 0, "containers": [idle("main")] }));
    let count = rounds("commands at once", 40, 400);
    let script = "echo >>/tmp/here; while [ ! -e /tmp/go ]; do sleep 0.2; done; echo went";
    let words = ["exec", &pod.name, "--", "busybox", "sh", "-c", script];
    let spawn = || home.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let clients: Vec<_> = (0..count).map(|_| spawn()).collect();
    until("all run", || (pod.sh("main", "cat /tmp/here 2>/dev/null | wc -l") == count.to_string()).then_some(()));
    pod.sh("main", ": >/tmp/go");
    for client in clients {
        let said = Said::from("exec".to_owned(), client.wait_with_output().expect("wait")).ends_with(0);
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("went\n", ""));
    }
}

#[test]
fn a_client_that_there_is_no_room_for_hears_so() {
    let Some(home) = Home::with("full", &["prlimit"]) else { return };
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [idle("main")] });
    let manifest = home.manifest(&spec);
    let run = ["--nofile=256:256", env!("CARGO_BIN_EXE_sandpod"), "run", "-d", "-q", manifest.to_str().expect("UTF-8")];
    home.said(home.program("/usr/bin/prlimit", &run), &[]).ends_with(0);
    let pod = Pod { home: &home, name: home.test.clone() };
    let mut open = waiting(&pod, 32);
    // Served when this is.
    pod.does(&["kill", "-s", "WINCH"]);
    pod.exec("main", &["busybox", "true"]).ends_with(125).complains("pod `full` has 32 clients");
    // What is answered at once is served all the same.
    pod.does(&["kill", "-s", "WINCH"]);
    // Not even room to ask.
    open.extend(waiting(&pod, 32));
    pod.exec("main", &["busybox", "true"]).ends_with(125).complains("pod `full` has 32 clients");
    drop(open);
    until("there is room again", || (pod.exec("main", &["busybox", "true"]).code == Some(0)).then_some(()));
}
