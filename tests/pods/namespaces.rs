//! Which namespaces containers have, and what they reach of each other and of the host through them.

use std::fs;

use crate::support::{Home, and, has_program, idle, once, sh, skip};
use serde_json::{Value, json};

/// The number in `/proc/self/ns/KIND` of the test itself: the host's.
fn ours(kind: &str) -> u64 {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).expect("readlink");
    let text = link.to_str().expect("UTF-8");
    text.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')?.parse().ok()).expect("a number")
}

fn of<'a>(pod: &'a Value, process: &str, kind: &str) -> &'a Value {
    let process = if process == "pause" { &pod["pause"] } else { &pod["containers"][process] };
    let id = &process["namespaces"][kind];
    assert!(id.is_u64(), "{kind}: {process}");
    id
}

#[test]
fn own_pid_namespaces() {
    let Some(home) = Home::new("own_pid_namespaces") else { return };
    let pod = home.start(&json!({ "containers": [idle("one"), idle("two")] }));
    let inspected = pod.inspect();
    for kind in ["net", "ipc", "uts", "user", "cgroup"] {
        let pause = of(&inspected, "pause", kind);
        assert_eq!((of(&inspected, "one", kind), of(&inspected, "two", kind)), (pause, pause), "{kind}");
        assert_ne!(pause.as_u64(), Some(ours(kind)), "{kind}");
    }
    for kind in ["mnt", "pid"] {
        let all = ["pause", "one", "two"].map(|process| of(&inspected, process, kind).as_u64().expect("a number"));
        let apart = all.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!(apart, 3, "{kind}: {all:?}");
    }
    // The command is pid 1, and sees what it started itself and this exec, nothing else.
    assert!(pod.sh("one", "cat /proc/1/cmdline | tr '\\0' ' '").starts_with("busybox sh -c trap"));
    let seen = pod.sh("two", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    assert!(!seen.contains("pause"), "{seen}");
    let count = pod.sh("two", "ls -d /proc/[0-9]* | busybox wc -l").parse::<u32>().expect("a number");
    assert!(count <= 6, "sh, its sleep, and the exec: {count}");
    // A file in the other's /tmp is not seen, a host name set by one would be the other's (same uts), and localhost is.
    assert_eq!(pod.sh("two", "hostname"), pod.sh("one", "hostname"));
    pod.sh("one", "touch /tmp/mine");
    assert_eq!(pod.sh("two", "ls /tmp"), "");
}

#[test]
fn localhost_is_shared() {
    let Some(home) = Home::new("localhost_is_shared") else { return };
    let server = "mkdir /www; echo page > /www/index.html; exec busybox httpd -f -p 8080 -h /www";
    let client =
        "i=0; until busybox wget -qO- http://127.0.0.1:8080/; do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done";
    let spec = and(once([sh("client", client), sh("server", server)]), json!({ "terminationGracePeriodSeconds": 0 }));
    let pod = home.start(&spec);
    home.sandpod(&["wait", "-c", "client", &pod.name]).ends_with(0).says("0");
    assert!(pod.logs("client").contains("page"));
    // The host's interfaces are not there.
    let interfaces =
        pod.sh("server", "ls /sys/class/net; cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' ' | sort");
    assert_eq!(interfaces.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo", "eth0", "lo"]);
}

#[test]
fn a_shared_pid_namespace() {
    let Some(home) = Home::new("a_shared_pid_namespace") else { return };
    let spec = json!({ "shareProcessNamespace": true, "containers": [idle("one"), sh("two", "exec sleep 12345")] });
    let pod = home.start(&spec);
    let inspected = pod.inspect();
    let pause = of(&inspected, "pause", "pid");
    assert_eq!((of(&inspected, "one", "pid"), of(&inspected, "two", "pid")), (pause, pause));
    let seen = pod.sh("one", "for p in /proc/[0-9]*; do echo \"${p#/proc/} $(tr '\\0' ' ' < $p/cmdline)\"; done");
    assert!(seen.lines().any(|line| line.starts_with("1 ") && line.contains("pause")), "{seen}");
    assert!(seen.contains("sleep 12345"), "{seen}");
    // Kubernetes documents this way to the other's files; both run as one id.
    pod.sh("two", "touch /tmp/of-two");
    let found = pod.sh("one", "for p in /proc/[0-9]*; do ls $p/root/tmp 2>/dev/null; done | sort -u");
    assert_eq!(found, "of-two");
    // pause reaps what is orphaned in the pod.
    pod.sh("one", "(sleep 0.1 &) ; sleep 0.5");
    let states = pod.sh("one", "cat /proc/[0-9]*/stat | cut -d' ' -f3");
    assert!(!states.contains('Z'), "{states}");
}

#[test]
fn the_hosts_network() {
    let Some(home) = Home::new("the_hosts_network") else { return };
    let pod = home.start(&json!({ "hostNetwork": true, "containers": [idle("main")] }));
    let inspected = pod.inspect();
    assert_eq!(of(&inspected, "main", "net").as_u64(), Some(ours("net")));
    assert_ne!(of(&inspected, "main", "ipc").as_u64(), Some(ours("ipc")));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname");
    assert_eq!(pod.sh("main", "hostname; cat /etc/hostname"), format!("{}\n{}", host.trim(), host.trim()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    pod.sh("main", &format!("busybox nc -w 5 127.0.0.1 {port} < /dev/null > /dev/null 2>&1 & sleep 0.2"));
    listener.set_nonblocking(true).expect("fcntl");
    crate::support::until("the pod connects to our localhost", || listener.accept().ok());
    assert!(pod.exec("main", &["busybox", "sh", "-c", "echo x > /sys/kernel/uevent_seqnum"]).code != Some(0));
}

#[test]
fn the_hosts_ipc() {
    let Some(home) = Home::new("the_hosts_ipc") else { return };
    let pod = home.start(&json!({ "hostIPC": true, "containers": [idle("main")] }));
    assert_eq!(of(&pod.inspect(), "main", "ipc").as_u64(), Some(ours("ipc")));
    let name = format!("sandpod-test-{}", std::process::id());
    let object = std::path::Path::new("/dev/shm").join(&name);
    if fs::write(&object, "from outside").is_err() {
        return skip("the_hosts_ipc", "/dev/shm cannot be written here");
    }
    home.give(&object, 0o644);
    let seen = pod.exec("main", &["cat", &format!("/dev/shm/{name}")]);
    fs::remove_file(&object).expect("rm");
    seen.ends_with(0).says("from outside");
}

#[test]
fn the_hosts_pids() {
    let Some(home) = Home::new("the_hosts_pids") else { return };
    let pod = home.start(&json!({ "hostPID": true, "containers": [idle("one"), sh("two", "exec sleep 12346")] }));
    assert_eq!(of(&pod.inspect(), "one", "pid").as_u64(), Some(ours("pid")));
    let me = std::process::id();
    let seen = pod.sh("one", &format!("tr '\\0' ' ' < /proc/{me}/cmdline"));
    let program = std::env::args().next().expect("our own name");
    assert!(seen.contains(&program), "{seen}");
    let (one, two) = (pod.pid("one"), pod.pid("two"));
    pod.does(&["rm", "-f"]);
    crate::support::until("both have gone", || {
        (!crate::support::is_live(one) && !crate::support::is_live(two)).then_some(())
    });
}

#[test]
fn posix_and_system_v_shared_memory() {
    let Some(home) = Home::new("posix_and_system_v_shared_memory") else { return };
    let pod = home.start(&json!({ "containers": [idle("one"), idle("two")] }));
    pod.sh("one", "echo hello > /dev/shm/message");
    assert_eq!(pod.sh("two", "cat /dev/shm/message; echo answer >> /dev/shm/message"), "hello");
    assert_eq!(pod.sh("one", "cat /dev/shm/message"), "hello\nanswer");
    // 64 MiB, as a pod's /dev/shm has them, and not a byte of disk.
    let full = pod.exec("one", &["busybox", "dd", "if=/dev/zero", "of=/dev/shm/big", "bs=1M", "count=65"]);
    full.ends_with(1).complains("No space left on device");
    pod.sh("two", "rm /dev/shm/big");
    if !has_program("perl") {
        return skip("system_v_shared_memory", "perl is missing");
    }
    // shmget(2) with a key in one container, shmread of the same key in the other (perlfunc, IPC::SysV's numbers).
    let put = "$id = shmget(4242, 64, 0600|01000) // die $!; shmwrite($id, 'through the kernel', 0, 64) or die $!";
    let get =
        "$id = shmget(4242, 64, 0) // die $!; shmread($id, $text, 0, 64) or die $!; $text =~ s/\\0.*//s; print $text";
    pod.exec("one", &["perl", "-e", put]).ends_with(0);
    pod.exec("two", &["perl", "-e", get]).ends_with(0).says("through the kernel");
    // The host has no such key.
    let host = home.said(home.program("/usr/bin/perl", &["-e", get]), b"");
    assert_ne!(host.code, Some(0), "{}", host.explain());
}

#[test]
fn hosts_hostname_and_resolv_conf() {
    let Some(home) = Home::new("hosts_hostname_and_resolv_conf") else { return };
    let pod = home.start(&json!({ "hostname": "web-1", "containers": [idle("one"), idle("two")] }));
    for container in ["one", "two"] {
        assert_eq!(pod.sh(container, "hostname; cat /etc/hostname; echo $HOSTNAME"), "web-1\nweb-1\nweb-1");
        let hosts = pod.sh(container, "cat /etc/hosts");
        assert!(
            hosts.contains("127.0.0.1\tlocalhost") && hosts.contains(&format!("{}\tweb-1", pod.ipv4("address"))),
            "{hosts}"
        );
        pod.sh(container, "busybox ping -c 1 -w 5 web-1 || busybox nslookup web-1 || grep -q web-1 /etc/hosts");
    }
    // slirp4netns's forwarder, which asks the host's name server.
    let servers = pod.sh("one", "cat /etc/resolv.conf");
    assert_eq!(servers.lines().next(), Some(format!("nameserver {}", pod.ipv4("dns")).as_str()));
    // The pod's own files: one container's change is the other's, and the host's stay.
    pod.sh("one", "echo '127.0.0.1 added' >> /etc/hosts");
    assert!(pod.sh("two", "cat /etc/hosts").contains("added"));
    assert!(!fs::read_to_string("/etc/hosts").unwrap_or_default().contains("added"));
}
