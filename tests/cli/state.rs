//! What is on disk, good or bad, as `ps`, `inspect`, `wait` and `rm` show it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use crate::support::cli_support::Home;
use sandpod::state::{ContainerState, Phase, commit};
use sandpod::sys::process::{Exit, ProcessId};
use serde_json::Value;

fn end(pod: &mut sandpod::state::CreatedPod, code: i32) {
    let now = jiff::Timestamp::now();
    pod.record.phase = if code == 0 { Phase::Succeeded } else { Phase::Failed { reason: "Error".to_owned() } };
    for container in &mut pod.record.containers {
        let (exit, reason) = (Exit::Code(code), "Completed".to_owned());
        container.state = ContainerState::Terminated { exit, reason, started_at: Some(now), finished_at: now };
    }
    commit(&pod.dirs, &pod.record).expect("commit");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn living_and_ended_pods() {
    let home = Home::new();
    let mut web = home.pod("0123456789ab", "web", &["nginx", "sidecar"]);
    let me = ProcessId::of_self().expect("/proc");
    web.record.phase = Phase::Running;
    web.record.containers[0].state = ContainerState::Running { process: me, started_at: jiff::Timestamp::now() };
    web.record.containers[0].restarts = 3;
    commit(&web.dirs, &web.record).expect("commit");
    let mut job = home.pod("ba9876543210", "job", &["main"]);
    end(&mut job, 7);
    drop(job);

    let listed = home.run(&["ps"]).ends_with(0).says("nginx,sidecar");
    assert_eq!(listed.stdout.lines().count(), 2, "{}", listed.explain());
    assert!(listed.stdout.contains("1/2"), "{}", listed.explain());
    home.run(&["ps", "-a"]).ends_with(0).says("Failed (Error)");
    assert_eq!(home.run(&["ps", "-aq"]).ends_with(0).stdout, "ba9876543210\n0123456789ab\n");
    assert_eq!(home.run(&["ps", "-a", "-o", "name"]).ends_with(0).stdout, "job\nweb\n");
    assert_eq!(home.run(&["ps", "-q"]).ends_with(0).stdout, "0123456789ab\n");
    let rows = json(&home.run(&["ps", "-a", "--json"]).stdout);
    assert_eq!(
        (&rows[0]["name"], &rows[0]["status"], &rows[1]["restarts"]),
        (&"job".into(), &"Failed".into(), &3.into())
    );

    let inspected = json(&home.run(&["inspect", "0123"]).ends_with(0).stdout);
    assert_eq!(inspected["containers"]["nginx"]["pid"], me.pid);
    assert!(inspected["containers"]["nginx"]["namespaces"]["net"].as_u64().is_some(), "{inspected}");
    assert_eq!(inspected["plan"]["sandbox"]["name"], "web");
    assert_eq!(inspected["record"]["phase"], "Running");

    home.run(&["wait", "job"]).ends_with(0).says("7\n");
    home.run(&["stop", "job"]).ends_with(0);
    home.run(&["kill", "job"]).ends_with(125).complains("pod `job` is not running");
    home.run(&["exec", "job", "--", "ls"]).ends_with(125).complains("it is Failed");
    home.run(&["rm", "web"]).ends_with(125).complains("hint: `sandpod stop web` first, or `sandpod rm -f web`");
}

/// The columns after the id, without blanks at their ends.
fn cells(listed: &crate::support::cli_support::Said, name: &str) -> Vec<String> {
    let line = listed.stdout.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name}: {}", listed.explain()));
    line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).skip(2).map(str::to_owned).collect()
}

#[test]
fn what_went_wrong_stands_where_it_did_and_in_short() {
    let home = Home::new();
    let mut web = home.pod("0123456789ab", "web", &["nginx", "hog"]);
    let now = jiff::Timestamp::now();
    web.record.phase = Phase::Running;
    let me = ProcessId::of_self().expect("/proc");
    web.record.containers[0].state = ContainerState::Running { process: me, started_at: now };
    web.record.containers[1].state = ContainerState::Waiting { reason: "CrashLoopBackOff".to_owned() };
    web.record.containers[1].last_exit = Some(Exit::Code(1));
    web.record.containers[1].last_reason = Some("Error".to_owned());
    commit(&web.dirs, &web.record).expect("commit");
    let found = cells(&home.run(&["ps"]).ends_with(0), "web");
    assert_eq!((found[0].as_str(), found[4].as_str()), ("CrashLoopBackOff", "nginx,hog (CrashLoopBackOff)"));
    web.record.containers[1].last_reason = Some("OOMKilled".to_owned());
    commit(&web.dirs, &web.record).expect("commit");
    let found = cells(&home.run(&["ps"]).ends_with(0), "web");
    assert_eq!((found[0].as_str(), found[4].as_str()), ("CrashLoopBackOff", "nginx,hog (OOMKilled)"));

    let end = |exit, reason: &str| ContainerState::Terminated {
        exit,
        reason: reason.to_owned(),
        started_at: Some(now),
        finished_at: now,
    };
    web.record.phase = Phase::Failed { reason: "container `hog` was ended by the OOM killer: a long story".to_owned() };
    web.record.containers[0].state = end(Exit::Signal(15), "Error");
    web.record.containers[1].state = end(Exit::Signal(9), "OOMKilled");
    commit(&web.dirs, &web.record).expect("commit");
    let found = cells(&home.run(&["ps", "-a"]).ends_with(0), "web");
    assert_eq!((found[0].as_str(), found[4].as_str()), ("Failed", "nginx (SIGTERM),hog (OOMKilled)"));
    home.run(&["inspect", "web"]).ends_with(0).says("a long story");
}

#[test]
fn a_killed_supervisor_is_no_running_pod() {
    let home = Home::new();
    let mut web = home.pod("0123456789ab", "web", &["nginx"]);
    web.record.phase = Phase::Running;
    commit(&web.dirs, &web.record).expect("commit");
    drop(web);
    home.run(&["ps"]).ends_with(0).says("NAME");
    home.run(&["ps", "-a"]).ends_with(0).says("Failed (supervisor was killed)").says("0/1");
    home.run(&["wait", "web"]).ends_with(125).complains("supervisor was killed");
    assert_eq!(home.run(&["rm", "web"]).ends_with(0).stdout, "web\n");
    assert!(!home.data().join("pods/0123456789ab").exists() && !home.runtime().join("pods/0123456789ab").exists());
    home.run(&["inspect", "web"]).ends_with(125).complains("there are no pods at all");
}

#[test]
fn damaged_records_are_shown_and_removed() {
    let home = Home::new();
    for (id, text) in [("aaaaaaaaaaa0", ""), ("aaaaaaaaaaa1", "{\"id\""), ("aaaaaaaaaaa2", "\0\0\0")] {
        let pod = home.pod(id, &format!("pod-{id}"), &["main"]);
        fs::write(pod.dirs.runtime.join("record.json"), text).expect("damage");
    }
    let neither = home.pod("aaaaaaaaaaa3", "pod-3", &["main"]);
    fs::write(neither.dirs.runtime.join("record.json"), "x").expect("damage");
    fs::remove_file(neither.dirs.data.join("plan.json")).expect("damage");
    drop(neither);
    let rows = json(&home.run(&["ps", "-a", "--json"]).ends_with(0).stdout);
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert_eq!(row["status"], "Damaged", "{row}");
        home.run(&["inspect", row["id"].as_str().expect("id")]).ends_with(0).says("damaged");
    }
    home.run(&["logs", "pod-aaaaaaaaaaa0"]).ends_with(0);
    home.run(&["rm", "-a"]).ends_with(0);
    assert_eq!(home.run(&["ps", "-a", "--json"]).stdout, "[]\n");
}

#[test]
fn a_pod_of_before_the_boot_is_lost_and_can_be_removed() {
    let home = Home::new();
    drop(home.pod("0123456789ab", "web", &["main"]));
    fs::remove_dir_all(home.runtime()).expect("reboot");
    home.run(&["ps", "-a"]).ends_with(0).says("Lost (host restarted)");
    home.run(&["rm", "web"]).ends_with(0);
    assert!(!home.data().join("pods/0123456789ab").exists());
}

#[test]
fn rm_goes_on_after_a_failure() {
    let home = Home::new();
    let alive = home.pod("0123456789ab", "alive", &["main"]);
    drop(home.pod("ba9876543210", "dead", &["main"]));
    let said = home.run(&["rm", "alive", "nope", "dead"]).ends_with(125);
    let said = said.complains("pod `alive` is running").complains("there is no pod `nope`");
    assert_eq!(said.stderr.matches("error: ").count(), 2, "{}", said.explain());
    assert!(!home.data().join("pods/ba9876543210").exists());
    assert!(alive.dirs.data.exists());
    // -a takes only what has ended.
    home.run(&["rm", "-a"]).ends_with(0);
    assert!(alive.dirs.data.exists());
}

#[test]
fn a_pod_is_named_by_name_or_unique_prefix() {
    let home = Home::new();
    drop(home.pod("abc000000000", "one", &["main"]));
    drop(home.pod("abc111111111", "two", &["main"]));
    home.run(&["inspect", "abc0"]).ends_with(0).says("\"name\": \"one\"");
    home.run(&["inspect", "abc"]).ends_with(125).complains("more than one pod").complains("abc111111111 two");
    home.run(&["inspect", "onne"]).ends_with(125).complains("did you mean `one`?");
    home.run(&["logs", "one", "-c", "mian"]).ends_with(125).complains("did you mean `main`?");
}

#[test]
fn a_runtime_directory_that_is_not_ours_alone_is_refused() {
    let home = Home::new();
    let run = home.runtime();
    let refused = |why: &str| {
        home.run(&["ps"]).ends_with(125).silently().complains(why).complains("hint: ");
        home.run(&["rm", "-a"]).ends_with(125).complains(why);
    };
    symlink(home.path(), &run).expect("symlink");
    refused("is a symbolic link");
    fs::remove_file(&run).expect("rm");
    symlink("/nowhere", &run).expect("symlink");
    refused("is a symbolic link");
    fs::remove_file(&run).expect("rm");
    fs::write(&run, "").expect("file");
    refused("is not a directory");
    fs::remove_file(&run).expect("rm");
    fs::create_dir(&run).expect("mkdir");
    for mode in [0o777, 0o770, 0o1777, 0o701] {
        fs::set_permissions(&run, fs::Permissions::from_mode(mode)).expect("chmod");
        refused("is open to others");
    }
    fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).expect("chmod");
    home.run(&["ps"]).ends_with(0);
    // Only root can give a directory away; the ordinary user's run of these tests leaves this part to root's.
    if chown(&run, Some(12345), None).is_ok() {
        refused("belongs to uid 12345");
    }
}

#[test]
fn several_rm_at_once_all_succeed() {
    let home = Home::new();
    for round in 0..5 {
        for number in 0..40 {
            drop(home.pod(&format!("{round:02}{number:010}"), &format!("pod-{number}"), &["main"]));
        }
        let commands: Vec<_> = (0..4)
            .map(|_| {
                let mut command = home.command(&["rm", "-f", "-a"]);
                command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                command.spawn().expect("it starts")
            })
            .collect();
        for command in commands {
            let said = crate::support::cli_support::Said::from(
                "rm -f -a".to_owned(),
                command.wait_with_output().expect("wait"),
            );
            said.ends_with(0);
        }
        for directory in [home.runtime().join("pods"), home.data().join("pods"), home.data().join("names")] {
            assert_eq!(fs::read_dir(&directory).expect("readdir").count(), 0, "{}", directory.display());
        }
    }
}
