//! What a process inside a container may not do to its pod, its neighbours and its caller.

use crate::rounds::rounds;
use crate::support::{Home, and, has_program, idle, is_live, once, sh, skip};
use serde_json::json;

/// 14: by default no mount, no unmount, no remount, no new root.
#[test]
fn mounts_cannot_be_changed() {
    let Some(home) = Home::new("mounts_cannot_be_changed") else { return };
    let attempts = "busybox mount -t tmpfs x /mnt; busybox umount /proc/keys; busybox umount /proc; busybox mount -o remount,rw /sys
        busybox mount -o remount,rw /proc/sys; busybox mount --bind /etc /mnt; busybox pivot_root / /mnt; unshare -m true; nsenter -t 1 -m true
        echo x > /proc/sys/kernel/core_pattern; echo x > /sys/kernel/mm/ksm/run; echo b > /proc/sysrq-trigger; mknod /tmp/sda b 8 0";
    let script = format!(
        "before=$(cat /proc/self/mounts); i=0; {attempts}; [ \"$before\" = \"$(cat /proc/self/mounts)\" ] && echo same; ls /mnt /tmp"
    );
    let said = home.run(&once([sh("main", &script)]));
    assert_eq!(said.stdout, "same\n/mnt:\n\n/tmp:\n", "{}", said.explain());
}

/// What the kubelet masks shows nothing, also to who has every capability of the pod.
#[test]
fn masks_hold() {
    let Some(home) = Home::new("masks_hold") else { return };
    let script = "for f in asound acpi interrupts kcore keys latency_stats timer_list sched_debug scsi; do
            [ -d /proc/$f ] && ls -A /proc/$f; [ -f /proc/$f ] || [ -c /proc/$f ] && head -c 100 /proc/$f; done
        ls -A /sys/firmware /sys/devices/virtual/powercap 2>/dev/null
        for f in /proc/bus /proc/fs /proc/irq /proc/sys; do touch $f/x 2>&1; done
        umount /proc/keys 2>/dev/null && cat /proc/keys
        exit 0";
    for add in [json!([]), json!(["ALL"])] {
        let main = and(sh("main", script), json!({ "securityContext": { "capabilities": { "add": add } } }));
        let said = home.run(&once([main])).ends_with(0);
        let shown: Vec<_> = said.stdout.lines().filter(|line| !line.starts_with("touch:")).collect();
        let masked = shown.iter().all(|line| line.starts_with("/sys/") || line.is_empty());
        assert!(masked || add == json!(["ALL"]), "{}", said.explain());
    }
}

/// 19: CVE-2017-5226. Typing into the caller's terminal needs it as controlling terminal, and no session shares it.
#[test]
fn nobody_types_into_the_callers_terminal() {
    let Some(home) = Home::with("nobody_types", &["script"]) else { return };
    if !has_program("perl") {
        return skip("nobody_types", "perl is missing");
    }
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    // TIOCSTI is 0x5412 (ioctl_tty(2)). exec without -t passes the caller's terminal itself as stdin.
    let attack = "$c = 'x'; print ioctl(STDIN, 0x5412, $c) ? 'typed' : \"refused: $!\"";
    let line = format!("{} exec -i {} -- perl -e '{}'", env!("CARGO_BIN_EXE_sandpod"), pod.name, attack);
    let said = home.said(home.program("/usr/bin/script", &["-qec", &line, "/dev/null"]), b"");
    assert!(said.stdout.contains("refused"), "{}", said.explain());
}

/// Keys of the caller's session stay with the caller, and pods share none (keyrings(7)): there are no calls for keys.
#[test]
fn keyrings_are_not_shared() {
    let Some(home) = Home::new("keyrings") else { return };
    if !has_program("perl") {
        return skip("keyrings", "perl is missing");
    }
    // add_key(2) is 248, request_key(2) 249 and keyctl(2) 250 on x86-64; -3 is the session keyring, -4 the user keyring.
    // perl passes variables by pointer, and refuses to do so with literals.
    let words = "$t = 'user'; $d = 'sandpod-test'; $s = 'secret';";
    let calls = ["248, $t, $d, $s, 6, -3", "249, $t, $d, 0, 0", "250, 8, -4, -3"]
        .map(|call| format!("$r = syscall({call}); print $r < 0 ? \"$!\\n\" : \"done\\n\";"));
    let script = format!("{words} {}", calls.join(" "));
    let pod =
        home.start_with(&home.test, &json!({ "containers": [idle("one"), idle("two")] }), &["--userns", "root-is-you"]);
    for container in ["one", "two"] {
        let said = pod.exec(container, &["perl", "-e", &script]).ends_with(0);
        assert_eq!(said.stdout, "Function not implemented\n".repeat(3), "{container}");
    }
}

/// 6: terminals are numbered in each container alone, and ptmx there is its own.
#[test]
fn terminals_are_each_containers_own() {
    let Some(home) = Home::new("terminals_apart") else { return };
    let one = and(idle("one"), json!({ "tty": true, "stdin": true }));
    let pod = home.start(&json!({ "containers": [one, idle("two")] }));
    assert_eq!(pod.sh("one", "readlink /proc/1/fd/0; ls /dev/pts"), "/dev/pts/0\n0\nptmx");
    assert_eq!(pod.sh("two", "ls /dev/pts"), "ptmx");
    // A slave replaced by a link does no harm to the next terminal.
    pod.exec(
        "one",
        &["busybox", "sh", "-c", "rm /dev/pts/0; ln -s /etc/passwd /dev/pts/1; ln -sf /etc/passwd /dev/ptmx"],
    );
    let said = home.sandpod(&["exec", "-t", &pod.name, "--", "busybox", "tty"]);
    assert!(said.stdout.trim().starts_with("/dev/pts/") || said.code == Some(125), "{}", said.explain());
}

/// kill(-1) in a shared pid namespace reaches the pod's processes, never pause, the supervisor or the host.
#[test]
fn killing_everything_kills_only_the_pod() {
    let Some(home) = Home::new("killing_everything") else { return };
    let pod = home.start(&json!({ "shareProcessNamespace": true, "containers": [idle("one"), idle("two")] }));
    let before = pod.inspect();
    let (pause, one) = (before["pause"]["pid"].clone(), pod.pid("one"));
    pod.exec("two", &["busybox", "kill", "-9", "-1"]);
    crate::support::until("both are restarted", || {
        (pod.restarts("one") >= 1 && pod.restarts("two") >= 1).then_some(())
    });
    let after = pod.inspect();
    assert_eq!((&after["pause"]["pid"], &after["supervisor"]), (&pause, &before["supervisor"]));
    assert!(!is_live(one));
}

/// Set-user-id programs give nothing by default: no_new_privs, and nosuid on every volume of the pod.
#[test]
fn set_user_id_programs_give_nothing() {
    let Some(home) = Home::new("set_user_id") else { return };
    let mounts = json!([{ "name": "v", "mountPath": "/v" }]);
    let volumes = json!([{ "name": "v", "emptyDir": {} }]);
    let maker = and(
        sh("maker", "cp /bin/busybox /v/busybox; chmod 4755 /v/busybox; touch /v/ready"),
        json!({ "volumeMounts": mounts }),
    );
    let script = "until [ -e /v/ready ]; do sleep 0.1; done; /v/busybox grep ^Uid /proc/self/status";
    for escalate in [false, true] {
        let user = json!({ "volumeMounts": mounts,
            "securityContext": { "runAsUser": 1000, "allowPrivilegeEscalation": escalate } });
        let main = and(sh("main", script), user);
        let pod = home.start(&and(once([main, maker.clone()]), json!({ "volumes": volumes })));
        home.sandpod(&["wait", "-c", "main", &pod.name]).ends_with(0).says("0\n");
        let ids: Vec<String> = pod.logs("main").split_whitespace().skip(1).map(str::to_owned).collect();
        if !escalate {
            assert_eq!(ids, ["1000"; 4]);
        } else {
            // At most root of the pod: what the manifest asked for.
            assert!(ids.iter().all(|id| id == "1000" || id == "0"), "{ids:?}");
        }
        pod.does(&["rm", "-f"]);
    }
}

/// 15: nothing of the host's control groups can be written.
#[test]
fn control_groups_cannot_be_written() {
    let Some(home) = Home::new("control_groups") else { return };
    let script = "find /sys/fs/cgroup -type f 2>/dev/null | head -200 | while read f; do (echo 0 > $f) 2>/dev/null && echo wrote $f; done
        mkdir /sys/fs/cgroup/x 2>/dev/null && echo made; cut -d: -f3 /proc/self/cgroup | sort -u";
    let said = home.run(&once([sh("main", script)])).ends_with(0);
    assert!(!said.stdout.contains("wrote") && !said.stdout.contains("made"), "{}", said.explain());
}

/// 9, 4: a volume's own links decide nothing about where another container's mounts go.
#[test]
fn links_in_a_volume_do_not_move_mounts() {
    let Some(home) = Home::new("links_in_a_volume") else { return };
    let canary = home.directory("canary", 0o777);
    let swap =
        format!("while :; do rm -rf /v/d; mkdir /v/d; rm -rf /v/d; ln -s {} /v/d; done 2>/dev/null", canary.display());
    let volumes = json!([{ "name": "v", "emptyDir": {} }, { "name": "w", "emptyDir": {} }]);
    let swapper = and(sh("swapper", &swap), json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }));
    let nested =
        json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }, { "name": "w", "mountPath": "/v/d/below" }] });
    let victim = and(sh("victim", "touch /v/d/below/x; exit 1"), nested);
    let spec = json!({ "terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "volumes": volumes, "containers": [swapper, victim] });
    for _ in 0..rounds("links_in_a_volume_do_not_move_mounts", 10, 300) {
        let manifest = home.manifest(&spec);
        home.sandpod(&["run", "-d", "-q", manifest.to_str().expect("UTF-8")]);
        home.sandpod(&["rm", "-fa"]).ends_with(0);
        assert_eq!(std::fs::read_dir(&canary).expect("readdir").count(), 0, "a mount point was made on the host");
    }
}
