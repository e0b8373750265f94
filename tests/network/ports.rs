//! Ports of real pods: `-p`, `port`, `port-forward`, and the proxy process between.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Home, Pod, Reaped, and, fetch, idle, is_live, sh, skip, until, web};
use serde_json::{Value, json};

fn published(home: &Home, pod: &Pod<'_>) -> String {
    home.sandpod(&["port", &pod.name, "8000"]).ends_with(0).stdout.trim().to_owned()
}

fn supervisor_of(pod: &Pod<'_>) -> u32 {
    pod.inspect()["supervisor"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid")
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill").success());
}

#[test]
fn a_published_port_leads_into_the_pod_until_its_end() {
    let Some(home) = Home::new("published_port") else { return };
    let pod = home.start_with("published", &web(), &["-p", "127.0.0.1::8000"]);
    let address = published(&home, &pod);
    until("the server is up", || fetch(&address).filter(|answer| answer == "published"));
    let listed = pod.does(&["port"]).ends_with(0).stdout;
    assert_eq!(listed, format!("8000/tcp -> {address}\n"));
    let json: Value = serde_json::from_str(&pod.does(&["port", "--json"]).ends_with(0).stdout).expect("JSON");
    let (_, port) = address.split_once(':').expect("a port");
    assert_eq!(json[0]["hostPort"], port.parse::<u16>().expect("a number"));
    assert_eq!((&json[0]["hostIP"], &json[0]["containerPort"]), (&json!("127.0.0.1"), &json!(8000)));
    home.sandpod(&["port", "published", "81"]).ends_with(125).complains("does not publish port 81");

    // A second pod is refused before anything of it exists, and the first does not notice.
    let manifest = home.manifest_of("second", &web());
    let second = ["run", "-d", "-q", "-p", &format!("{port}:8000"), manifest.to_str().expect("UTF-8")];
    home.sandpod(&second).ends_with(125).silently().complains("pod `published` has it");
    assert_eq!(home.remains().len(), 2, "one pod's two directories");
    assert!(fetch(&address).is_some());

    home.sandpod(&["rm", "-f", "published"]).ends_with(0);
    assert!(TcpStream::connect(&address).is_err(), "the port is free again");
}

#[test]
fn the_proxy_has_no_rights_and_is_replaced_when_it_dies() {
    let Some(home) = Home::new("proxy_rights") else { return };
    let pod = home.start_with("rights", &web(), &["-p", "127.0.0.1::8000"]);
    let address = published(&home, &pod);
    until("the server is up", || fetch(&address));
    let proxy = pod.port_proxy();
    let status = fs::read_to_string(format!("/proc/{proxy}/status")).expect("it lives");
    for line in
        ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    kill(proxy);
    // The listener never went away.
    assert_eq!(fetch(&address).as_deref(), Some("rights"));
    let second = pod.port_proxy();
    assert_ne!(second, proxy);
    kill(supervisor_of(&pod));
    until("it dies with the supervisor", || (!is_live(second)).then_some(()));
    // A process is a zombie to whoever reads /proc before its last socket is closed.
    until("the port is free", || TcpStream::connect(&address).is_err().then_some(()));
}

#[test]
fn however_often_the_proxy_is_killed_the_ports_come_back_and_that_is_told() {
    let Some(home) = Home::new("proxy_killed") else { return };
    let pod = home.start_with("killed", &web(), &["-p", "127.0.0.1::8000"]);
    let address = published(&home, &pod);
    until("the server is up", || fetch(&address));
    let ports = || pod.inspect()["network"]["ports"].clone();
    assert_eq!(ports(), json!({ "state": "Open", "trouble": null, "restarts": 0 }));
    for count in 1..=4 {
        kill(pod.port_proxy());
        until("another one", || {
            (ports()["restarts"].as_u64() >= Some(count) && ports()["state"] == "Open").then_some(())
        });
        assert_eq!(fetch(&address).as_deref(), Some("killed"), "{count}");
    }
    assert_eq!(pod.inspect()["record"]["publishing"]["proxy"]["pid"], pod.port_proxy());
    // Each time it stays away for longer: sooner or later long enough for all of this.
    until("it is said while there is none", || {
        let before = ports()["restarts"].as_u64();
        kill(pod.port_proxy());
        let now = until("it is noted", || {
            let now = ports();
            (now["trouble"].is_string() || now["restarts"].as_u64() > before).then_some(now)
        });
        let why = now["trouble"].as_str()?;
        assert_eq!((why, &now["state"]), ("the port proxy was ended by SIGKILL", &json!("Down")));
        let port = pod.does(&["port"]).ends_with(0);
        let list = home.sandpod(&["ps", "-o", "wide"]).ends_with(0).stdout;
        let said = port.stderr.contains("nobody answers") && port.stderr.contains(why);
        (said && list.contains("Running (ports down)") && list.contains("8000/tcp (down)")).then_some(())
    });
    // Whoever comes meanwhile waits.
    assert_eq!(fetch(&address).as_deref(), Some("killed"));
    until("it is up", || (ports()["state"] == "Open" && ports()["trouble"].is_null()).then_some(()));
    assert!(!home.sandpod(&["ps", "-o", "wide"]).stdout.contains("down"));
    assert_eq!(pod.restarts("web"), 0);
}

/// It is the supervisor that waits for the proxy's end, or `rm` where that was killed.
#[test]
fn the_ports_of_a_removed_pod_are_free_at_once() {
    let Some(home) = Home::new("ports_free") else { return };
    for killed in [false, true, false, true] {
        let pod = home.start_with("free", &web(), &["-p", "127.0.0.1::8000"]);
        let address = published(&home, &pod);
        if killed {
            kill(supervisor_of(&pod));
        }
        pod.does(&["rm", "-f"]).ends_with(0);
        drop(TcpListener::bind(&address).unwrap_or_else(|error| panic!("{address}, {killed}: {error}")));
    }
}

#[test]
fn a_port_that_cannot_be_had_names_who_or_what_is_in_the_way() {
    let Some(home) = Home::new("port_in_use") else { return };
    let manifest = home.manifest(&web());
    let manifest = manifest.to_str().expect("UTF-8");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("bound").port();
    // Free, and bound first: all or nothing.
    let options = ["run", "-d", "-q", "-p", "127.0.0.1::8001", "-p", &format!("{port}:8000"), manifest];
    home.sandpod(&options).ends_with(125).silently().complains(&format!("has it, at 127.0.0.1:{port}"));
    home.sandpod(&["run", "-d", "-q", "-p", "192.0.2.1:9999:80", manifest])
        .ends_with(125)
        .complains("no address of this host");
    home.sandpod(&["run", "-d", "-q", "-p", "9999:80", "-p", "127.0.0.1:9999:81", manifest])
        .ends_with(2)
        .complains("published twice");
    home.sandpod(&["run", "-d", "-q", "-p", "nonsense", manifest]).ends_with(2).complains("[IP:]HOST:CONTAINER");
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("Linux 4.11");
    if first.trim().parse::<u16>().expect("a number") > 80 {
        home.sandpod(&["plan", "-p", "80:80", manifest]).ends_with(125).complains("ip_unprivileged_port_start is");
    }
    assert!(home.remains().is_empty());
}

#[test]
fn port_forward_reaches_what_is_not_published() {
    let Some(home) = Home::new("port_forward") else { return };
    let pod = home.start_with("forward", &web(), &[]);
    let forward = |arguments: &[&str]| {
        let mut command = home.command(&[&["port-forward", "forward"], arguments].concat());
        let mut child = Reaped(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sandpod"));
        let mut said = BufReader::new(child.0.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("UTF-8");
        let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.strip_suffix(" -> 8000\n"));
        (child, address.unwrap_or_else(|| panic!("{line:?}")).to_owned())
    };
    let (mut interrupted, address) = forward(&[":8000"]);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    until("the server is up", || fetch(&address).filter(|answer| answer == "forward"));
    Command::new("kill").args(["-INT", &interrupted.0.id().to_string()]).status().expect("kill");
    assert_eq!(interrupted.0.wait().expect("it ends").code(), Some(0));

    let (mut ended, address) = forward(&["--address", "127.0.0.1", ":8000"]);
    assert_eq!(fetch(&address).as_deref(), Some("forward"));
    // What it has open is hidden from everybody; who it is is told.
    let (_, port) = address.split_once(':').expect("a port");
    home.sandpod(&["port-forward", "forward", &format!("{port}:8000")])
        .ends_with(125)
        .complains(&format!("process {} (`", ended.0.id()))
        .complains(&format!(" has it, at {address}"));
    pod.does(&["port"]).ends_with(0).silently();

    // An ended pod has neither address nor port.
    let over = home.start_with("over", &web(), &["-p", "127.0.0.1::8000"]);
    let wide = |of: &str| {
        let list = home.sandpod(&["ps", "-a", "-o", "wide"]).ends_with(0).stdout;
        list.lines()
            .find(|line| line.starts_with(of))
            .map(|line| line.split_whitespace().rev().take(2).collect::<Vec<_>>().join(" "))
    };
    assert!(wide("over").is_some_and(|shown| shown.contains("->8000/tcp")));
    over.does(&["stop"]).ends_with(0);
    assert_eq!(wide("over").as_deref(), Some("- -"));
    over.does(&["rm"]).ends_with(0);

    // As kubectl takes it: a pod by its kind, several ports, addresses that overlap.
    let mut command =
        home.command(&["port-forward", "pod/forward", "--address", "127.0.0.1,localhost", ":8000", ":8000"]);
    let mut several = Reaped(command.stdout(Stdio::piped()).spawn().expect("sandpod"));
    let lines = BufReader::new(several.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let addresses = lines.filter_map(|line| Some(line.split_once("from ")?.1.split_once(" -> 8000")?.0.to_owned()));
    let of_ipv4: Vec<String> = addresses.filter(|address| address.starts_with("127.")).take(2).collect();
    assert_eq!(of_ipv4.len(), 2, "{of_ipv4:?}");
    for address in of_ipv4 {
        assert_eq!(fetch(&address).as_deref(), Some("forward"), "{address}");
    }
    drop(several);
    home.sandpod(&["rm", "-f", "forward"]).ends_with(0);
    assert_eq!(ended.0.wait().expect("it ends").code(), Some(125));
    let mut why = String::new();
    ended.0.stderr.take().expect("piped").read_to_string(&mut why).expect("UTF-8");
    assert!(why.contains("pod `forward` has ended"), "{why}");
    home.sandpod(&["port-forward", "forward", "80"]).ends_with(125);
}

#[test]
fn a_local_port_that_cannot_be_had_for_a_forward() {
    let Some(home) = Home::new("forward_refused") else { return };
    let pod = home.start_with("refused", &json!({ "containers": [idle("one")] }), &[]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("bound").port();
    pod.home
        .sandpod(&["port-forward", "refused", &format!("{port}:80")])
        .ends_with(125)
        .silently()
        .complains(&format!("error: cannot forward `{port}:80`\n"))
        .complains(&format!("listening on 127.0.0.1:{port} of this host, for port 80 of the pod"))
        .complains(&format!("has it, at 127.0.0.1:{port}; end it, or forward another local port: :80 takes any"));
    pod.home
        .sandpod(&["port-forward", "refused", "9999:80", "9999:81"])
        .ends_with(2)
        .silently()
        .complains("error: cannot forward `9999:81`\n  port 9999 of this host is forwarded by `9999:80` already\n");
    for (words, hint) in [
        (["9000:80", "refused"], "hint: the pod comes first: `sandpod port-forward refused 9000:80`"),
        (["svc/refused", "80"], "hint: of all kinds there are only pods here, no `svc`"),
    ] {
        pod.home.sandpod(&["port-forward", words[0], words[1]]).ends_with(125).silently().complains(hint);
    }
    // A pod's supervisor holds its ports: nobody is told to end that.
    let other = home.start_with("published-there", &web(), &["-p", "127.0.0.1::8000"]);
    let address = published(&home, &other);
    let (_, port) = address.split_once(':').expect("a port");
    let said = pod.home.sandpod(&["port-forward", "refused", &format!("{port}:80")]).ends_with(125);
    assert!(said.stderr.contains("pod `published-there` has it"), "{}", said.explain());
    assert!(!said.stderr.contains("process "), "{}", said.explain());
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("Linux 4.11");
    if first.trim().parse::<u16>().expect("a number") > 22 {
        pod.home
            .sandpod(&["port-forward", "refused", "22:22"])
            .ends_with(125)
            .complains(&format!("only root may bind ports below {} here", first.trim()))
            .complains("like 8022:22; :22 takes any");
    }
}

/// Every pod has the same address, and means itself by it.
#[test]
fn another_pods_ports_are_reached_where_they_are_published_and_nowhere_else() {
    let test = "another_pods_ports";
    let Some(home) = Home::new(test) else { return };
    let quiet = home.start_with("quiet", &web(), &[]);
    let asking = home.start_with("asking", &json!({ "containers": [idle("one")] }), &[]);
    if asking.user_mode().is_null() {
        return skip(test, "there is no user-mode network here");
    }
    // An address of the host that is not its loopback: where it would begin from. No packet is sent.
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.200:9")?;
        Ok(socket.local_addr()?.ip())
    });
    let Ok(own) = own else { return skip(test, "the host has no address but its loopback's") };
    let [address, gateway, dns] = ["address", "gateway", "dns"].map(|which| asking.ipv4(which));
    assert_eq!(address, quiet.ipv4("address"));
    let own = own.to_string();
    let addresses = [address.as_str(), &gateway, &dns, "127.0.0.1", &own];
    // Who answers where, as far as anybody does.
    let answers = |port: &str| -> Vec<String> {
        let get = r"GET /hostname HTTP/1.0\r\n\r\n";
        let ask = format!(r#"exec 3<>/dev/tcp/$0/{port} && printf "{get}" >&3 && tail -n 1 <&3"#);
        let ask = format!("timeout 10 bash -c '{ask}' $a 2>/dev/null");
        let all = addresses.join(" ");
        let said = asking.sh("one", &format!("for a in {all}; do (echo \"$a $({ask})\") & done; wait"));
        assert_eq!(said.lines().count(), addresses.len(), "{said}");
        said.lines()
            .filter_map(|line| line.strip_suffix(" quiet").or(line.strip_suffix(" loud")))
            .map(str::to_owned)
            .collect()
    };
    until("its server is up", || {
        (quiet.sh("web", "busybox wget -qO- http://127.0.0.1:8000/hostname || true") == "quiet").then_some(())
    });
    assert_eq!(answers("8000"), Vec::<String>::new(), "another pod's port that is not published");

    let loud = home.start_with("loud", &web(), &["-p", "0.0.0.0::8000", "-p", "127.0.0.1::8000"]);
    let both = loud.does(&["port"]).ends_with(0).stdout;
    let ports: Vec<&str> = both.lines().filter_map(|line| line.rsplit_once(':')).map(|(_, port)| port).collect();
    until("its server is up", || fetch(&format!("127.0.0.1:{}", ports[0])));
    assert_eq!(answers(ports[0]), std::slice::from_ref(&own), "published on every address of the host");
    assert_eq!(answers(ports[1]), Vec::<String>::new(), "published on the host's loopback");
}

/// A `host:` container that runs a Perl program.
fn perl(program: &str) -> Value {
    let container = and(sh("server", ""), json!({ "command": ["perl", "-e", program] }));
    json!({ "terminationGracePeriodSeconds": 0, "containers": [container] })
}

#[test]
fn datagrams_go_into_a_pod_and_back_to_whoever_sent_them() {
    let Some(home) = Home::with("udp_of_a_pod", &["perl"]) else { return };
    let echo = r#"use Socket; socket(S, PF_INET, SOCK_DGRAM, 0) or die $!; bind(S, sockaddr_in(7000, INADDR_ANY)) or die $!;
        while (defined($from = recv(S, $m, 65535, 0))) { send(S, "pod:$m", 0, $from) }"#;
    let pod = home.start_with("udp", &perl(echo), &["-p", "127.0.0.1::7000/udp"]);
    let address = pod.home.sandpod(&["port", "udp", "7000/udp"]).ends_with(0).stdout.trim().to_owned();
    assert_eq!(pod.does(&["port"]).stdout, format!("7000/udp -> {address}\n"));
    let clients = [0, 1].map(|_| {
        let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
        client.connect(&address).expect("connect");
        client.set_read_timeout(Some(Duration::from_millis(200))).expect("SO_RCVTIMEO");
        client
    });
    let mut buffer = vec![0; 65_536];
    for (client, message) in [(0, vec![b'a'; 10]), (1, vec![b'b'; 9000]), (0, vec![b'c'; 60_000])] {
        until("its answer", || {
            // Until the server is there, and where the kernel has lost one, again.
            let _ = clients[client].send(&message);
            let length = clients[client].recv(&mut buffer).ok()?;
            (buffer[..length].strip_prefix(b"pod:") == Some(&message[..])).then_some(())
        });
    }
}

#[test]
fn a_pods_server_is_told_its_client_by_a_header() {
    let Some(home) = Home::with("proxy_header", &["perl"]) else { return };
    // The first 33 bytes of each connection, in hexadecimal.
    let server = r#"use Socket; socket(S, PF_INET, SOCK_STREAM, 0) or die $!; bind(S, sockaddr_in(8000, INADDR_ANY)) or die $!;
        listen(S, 5); while (accept(C, S)) {
            $b = ""; while (length $b < 33) { sysread(C, $b, 33 - length $b, length $b) or last }
            syswrite(C, unpack("H*", $b)); close C }"#;
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "header", "annotations": { "sandpod.dev/proxy-protocol": "v2" } },
        "spec": perl(server),
    });
    let file = home.file("header.json", manifest.to_string(), 0o644);
    home.sandpod(&["run", "-d", "-q", "-p", "127.0.0.1::8000", file.to_str().expect("UTF-8")]).ends_with(0);
    let address = home.sandpod(&["port", "header", "8000"]).ends_with(0).stdout.trim().to_owned();
    let (own, said) = until("the server is up", || {
        let mut client = TcpStream::connect(&address).ok()?;
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("SO_RCVTIMEO");
        client.write_all(b"hello").ok()?;
        let mut said = String::new();
        client.read_to_string(&mut said).ok()?;
        Some((client.local_addr().expect("bound").port(), said))
    });
    let port: u16 = address.rsplit_once(':').expect("a port").1.parse().expect("a number");
    // Signature, version 2 and PROXY, TCP over IPv4, 12 bytes; addresses, ports; then what the client says.
    let expected = format!("0d0a0d0a000d0a515549540a2111000c7f0000017f000001{own:04x}{port:04x}68656c6c6f");
    assert_eq!(said, expected);
}
