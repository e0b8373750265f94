//! Who may command a supervisor, of those who reach its control socket with your uid.

use std::path::{Path, PathBuf};

use crate::support::{Home, Pod, and, idle, is_live};
use serde_json::json;

/// Connects, asks for the pod's end, and tells the answer. Whoever is refused may find the connection closed already.
const STOP: &str = r#"use Socket; $SIG{PIPE} = "IGNORE";
    socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0) or die "socket: $!";
    connect($s, sockaddr_un($ARGV[0])) or die "connect: $!";
    send($s, '{"stop":{"grace_seconds":0}}', 0);
    my $answer = ""; recv($s, $answer, 4096, 0);
    print "answer: $answer\n";"#;

fn control_socket(pod: &Pod<'_>) -> PathBuf {
    let id = pod.inspect()["id"].as_str().expect("an id").to_owned();
    Path::new("sandpod/pods").join(id).join("control.sock")
}

#[test]
fn a_container_whose_root_is_you_commands_no_pod() {
    let Some(home) = Home::with("control_peers", &["perl"]) else { return };
    let victim = home.start_with("victim", &json!({ "containers": [idle("main")] }), &[]);
    let (socket, before) = (control_socket(&victim), victim.pid("main"));
    let container = and(idle("main"), json!({ "volumeMounts": [{ "name": "run", "mountPath": "/mnt" }] }));
    let volume = json!({ "name": "run", "hostPath": { "path": home.path().join("run") } });
    for host_pid in [false, true] {
        let spec = json!({ "hostPID": host_pid, "containers": [container], "volumes": [volume] });
        let name = if host_pid { "sees-all" } else { "sees-itself" };
        let attacker = home.start_with(name, &spec, &["--userns", "root-is-you"]);
        let seen = Path::new("/mnt").join(&socket);
        let said = attacker.exec("main", &["perl", "-e", STOP, seen.to_str().expect("UTF-8")]);
        assert_eq!(said.ends_with(0).stdout, "answer: \n");
        assert_eq!(victim.pid("main"), before);
        assert!(is_live(before));
    }
    // A process of the host is obeyed, whatever program it is.
    let path = home.path().join("run").join(&socket);
    let said = home.said(home.program("perl", &["-e", STOP, path.to_str().expect("UTF-8")]), b"");
    said.ends_with(0).says("answer: \"stopped\"");
    // And so is the command.
    home.sandpod(&["stop", "sees-all", "sees-itself"]).ends_with(0);
}
