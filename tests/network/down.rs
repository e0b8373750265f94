//! While a pod's network is down: what goes on, and who is told.

use std::fs;
use std::process::Command;

use crate::network_support::{connected, of_pod, only_newuidmap, pause, record};
use crate::support::{Home, Pod, fetch, idle, until, web};
use serde_json::{Value, json};

/// A pod whose slirp4netns cannot be started while a file `broken` is there.
fn breakable<'a>(home: &'a Home, name: &str, spec: &Value) -> Pod<'a> {
    let broken = home.path().join("broken");
    let script = format!(
        "#!/bin/sh\n[ ! -e {} ] || {{ echo it is broken >&2; exit 3; }}\nexec slirp4netns \"$@\"\n",
        broken.display()
    );
    let program = home.file("breakable", script, 0o755);
    let manifest = home.manifest_of(name, spec);
    let mut command = home.command(&["run", "-d", "-q", "-p", "127.0.0.1::8000"]);
    command.arg(manifest).env("SANDPOD_SLIRP4NETNS", program);
    home.said(command, b"").ends_with(0);
    Pod { home, name: name.to_owned() }
}

fn take_down(home: &Home, pod: &Pod<'_>) {
    home.file("broken", "", 0o644);
    for pid in of_pod("slirp4netns", pause(pod)) {
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill").success());
    }
    until("the network is down", || (record(pod)["state"] != "Up").then_some(()));
    until("its interface is gone", || (!pod.sh("web", "ls /sys/class/net").contains("eth0")).then_some(()));
}

/// The line of `ps` for a pod.
fn listed(home: &Home, name: &str) -> String {
    let listed = home.sandpod(&["ps"]).ends_with(0).stdout;
    listed.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default().to_owned()
}

#[test]
fn published_ports_and_the_pods_own_address_do_not_need_it() {
    let test = "published_ports_and_the_pods_own_address_do_not_need_it";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let pod = breakable(&home, "served", &web());
    let address = home.sandpod(&["port", "served", "8000"]).ends_with(0).stdout.trim().to_owned();
    until("the server is up", || fetch(&address).filter(|name| name == "served"));
    take_down(&home, &pod);
    assert!(listed(&home, "served").contains("Running (network down)"), "{}", listed(&home, "served"));
    until("its reason", || record(&pod)["trouble"].as_str()?.contains("it is broken").then_some(()));
    for _ in 0..20 {
        assert_eq!(fetch(&address).as_deref(), Some("served"), "while the network is down");
    }
    let by_name = format!("busybox wget -qO- http://{}:8000/hostname", pod.ipv4("address"));
    assert_eq!(pod.sh("web", &by_name).trim(), "served");

    fs::remove_file(home.path().join("broken")).expect("mended");
    until("the network is back", || (record(&pod)["state"] == "Up").then_some(()));
    assert!(pod.sh("web", "busybox ip -4 addr show eth0").contains(&pod.ipv4("address")));
    assert!(listed(&home, "served").contains("Running  "), "{}", listed(&home, "served"));
}

/// The third joins the second, and with it the first: whose network it is counts.
#[test]
fn pods_that_joined_are_told_of_it_too() {
    let test = "pods_that_joined_are_told_of_it_too";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let owner = breakable(&home, "owner", &web());
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [idle("one")] });
    let second = home.start_with("second", &spec, &["--network", "pod:owner"]);
    let third = home.start_with("third", &spec, &["--network", "pod:second"]);
    let net = |pod: &Pod<'_>| pod.inspect()["pause"]["namespaces"]["net"].clone();
    assert_eq!(net(&third), net(&owner));
    let are_down = |names: &[&str]| names.iter().all(|name| listed(&home, name).contains("Running (network down)"));
    assert!(!["second", "third"].iter().any(|name| listed(&home, name).contains("down")));

    take_down(&home, &owner);
    assert!(are_down(&["owner", "second", "third"]), "{}", home.sandpod(&["ps"]).stdout);
    assert_eq!(third.inspect()["network"]["lacks"], "network down");
    fs::remove_file(home.path().join("broken")).expect("mended");
    until("all are up", || {
        (!["owner", "second", "third"].iter().any(|name| listed(&home, name).contains("down"))).then_some(())
    });

    home.sandpod(&["rm", "-f", "owner"]).ends_with(0);
    until("both have heard of the end", || are_down(&["second", "third"]).then_some(()));
    let refused = home.sandpod(&["run", "--rm", "--network", "pod:second", "--image", "host:", "--", "true"]);
    refused.ends_with(125).complains("pod `owner`, which has ended");
    drop(second);
}

#[test]
fn that_there_is_none_is_in_the_list() {
    let test = "that_there_is_none_is_in_the_list";
    let Some(home) = Home::new(test) else { return };
    let programs = only_newuidmap(&home);
    let start = |name: &str, options: &[&str]| {
        let command = [&["run", "-d", "-q", "--name", name], options, &["--image", "host:", "--", "sleep", "600"]];
        let mut command = home.command(&command.concat());
        command.env("PATH", &programs);
        home.said(command, b"").ends_with(0);
    };
    start("without", &[]);
    start("content", &["--network", "none"]);
    assert!(listed(&home, "without").contains("Running (no network)"), "{}", listed(&home, "without"));
    assert!(!listed(&home, "content").contains("network"), "asked for: {}", listed(&home, "content"));
}

#[test]
fn who_stays_with_a_pod_is_told_what_dies_and_comes_back() {
    let test = "who_stays_with_a_pod_is_told_what_dies_and_comes_back";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let manifest = home.manifest_of("followed", &web());
    let pod = Pod { home: &home, name: "followed".to_owned() };
    let kill = |pid: u32| {
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill").success());
    };
    let said = std::thread::scope(|scope| {
        let manifest = manifest.to_str().expect("UTF-8");
        let run = scope.spawn(|| home.sandpod(&["run", "-q", "--rm", "-p", "127.0.0.1::8000", manifest]));
        until("it runs", || listed(&home, "followed").contains("Running").then_some(()));
        of_pod("slirp4netns", pause(&pod)).into_iter().for_each(kill);
        until("the network is back", || {
            let network = record(&pod);
            (network["state"] == "Up" && network["restarts"].as_u64() >= Some(1)).then_some(())
        });
        let proxy = pod.port_proxy();
        kill(proxy);
        until("the ports are back", || {
            let ports = pod.inspect()["network"]["ports"].clone();
            (ports["state"] == "Open" && ports["restarts"].as_u64() >= Some(1)).then_some(())
        });
        pod.does(&["stop"]);
        run.join().expect("no panic")
    });
    let told: Vec<&str> =
        said.stderr.lines().filter(|line| line.contains("network ") || line.contains("ports ")).collect();
    let expected = [
        "network down: slirp4netns was ended by SIGKILL",
        "network up: it was started again",
        "ports down: the port proxy was ended by SIGKILL",
        "ports up: the port proxy was started again",
    ];
    // On a busy machine a restart may fail, and is told of as well.
    let mut rest = told.iter();
    for line in expected {
        assert!(rest.any(|told| told.starts_with(line)), "{line}: {}", said.explain());
    }
    assert!(rest.next().is_none(), "nothing of its end: {}", said.explain());
}
