//! Records and plans that others have written: a container has the data directory as a hostPath, say. `rm` removes what is
//! the pod's by its place, and nothing that a file only names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::support::{Home, fingerprint, idle};
use serde_json::{Value, json};

const ID: &str = "0123456789ab";

/// The files of a pod that has ended.
struct Ended {
    id: String,
    plan: PathBuf,
    record: PathBuf,
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON");
    change(&mut value);
    fs::write(path, value.to_string()).expect("write");
}

fn ended(home: &Home, script: &str, options: &[&str]) -> Ended {
    let mut container = idle("main");
    container["command"] = json!(["busybox", "sh", "-c", script]);
    let spec = json!({ "restartPolicy": "Never", "containers": [container] });
    let manifest = home.manifest_of("pod", &spec);
    let words = [&["run", "-q", "--network=none"], options, &[manifest.to_str().expect("UTF-8")]].concat();
    home.sandpod(&words).ends_with(0);
    let id = home.sandpod(&["ps", "-aq"]).ends_with(0).stdout.trim().to_owned();
    let of = |top: &str, file: &str| home.path().join(top).join("sandpod/pods").join(&id).join(file);
    Ended { plan: of("share", "plan.json"), record: of("run", "record.json"), id }
}

/// A directory of the user's, and what is in it.
fn victim(home: &Home, name: &str) -> (PathBuf, Vec<String>) {
    let top = home.directory(name, 0o700);
    home.directory(&format!("{name}/below"), 0o700);
    home.file(&format!("{name}/below/letter"), "dear", 0o600);
    let before = fingerprint(&top);
    (top, before)
}

/// A plan for a pod that never was, in the data directory, as a copy of a real one.
fn plant(home: &Home, from: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    let planted = home.directory(&format!("share/sandpod/pods/{ID}"), 0o700);
    let text = fs::read_to_string(from).expect("a plan");
    let mut plan: Value = serde_json::from_str(&text).expect("JSON");
    plan["sandbox"]["id"] = ID.into();
    plan["sandbox"]["name"] = "planted".into();
    change(&mut plan);
    home.file(&format!("share/sandpod/pods/{ID}/plan.json"), plan.to_string(), 0o600);
    planted
}

#[test]
fn a_planted_plan_removes_no_other_directory() {
    let Some(home) = Home::new("a_planted_plan_removes_no_other") else { return };
    let real = ended(&home, "true", &[]);
    // By any name, and by the name of a runtime directory: with a record but no lock, or with a link for a parent.
    let (mail, mail_before) = victim(&home, "mail");
    let (alike, _) = victim(&home, &format!("alike/pods/{ID}"));
    home.directory("alike/pods", 0o700);
    home.file(&format!("alike/pods/{ID}/record.json"), "{}", 0o600);
    let alike_before = fingerprint(&alike);
    let through = home.path().join("alike/pods/../../mail");
    for runtime in [&mail, &alike, &through] {
        for data in [home.path().join("mail"), real.plan.parent().expect("a directory").to_owned()] {
            let planted =
                plant(&home, &real.plan, |plan| plan["sandbox"]["dirs"] = json!({ "runtime": runtime, "data": data }));
            home.sandpod(&["rm", "-f", ID]).ends_with(0);
            assert!(!planted.exists(), "its own directory goes");
            assert_eq!(fingerprint(&mail), mail_before);
            assert_eq!(fingerprint(&alike), alike_before);
            assert!(real.plan.exists() && real.record.exists(), "another pod was removed");
        }
    }
}

#[test]
fn a_planted_plan_executes_nothing() {
    let Some(home) = Home::new("a_planted_plan_executes_nothing") else { return };
    // What belongs to another id of the pod can only be removed with the pod's id map, which takes newuidmap.
    let script = "mkdir -p /d && echo x > /d/f && chown -R 7:7 /d";
    let pod = ended(&home, script, &["--userns=isolated"]);
    let witness = home.path().join("executed");
    let tool = home.file("newuidmap", format!("#!/bin/sh\ntouch {}\n", witness.display()), 0o755);
    edit(&pod.plan, |plan| {
        plan["sandbox"]["idmap"]["writer"] = json!({ "Tools": { "newuidmap": tool, "newgidmap": tool } });
    });
    home.sandpod(&["rm", &pod.id]).ends_with(0);
    assert!(!witness.exists(), "a program that a plan names was executed");
    assert_eq!(home.remains(), Vec::<PathBuf>::new());
}

#[test]
fn no_directory_but_a_cgroup_is_removed_as_one() {
    let Some(home) = Home::new("no_directory_but_a_cgroup") else { return };
    for (in_plan, name) in
        [(true, "sandpod-pod-ID"), (false, "sandpod-pod-ID"), (true, "other"), (true, "x/../sandpod-pod-ID")]
    {
        let pod = ended(&home, "true", &[]);
        let name = name.replace("ID", &pod.id);
        for made in ["x", &name, &format!("{name}/below")] {
            home.directory(&format!("fake/{made}"), 0o700);
        }
        let fake = home.path().join("fake");
        if in_plan {
            let tree = json!({ "Tree": {
                "parent": { "Directory": { "path": fake, "leave": false } },
                "name": name, "controllers": [], "settings": [],
            }});
            edit(&pod.plan, |plan| plan["sandbox"]["cgroup"] = tree);
        } else {
            edit(&pod.record, |record| record["cgroup"] = json!(fake.join(&name)));
        }
        home.sandpod(&["rm", "-f", &pod.id]).ends_with(0);
        assert!(fake.join(&name).join("below").exists(), "{name} is no cgroup, and was removed");
    }
}

/// A process of the user's that is nothing to sandpod, with its start time.
fn bystander(home: &Home) -> (Child, Value) {
    let child = home.program("sleep", &["1000"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sleep");
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("stat");
    let start: u64 =
        stat.rsplit_once(')').expect("a name").1.split_whitespace().nth(19).expect("22").parse().expect("a number");
    let identity = json!({ "pid": child.id(), "start_time": start });
    (child, identity)
}

#[test]
fn no_process_is_killed_because_a_record_names_it() {
    let Some(home) = Home::new("no_process_is_killed_because") else { return };
    let (mut child, identity) = bystander(&home);
    for role in ["supervisor", "pause", "network", "publishing"] {
        let pod = ended(&home, "true", &[]);
        edit(&pod.record, |record| {
            // As if its supervisor had been killed.
            record["phase"] = "Running".into();
            let program = identity.clone();
            match role {
                "network" => {
                    record[role] =
                        json!({ "state": "Up", "trouble": null, "sandboxed": true, "restarts": 0, "program": program });
                }
                "publishing" => {
                    record[role] = json!({ "state": "Open", "trouble": null, "restarts": 0, "proxy": program });
                }
                _ => record[role] = program,
            }
        });
        home.sandpod(&["rm", "-f", &pod.id]).ends_with(0);
        assert!(child.try_wait().expect("waitpid").is_none(), "the {role} of a record was killed");
    }
    child.kill().expect("kill");
    child.wait().expect("waitpid");
}

#[test]
fn names_in_a_record_lead_nowhere() {
    let Some(home) = Home::new("names_in_a_record_lead_nowhere") else { return };
    let secret = home.file("secret", "2026-01-01T00:00:00.000000000Z stdout F secret\n", 0o600);
    let pod = ended(&home, "echo public", &[]);
    // The path of a log.
    edit(&pod.plan, |plan| plan["containers"][0]["log"]["path"] = json!(secret));
    assert_eq!(home.sandpod(&["logs", &pod.id]).ends_with(0).stdout, "public\n");
    // A name that leads out of the directories.
    fs::rename(&secret, home.path().join("secret.log")).expect("rename");
    let name = "../../../../secret";
    edit(&pod.plan, |plan| {
        plan["containers"][0]["name"] = name.into();
        plan["main"] = name.into();
    });
    edit(&pod.record, |record| record["containers"][0]["name"] = name.into());
    let said = home.sandpod(&["logs", "-c", name, &pod.id]);
    assert!(!said.stdout.contains("secret\n"), "{}", said.explain());
    for (key, value) in [("id", ID), ("name", "../../names/x")] {
        edit(&pod.record, |record| record[key] = value.into());
        let listed = home.sandpod(&["ps", "-a", "--json"]).ends_with(0).stdout;
        assert!(listed.contains("\"Damaged\""), "{key}: {listed}");
    }
    home.sandpod(&["rm", &pod.id]).ends_with(0);
    assert!(home.path().join("secret.log").exists());
}

/// What a container writes there decides what the next command reads, removes and executes as the user.
#[test]
fn no_volume_leads_to_the_directories_of_sandpod() {
    let Some(home) = Home::new("no_volume_leads_to_sandpod") else { return };
    // Both directories are there once a pod has run.
    ended(&home, "true", &[]);
    let (data, runtime) = (home.path().join("share/sandpod"), home.path().join("run/sandpod"));
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&data, &link).expect("symlink");
    for path in [&data, &runtime, &data.join("pods"), &link] {
        let main = json!({ "name": "main", "image": "host:", "command": ["true"],
            "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
        let spec = json!({ "restartPolicy": "Never", "containers": [main],
            "volumes": [{ "name": "v", "hostPath": { "path": path } }] });
        let manifest = home.manifest_of("intruder", &spec);
        let said = home.sandpod(&["run", "-q", "--network=none", manifest.to_str().expect("UTF-8")]);
        said.ends_with(125).complains("where sandpod keeps its pods");
    }
}

/// A FIFO would stop every command, and /dev/zero would fill the memory.
#[test]
fn what_is_no_file_in_a_pods_place_stops_no_command() {
    let Some(home) = Home::new("no_file_stops_a_command") else { return };
    ended(&home, "true", &[]);
    let planted = home.path().join("share/sandpod/pods").join(ID);
    fs::create_dir(&planted).expect("mkdir");
    let fifo = std::process::Command::new("mkfifo").arg(planted.join("plan.json")).status().expect("mkfifo");
    assert!(fifo.success());
    home.sandpod(&["ps", "-a"]).ends_with(0).says(ID);
    fs::remove_file(planted.join("plan.json")).expect("unlink");
    std::os::unix::fs::symlink("/dev/zero", planted.join("plan.json")).expect("symlink");
    home.sandpod(&["ps", "-a"]).ends_with(0).says(ID);
    home.sandpod(&["rm", "-f", "-a"]).ends_with(0);
}
