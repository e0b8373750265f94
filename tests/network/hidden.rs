//! What a container may see of the programs of its network, when it sees their pids.

use std::process::Command;

use crate::network_support::{BACKENDS, connected, of_pod, pause, record};
use crate::support::{Home, Pod, and, sh, until};
use serde_json::json;

/// Tries the processes that are about to be made, over and over, until it may look into one from which a file of the host's is
/// to be seen.
const RACE: &str = r#"my ($secret, $end) = (shift, time + 50); my $looks = 0; open my $begun, ">", "/tmp/begun";
    until (-e "/tmp/over") { die "too long" if time > $end;
        opendir my $all, "/mnt" or die $!; my ($last) = sort { $b <=> $a } grep { /^\d+$/ } readdir $all;
        for my $round (1 .. 20) { for my $pid ($last - 2 .. $last + 10) { $looks++;
            if (open my $f, "<", "/mnt/$pid/root$secret") { print "read by pid $pid: ", <$f>; exit 3 } } } }
    print "$looks looks\n";"#;

/// A pod whose container sees the host's processes, and may trace.
fn watcher<'a>(home: &'a Home, backend: &str) -> Pod<'a> {
    let container = and(
        sh("one", "sleep 1000 & wait $!"),
        json!({
            "securityContext": { "capabilities": { "add": ["SYS_PTRACE"] } },
            "volumeMounts": [{ "name": "proc", "mountPath": "/mnt" }],
        }),
    );
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{ "name": "proc", "hostPath": { "path": "/proc" } }],
    });
    home.start_with(&home.test, &spec, &["--network", backend])
}

#[test]
fn a_network_program_is_closed_to_a_container_that_sees_it() {
    for backend in BACKENDS {
        let test = "a_network_program_is_closed_to_a_container_that_sees_it";
        let Some(home) = connected(test, backend) else { return };
        let pod = watcher(&home, backend);
        let looks = |pid: u32, what: &str| pod.exec("one", &["busybox", "ls", &format!("/mnt/{pid}/{what}")]);
        looks(pod.pid("one"), "root/").ends_with(0);
        let programs = of_pod(backend, pause(&pod));
        assert!(!programs.is_empty(), "{backend}");
        for pid in programs {
            for what in ["root/", "fd/", "cwd/"] {
                looks(pid, what).ends_with(1).complains("Permission denied");
            }
        }
    }
}

#[test]
fn nor_is_it_open_while_it_starts() {
    for backend in BACKENDS {
        let test = "nor_is_it_open_while_it_starts";
        let Some(home) = connected(test, backend) else { return };
        let secret = home.file("secret", "of the host's", 0o600);
        let pod = watcher(&home, backend);
        let restarts = || record(&pod)["restarts"].as_u64().unwrap_or_default();
        let said = std::thread::scope(|scope| {
            let race = scope.spawn(|| pod.exec("one", &["perl", "-e", RACE, secret.to_str().expect("UTF-8")]));
            let begun = || pod.exec("one", &["busybox", "test", "-e", "/tmp/begun"]).code == Some(0);
            until("it looks", || begun().then_some(()));
            for round in 0..3 {
                for pid in of_pod(backend, pause(&pod)) {
                    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
                }
                until("it is started again", || (restarts() > round && record(&pod)["state"] == "Up").then_some(()));
            }
            pod.sh("one", ": > /tmp/over");
            race.join().expect("no panic")
        });
        said.ends_with(0).says(" looks");
    }
}
