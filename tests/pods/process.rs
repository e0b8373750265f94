//! Who a container's process is, what it may do, and how its command is found, started and ended.

use crate::support::{Home, and, busybox_root, idle, once, sh};
use serde_json::{Value, json};

fn secured(script: &str, security: Value) -> Value {
    once([and(sh("main", script), json!({ "securityContext": security }))])
}

/// Of /proc/self/status.
fn status_field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

const CHOWN: u64 = 1 << 0;
const SYS_ADMIN: u64 = 1 << 21;
const SETFCAP: u64 = 1 << 31;
/// containerd's default set without NET_RAW, MKNOD and AUDIT_WRITE.
const DEFAULT: u64 = 0x8004_05fb;

#[test]
fn capability_sets() {
    let Some(home) = Home::new("capability_sets") else { return };
    let sets = |security: Value| {
        let status = home.run(&secured("cat /proc/self/status", security)).ends_with(0).stdout;
        let set = |name: &str| u64::from_str_radix(&status_field(&status, name), 16).expect("hexadecimal");
        assert_eq!((set("CapInh"), set("CapAmb")), (0, 0), "{status}");
        (set("CapEff"), set("CapPrm"), set("CapBnd"))
    };
    assert_eq!(sets(json!({})), (DEFAULT, DEFAULT, DEFAULT));
    let drop = sets(json!({ "capabilities": { "drop": ["ALL"] } }));
    assert_eq!(drop, (0, 0, 0));
    let one = sets(json!({ "capabilities": { "drop": ["ALL"], "add": ["CHOWN"] } }));
    assert_eq!(one, (CHOWN, CHOWN, CHOWN));
    let fewer = DEFAULT & !SETFCAP | SYS_ADMIN;
    assert_eq!(sets(json!({ "capabilities": { "drop": ["SETFCAP"], "add": ["SYS_ADMIN"] } })), (fewer, fewer, fewer));
    let (all, _, _) = sets(json!({ "capabilities": { "add": ["ALL"] } }));
    assert!(all & SYS_ADMIN != 0 && all & DEFAULT == DEFAULT, "{all:x}");
    // As in Kubernetes: another user than root has none in effect, and the set bounds what a file may give.
    let user = sets(json!({ "runAsUser": 1000, "capabilities": { "add": ["SYS_ADMIN"] } }));
    assert_eq!(user, (0, 0, DEFAULT | SYS_ADMIN));
}

#[test]
fn no_new_privileges() {
    let Some(home) = Home::new("no_new_privileges") else { return };
    for (security, expected) in [
        (json!({}), "1"),
        (json!({ "allowPrivilegeEscalation": false }), "1"),
        (json!({ "allowPrivilegeEscalation": true }), "0"),
    ] {
        let said = home.run(&secured("cat /proc/self/status", security.clone())).ends_with(0);
        assert_eq!(status_field(&said.stdout, "NoNewPrivs"), expected, "{security}");
    }
}

#[test]
fn users_and_groups() {
    let Some(home) = Home::new("users_and_groups") else { return };
    let image = format!("rootfs:{}", busybox_root(&home, "root-fs").display());
    let said = |pod: Value, container: Value| {
        let script = "echo $(id -u):$(id -g) $(id -G) $HOME $(grep Groups: /proc/self/status)";
        let main = json!({ "name": "main", "image": image, "command": ["/bin/busybox", "sh", "-c", script],
            "securityContext": container });
        let spec = and(once([main]), json!({ "securityContext": pod }));
        home.run(&spec).ends_with(0).stdout.trim_end().to_owned()
    };
    assert_eq!(said(json!({}), json!({})), "0:0 0 3000 /root Groups: 3000");
    // passwd(5) and group(5) of the container know uid 1000.
    assert_eq!(said(json!({}), json!({ "runAsUser": 1000 })), "1000:1000 1000 2000 3000 /home/user Groups: 2000 3000");
    assert_eq!(
        said(json!({ "runAsUser": 1000, "runAsGroup": 5 }), json!({})),
        "1000:5 5 2000 3000 /home/user Groups: 2000 3000"
    );
    // Unknown there: group 0, no more groups, no home.
    assert_eq!(said(json!({}), json!({ "runAsUser": 4242 })), "4242:0 0 / Groups:");
    // The container's word wins over the pod's.
    assert_eq!(said(json!({ "runAsUser": 7 }), json!({ "runAsUser": 8, "runAsGroup": 9 })), "8:9 9 / Groups:");
    let refused = |security: Value, why: &str| {
        let said = home.run(&secured("true", security)).ends_with(2);
        assert!(said.stdout.is_empty() && home.remains().is_empty(), "{}", said.explain());
        said.complains(why);
    };
    refused(json!({ "runAsNonRoot": true }), "runAsNonRoot");
    refused(json!({ "runAsNonRoot": true, "runAsUser": 0 }), "runAsNonRoot is true");
    let said = home.run(&secured("id -u", json!({ "runAsNonRoot": true, "runAsUser": 1 }))).ends_with(0);
    assert_eq!(said.stdout, "1\n");
    let too_high = home.run(&secured("true", json!({ "runAsUser": 2_000_000_000 }))).ends_with(125);
    too_high.complains("runAsUser 2000000000 has no id in this pod");
}

#[test]
fn the_environment_is_expanded_as_kubernetes_does() {
    let Some(home) = Home::new("the_environment") else { return };
    let main = json!({
        "name": "main", "image": "host:",
        "command": ["busybox", "sh", "-c", "echo \"$A|$B|$C|$D|$1|$2|$PATH|$HOME\"", "$(A)", "$(B) $$(B) $(NOPE)"],
        "args": ["last"],
        "env": [
            { "name": "A", "value": "1" }, { "name": "B", "value": "$(A)2" }, { "name": "C", "value": "$(LATER) $$(A)" },
            { "name": "LATER", "value": "x" }, { "name": "D" }, { "name": "A", "value": "one" }
        ]
    });
    let said = home.run(&once([main])).ends_with(0).stdout;
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(said, format!("one|12|$(LATER) $(A)||12 $(B) $(NOPE)|last|{path}|/root\n"));
    // Nothing of the caller's environment gets in.
    let mut command =
        home.command(&["run", "--rm", "--image", "host:", "-e", "GIVEN", "-e", "X=$(GIVEN)", "--", "env"]);
    command.env("SECRET", "s3cret").env("GIVEN", "word");
    let said = home.said(command, b"").ends_with(0);
    assert!(!said.stdout.contains("s3cret") && !said.stdout.contains("XDG"), "{}", said.explain());
    said.says("GIVEN=word\n").says("X=$(GIVEN)\n");
}

#[test]
fn working_directories() {
    let Some(home) = Home::new("working_directories") else { return };
    let dir = |dir: &str, script: &str, security: Value| {
        let main = and(sh("main", script), json!({ "workingDir": dir, "securityContext": security }));
        home.run(&once([main]))
    };
    // Root's, as runtimes make an image's WORKDIR.
    let said = dir("/made/for/me", "pwd; busybox stat -c %u:%g .", json!({ "runAsUser": 1000, "runAsGroup": 7 }));
    assert_eq!(said.ends_with(0).stdout, "/made/for/me\n0:0\n");
    assert_eq!(dir("/usr/bin", "pwd", json!({})).ends_with(0).stdout, "/usr/bin\n");
    dir("/etc/passwd", "pwd", json!({})).ends_with(125).complains("working directory /etc/passwd");
    dir("/root", "pwd", json!({ "runAsUser": 1000 })).ends_with(125).complains("working directory /root");
}

#[test]
fn commands_that_cannot_run() {
    let Some(home) = Home::new("commands_that_cannot_run") else { return };
    let scripts = home.directory("scripts", 0o755);
    home.file("scripts/plain", "echo no interpreter\n", 0o755);
    home.file("scripts/closed", "#!/bin/sh\n", 0o644);
    home.file("scripts/lost", "#!/no/such/interpreter\n", 0o755);
    home.file("scripts/fine", "#!/bin/sh\necho \"fine $1\"\n", 0o755);
    let run = |command: &[&str]| {
        let volume = format!("{}:/s", scripts.display());
        home.sandpod(&[&["run", "--rm", "-q", "--image", "host:", "-v", &volume, "--"], command].concat())
    };
    assert_eq!(run(&["/s/fine", "x"]).ends_with(0).stdout, "fine x\n");
    for (command, code, why) in [
        ("/no/such/program", 127, "ENOENT"),
        ("no-such-program", 127, "looking for `no-such-program` in PATH"),
        ("/s/lost", 127, "ENOENT"),
        ("/s/fine/below", 127, "ENOTDIR"),
        ("/s/closed", 126, "EACCES"),
        ("/s", 126, "EACCES"),
        ("/s/plain", 126, "ENOEXEC"),
        ("", 127, "ENOENT"),
    ] {
        let said = run(&[command]).ends_with(code).complains(why).complains("error: could not start pod");
        assert_eq!(said.stdout, "", "{}", said.explain());
        assert!(home.remains().is_empty(), "{command:?} left {:?}", home.remains());
    }
    assert_eq!(run(&["busybox", "sh", "-c", "exit 42"]).code, Some(42));
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        // Kubernetes' own way to write `$$`. (As pid 1 of its own namespace it could not kill itself.)
        let shared = json!({ "shareProcessNamespace": true });
        let said = home.run(&and(once([sh("main", &format!("kill -{signal} $$$$"))]), shared));
        said.ends_with(code);
    }
}

/// What this host cannot do for the second container ends the pod: nothing is left of it, and it says which and why.
#[test]
fn a_pod_starts_whole_or_not_at_all() {
    let Some(home) = Home::new("whole_or_not_at_all") else { return };
    // Below a file nothing can be mounted.
    let mounts = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/etc/passwd/below" }] });
    let spec = json!({ "containers": [idle("good"), and(idle("broken"), mounts)], "volumes": [{ "name": "v", "emptyDir": {} }] });
    for options in [&["run", "-d"][..], &["run"][..]] {
        let manifest = home.manifest(&spec);
        let said = home.sandpod(&[options, &[manifest.to_str().expect("UTF-8")]].concat()).ends_with(125);
        let said = said.complains("container `broken`").complains("/etc/passwd/below");
        assert_eq!(said.stdout, "");
        assert!(home.remains().is_empty(), "{:?}", home.remains());
        assert_eq!(home.sandpod(&["ps", "-a", "--json"]).ends_with(0).stdout.trim(), "[]");
    }
}

#[test]
fn eight_containers() {
    let Some(home) = Home::new("eight_containers") else { return };
    let all: Vec<Value> = (0..8).map(|n| sh(&format!("c{n}"), &format!("echo from {n}; exec sleep 1000"))).collect();
    let pod = home.start(&json!({ "containers": all }));
    for n in 0..8 {
        let container = format!("c{n}");
        crate::support::until("it has spoken", || {
            Some(pod.logs(&container)).filter(|text| text.contains(&format!("from {n}")))
        });
        assert_eq!(pod.sh(&container, "echo $$ > /dev/shm/x; ls /dev/shm"), "x");
    }
    let pids: Vec<u32> = (0..8).map(|n| pod.pid(&format!("c{n}"))).collect();
    pod.does(&["rm", "-f"]);
    assert!(!pids.into_iter().any(crate::support::is_live));
}
