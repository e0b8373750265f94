//! What a hostile image, manifest or process tries against the host, and does not get. Numbers are those of the list of
//! adversarial cases that the design was drawn from.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::{Home, and, busybox_root, fingerprint, has_program, idle, once, sh, skip};
use serde_json::{Value, json};

/// A copy of sandpod that the user owns: with root-is-you, root in the pod may write to it wherever it can reach it.
fn own_copy(home: &Home) -> (String, Vec<u8>) {
    let bytes = fs::read(env!("CARGO_BIN_EXE_sandpod")).expect("read");
    let path = home.file("sandpod", &bytes, 0o755);
    (path.to_str().expect("UTF-8").to_owned(), bytes)
}

/// 1: CVE-2019-5736. Entrypoint, `#!` line and exec of /proc/self/exe, and writing through /proc/PID/exe.
#[test]
fn our_own_executable_is_out_of_reach() {
    let Some(home) = Home::new("our_own_executable") else { return };
    let (sandpod, before) = own_copy(&home);
    let unchanged = |what: &str| assert!(fs::read(&sandpod).expect("read") == before, "{what} changed our executable");
    let scripts = home.directory("scripts", 0o755);
    home.file("scripts/self", "#!/proc/self/exe\n", 0o755);
    let volume = format!("{}:/s", scripts.display());
    for command in ["/proc/self/exe", "/s/self", "/proc/1/exe"] {
        let words = [
            "run",
            "--rm",
            "-q",
            "--userns",
            "root-is-you",
            "--image",
            "host:",
            "-v",
            &volume,
            "--",
            command,
            "version",
        ];
        let said = home.said(home.program(&sandpod, &words), b"");
        assert!(!said.stdout.contains("sandpod 0"), "it executed sandpod: {}", said.explain());
        unchanged(command);
    }
    let script = "for i in $(seq 200); do for p in /proc/[0-9]*/exe; do
            case $(readlink $p) in */busybox|*/sleep|*/sh|*/dash|'') ;; *) (echo overwritten > $p) 2>/dev/null && echo wrote $p;; esac
        done; done; echo done";
    let spec = json!({ "shareProcessNamespace": true, "containers": [idle("one"),
        and(idle("two"), json!({ "securityContext": { "capabilities": { "add": ["ALL"] } } }))] });
    let manifest = home.manifest(&spec);
    let words = ["run", "-d", "-q", "--userns", "root-is-you", manifest.to_str().expect("UTF-8")];
    home.said(home.program(&sandpod, &words), b"").ends_with(0);
    // While the one looks for our processes, others come in by exec.
    let attack = home.program(&sandpod, &["exec", "-c", "two", &home.test, "--", "busybox", "sh", "-c", script]);
    let said = std::thread::scope(|scope| {
        let attack = scope.spawn(|| home.said(attack, b""));
        while !attack.is_finished() {
            for target in ["/proc/self/exe", "true", "/proc/1/exe"] {
                home.said(home.program(&sandpod, &["exec", "-c", "one", &home.test, "--", target]), b"");
            }
        }
        attack.join().expect("it ran")
    });
    assert_eq!(said.ends_with(0).stdout, "done\n");
    unchanged("/proc/PID/exe");
}

/// 2: CVE-2024-21626. A working directory through a leaked descriptor.
#[test]
fn no_working_directory_leads_outside() {
    let Some(home) = Home::new("no_working_directory") else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    for number in 0..64 {
        for dir in
            [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/../../.."), format!("/dev/fd/{number}")]
        {
            let said = home.sandpod(&[
                "exec",
                "-w",
                &dir,
                &pod.name,
                "--",
                "busybox",
                "sh",
                "-c",
                "pwd -P; ls -d home/* 2>/dev/null",
            ]);
            if said.code == Some(0) {
                let outside = said.stdout.contains("unreachable") || said.stdout.contains("home/");
                assert!(!outside, "{dir}: {}", said.explain());
            }
        }
    }
    for number in 0..24 {
        let main = and(
            sh("main", "pwd -P; ls -d home/* 2>/dev/null; exit 0"),
            json!({ "workingDir": format!("/proc/self/fd/{number}") }),
        );
        let said = home.run_with(&once([main]), &["--name", "other"]);
        let outside = said.stdout.contains("unreachable") || said.stdout.contains("home/");
        assert!(!outside, "{number}: {}", said.explain());
    }
}

/// 3, 7, 10: every directory that a runtime writes to is a link out of the image.
#[test]
fn links_in_an_image_lead_nowhere() {
    let Some(home) = Home::new("links_in_an_image") else { return };
    let canary = home.directory("canary", 0o777);
    for name in ["dev", "proc", "sys", "etc", "run", "v", "work"] {
        home.directory(&format!("canary/{name}"), 0o777);
    }
    home.file("canary/etc/hosts", "the host's", 0o666);
    home.file("canary/null", "canary", 0o666);
    let before = fingerprint(&canary);
    let names = ["dev", "proc", "sys", "run", "v", "work", "etc"];
    for (number, target) in
        [canary.clone(), Path::new("../../../..").join(canary.strip_prefix("/").expect("absolute"))].iter().enumerate()
    {
        for only in names.iter().map(|name| vec![*name]).chain([names.to_vec()]) {
            let root = busybox_root(&home, &format!("root-{number}-{}", only.join("")));
            for name in &only {
                if *name == "etc" {
                    fs::remove_dir_all(root.join("etc")).expect("rm");
                }
                symlink(target.join(name), root.join(name)).expect("symlink");
            }
            let image = format!("rootfs:{}", root.display());
            let script = "echo pwned > /v/x; echo pwned > /etc/hosts; echo pwned > /run/x; echo pwned > /work/x; echo pwned > /dev/x; true";
            let main = json!({ "name": "main", "image": image, "command": ["/bin/busybox", "sh", "-c", script],
                "workingDir": "/work", "volumeMounts": [{ "name": "v", "mountPath": "/v" }, { "name": "v", "mountPath": "/run/deep/v" }] });
            let spec = and(once([main]), json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }));
            for userns in ["root-is-you", "isolated"] {
                home.run_with(&spec, &["--userns", userns]);
                assert_eq!(fingerprint(&canary), before, "{only:?} as links, {userns}");
            }
        }
    }
    // 5: /dev/null as a link to where a mask would then be taken from.
    let root = busybox_root(&home, "root-null");
    home.directory("root-null/dev", 0o755);
    symlink(canary.join("null"), root.join("dev/null")).expect("symlink");
    let main = json!({ "name": "main", "image": format!("rootfs:{}", root.display()), "command": ["/bin/busybox", "sh", "-c", "cat /proc/keys; echo x > /dev/null"] });
    let said = home.run(&once([main])).ends_with(0);
    assert_eq!(said.stdout, "");
    assert_eq!(fingerprint(&canary), before);
}

/// 14: pause's root and mount namespace show nothing, whatever capability looks.
#[test]
fn nothing_of_the_host_behind_pause() {
    let Some(home) = Home::with("nothing_behind_pause", &["nsenter", "strace"]) else { return };
    for add in [json!([]), json!(["SYS_PTRACE", "SYS_ADMIN"]), json!(["ALL"])] {
        let main = and(idle("main"), json!({ "securityContext": { "capabilities": { "add": add } } }));
        let pod = home.start(&json!({ "shareProcessNamespace": true, "containers": [main] }));
        let seen = pod.exec("main", &["busybox", "sh", "-c", "ls -A /proc/1/root /proc/1/cwd; ls /proc/1/fd"]);
        assert!(!seen.stdout.contains("usr") && !seen.stdout.contains("etc"), "{}", seen.explain());
        let entered = pod.exec("main", &["nsenter", "--mount=/proc/1/ns/mnt", "/bin/busybox", "ls", "/"]);
        assert!(entered.code != Some(0) && entered.stdout.is_empty(), "{}", entered.explain());
        let host = pod.exec(
            "main",
            &["busybox", "sh", "-c", &format!("ls {} /proc/*/root{}", home.path().display(), home.path().display())],
        );
        assert!(!host.stdout.contains("share"), "{}", host.explain());
        if add == json!([]) {
            pod.exec("main", &["strace", "-o", "/dev/null", "-p", "1"]).complains("Operation not permitted");
        }
        pod.does(&["rm", "-f"]);
    }
}

/// 17: abstract sockets belong to the network namespace; ours are reached only where the manifest shares it.
#[test]
fn abstract_sockets_of_the_host() {
    use std::os::linux::net::SocketAddrExt;
    let Some(home) = Home::new("abstract_sockets") else { return };
    if !has_program("perl") {
        return skip("abstract_sockets", "perl is missing");
    }
    let name = format!("sandpod-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("address");
    let _listener = UnixListener::bind_addr(&address).expect("bind");
    let connect = format!(
        "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; connect(S, pack_sockaddr_un(\"\\0{name}\")) or die \"no: $!\"; print 'connected'"
    );
    let main = json!({ "name": "main", "image": "host:", "command": ["perl", "-e", connect] });
    let spec = |host: bool| and(once([main.clone()]), json!({ "hostNetwork": host }));
    let alone = home.run(&spec(false));
    assert!(alone.code != Some(0) && alone.stdout.is_empty(), "{}", alone.explain());
    home.run(&spec(true)).ends_with(0).says("connected");
    // Sockets in the file system are not there at all.
    let run = home.script("ls -A /run /run/user 2>/dev/null; ls -d /var/run/docker.sock 2>/dev/null; exit 0");
    assert_eq!(run.replace("/run:\nlock\n", "").trim(), "");
}

/// 27: what another user could have put into /tmp before us is covered by tests/cli/state.rs; here, that no pod starts.
#[test]
fn a_foreign_runtime_directory_starts_nothing() {
    let Some(home) = Home::new("a_foreign_runtime") else { return };
    let target = home.directory("elsewhere", 0o777);
    symlink(&target, home.path().join("run/sandpod")).expect("symlink");
    let manifest = home.manifest(&once([sh("main", "true")]));
    home.sandpod(&["run", manifest.to_str().expect("UTF-8")]).ends_with(125).complains("symbolic link");
    assert_eq!(fs::read_dir(&target).expect("readdir").count(), 0);
    fs::remove_file(home.path().join("run/sandpod")).expect("rm");
}

/// 21: a map never goes beyond the grant, and without subordinate ids setgroups(2) is denied.
#[test]
fn maps_stay_within_the_grant() {
    let Some(home) = Home::new("maps_stay") else { return };
    let show = "cat /proc/self/uid_map /proc/self/setgroups";
    let said = |userns: &str| -> Vec<Value> {
        let said = home.run_with(&once([sh("main", show)]), &["--userns", userns]).ends_with(0).stdout;
        said.split_whitespace().map(|word| word.parse::<u64>().map_or(json!(word), |number| json!(number))).collect()
    };
    let user = &home.user;
    assert_eq!(said("single"), [json!(0), json!(user.uid), json!(1), json!("deny")]);
    let mapped = said("root-is-you");
    assert_eq!(mapped[..5], [json!(0), json!(user.uid), json!(1), json!(1), json!(user.subuid)]);
}

/// 9: a container that may write to one hostPath puts a link where the next one begins, and is started again.
#[test]
fn a_host_path_that_was_replaced_is_not_mounted() {
    let Some(home) = Home::new("a_host_path_that_was_replaced") else { return };
    let project = home.directory("project", 0o755);
    home.directory("project/cache", 0o755);
    let secret = home.directory("secret", 0o700);
    home.file("secret/id", "PRIVATE\n", 0o600);
    let script = format!(
        "if [ -e /cache/id ]; then cat /cache/id; else rmdir /project/cache; ln -s {} /project/cache; exit 1; fi",
        secret.display()
    );
    let mounts = json!([{ "name": "p", "mountPath": "/project" }, { "name": "c", "mountPath": "/cache" }]);
    let spec = json!({
        "restartPolicy": "OnFailure",
        "containers": [and(sh("main", &script), json!({ "volumeMounts": mounts })), idle("other")],
        "volumes": [
            { "name": "p", "hostPath": { "path": project } },
            { "name": "c", "hostPath": { "path": project.join("cache"), "type": "Directory" } },
        ],
    });
    let pod = home.start(&spec);
    crate::support::until("the restart is refused", || {
        let logs = pod.logs("main");
        assert!(!logs.contains("PRIVATE"), "{logs}");
        logs.contains("was replaced since the pod started").then_some(())
    });
}

/// 10: an `exec -w` makes and owns nothing: the container's links decide where its path leads.
#[test]
fn exec_makes_no_directory() {
    let Some(home) = Home::new("exec_makes_no_directory") else { return };
    let volume = json!({
        "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
        "securityContext": { "runAsUser": 1000 },
    });
    let main = and(sh("main", "ln -s /etc/made /v/link; exec sleep 1000"), volume);
    let pod = home.start(&json!({ "containers": [main], "volumes": [{ "name": "v", "emptyDir": {} }] }));
    crate::support::until("the link", || pod.sh("main", "readlink /v/link || true").contains("made").then_some(()));
    let words = ["exec", "-w", "/v/link", pod.name.as_str(), "--", "true"];
    home.sandpod(&words).ends_with(125).complains("working directory /v/link");
    assert_eq!(pod.sh("main", "ls -d /etc/made 2>/dev/null || echo none"), "none");
}
