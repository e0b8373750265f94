//! Who may command a supervisor, of those who reach its control socket with your uid.

use std::fs::{self, File};
use std::io::{IoSlice, Read as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::{Home, Pod, and, idle, is_live, until};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg, socket,
};
use serde_json::json;

/// Connects, asks for the pod's end, and tells the answer. Whoever is refused may find the connection closed already.
const STOP: &str = r#"use Socket; $SIG{PIPE} = "IGNORE";
    socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0) or die "socket: $!";
    connect($s, sockaddr_un($ARGV[0])) or die "connect: $!";
    send($s, '{"stop":{"grace_seconds":0}}', 0);
    # The first may only say that the connection was reset.
    my $answer = ""; recv($s, $answer, 4096, 0) // recv($s, $answer, 4096, 0);
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
        said.ends_with(0).says("takes no requests from this process");
        assert_eq!(victim.pid("main"), before);
        assert!(is_live(before));
    }
    // A process of the host is obeyed, whatever program it is.
    let path = home.path().join("run").join(&socket);
    let said = home.said(home.program("perl", &["-e", STOP, path.to_str().expect("UTF-8")]), b"");
    said.ends_with(0).says("answer: \"stopped\"");
    // And so is the command, but in a user namespace of its own.
    let sandpod = home.command(&[]).get_program().to_owned();
    let stop = ["-U", sandpod.to_str().expect("UTF-8"), "stop", "sees-itself"];
    let said = home.said(home.program("unshare", &stop), b"");
    said.ends_with(125).complains("no process of yours in this user namespace").complains("run sandpod outside of it");
    home.sandpod(&["stop", "sees-all", "sees-itself"]).ends_with(0);
}

/// Puts a socket into the place of the one at the path, and writes what it is sent into a file.
const IMPOSTOR: &str = r#"use Socket;
    unlink($ARGV[0]);
    socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0) or die "socket: $!";
    bind($s, sockaddr_un($ARGV[0])) or die "bind: $!";
    listen($s, 5) or die "listen: $!";
    open(my $heard, ">", $ARGV[1]) or die "open: $!"; $heard->autoflush(1);
    while (accept(my $client, $s)) {
        recv($client, my $asked, 4096, 0);
        syswrite($heard, "heard: $asked\n");
        send($client, '"done"', 0);
    }"#;

#[test]
fn a_socket_that_a_container_has_put_in_the_supervisors_place_is_not_believed() {
    let Some(home) = Home::with("impostor", &["perl"]) else { return };
    let victim = home.start_with("victim", &json!({ "containers": [idle("main")] }), &[]);
    let before = victim.pid("main");
    let seen = Path::new("/mnt").join(control_socket(&victim));
    let script = ["perl", "-e", IMPOSTOR, seen.to_str().expect("UTF-8"), "/mnt/heard"];
    let container = json!({
        "name": "main", "image": "host:", "command": script,
        "volumeMounts": [{ "name": "run", "mountPath": "/mnt" }],
    });
    let volume = json!({ "name": "run", "hostPath": { "path": home.path().join("run") } });
    let spec = json!({ "containers": [container], "volumes": [volume] });
    let heard = home.path().join("run/heard");
    let impostor = home.start_with("impostor", &spec, &["--userns", "root-is-you"]);
    until("the impostor listens", || heard.exists().then_some(()));
    for words in
        [&["exec", "victim", "--", "true"][..], &["stop", "victim"], &["kill", "victim"], &["attach", "victim"]]
    {
        let said = home.sandpod(words).ends_with(125);
        said.complains("no process of yours in this user namespace").complains("sandpod rm -f victim");
    }
    // It is found without its socket.
    victim.does(&["rm", "-f"]);
    assert!(!is_live(before));
    let mut text = String::new();
    File::open(&heard).expect("open").read_to_string(&mut text).expect("read");
    assert!(!text.contains('{') && !text.contains("stop"), "{text}");
    impostor.does(&["rm", "-f"]);
}

/// Its supervisor waits for the caller of `run`, who has asked for a pod that is removed, and takes no more requests. Who has
/// found the socket in time and connects late must not wait with it.
#[test]
fn nobody_waits_at_the_socket_of_a_pod_that_has_ended() {
    let Some(home) = Home::new("ended_socket") else { return };
    let manifest = home.manifest_of("lingers", &json!({ "containers": [idle("main")] }));
    let words = ["run", "--rm", "-q", manifest.to_str().expect("UTF-8")];
    let mut caller = home.command(&words).stdout(Stdio::null()).spawn().expect("start");
    let pod = Pod { home: &home, name: "lingers".to_owned() };
    until("it runs", || home.sandpod(&["exec", "lingers", "--", "busybox", "true"]).code.filter(|code| *code == 0));
    let path = home.path().join("run").join(control_socket(&pod));
    let socket_file = sandpod::sys::path::open_host_path(&path).expect("the socket");
    let signal = |signal| {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(caller.id()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("a signal");
    };
    signal(nix::sys::signal::SIGSTOP);
    pod.does(&["stop"]);
    until("the socket is gone", || (!path.exists()).then_some(()));
    let late = until("a connection that is refused or ends", || {
        let channel = match sandpod::sys::socket::Channel::connect_to(socket_file.as_fd(), &path) {
            Err(error) => return Some(error.errno),
            Ok(channel) => channel,
        };
        // The supervisor is between the two.
        match channel.receive_within(std::time::Duration::from_secs(5)) {
            Ok(_) => None,
            Err(error) => Some(error.errno),
        }
    });
    signal(nix::sys::signal::SIGCONT);
    assert!(caller.wait().expect("wait").code().is_some());
    assert_eq!(late, nix::errno::Errno::ECONNREFUSED);
}

fn ask(path: &Path, request: &str, fds: &[impl AsFd]) -> (OwnedFd, String) {
    let channel = say(path, request, fds);
    let answer = heard(&channel);
    (channel, answer)
}

fn heard(channel: &OwnedFd) -> String {
    let mut answer = vec![0; 4096];
    let length = recv(channel.as_raw_fd(), &mut answer, MsgFlags::empty()).expect("recv");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn say(path: &Path, request: &str, fds: &[impl AsFd]) -> OwnedFd {
    let channel = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    let directory = File::open(path.parent().expect("a directory")).expect("open");
    let short = format!("/proc/self/fd/{}/control.sock", directory.as_raw_fd());
    connect(channel.as_raw_fd(), &UnixAddr::new(short.as_str()).expect("an address")).expect("connect");
    let raw: Vec<_> = fds.iter().map(|fd| fd.as_fd().as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights };
    let parts = [IoSlice::new(request.as_bytes())];
    sendmsg::<()>(channel.as_raw_fd(), &parts, control, MsgFlags::empty(), None).expect("sendmsg");
    channel
}

/// Who is refused does not keep the next one from hearing how the pod ended.
#[test]
fn who_comes_behind_strangers_at_the_end_is_answered() {
    let Some(home) = Home::new("behind_strangers") else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let path = home.path().join("run").join(control_socket(&pod));
    let supervisor = pod.inspect()["record"]["supervisor"]["pid"].as_u64().expect("a pid");
    let supervisor = nix::unistd::Pid::from_raw(i32::try_from(supervisor).expect("a pid"));
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).expect("children");
    let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let pause = children.split_whitespace().find(|pid| name(pid).contains("pause")).expect("pause");
    let pause = nix::unistd::Pid::from_raw(pause.parse().expect("a pid"));
    // It looks at nothing until all of them have come, and the pod has ended.
    nix::sys::signal::kill(supervisor, nix::sys::signal::SIGSTOP).expect("stopped");
    let sandpod = home.command(&[]).get_program().to_owned();
    let words = ["-U", sandpod.to_str().expect("UTF-8"), "wait", &pod.name];
    let strangers: Vec<_> = (0..8)
        .map(|_| home.program("unshare", &words).stderr(Stdio::piped()).spawn().expect("unshare starts"))
        .collect();
    for stranger in strangers {
        let output = stranger.wait_with_output().expect("wait");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(125) && said.contains("user namespace"), "{said}");
    }
    let client = say(&path, r#"{"wait":{"container":null}}"#, &[] as &[File]);
    nix::sys::signal::kill(pause, nix::sys::signal::SIGKILL).expect("killed");
    nix::sys::signal::kill(supervisor, nix::sys::signal::SIGCONT).expect("goes on");
    let answer = heard(&client);
    assert!(answer.contains("exited"), "{answer:?}");
}

/// Who attaches leaves no descriptor behind in the supervisor, whatever it has handed over and whoever else holds that.
#[test]
fn an_attached_client_that_goes_leaves_no_descriptors() {
    let Some(home) = Home::new("attached_descriptors") else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let path = home.path().join("run").join(control_socket(&pod));
    let supervisor = pod.inspect()["record"]["supervisor"]["pid"].as_u64().expect("a pid");
    let open = || fs::read_dir(format!("/proc/{supervisor}/fd")).expect("readdir").count();
    let before = open();
    let attach = r#"{"attach":{"container":"main"}}"#;
    let file = home.file("file", "text", 0o600);
    let files = [File::open(&file).expect("open"), File::open(&file).expect("open")];
    for _ in 0..20 {
        let (_channel, answer) = ask(&path, attach, &files);
        assert!(answer.contains("attach takes two sockets"), "{answer}");
    }
    let (stdio, theirs) = UnixStream::pair().expect("socketpair");
    for _ in 0..20 {
        let (_channel, answer) = ask(&path, attach, &[&theirs, &theirs]);
        assert_eq!(answer, "\"attached\"");
    }
    until("only what was open before", || (open() <= before).then_some(()));
    drop(stdio);
    pod.does(&["rm", "-f"]);
}

/// No more memory goes into a request than a command line may take.
#[test]
fn a_request_that_is_too_long_is_refused_unread() {
    let Some(home) = Home::new("request_too_long") else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let path = home.path().join("run").join(control_socket(&pod));
    let memory = nix::sys::memfd::memfd_create("request", nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING).expect("memfd");
    let memory = File::from(memory);
    memory.set_len(30 << 20).expect("ftruncate");
    let seals = nix::fcntl::SealFlag::all();
    let seals = seals.difference(nix::fcntl::SealFlag::F_SEAL_FUTURE_WRITE);
    nix::fcntl::fcntl(&memory, nix::fcntl::FcntlArg::F_ADD_SEALS(seals)).expect("F_ADD_SEALS");
    let (_channel, answer) = ask(&path, "\"in-memory\"", &[&memory]);
    assert!(answer.contains("read(memfd of 31457280 bytes)") && answer.contains("E2BIG"), "{answer}");
    pod.does(&["rm", "-f"]);
}
