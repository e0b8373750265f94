//! Ports as they are typed beside a manifest that has some of its own, and what `plan` sees in the way of a pod.

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;

use crate::support::{Home, idle};
use serde_json::{Value, json};

/// A container that sleeps, and these ports of it.
fn with_ports(ports: &Value) -> Value {
    let mut container = idle("web");
    container["ports"] = ports.clone();
    json!({ "terminationGracePeriodSeconds": 0, "containers": [container] })
}

fn written(home: &Home, name: &str, spec: &Value) -> String {
    let path: PathBuf = home.manifest_of(name, spec);
    path.to_str().expect("UTF-8").to_owned()
}

/// A TCP port that nobody listens on just now.
fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("bind").port()
}

#[test]
fn the_command_line_replaces_the_manifests_host_port() {
    let Some(home) = Home::new("publish_replaces") else { return };
    let (written_port, typed) = (free(), free());
    let ports = json!([
        { "name": "http", "containerPort": 80, "hostPort": written_port, "hostIP": "127.0.0.1" },
        { "name": "dns", "containerPort": 53, "protocol": "UDP" },
    ]);
    let file = written(&home, "replaced", &with_ports(&ports));
    let replaced =
        format!("replaced: `-p 127.0.0.1:{typed}:http` takes the place of spec.containers[0].ports[0].hostPort");
    let publish = format!("127.0.0.1:{typed}:http");
    home.sandpod(&["plan", "-p", &publish, &file]).ends_with(0).complains(&replaced);
    home.sandpod(&["run", "-d", "-q", "-p", &publish, "-p", "127.0.0.1::dns", &file]).ends_with(0);
    let listed = home.sandpod(&["port", "replaced"]).ends_with(0).stdout;
    assert!(listed.starts_with(&format!("80/tcp -> 127.0.0.1:{typed}\n53/udp -> 127.0.0.1:")), "{listed}");
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let spelled = format!("127.0.0.1:{typed}\n");
    assert_eq!(home.sandpod(&["port", "replaced", "http"]).ends_with(0).stdout, format!("127.0.0.1:{typed}\n"));
    home.sandpod(&["port", "replaced", "htp"]).ends_with(2).complains("its named ports are `http` (80/tcp), `dns`");
    home.sandpod(&["port", "replaced", "53"]).ends_with(125).complains("it publishes 53/udp");
    assert_eq!(home.sandpod(&["port", "replaced", "80/TCP"]).ends_with(0).stdout, spelled, "as the manifest spells it");
}

#[test]
fn a_port_that_the_manifest_does_not_name() {
    let Some(home) = Home::new("publish_named") else { return };
    let file = written(&home, "named", &with_ports(&json!([{ "name": "http", "containerPort": 80 }])));
    home.sandpod(&["plan", "-p", "8080:htpt", &file])
        .ends_with(2)
        .silently()
        .complains("error: cannot publish `8080:htpt`\n")
        .complains("the pod has no port `htpt`; its named ports are `http` (80/tcp)");
    home.sandpod(&["plan", "-p", "8080:http/TCP", &file]).ends_with(0).says("80/tcp");
    home.sandpod(&["plan", "-p", "8080:http", "--image", "host:"])
        .ends_with(2)
        .complains("none of its ports has a name");
}

#[test]
fn on_the_hosts_network_the_field_is_blamed_that_does_not_fit() {
    let Some(home) = Home::new("publish_host_network") else { return };
    let file = written(&home, "elsewhere", &with_ports(&json!([{ "containerPort": 80, "hostPort": 8080 }])));
    let said = home.sandpod(&["run", "-d", "--network", "host", &file]).ends_with(2).silently();
    let said = said
        .complains("port 8080 of the host cannot lead to port 80")
        .complains("spec.containers[0].ports[0].hostPort of container `web` is 8080")
        .complains("hint: leave out --network host; or set that hostPort to 80");
    assert!(!said.stderr.contains("-p"), "{}", said.explain());
    // The manifest is one line of JSON.
    assert!(said.stderr.contains(&format!("{file}:1:")), "{}", said.explain());
    home.sandpod(&["plan", "--network", "host", "-p", "8080:80", "--image", "host:"])
        .ends_with(2)
        .complains("hint: leave out -p, or --network host");
    let mut annotated: Value = serde_json::from_slice(&std::fs::read(&file).expect("written")).expect("JSON");
    annotated["metadata"]["annotations"] = json!({ "sandpod.dev/network": "host" });
    let annotated = home.file("annotated.json", annotated.to_string(), 0o644);
    home.sandpod(&["plan", annotated.to_str().expect("UTF-8")]).ends_with(2).complains(
        "hint: leave out metadata.annotations.sandpod.dev/network, which is `host`; or set that hostPort to 80",
    );
    home.sandpod(&["plan", "--network", "none", annotated.to_str().expect("UTF-8")]).ends_with(0);
    let same = written(&home, "same", &with_ports(&json!([{ "containerPort": 8080, "hostPort": 8080 }])));
    home.sandpod(&["plan", "--network", "host", &same]).ends_with(0);
}

#[test]
fn plan_sees_ports_and_names_that_are_taken_and_takes_none() {
    let Some(home) = Home::new("plan_taken") else { return };
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").expect("bind"), UdpSocket::bind("127.0.0.1:0").expect("bind"));
    let [tcp_port, udp_port] = [tcp.local_addr(), udp.local_addr()].map(|address| address.expect("bound").port());
    let ports = json!([
        { "containerPort": 1, "hostPort": tcp_port },
        { "containerPort": 2, "hostPort": udp_port, "protocol": "UDP", "hostIP": "127.0.0.1" },
    ]);
    let file = written(&home, "taken", &with_ports(&ports));
    let said = home.sandpod(&["plan", &file]).ends_with(0).says("taken");
    for (port, protocol) in [(tcp_port, "tcp"), (udp_port, "udp")] {
        let line = said.stderr.lines().find(|line| line.starts_with(&format!("warning: port {port} of the host (")));
        let line = line.unwrap_or_else(|| panic!("no warning for {protocol}: {}", said.explain()));
        assert!(line.contains(&format!("has it, at 127.0.0.1:{port}")), "{line}");
    }
    drop((tcp, udp));
    let said = home.sandpod(&["plan", &file]).ends_with(0);
    assert!(!said.stderr.contains("is taken"), "{}", said.explain());

    home.sandpod(&["run", "-d", "-q", &file]).ends_with(0);
    home.sandpod(&["plan", &file])
        .ends_with(0)
        .complains("warning: there is already a pod `taken` (its id is ")
        .complains(&format!("port {tcp_port} of the host ({tcp_port}->1/tcp) is taken: pod `taken` has it"));
}

/// What a pod would lack has nothing to do with a name that is taken.
#[test]
fn a_start_that_is_refused_talks_of_nothing_else() {
    let Some(home) = Home::new("refused_start") else { return };
    let file = written(&home, "first", &json!({ "containers": [idle("one")] }));
    home.sandpod(&["run", "-d", &file]).ends_with(0);
    let said = home.sandpod(&["run", "-d", &file]).ends_with(125).silently();
    assert!(said.stderr.starts_with("error: there is already a pod `first`"), "{}", said.explain());
}

#[test]
fn more_ports_than_files_may_be_open() {
    let Some(home) = Home::new("publish_too_many") else { return };
    let few = |words: &str| {
        let script = format!("ulimit -n 30; exec {} {words}", env!("CARGO_BIN_EXE_sandpod"));
        let said = home.said(home.program("/bin/sh", &["-c", &script]), b"");
        said.ends_with(125).complains("may have no more files open").complains("raise it (`ulimit -n 65536`)");
    };
    few("run -q -p 127.0.0.1::1000-1100 --image host: -- true");
    assert!(home.remains().is_empty());
    let file = written(&home, "forwarded", &json!({ "containers": [idle("one")] }));
    home.sandpod(&["run", "-d", "-q", &file]).ends_with(0);
    let forwards: Vec<String> = (1000..1100).map(|port| format!(":{port}")).collect();
    few(&format!("port-forward forwarded {}", forwards.join(" ")));
}

#[test]
fn ports_of_the_hosts_network_are_listed_and_looked_at() {
    let Some(home) = Home::new("publish_on_host") else { return };
    let held = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = held.local_addr().expect("bound").port();
    let mut spec = with_ports(&json!([{ "containerPort": port, "hostPort": port }, { "containerPort": 1 }]));
    spec["hostNetwork"] = json!(true);
    let file = written(&home, "own", &spec);
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("Linux 4.11");
    let low = first.trim().parse::<u16>().expect("a number") > 1;
    for verb in [&["plan"][..], &["run", "-d"]] {
        let said = home.sandpod(&[verb, &[file.as_str()]].concat()).ends_with(0).complains(&format!(
            "warning: port {port} of the host (0.0.0.0:{port}->{port}/tcp) is taken: process {} (",
            std::process::id()
        ));
        let reach =
            "warning: port 1 of the host is out of reach for container `web`, which is on its network: only root";
        assert_eq!(said.stderr.contains(reach), low, "{}", said.explain());
    }
    let listed = home.sandpod(&["port", "own"]).ends_with(0).stdout;
    let rows = [port, 1].map(|port| format!("{port}/tcp -> 0.0.0.0:{port} (host network)\n")).concat();
    assert_eq!(listed, rows);
    assert_eq!(home.sandpod(&["port", "own", &port.to_string()]).ends_with(0).stdout, format!("0.0.0.0:{port}\n"));
    home.sandpod(&["ps", "-o", "wide"])
        .ends_with(0)
        .says(&format!("0.0.0.0:{port}->{port}/tcp,0.0.0.0:1->1/tcp (host network)"));
    home.sandpod(&["plan", "-p", "87", &file]).ends_with(2).complains("error: port 87/tcp cannot be published");
    home.sandpod(&["port", "own", "2"])
        .ends_with(125)
        .complains("what it listens on is the host's own, at 127.0.0.1:2");
}

/// It would connect to itself, and that connection again, until all descriptors are gone.
#[test]
fn a_port_of_the_hosts_network_is_not_forwarded_to_itself() {
    let Some(home) = Home::new("forward_itself") else { return };
    home.sandpod(&[
        "run",
        "-d",
        "-q",
        "--name",
        "on-host",
        "--network",
        "host",
        "--image",
        "host:",
        "--",
        "sleep",
        "60",
    ])
    .ends_with(0);
    let port = free().to_string();
    for same in [port.clone(), format!("{port}:{port}"), format!("{port}/udp")] {
        home.sandpod(&["port-forward", "on-host", &same])
            .ends_with(2)
            .silently()
            .complains(&format!("error: cannot forward `{same}`"))
            .complains("the pod is on this host's network")
            .complains(&format!("connect to 127.0.0.1:{port} itself"));
    }
    // The pod has it: not the error of a port that is taken.
    let held = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = held.local_addr().expect("bound").port().to_string();
    home.sandpod(&["port-forward", "on-host", &port]).ends_with(2).complains("on this host's network");
}
