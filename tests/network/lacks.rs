//! A network that cannot be had, or ends before its time: what is said, and what goes on.

use std::fs;
use std::process::Command;

use crate::network_support::{BACKENDS, connected, of_pod, only_newuidmap, pause, record};
use crate::support::{Home, Pod, and, idle, once, sh, skip, until};
use serde_json::json;

#[test]
fn without_any_program_there_is_only_localhost_and_that_is_said() {
    let test = "without_any_program_there_is_only_localhost_and_that_is_said";
    let Some(home) = Home::new(test) else { return };
    let programs = only_newuidmap(&home);
    let run = |options: &[&str]| {
        let words = [&["run", "--rm"], options, &["--image", "host:", "--", "ls", "/sys/class/net"]].concat();
        let mut command = home.command(&words);
        command.env("PATH", &programs);
        home.said(command, b"")
    };
    let said = run(&[]).ends_with(0);
    assert_eq!(said.stdout.trim(), "lo");
    assert!(said.stderr.contains("no-network") && said.stderr.contains("slirp4netns"), "{}", said.explain());
    for (backend, package) in [("slirp4netns", "slirp4netns"), ("pasta", "passt")] {
        let said = run(&["--network", backend]).ends_with(125);
        assert!(said.stderr.contains(&format!("apt install {package}")), "{}", said.explain());
    }
    let said = run(&["--network", "none"]).ends_with(0);
    assert!(!said.stderr.contains("network"), "asked for: {}", said.explain());
    assert_eq!(home.remains(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn without_a_tap_device_there_is_only_localhost_and_that_is_said() {
    let test = "without_a_tap_device_there_is_only_localhost_and_that_is_said";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let sandpod = env!("CARGO_BIN_EXE_sandpod");
    let outer = |command: &str| {
        let script = format!("mount -t tmpfs none /dev/net && exec {sandpod} {command}");
        home.said(home.program("unshare", &["--user", "--map-root-user", "--mount", "sh", "-c", &script]), b"")
    };
    let said = outer("run --rm --image host: -- ls /sys/class/net").ends_with(0);
    assert_eq!(said.stdout.trim(), "lo");
    assert!(said.stderr.contains("no-network: /dev/net/tun: No such file"), "{}", said.explain());
    let said = outer("run --rm --network slirp4netns --image host: -- true").ends_with(125);
    assert!(
        said.stderr.contains("modprobe tun") && said.stderr.contains("--device /dev/net/tun"),
        "{}",
        said.explain()
    );
}

#[test]
fn a_pasta_that_is_named_and_not_there_is_said_with_its_cure() {
    let test = "a_pasta_that_is_named_and_not_there_is_said_with_its_cure";
    let Some(home) = connected(test, "pasta") else { return };
    let mut command = home.command(&["run", "--rm", "--network", "pasta", "--image", "host:", "--", "true"]);
    command.env("SANDPOD_PASTA", "/no/such/pasta");
    let said = home.said(command, b"").ends_with(125);
    assert!(
        said.stderr.contains("/no/such/pasta") && said.stderr.contains("hint: correct SANDPOD_PASTA"),
        "{}",
        said.explain()
    );
}

/// A program in slirp4netns's place.
fn instead(home: &Home, script: &str) -> std::process::Command {
    let text = format!("#!/bin/sh\ncase $1 in --help | --version) exec slirp4netns $1 ;; esac\n{script}\n");
    let path = home.file("instead", text, 0o755);
    let mut command = home.command(&["run", "--rm", "--image", "host:", "--", "ls", "/sys/class/net"]);
    command.env("SANDPOD_SLIRP4NETNS", path);
    command
}

#[test]
fn a_network_that_cannot_be_made_fails_the_pod_with_its_words() {
    let test = "a_network_that_cannot_be_made_fails_the_pod_with_its_words";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let said = home.said(instead(&home, "echo 'the moon is full' >&2; exit 3"), b"").ends_with(125);
    assert!(said.stderr.contains("slirp4netns ended with status 3; the moon is full"), "{}", said.explain());
    let mut old = instead(&home, "");
    fs::write(home.path().join("instead"), "#!/bin/sh\necho slirp4netns version 0.2.1 --configure --mtu\n")
        .expect("write");
    let said = home
        .said(
            {
                old.arg("-l");
                old
            },
            b"",
        )
        .ends_with(125);
    assert!(
        said.stderr.contains("has no --cidr") && said.stderr.contains("hint: install slirp4netns"),
        "{}",
        said.explain()
    );
    assert_eq!(home.remains(), Vec::<std::path::PathBuf>::new());
}

/// Executes its arguments where mount(2) is refused but for MS_REC|MS_PRIVATE, as in an outer container whose filter knows the
/// newer calls, which are sandpod's, less well. x86-64: seccomp(2), bpf(4). Without new privileges newuidmap is of no use.
const WITHOUT_MOUNTS: &str = r#"my @filter = ([0x20, 0, 0, 0], [0x15, 0, 3, 165], [0x20, 0, 0, 40], [0x15, 1, 0, 0x44000],
    [0x06, 0, 0, 0x50001], [0x06, 0, 0, 0x7fff0000]);
    my $filter = join "", map { pack "SCCL", @$_ } @filter; my $program = pack "Sx6P", scalar @filter, $filter;
    syscall(157, 38, 1, 0, 0, 0) == 0 or die $!; syscall(157, 22, 2, $program) == 0 or die $!; exec @ARGV or die $!"#;

/// As in an outer container that forbids its mounts.
#[test]
fn without_its_sandbox_it_runs_and_that_is_said_in_any_case() {
    let test = "without_its_sandbox_it_runs_and_that_is_said_in_any_case";
    let Some(home) = connected(test, "slirp4netns") else { return };
    if std::env::consts::ARCH != "x86_64" {
        return skip(test, "the filter is written for x86-64");
    }
    let sandpod = home.command(&["run", "-q", "--rm", "--image", "host:", "--", "ls", "/sys/class/net"]);
    let mut command = home.program("perl", &["-e", WITHOUT_MOUNTS]);
    command.arg(sandpod.get_program()).args(sandpod.get_args());
    let said = home.said(command, b"").ends_with(0);
    assert_eq!(said.stdout.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
    let expected =
        "network-unsandboxed: the network program runs without its sandbox: its sandbox is refused here: mount(";
    assert!(said.stderr.contains(expected) && said.stderr.contains("(EPERM)"), "{}", said.explain());
}

#[test]
fn what_fails_for_another_reason_does_not_cost_the_sandbox() {
    let test = "what_fails_for_another_reason_does_not_cost_the_sandbox";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let never = "case \" $* \" in *' --enable-sandbox '*) echo 'cannot mount tmpfs' >&2; exit 1 ;; esac\nexec slirp4netns \"$@\"";
    let said = home.said(instead(&home, never), b"").ends_with(125);
    assert!(said.stderr.contains("slirp4netns ended with status 1; cannot mount tmpfs"), "{}", said.explain());

    // Once, as where memory was short for a moment; whoever is root in the pod, it can be looked into.
    let tried = home.path().join("tried");
    let script = format!("[ -e {0} ] || {{ : >{0}; exit 1; }}\nexec slirp4netns \"$@\"", tried.display());
    drop(instead(&home, &script));
    for userns in ["isolated", "root-is-you", "single"] {
        let options = ["run", "--rm", "--userns", userns, "--image", "host:", "--", "ls", "/sys/class/net"];
        let mut command = home.command(&options);
        command.env("SANDPOD_SLIRP4NETNS", home.path().join("instead"));
        let said = home.said(command, b"").ends_with(0);
        assert_eq!(said.stdout.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"], "{userns}");
        assert!(!said.stderr.contains("unsandboxed"), "{userns}: {}", said.explain());
        fs::remove_file(&tried).expect("it failed once");
    }
}

#[test]
fn what_makes_a_pod_less_secure_is_said_quietly_too() {
    let test = "what_makes_a_pod_less_secure_is_said_quietly_too";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let raw = json!({ "securityContext": { "capabilities": { "add": ["NET_RAW"] } } });
    let said = home.run_with(&once([and(sh("main", "true"), raw)]), &["--network", "slirp4netns"]).ends_with(0);
    assert!(said.stderr.contains("degraded: raw-packets: "), "{}", said.explain());
}

/// Not necessarily by its first restart: that can fail on a busy machine.
fn is_back(pod: &Pod<'_>) -> bool {
    let record = record(pod);
    record["restarts"].as_u64() >= Some(1) && record["state"] == "Up"
}

#[test]
fn a_network_that_dies_is_started_again() {
    for backend in BACKENDS {
        let test = "a_network_that_dies_is_started_again";
        let Some(home) = connected(test, backend) else { return };
        let pod = home.start_with(&home.test, &json!({ "containers": [idle("one")] }), &["--network", backend]);
        let pause = pause(&pod);
        let before = of_pod(backend, pause);
        assert!(!before.is_empty(), "{backend}");
        for pid in &before {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        until("another one", || is_back(&pod).then_some(()));
        let after = of_pod(backend, pause);
        assert!(!after.is_empty() && after.iter().all(|pid| !before.contains(pid)), "{backend}: {before:?} {after:?}");
        assert!(pod.sh("one", "busybox ip -4 addr show eth0").contains(&pod.ipv4("address")), "{backend}");
        assert_eq!(pod.restarts("one"), 0, "{backend}: the containers go on");
    }
}

/// pasta is the child of a process that ends it with the pod, and which can be killed alone.
#[test]
fn a_pasta_whose_minder_dies_is_replaced_and_none_stays() {
    let test = "a_pasta_whose_minder_dies_is_replaced_and_none_stays";
    let Some(home) = connected(test, "pasta") else { return };
    let pod = home.start_with(&home.test, &json!({ "containers": [idle("one")] }), &["--network", "pasta"]);
    let pause = pause(&pod);
    let [before] = of_pod("pasta", pause)[..] else { panic!("one pasta") };
    let status = fs::read_to_string(format!("/proc/{before}/status")).expect("its status");
    let minder = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).expect("PPid").to_owned();
    assert_ne!(minder, pod.inspect()["supervisor"].to_string());
    assert!(Command::new("kill").args(["-9", &minder]).status().expect("kill").success());
    until("another one", || is_back(&pod).then_some(()));
    let after = of_pod("pasta", pause);
    assert!(after.len() == 1 && after[0] != before, "{before} {after:?}");
    // As `killall -9 sandpod` does, or the kernel when memory runs out.
    let status = fs::read_to_string(format!("/proc/{}/status", after[0])).expect("its status");
    let minder = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).expect("PPid").to_owned();
    let supervisor = pod.inspect()["supervisor"].to_string();
    assert!(Command::new("kill").args(["-9", &supervisor, &minder]).status().expect("kill").success());
    pod.does(&["rm", "-f"]).ends_with(0);
    until("none is left", || of_pod("pasta", pause).is_empty().then_some(()));
}

/// One that does not even hear that the other end of its exit-fd is closed.
#[test]
fn a_slirp4netns_that_stands_still_does_not_outlive_rm() {
    let test = "a_slirp4netns_that_stands_still_does_not_outlive_rm";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let options = ["--network", "slirp4netns"];
    let pod = home.start_with(&home.test, &json!({ "containers": [idle("one")] }), &options);
    let pause = pause(&pod);
    let [pid] = of_pod("slirp4netns", pause)[..] else { panic!("one slirp4netns") };
    let signal = |signal: &str, pid: &str| {
        assert!(Command::new("kill").args([signal, pid]).status().expect("kill").success());
    };
    signal("-STOP", &pid.to_string());
    signal("-9", &pod.inspect()["supervisor"].to_string());
    pod.does(&["rm", "-f"]).ends_with(0);
    assert_eq!(of_pod("slirp4netns", pause), Vec::<u32>::new());
}

#[test]
fn the_network_ends_with_its_pod() {
    for backend in BACKENDS {
        let test = "the_network_ends_with_its_pod";
        let Some(home) = connected(test, backend) else { return };
        for end in ["supervisor", "pause", "rm"] {
            let pod = home.start_with(&home.test, &json!({ "containers": [idle("one")] }), &["--network", backend]);
            let pause = pause(&pod);
            assert!(!of_pod(backend, pause).is_empty(), "{backend}");
            match end {
                "rm" => drop(pod.does(&["rm", "-f"]).ends_with(0)),
                role => {
                    let inspected = pod.inspect();
                    let pid = inspected[role]["pid"].as_u64().or(inspected[role].as_u64()).expect("a pid");
                    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill").success());
                }
            }
            until(&format!("{backend} to end after {end}"), || of_pod(backend, pause).is_empty().then_some(()));
            home.sandpod(&["rm", "-f", &home.test]);
        }
    }
}

#[test]
fn the_wrapper_by_hand() {
    let test = "the_wrapper_by_hand";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/slirp4netns-wrapper.sh");
    let run = |words: &[&str], named: Option<&str>| {
        let mut command = home.program("/bin/sh", &[&[script], words].concat());
        if let Some(named) = named {
            command.env("SANDPOD_SLIRP4NETNS", named);
        }
        home.said(command, b"")
    };
    assert!(run(&["--help"], None).ends_with(0).stdout.starts_with("usage:"));
    // Its own pid: one that the user may look at.
    let check = format!("exec sh {script} --check --cidr 10.1.0.0/24 $$");
    let checked = home.said(home.program("/bin/sh", &["-c", &check]), b"").ends_with(0);
    assert!(checked.stdout.contains("--cidr=10.1.0.0/24") && checked.stdout.contains("--disable-host-loopback"));
    for (words, status, says) in [
        (&["--nonsense"][..], 64, "--nonsense is no option"),
        (&["--mtu"], 64, "--mtu needs a value"),
        (&[], 64, "PID is missing"),
        (&["x"], 64, "x is no process id"),
        (&["4194999"], 83, "process 4194999 is not there"),
    ] {
        let said = run(words, None).ends_with(status);
        assert!(said.stderr.contains(says) && said.stderr.contains("\nfix: "), "{}", said.explain());
    }
    assert!(run(&["1"], Some("no-such-program")).ends_with(80).stderr.contains("no-such-program"));
    let four = home.file("four", "#!/bin/sh\nexec slirp4netns --help | grep -v ipv6\n", 0o755);
    let refused = run(&["--ipv6", "1"], four.to_str()).ends_with(81);
    assert!(refused.stderr.contains("four has no --enable-ipv6") && refused.stderr.contains("\nfix: install"));
    let check = format!("exec sh {script} --check $0 $$");
    let checked = |option| {
        let mut command = home.program("/bin/sh", &["-c", &check, option]);
        command.env("SANDPOD_SLIRP4NETNS", &four);
        home.said(command, b"")
    };
    assert!(!checked("--allow-host-loopback").ends_with(0).stdout.contains("ipv6"));
    checked("--ipv6").ends_with(81);
    assert!(run(&["1"], Some("/bin/false")).ends_with(81).stderr.contains("/bin/false cannot be run"));
    let without = format!("mount -t tmpfs none /dev/net && exec sh {script} 1");
    let said = home.said(home.program("unshare", &["--user", "--map-root-user", "--mount", "sh", "-c", &without]), b"");
    assert!(said.ends_with(82).stderr.contains("/dev/net/tun cannot be opened: No such file"));
    // As in an outer container that has no mount namespaces to give.
    let outer = format!(
        "echo 0 >/proc/sys/user/max_mnt_namespaces; unshare --user --map-root-user --net sleep 100 & child=$!
         until [ \"$(readlink /proc/$child/ns/net)\" != \"$(readlink /proc/$$/ns/net)\" ]; do sleep 0.05; done
         sh {script} $child; status=$?; kill $child; exit $status"
    );
    let said = home.said(home.program("unshare", &["--user", "--map-root-user", "sh", "-c", &outer]), b"");
    let said = said.ends_with(84);
    assert!(
        said.stderr.contains("its sandbox is refused here: No space left") && said.stderr.contains("--no-sandbox"),
        "{}",
        said.explain()
    );
}

/// Of a program in slirp4netns's place, which takes its time to end.
#[test]
fn a_wrapper_that_is_ended_ends_what_it_started_first() {
    let test = "a_wrapper_that_is_ended_ends_what_it_started_first";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/slirp4netns-wrapper.sh");
    drop(instead(&home, "trap 'sleep 0.3; : >ended; exit 7' TERM; : >started; while :; do sleep 0.05; done"));
    let hand = format!(
        "SANDPOD_SLIRP4NETNS=./instead sh {script} $$ & wrapper=$!
         until [ -e started ]; do sleep 0.05; done
         kill -TERM $wrapper; wait $wrapper; echo $? && ls ended"
    );
    let said = home.said(home.program("/bin/sh", &["-c", &hand]), b"").ends_with(0);
    assert_eq!(said.stdout, "7\nended\n", "{}", said.explain());
}

#[test]
fn a_slirp4netns_of_before_its_first_release_is_too_old() {
    let test = "a_slirp4netns_of_before_its_first_release_is_too_old";
    let Some(home) = connected(test, "slirp4netns") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/slirp4netns-wrapper.sh");
    let said = |version: &str, options: &str| {
        let text =
            format!("#!/bin/sh\n[ $1 != --version ] || {{ echo '{version}'; exit; }}\nexec slirp4netns \"$@\"\n");
        let program = home.file("aged", text, 0o755);
        let check = format!("exec sh {script} --check {options} $$");
        let mut command = home.program("/bin/sh", &["-c", &check]);
        command.env("SANDPOD_SLIRP4NETNS", program);
        home.said(command, b"")
    };
    let refused = said("slirp4netns version 0.4.7", "").ends_with(81);
    assert!(refused.stderr.contains("aged is too old: it is slirp4netns version 0.4.7\n"), "{}", refused.explain());
    // Nobody waits for its version where it is in a hurry.
    for (version, options) in
        [("slirp4netns version 1.0.0-beta.1", ""), ("", ""), ("slirp4netns version 0.4.7", "--exec")]
    {
        said(version, options).ends_with(0);
    }
}
