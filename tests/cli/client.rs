//! The verbs that talk to a supervisor, which this test plays: what they send, and what they make of each answer.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::cli_support::{Home, Said};
use sandpod::report::Report;
use sandpod::state::{CreatedPod, Phase, commit};
use sandpod::step::Step;
use sandpod::supervisor::protocol::{ExecRequest, Reply, Request};
use sandpod::sys::own_dir::OwnDir;
use sandpod::sys::socket::{Channel, Listener, Message};

const DEADLINE: Duration = Duration::from_secs(20);

/// A pod whose supervisor is this test.
struct Played {
    home: Home,
    pod: Option<CreatedPod>,
    control: Listener,
}

impl Played {
    fn new() -> Played {
        let home = Home::new();
        let pod = home.pod("0123456789ab", "web", &["nginx", "log"]);
        let control =
            Listener::bind(&OwnDir::of_pod(&pod.dirs.runtime).expect("ours"), "control.sock".as_ref()).expect("bind");
        Played { home, pod: Some(pod), control }
    }

    /// As a supervisor that ends. Unlocked and not only closed: a child that another test has just forked has copies.
    fn let_go(&mut self) {
        for lock in self.pod.take().expect("it was held").locks {
            lock.unlock().expect("unlock");
        }
    }

    /// Runs the command line, answers its one request, and says what it said.
    fn talk(&mut self, line: &[&str], answer: impl FnOnce(&mut Played, Request, Message, &Channel)) -> Said {
        let mut command = self.home.command(line);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
        assert!(sandpod::sys::poll::readable(self.control.as_fd(), DEADLINE).expect("poll"), "{line:?} did not ask");
        let client = self.control.accept().expect("accept").expect("a client");
        let message = client.receive_within(DEADLINE).expect("receive").expect("a request");
        let request = serde_json::from_slice(&message.bytes).expect("JSON");
        answer(self, request, message, &client);
        drop(client);
        Said::from(format!("{command:?}"), child.wait_with_output().expect("wait"))
    }
}

fn say(client: &Channel, reply: &Reply) {
    client.send(&serde_json::to_vec(reply).expect("JSON"), &[]).expect("send");
}

#[test]
fn exec_passes_its_own_descriptors_and_ends_with_the_commands_code() {
    let line = ["exec", "-c", "log", "-u", "1:2", "-w", "/tmp", "-e", "A=b=c", "web", "--", "ls", "-l"];
    let said = Played::new().talk(&line, |_, request, message, client| {
        let expected = ExecRequest {
            container: "log".to_owned(),
            argv: vec!["ls".to_owned(), "-l".to_owned()],
            env: vec![("A".to_owned(), "b=c".to_owned())],
            cwd: Some("/tmp".to_owned()),
            user: Some("1:2".to_owned()),
            tty: false,
            window: None,
            detach: false,
        };
        assert_eq!(request, Request::Exec(expected));
        let [_, stdout, stderr] = <[_; 3]>::try_from(message.fds).expect("three descriptors");
        say(client, &Reply::Started { pid: 1 });
        File::from(stdout).write_all(b"out\n").expect("write");
        File::from(stderr).write_all(b"err\n").expect("write");
        say(client, &Reply::Exited { code: 7 });
    });
    let said = said.ends_with(7);
    assert_eq!((&said.stdout[..], &said.stderr[..]), ("out\n", "err\n"));
}

#[test]
fn a_failure_of_the_supervisor_is_told_as_it_is() {
    let said = Played::new().talk(&["exec", "web", "nope"], |_, _, _, client| {
        let report = Report::new(127, "could not run a command").because("nope: not found").hint("PATH");
        say(client, &Reply::Failed(report));
    });
    said.ends_with(127).complains("error: could not run a command\n  nope: not found\nhint: PATH\n");
}

/// EAGAIN, which elsewhere is a matter of `ulimit`.
#[test]
fn a_command_that_has_no_room_beside_the_others_names_the_containers_limit() {
    let mut played = Played::new();
    let top = played.home.path().join("sandpod-web-0123456789ab");
    let pod = played.pod.as_mut().expect("held");
    pod.record.phase = Phase::Running;
    pod.record.cgroup = Some(top.clone());
    pod.record.containers[0].leaf = Some("nginx.1".to_owned());
    commit(&pod.dirs, &pod.record).expect("commit");
    let pids = |cgroup: &Path, current: &str, max: &str| {
        fs::create_dir_all(cgroup).expect("mkdir");
        fs::write(cgroup.join("cgroup.events"), "populated 1\nfrozen 0\n").expect("write");
        fs::write(cgroup.join("pids.current"), current).expect("write");
        fs::write(cgroup.join("pids.max"), max).expect("write");
    };
    let refusal = Report { cause: Some((Step::EnterPod, 11)), ..Report::new(125, "could not run a command") };
    let mut exec = || {
        let refusal = refusal.clone();
        played.talk(&["exec", "web", "ls"], |_, _, _, client| say(client, &Reply::Failed(refusal))).ends_with(125)
    };
    pids(&top, "3", "max");
    pids(&top.join("nginx.1"), "2", "3");
    exec().complains("at its limit of 3 processes").complains("`sandpod update -c nginx --pids COUNT web`");
    pids(&top.join("nginx.1"), "1", "3");
    exec().complains("ulimit -u");
    pids(&top, "4", "4");
    exec().complains("all containers together are at the limit of 4").complains("`sandpod update --pids COUNT web`");
}

#[test]
fn a_supervisor_that_dies_while_asked_is_not_waited_for() {
    let mut played = Played::new();
    // As long as its lock is held it has not ended: it is not said that it has.
    let said = played.talk(&["exec", "web", "ls"], |_, _, _, _| {});
    said.ends_with(125).complains("closed the connection while the command was starting");
    let said = played.talk(&["exec", "web", "ls"], |_, _, _, client| say(client, &Reply::Started { pid: 1 }));
    said.ends_with(125).complains("closed the connection while the command ran");
    let said = played.talk(&["wait", "web"], |played, _, _, _| played.let_go());
    said.ends_with(125).silently().complains("supervisor was killed");
}

#[test]
fn wait_prints_the_code_and_stop_returns_when_the_lock_is_free() {
    let mut played = Played::new();
    let said = played.talk(&["wait", "web"], |_, request, _, client| {
        assert_eq!(request, Request::Wait { container: None });
        say(client, &Reply::Exited { code: 137 });
    });
    assert_eq!(said.ends_with(0).stdout, "137\n");
    let said = played.talk(&["stop", "-t", "3", "web"], |played, request, _, client| {
        assert_eq!(request, Request::Stop { grace_seconds: Some(3) });
        say(client, &Reply::Stopped);
        std::thread::sleep(Duration::from_millis(50));
        played.let_go();
    });
    assert_eq!(said.ends_with(0).stdout, "web\n");
}

#[test]
fn kill_names_a_signal_and_perhaps_a_container() {
    let mut played = Played::new();
    for (line, container, signal) in [
        (&["kill", "web"][..], None, 9),
        (&["kill", "-s", "sigusr1", "-c", "log", "web"], Some("log".to_owned()), 10),
        (&["kill", "-s", "15", "web"], None, 15),
    ] {
        let said = played.talk(line, |_, request, _, client| {
            assert_eq!(request, Request::Kill { container, signal });
            say(client, &Reply::Done);
        });
        said.ends_with(0).silently();
    }
}

#[test]
fn attach_copies_both_ways_until_the_container_closes() {
    let said = Played::new().talk(&["attach", "web"], |played, request, message, client| {
        assert_eq!(request, Request::Attach { container: "nginx".to_owned() });
        let [stdio, stderr] = <[_; 2]>::try_from(message.fds).expect("two sockets");
        say(client, &Reply::Attached);
        // Less than a pipe holds: nobody reads the client's stdout before it ends.
        File::from(stdio).write_all(&vec![b'x'; 50_000]).expect("write");
        File::from(stderr).write_all(b"err\n").expect("write");
        let mut pod = played.pod.take().expect("a pod");
        let (now, exit) = (jiff::Timestamp::now(), sandpod::sys::process::Exit::Code(4));
        pod.record.containers[0].state = sandpod::state::ContainerState::Terminated {
            exit,
            reason: "Error".to_owned(),
            started_at: None,
            finished_at: now,
        };
        sandpod::state::commit(&pod.dirs, &pod.record).expect("commit");
    });
    let said = said.ends_with(4);
    assert_eq!((said.stdout.len(), &said.stderr[..]), (50_000, "err\n"));
}
