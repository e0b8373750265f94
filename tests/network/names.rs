//! What a pod is called, whom it asks for names, which settings its namespaces have, and what it is told of itself:
//! looked at from inside.

use std::fs;
use std::io::{Read as _, Write as _};

use crate::support::{Home, and, has_program, idle, once, sh, skip};
use serde_json::{Value, json};

/// The spec's fields that /etc/hosts and the hostname come from.
fn named() -> Value {
    json!({
        "hostname": "web-1",
        "subdomain": "db",
        "hostAliases": [{ "ip": "192.0.2.7", "hostnames": ["cache", "cache.example.org"] }],
        "containers": [idle("main")],
    })
}

const FULL_NAME: &str = "web-1.db.default.svc.cluster.local";
const ALIASES: &str = "\n\n# Entries added by HostAliases.\n192.0.2.7\tcache\tcache.example.org";

/// True where a pod has an address of its own by default.
fn has_network(test: &str) -> bool {
    let found = has_program("slirp4netns") && fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok();
    if !found {
        skip(test, "slirp4netns or /dev/net/tun is missing");
    }
    found
}

/// Of the network that a pod here would have: `address`, `gateway` or `dns`.
fn planned(home: &Home, which: &str) -> String {
    let manifest = home.manifest_of("planned", &once([sh("main", "true")]));
    let words = ["plan", "--json", "--network", "slirp4netns", manifest.to_str().expect("UTF-8")];
    let plan: Value = serde_json::from_str(&home.sandpod(&words).ends_with(0).stdout).expect("JSON");
    let address = plan["sandbox"]["network"]["UserMode"]["ipv4"][which].as_str();
    address.expect("a network of its own").to_owned()
}

#[test]
fn names_in_a_network_of_its_own() {
    let Some(home) = Home::new("names_in_a_network_of_its_own") else { return };
    if !has_network(&home.test) {
        return;
    }
    let pod = home.start_with("names", &named(), &["--network", "slirp4netns"]);
    let hosts = pod.sh("main", "cat /etc/hosts");
    let address = pod.ipv4("address");
    // One more line where the host has IPv6.
    assert!(hosts.contains(&format!("\n{address}\t{FULL_NAME}\tweb-1\n")), "{hosts}");
    assert!(hosts.ends_with(&format!("\t{FULL_NAME}\tweb-1{ALIASES}")), "{hosts}");
    assert_eq!(pod.sh("main", "hostname; cat /etc/hostname; echo $HOSTNAME"), "web-1\nweb-1\nweb-1");
    // The resolver's own way, through /etc/hosts.
    if has_program("getent") {
        let found = pod.sh("main", &format!("getent hosts cache; getent ahostsv4 {FULL_NAME}"));
        assert!(found.starts_with("192.0.2.7") && found.contains(&address), "{found}");
        assert_eq!(pod.exec("main", &["hostname", "-f"]).ends_with(0).stdout.trim(), FULL_NAME);
    }
}

#[test]
fn names_without_a_network_and_on_the_hosts() {
    let Some(home) = Home::new("names_without_a_network_and_on_the_hosts") else { return };
    let pod = home.start_with("alone", &named(), &["--network", "none"]);
    let hosts = pod.sh("main", "cat /etc/hosts");
    assert!(hosts.ends_with(&format!("\n127.0.0.1\t{FULL_NAME}\tweb-1{ALIASES}")), "{hosts}");

    let pod = home.start_with("on-host", &and(named(), json!({ "hostNetwork": true })), &[]);
    let hosts = pod.sh("main", "cat /etc/hosts");
    let of_the_host = fs::read_to_string("/etc/hosts").unwrap_or_default();
    assert!(hosts.starts_with(&format!("# Written by sandpod (host network).\n{}", of_the_host.trim_end())), "{hosts}");
    assert!(hosts.ends_with(&format!("\n127.0.1.1\t{FULL_NAME}\tweb-1{ALIASES}")), "{hosts}");
    assert_eq!(pod.sh("main", "hostname"), "web-1");
    assert_eq!(fs::read_to_string("/etc/hosts").unwrap_or_default(), of_the_host);
}

#[test]
fn a_hostname_that_is_the_full_name() {
    let Some(home) = Home::new("a_hostname_that_is_the_full_name") else { return };
    let spec = and(named(), json!({ "setHostnameAsFQDN": true }));
    let pod = home.start_with("full", &spec, &["--network", "none"]);
    assert_eq!(pod.sh("main", "hostname; cat /etc/hostname"), format!("{FULL_NAME}\n{FULL_NAME}"));

    let long = and(spec, json!({ "hostname": "h".repeat(40) }));
    let manifest = home.manifest_of("long", &long);
    let said = home.sandpod(&["run", "-d", manifest.to_str().expect("UTF-8")]).ends_with(2);
    said.complains("has 69 characters, and the kernel keeps 64").complains("hint: shorten hostname");
}

#[test]
fn who_is_asked_for_names() {
    let Some(home) = Home::new("who_is_asked_for_names") else { return };
    let dns = json!({
        "nameservers": ["192.0.2.53"],
        "searches": ["example.org"],
        "options": [{ "name": "ndots", "value": "2" }, { "name": "edns0" }],
    });
    let only = "nameserver 192.0.2.53\nsearch example.org\noptions ndots:2 edns0\n";
    let spec = and(once([sh("main", "cat /etc/resolv.conf")]), json!({ "dnsConfig": dns, "dnsPolicy": "None" }));
    home.run_with(&spec, &["--network", "none"]).ends_with(0).says(only);
    home.run(&and(spec.clone(), json!({ "hostNetwork": true }))).ends_with(0).says(only);
    if has_network(&home.test) {
        home.run_with(&spec, &["--network", "slirp4netns"]).ends_with(0).says(only);
        let first = and(spec, json!({ "dnsPolicy": "ClusterFirst" }));
        let said = home.run_with(&first, &["--network", "slirp4netns"]).ends_with(0).stdout;
        let start = format!(
            "# dnsPolicy: ClusterFirst is Default here: there is no cluster DNS.\n\
             nameserver {}\nnameserver 192.0.2.53\n",
            planned(&home, "dns")
        );
        assert!(said.starts_with(&start), "{said}");
        assert!(said.contains("ndots:2") && said.contains("example.org"), "{said}");
    }
}

fn with_sysctls(script: &str, sysctls: &[(&str, &str)]) -> Value {
    let sysctls: Vec<_> = sysctls.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    and(once([sh("main", script)]), json!({ "securityContext": { "sysctls": sysctls } }))
}

#[test]
fn settings_of_the_network() {
    let Some(home) = Home::new("settings_of_the_network") else { return };
    let read = "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start tcp_fin_timeout ip_forward";
    let asked = [("net.ipv4.ip_unprivileged_port_start", "500"), ("net/ipv4/tcp_fin_timeout", "17")];
    home.run_with(&with_sysctls(read, &asked), &["--network", "none"]).ends_with(0).says("500\n17\n");
    // As shown before anything is made.
    let manifest = home.manifest(&with_sysctls(read, &asked));
    let shown = home.sandpod(&["plan", "--network", "none", manifest.to_str().expect("UTF-8")]).ends_with(0).stdout;
    let row = "net/ipv4/tcp_fin_timeout = 17, asked for by spec.securityContext.sysctls[1]";
    assert!(shown.contains(row), "{shown}");
    assert_eq!(shown.matches("net/ipv4/ip_unprivileged_port_start = ").count(), 1, "{shown}");
}

/// The kernel lets the pod's root write these since 6.9; before, only the host's.
#[test]
fn settings_of_ipc() {
    let Some(home) = Home::new("settings_of_ipc") else { return };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let read = "cd /proc/sys; cat kernel/shmmax kernel/msgmax kernel/sem fs/mqueue/msg_max";
    let asked = [
        ("kernel.shmmax", "1048576"),
        ("kernel.msgmax", "4096"),
        ("kernel.sem", "100 2000 50 60"),
        ("fs.mqueue.msg_max", "7"),
    ];
    let said = home.run_with(&with_sysctls(read, &asked), &["--network", "none"]);
    if version >= (6, 9) {
        said.ends_with(0).says("1048576\n4096\n100\t2000\t50\t60\n7\n");
    } else {
        said.ends_with(125).complains("spec.securityContext.sysctls[0]").complains("since Linux 6.9");
        assert_eq!(home.remains(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_setting_that_the_kernel_refuses_leaves_nothing() {
    let Some(home) = Home::new("a_setting_that_the_kernel_refuses_leaves_nothing") else { return };
    for (name, value, file, errno) in [
        ("net.ipv4.tcp_fin_timeout", "soon", "net/ipv4/tcp_fin_timeout", "EINVAL"),
        ("net.ipv4.no_such", "1", "net/ipv4/no_such", "ENOENT"),
    ] {
        let said = home.run_with(&with_sysctls("true", &[("net.ipv4.ip_forward", "1"), (name, value)]), &[]);
        said.ends_with(125)
            .complains("spec.securityContext.sysctls[1]")
            .complains(&format!("/proc/sys/{file}"))
            .complains(errno);
        assert_eq!(home.remains(), Vec::<std::path::PathBuf>::new(), "{name}");
    }
}

#[test]
fn a_host_port_of_the_manifest_is_published() {
    let Some(home) = Home::new("a_host_port_of_the_manifest_is_published") else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
    let server = "mkdir /www; echo page > /www/index.html; exec busybox httpd -f -p 80 -h /www";
    let ports = json!({ "ports": [{ "name": "http", "containerPort": 80, "hostPort": free, "hostIP": "127.0.0.1" }] });
    let pod = home.start_with("ports", &json!({ "containers": [and(sh("main", server), ports)] }), &[]);
    let said = pod.does(&["port"]).stdout;
    assert!(said.contains(&format!("127.0.0.1:{free}")), "{said}");
    let page = crate::support::until("the page", || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", free)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.contains("page").then_some(text)
    });
    assert!(page.starts_with("HTTP/1"), "{page}");
}

#[test]
fn what_a_container_is_told_of_its_pod() {
    let Some(home) = Home::new("what_a_container_is_told_of_its_pod") else { return };
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let amount = |name: &str, resource: &str, divisor: &str| {
        let from = json!({ "resourceFieldRef": { "resource": resource, "divisor": divisor } });
        json!({ "name": name, "valueFrom": from })
    };
    let env = json!([
        field("NAME", "metadata.name"),
        field("NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("NODE", "spec.nodeName"),
        field("IP", "status.podIP"),
        amount("CPUS", "requests.cpu", "1"),
        amount("MEMORY", "requests.memory", "1Mi"),
        { "name": "ALL", "value": "$(NAME).$(NAMESPACE)" },
    ]);
    let script =
        "echo $NAME; echo $NAMESPACE; echo $NODE; echo $IP; echo $CPUS; echo $MEMORY; echo $ALL; echo $POD_UID";
    let container =
        and(sh("main", script), json!({ "env": env, "resources": { "requests": { "cpu": "1m", "memory": "3Mi" } } }));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname");
    let spec = once([container]);
    let name = home.test.clone();
    let told = |ip: &str| format!("{name}\ndefault\n{}\n{ip}\n1\n3\n{name}.default\n", host.trim());
    let here = &["--cgroups=disabled", "--overcommit", "--network"];
    let said = home.run_with(&spec, &[here, &["none"][..]].concat()).ends_with(0).stdout;
    let id = said.strip_prefix(&told("127.0.0.1")).unwrap_or_else(|| panic!("{said}")).trim();
    assert!(id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    if has_network(&home.test) {
        let said = home.run_with(&spec, &[here, &["slirp4netns"][..]].concat()).ends_with(0).stdout;
        assert!(said.starts_with(&told(&planned(&home, "address"))), "{said}");
    }
    let said = home.run_with(&spec, &[here, &["host"][..]].concat()).ends_with(2);
    said.complains("variable `IP`").complains("all addresses of the host");
}
