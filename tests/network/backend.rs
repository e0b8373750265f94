//! A pod's own network, through each of the programs that can make one: what it is, and what it does not reach.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::network_support::{BACKENDS, connected, of_pod, pause, record};
use crate::support::{Pod, and, idle, once, sh, skip, until};

#[test]
fn an_address_a_route_and_a_name_server() {
    for backend in BACKENDS {
        let test = "an_address_a_route_and_a_name_server";
        let Some(home) = connected(test, backend) else { return };
        let pod = home.start_with(&home.test, &json!({ "containers": [idle("one")] }), &["--network", backend]);
        let [address, gateway, dns] = ["address", "gateway", "dns"].map(|which| pod.ipv4(which));
        assert!(pod.sh("one", "busybox ip -4 addr show eth0").contains(&format!("inet {address}/24")), "{backend}");
        assert!(pod.sh("one", "busybox ip route").contains(&format!("default via {gateway}")), "{backend}");
        assert!(pod.sh("one", "cat /etc/resolv.conf").contains(&format!("nameserver {dns}")), "{backend}");
        assert!(pod.sh("one", "cat /etc/hosts").contains(&address), "{backend}");
        assert_eq!(pod.sh("one", "cat /sys/class/net/eth0/mtu"), "65520", "{backend}");
        if let Some(ipv6) = pod.user_mode()["ipv6"]["address"].as_str() {
            until("the IPv6 address", || pod.sh("one", "busybox ip -6 addr show eth0").contains(ipv6).then_some(()));
        }
        assert!(home.sandpod(&["ps", "-o", "wide"]).stdout.contains(&address), "{backend}");
        assert_eq!(pod.inspect()["network"]["addresses"][0], address.as_str(), "{backend}");
        assert_eq!((&record(&pod)["state"], &record(&pod)["sandboxed"]), (&json!("Up"), &json!(true)), "{backend}");
    }
}

#[test]
fn low_ports_and_ping_for_everybody() {
    let test = "low_ports_and_ping_for_everybody";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let perl = "use Socket; socket(S, PF_INET, SOCK_STREAM, 0) or die $!; bind(S, sockaddr_in(80, INADDR_ANY)) or die $!; \
                socket(P, PF_INET, SOCK_DGRAM, 1) or die $!; \
                send(P, pack('C2 n3 a*', 8, 0, 0, 0, 1, 'anybody?'), 0, sockaddr_in(0, inet_aton('127.0.0.1'))) or die $!; \
                alarm 10; recv(P, $reply, 100, 0); print unpack('C', $reply), substr($reply, 8)";
    let container = and(
        sh("main", ""),
        json!({
            "command": ["perl", "-e", perl],
            "securityContext": { "runAsUser": 1000, "runAsGroup": 1000 },
        }),
    );
    let said = home.run_with(&once([container]), &["--userns", "isolated"]).ends_with(0);
    assert_eq!(said.stdout.trim(), "0anybody?", "an echo reply");
}

/// A server on the loopback of this machine, which says so to whoever connects.
struct HostService {
    port: u16,
    /// Also on ::1.
    ipv6: bool,
}

impl HostService {
    fn start(test: &str) -> HostService {
        let (four, six) = until("a port that is free in both families", || {
            let four = TcpListener::bind("127.0.0.1:0").expect("127.0.0.1");
            match TcpListener::bind(("::1", four.local_addr().expect("an address").port())) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => None,
                six => Some((four, six)),
            }
        });
        let port = four.local_addr().expect("an address").port();
        let six = six.map_err(|error| skip(&format!("{test}, IPv6"), &format!("::1 cannot be bound: {error}"))).ok();
        let ipv6 = six.is_some();
        for listener in [Some(four), six].into_iter().flatten() {
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let _ = stream.write_all(b"of the host\n");
                    // Until the other end closes: data that is not read yet must not be reset.
                    let _ = stream.read(&mut [0; 16]);
                }
            });
        }
        HostService { port, ipv6 }
    }

    /// Those of the addresses at which a pod reaches it.
    fn reached(&self, pod: &Pod<'_>, addresses: &[String]) -> Vec<String> {
        let port = self.port;
        let ask = format!("exec 3<>/dev/tcp/$0/{port} && head -n 1 <&3");
        let words = addresses.join(" ");
        let script =
            format!("for a in {words}; do (echo \"$a $(timeout 5 bash -c '{ask}' $a 2>/dev/null)\") & done; wait");
        let said = pod.sh("one", &script);
        assert_eq!(said.lines().count(), addresses.len(), "{said}");
        said.lines().filter_map(|line| line.strip_suffix(" of the host")).map(str::to_owned).collect()
    }
}

/// The address that the pod sends IPv6 to, once it knows.
fn router(pod: &Pod<'_>) -> String {
    let found = until("the pod's IPv6 route", || {
        let routes = pod.sh("one", "busybox ip -6 route show default");
        Some(routes.strip_prefix("default via ")?.split_whitespace().next()?.to_owned())
    });
    if found.starts_with("fe80:") { found + "%eth0" } else { found }
}

#[test]
fn the_hosts_loopback_is_closed_unless_it_is_opened() {
    let test = "the_hosts_loopback_is_closed_unless_it_is_opened";
    let service = HostService::start(test);
    for backend in BACKENDS {
        let Some(home) = connected(test, backend) else { return };
        let spec = json!({ "containers": [idle("one")] });
        let start = |options: &[&str]| {
            let pod = home.start_with(&home.test, &spec, &[&["--network", backend], options].concat());
            let mut addresses = vec![pod.ipv4("gateway"), pod.ipv4("dns")];
            addresses.extend(["127.0.0.1", "::1", "169.254.1.1", "169.254.169.254"].map(str::to_owned));
            // Where the host has a way out with IPv6.
            let has_ipv6 = !pod.user_mode()["ipv6"].is_null();
            let router = has_ipv6.then(|| router(&pod));
            addresses.extend(router.clone());
            // libslirp's host and name server.
            addresses.extend(has_ipv6.then(|| ["fd00::2", "fd00::3"].map(str::to_owned)).into_iter().flatten());
            addresses.sort();
            addresses.dedup();
            (pod, addresses, router)
        };
        let (closed, addresses, _) = start(&[]);
        let reached = service.reached(&closed, &addresses);
        assert_eq!(reached, Vec::<String>::new(), "{backend}: these lead to the host's loopback");
        closed.does(&["rm", "-f"]).ends_with(0);

        // The same questions have an answer there.
        let (open, addresses, router) = start(&["--allow-host-loopback"]);
        let mut expected = vec![open.ipv4("gateway")];
        // slirp4netns's router is no address of its network.
        let six = router.map(|router| if backend == "slirp4netns" { "fd00::2".to_owned() } else { router });
        expected.extend(six.filter(|_| service.ipv6));
        let mut reached = service.reached(&open, &addresses);
        reached.sort();
        assert_eq!(reached, expected, "{backend}");
        let manifest = home.manifest(&spec);
        let shown = home.sandpod(&["plan", "--network", backend, "--allow-host-loopback", manifest.to_str().unwrap()]);
        assert!(shown.stdout.contains("REACHABLE"), "{}", shown.explain());
        open.does(&["rm", "-f"]).ends_with(0);
    }
}

/// A socket that is bound to the interface skips the kernel's table of local addresses: what it sends to 127.0.0.1 would go to
/// slirp4netns or pasta, which take it for the host's. A raw packet would, too, and nobody may send one by default.
#[test]
fn the_hosts_loopback_is_closed_to_sockets_of_the_interface() {
    let test = "the_hosts_loopback_is_closed_to_sockets_of_the_interface";
    // A port that is free for UDP may be that of a connection of another test.
    let (four, port, listener) = (0..100)
        .find_map(|_| {
            let four = UdpSocket::bind("127.0.0.1:0").expect("127.0.0.1");
            let port = four.local_addr().expect("an address").port();
            TcpListener::bind(("127.0.0.1", port)).ok().map(|listener| (four, port, listener))
        })
        .expect("a port that is free for UDP and TCP");
    let six = UdpSocket::bind(("::1", port));
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    for socket in [Some(&four), six.as_ref().ok()].into_iter().flatten() {
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("SO_RCVTIMEO");
    }
    let send = format!(
        "use Socket qw(:all); \
         $SIG{{ALRM}} = sub {{ print 'in-vain '; }}; \
         for ([PF_INET, '127.0.0.1'], [PF_INET, '127.1.2.3'], [PF_INET6, '::1'], [PF_INET6, '::ffff:127.0.0.1']) {{ \
           my ($family, $address) = @$_; \
           for $type (SOCK_DGRAM, SOCK_STREAM) {{ \
             socket(S, $family, $type, 0) or die \"socket: $!\"; \
             setsockopt(S, 1, 25, \"eth0\\0\") or die \"SO_BINDTODEVICE: $!\"; \
             my $to = $family == PF_INET6 ? pack_sockaddr_in6({port}, inet_pton(AF_INET6, $address)) \
                                          : pack_sockaddr_in({port}, inet_aton($address)); \
             alarm($address eq '127.0.0.1' ? 3 : 1); \
             print connect(S, $to) && defined send(S, 'from the pod', 0) ? 'sent ' : 'refused '; \
             alarm 0; \
           }} \
         }} \
         print socket(R, 17, 3, 0) ? 'raw' : 'no-raw';"
    );
    let came = || {
        let datagram = [Some(&four), six.as_ref().ok()].into_iter().flatten().any(|s| s.recv(&mut [0; 64]).is_ok());
        (datagram, listener.accept().is_ok())
    };
    for backend in BACKENDS {
        let Some(home) = connected(test, backend) else { return };
        let sender = |script: &str| and(sh("main", ""), json!({ "command": ["sh", "-c", script, &send] }));
        let plan = |container| {
            let manifest = home.manifest(&once([container]));
            home.sandpod(&["plan", "--network", backend, manifest.to_str().expect("UTF-8")]).ends_with(0).stdout
        };
        let script = "exec perl -e \"$0\"";
        let planned = plan(sender(script));
        let policies = planned.contains("by a rule and a policy");
        assert_eq!(planned.contains("loopback-datagrams"), !policies && backend == "pasta", "{planned}");
        if !policies {
            skip(test, "this kernel has no policies");
            return;
        }
        let said = home.run_with(&once([sender(script)]), &["--network", backend]).ends_with(0);
        assert_eq!(said.stdout.trim(), "refused ".repeat(8) + "no-raw", "{backend}: {}", said.explain());
        assert_eq!(came(), (false, false), "{backend}: something came from the pod");

        // Who may take the policy away is let through, and `plan` says so: it is nothing else that closes it.
        let net_admin = json!({ "securityContext": { "capabilities": { "add": ["NET_ADMIN", "NET_RAW"] } } });
        let opener = and(sender(&format!("ip xfrm policy flush; ip rule del pref 1; {script}")), net_admin);
        assert!(plan(opener.clone()).contains("raw-packets"), "{backend}");
        let said = home.run_with(&once([opener]), &["--network", backend]).ends_with(0);
        assert!(said.stdout.contains("sent ") && said.stdout.ends_with(" raw"), "{backend}: {}", said.explain());
        assert_eq!(came(), (true, true), "{backend}");
        // What else is on its way does not count for the next.
        while came() != (false, false) {}
    }
}

/// Anybody may give a packet a routing header, whose first stop the packet is then addressed to: one that no socket could be
/// connected to by way of the interface, and that pasta takes for the host's.
#[test]
fn the_hosts_loopback_is_closed_to_routing_headers() {
    let test = "the_hosts_loopback_is_closed_to_routing_headers";
    // A segment routing header (RFC 8754): the last stop's place, which the kernel fills, then the first.
    let send = "use Socket qw(:all); \
                for ('::ffff:127.0.0.1', '::', '::127.0.0.1', '::1%eth0', '::%eth0') { \
                  my ($first, $interface) = split /%/; \
                  socket(S, AF_INET6, SOCK_DGRAM, 0) or die $!; \
                  setsockopt(S, 1, 25, \"eth0\\0\") or die $! if $interface; \
                  my $header = pack('CCCCCCn', 0, 4, 4, 1, 1, 0, 0) . (\"\\0\" x 16) . inet_pton(AF_INET6, $first); \
                  setsockopt(S, 41, 57, $header) or do { print 'no header '; next }; \
                  my $to = pack_sockaddr_in6(9, inet_pton(AF_INET6, 'fd00::2')); \
                  print connect(S, $to) && defined send(S, 'x', 0) ? 'sent ' : 'refused '; \
                }";
    for backend in BACKENDS {
        let Some(home) = connected(test, backend) else { return };
        let pod = home.start_with(&home.test, &json!({ "containers": [idle("one")] }), &["--network", backend]);
        if pod.user_mode()["ipv6"].is_null() {
            skip(test, "this host has no IPv6");
            return;
        }
        let sends = |pod: &Pod<'_>| {
            // The route comes by itself, a moment after the network is up.
            until("a route", || pod.sh("one", "ip -6 route").contains("default").then_some(()));
            pod.exec("one", &["perl", "-e", send]).ends_with(0).stdout
        };
        let said = sends(&pod);
        assert!(!said.contains("sent"), "{backend}: {said}");
        let admin = and(idle("one"), json!({ "securityContext": { "capabilities": { "add": ["NET_ADMIN"] } } }));
        let open = home.start_with("open", &json!({ "containers": [admin] }), &["--network", backend]);
        open.sh("one", "ip -6 rule del pref 1");
        assert_eq!(
            sends(&open).contains("sent"),
            !said.contains("no header"),
            "{backend}: it is the rule that refuses"
        );
    }
}

/// The interface is another one then.
#[test]
fn the_hosts_loopback_stays_closed_when_the_network_was_started_again() {
    let test = "the_hosts_loopback_stays_closed_when_the_network_was_started_again";
    let Some(home) = connected(test, "pasta") else { return };
    let pod = home.start_with(&home.test, &json!({ "containers": [idle("one")] }), &["--network", "pasta"]);
    if pod.user_mode()["prohibition"] != "rule-and-policy" {
        skip(test, "this kernel has no policies");
        return;
    }
    let send = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 0); setsockopt(S, 1, 25, \"eth0\\0\") or die \"$!\"; \
                print defined send(S, 'x', 0, pack_sockaddr_in(9, inet_aton('127.0.0.1'))) ? 'sent' : \"$!\"";
    let sends = || pod.exec("one", &["perl", "-e", send]).ends_with(0).stdout;
    assert_eq!(sends(), "Operation not permitted");
    for pid in of_pod("pasta", pause(&pod)) {
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill").success());
    }
    until("another one", || {
        (record(&pod)["restarts"].as_u64() >= Some(1) && record(&pod)["state"] == "Up").then_some(())
    });
    assert_eq!(sends(), "Operation not permitted");
}

/// Inside a user, network and mount namespace of its own, which stands for a host whose name server listens on its
/// loopback, as systemd-resolved does.
#[test]
fn names_are_asked_of_the_hosts_own_server() {
    let test = "names_are_asked_of_the_hosts_own_server";
    for (backend, address) in [("slirp4netns", "127.0.0.1"), ("pasta", "127.0.0.1"), ("slirp4netns", "::1")] {
        let Some(home) = connected(test, backend) else { return };
        let server = r#"
            use Socket qw(:DEFAULT getaddrinfo SOCK_DGRAM); ($error, $at) = getaddrinfo($ARGV[0], 53, {socktype => SOCK_DGRAM});
            socket(S, $at->{family}, SOCK_DGRAM, 0) or die $!; bind(S, $at->{addr}) or die $!;
            open(R, ">", "ready"); close(R);
            while ($from = recv(S, $q, 512, 0)) {
                ($id, $name) = unpack("n x10 a*", $q); $name =~ /^(.*?\0....)/s; $question = $1;
                $answer = unpack("n", substr($question, -4)) == 1
                    ? pack("n n n N n C4", 0xc00c, 1, 1, 60, 4, 192, 0, 2, 77) : "";
                send(S, pack("n6", $id, 0x8180, 1, length $answer ? 1 : 0, 0, 0) . $question . $answer, 0, $from);
            }"#;
        home.file("server.pl", server, 0o644);
        home.file("resolv.conf", format!("nameserver {address}\n"), 0o644);
        let sandpod = env!("CARGO_BIN_EXE_sandpod");
        // The pod's IPv6 address comes by itself, a moment after its network is up.
        let ask = "for i in 1 2 3 4 5 6; do getent ahostsv4 thing.example && exit; sleep 1; done; exit 1";
        // A route to somewhere, since pasta looks for an interface that has one.
        let host = format!(
            "set -e; ip link set lo up; ip tuntap add dev out mode tap; ip addr add 198.51.100.2/24 dev out; ip link set out up
             ip route add default via 198.51.100.1
             ip addr add 2001:db8::2/64 dev out nodad; ip -6 route add default via 2001:db8::1
             mount --bind resolv.conf /etc/resolv.conf
             perl server.pl {address} & server=$!
             while [ ! -e ready ]; do sleep 0.05; done
             {sandpod} run --rm -q --network {backend} --image host: -- sh -c '{ask}' || code=$?
             kill $server; exit ${{code:-0}}"
        );
        let said = home
            .said(home.program("unshare", &["--user", "--map-root-user", "--net", "--mount", "sh", "-c", &host]), b"");
        assert!(said.stdout.contains("192.0.2.77"), "{backend}, {address}: {}", said.explain());
    }
}

/// As docker's `--network container:NAME`.
#[test]
fn a_pod_joins_the_network_of_another() {
    let test = "a_pod_joins_the_network_of_another";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let server =
        sh("server", "mkdir /www; echo page > /www/index.html; exec busybox httpd -f -p 127.0.0.1:8080 -h /www");
    let first = home.start_with("first", &json!({ "containers": [server] }), &[]);
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [idle("one")] });
    let second = home.start_with("second", &spec, &["--network", "pod:first"]);
    until("the other's localhost", || {
        (second.sh("one", "busybox wget -qO- http://127.0.0.1:8080/ || true") == "page").then_some(())
    });
    let of = |pod: &Pod<'_>, kind: &str| pod.inspect()["pause"]["namespaces"][kind].clone();
    assert_eq!((of(&second, "net"), of(&second, "user")), (of(&first, "net"), of(&first, "user")));
    for kind in ["pid", "ipc", "uts", "mnt"] {
        assert_ne!(of(&second, kind), of(&first, kind), "{kind}");
    }
    assert!(second.sh("one", "cat /etc/hosts").contains(&format!("{}\tsecond", first.ipv4("address"))));
    let servers = second.sh("one", "cat /etc/resolv.conf");
    assert_eq!(servers.lines().next(), Some(format!("nameserver {}", first.ipv4("dns")).as_str()));
    assert!(!second.sh("one", "busybox ps").contains("httpd"), "their processes are apart");

    let manifest = home.manifest_of("third", &spec);
    let refused = |options: &[&str], code| {
        home.sandpod(&[&["run", "-d", "-q"], options, &[manifest.to_str().unwrap()]].concat()).ends_with(code)
    };
    refused(&["--network", "pod:nobody"], 125);
    refused(&["--network", "pod:first", "--userns", "isolated"], 2).complains("user namespace");
    refused(&["--network", "pod:first", "--allow-host-loopback"], 2);
    refused(&["--network", "pods"], 2).complains("pod:NAME");

    first.does(&["rm", "-f"]).ends_with(0);
    until("ps says so", || home.sandpod(&["ps"]).stdout.contains("Running (network down)").then_some(()));
    assert!(record(&second)["trouble"].as_str().is_some_and(|why| why.contains("`first`")));
    second.sh("one", "true");
    refused(&["--network", "pod:first"], 125);
    second.does(&["rm", "-f"]).ends_with(0);
    assert_eq!(home.remains(), Vec::<std::path::PathBuf>::new());
}
