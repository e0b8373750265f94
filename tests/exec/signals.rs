//! A command of `exec` and its client: signals that are passed on, a client that is killed, `--detach`.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::connect;
use crate::support::{Home, Pod, Reaped, idle, until};
use sandpod::supervisor::protocol::{ExecRequest, Reply, Request};
use serde_json::json;

/// Those that `exec` passes on.
const PASSED: [&str; 6] = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"];

impl Pod<'_> {
    /// An `exec` that is left running; its stdout is piped.
    fn exec_in_background(&self, options: &[&str], script: &str) -> Reaped {
        let words = [&["exec"], options, &[&self.name, "--", "busybox", "sh", "-c", script]].concat();
        let mut command = self.home.command(&words);
        Reaped(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"))
    }

    /// Waits until a file in the container says something; gives its first line.
    fn awaits(&self, file: &str) -> String {
        until(file, || {
            let said = self.exec("main", &["busybox", "cat", file]).stdout;
            said.ends_with('\n').then(|| said.trim_end().to_owned())
        })
    }

    /// Whether a process of the container, by its pid there, is alive.
    fn has(&self, pid: &str) -> bool {
        self.exec("main", &["busybox", "kill", "-0", pid]).code == Some(0)
    }
}

/// Reads a command's stdout up to `wanted`.
fn read_until(child: &mut Reaped, wanted: &str) -> String {
    let stdout = child.0.stdout.as_mut().expect("piped");
    let mut text = String::new();
    let mut byte = [0; 1];
    while !text.contains(wanted) && stdout.read(&mut byte).is_ok_and(|count| count == 1) {
        text.push(char::from(byte[0]));
    }
    assert!(text.contains(wanted), "{wanted:?} never came: {text:?}");
    text
}

fn send(signal: &str, child: &Reaped) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.0.id().to_string()]).status();
    assert!(sent.expect("kill").success(), "{signal}");
}

/// The rest of its stdout, and the code with which it ends. Its pipe must close, too.
fn end(mut child: Reaped) -> (Option<i32>, String) {
    let status = until("exec ends", || child.0.try_wait().expect("wait"));
    assert_eq!(status.signal(), None, "exec itself was killed");
    let mut rest = String::new();
    child.0.stdout.take().expect("piped").read_to_string(&mut rest).expect("UTF-8");
    (status.code(), rest)
}

/// Waits for ever, and holds no pipe meanwhile.
const WAIT: &str = "while :; do sleep 1000 >/dev/null 2>&1 & wait $!; done";

#[test]
fn signals_reach_the_command() {
    let Some(home) = Home::new("signals_reach") else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    for signal in PASSED {
        let mut child = pod.exec_in_background(&[], &format!("trap 'echo got; exit 3' {signal}; echo ready; {WAIT}"));
        read_until(&mut child, "ready\n");
        send(signal, &child);
        assert_eq!(end(child), (Some(3), "got\n".to_owned()), "{signal}");
    }
    // More than one, and the command decides when it ends.
    let script = format!("trap 'echo one' USR1; trap 'echo two; exit 0' USR2; echo ready; {WAIT}");
    let mut child = pod.exec_in_background(&[], &script);
    read_until(&mut child, "ready\n");
    send("USR1", &child);
    read_until(&mut child, "one\n");
    send("USR2", &child);
    assert_eq!(end(child), (Some(0), "two\n".to_owned()));
    // One that it does not catch ends it, as the code says.
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129), ("QUIT", 131), ("USR1", 138), ("USR2", 140)] {
        let mut child = pod.exec_in_background(&[], "echo $$; exec sleep 1000");
        let pid = read_until(&mut child, "\n");
        send(signal, &child);
        assert_eq!(end(child), (Some(code), String::new()), "{signal}");
        assert!(!pod.has(pid.trim_end()), "{signal}");
    }
}

#[test]
fn what_the_caller_ignores_is_not_passed_on() {
    let Some(home) = Home::new("ignored") else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let script = format!("trap 'echo hup' HUP; trap 'echo term; exit 4' TERM; echo ready; {WAIT}");
    let mut command = home.program("/bin/sh", &["-c", "trap '' HUP; exec \"$@\"", "sh"]);
    command.arg(env!("CARGO_BIN_EXE_sandpod")).args(["exec", &pod.name, "--", "busybox", "sh", "-c", &script]);
    let mut child = Reaped(command.stdout(Stdio::piped()).spawn().expect("it starts"));
    read_until(&mut child, "ready\n");
    send("HUP", &child);
    send("TERM", &child);
    assert_eq!(end(child), (Some(4), "term\n".to_owned()));
}

#[test]
fn a_timeout_ends_the_command_and_the_pipeline() {
    let Some(home) = Home::with("timeout", &["timeout"]) else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    for signal in ["TERM", "KILL"] {
        // `said` waits for the end of the pipe, which the command holds.
        let exec = format!("{} exec {} -- sleep 1000", env!("CARGO_BIN_EXE_sandpod"), pod.name);
        home.said(home.program("/bin/sh", &["-c", &format!("timeout -s {signal} 1 {exec} | cat")]), &[]);
    }
}

#[test]
fn a_command_whose_client_was_killed_is_hung_up_and_then_killed() {
    let Some(home) = Home::new("client_killed") else { return };
    let spec = json!({ "terminationGracePeriodSeconds": 2, "containers": [idle("main")] });
    let pod = home.start(&spec);
    for (options, name) in [(&[][..], "pipes"), (&["-t"], "terminal")] {
        // What it has put into the background, into a session of its own, stays.
        let file = format!("/tmp/background-{name}");
        let background = format!("setsid sh -c 'echo $$ >{file}; exec sleep 1000' </dev/null >/dev/null 2>&1 &");
        let begun = format!("while [ ! -s {file} ]; do sleep 0.05; done");
        let script = format!("{background} {begun}; trap 'echo hup >/tmp/{name}; exit' HUP; echo ready; {WAIT}");
        let mut child = pod.exec_in_background(options, &script);
        read_until(&mut child, "ready");
        send("KILL", &child);
        assert_eq!(pod.awaits(&format!("/tmp/{name}")), "hup");
        assert!(pod.has(&pod.awaits(&file)), "{name}");
        // One that does not listen.
        let mut child = pod.exec_in_background(options, &format!("trap '' HUP; echo $$ ready; {WAIT}"));
        let said = read_until(&mut child, "ready");
        send("KILL", &child);
        let pid = said.split_whitespace().next().expect("a pid").to_owned();
        until("it is killed", || (!pod.has(&pid)).then_some(()));
    }
}

#[test]
fn a_detached_command_goes_on_alone() {
    let Some(home) = Home::new("detached") else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let exec = |words: &[&str]| home.sandpod(&[&["exec", "-d", &pod.name, "--"], words].concat());
    let script = format!("trap 'echo hup >/tmp/hup' HUP; echo out; echo err >&2; echo $$ >/tmp/pid; {WAIT}");
    let said = exec(&["busybox", "sh", "-c", &script]).ends_with(0);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    let pid = pod.awaits("/tmp/pid");
    assert!(pod.has(&pid));
    assert_eq!(pod.sh("main", "cat /tmp/hup 2>&1; true"), "cat: can't open '/tmp/hup': No such file or directory");
    let streams = pod.sh("main", &format!("for n in 0 1 2; do readlink /proc/{pid}/fd/$n; done"));
    assert_eq!(streams, "/dev/null\n/dev/null\n/dev/null");
    exec(&["busybox", "sh", "-c", "echo logged >/proc/1/fd/1"]).ends_with(0);
    until("it is in the log", || (pod.logs("main") == "logged\n").then_some(()));
    exec(&["no-such-program"]).ends_with(127).complains("no-such-program");
    for option in ["-i", "-t"] {
        home.sandpod(&["exec", "-d", option, &pod.name, "--", "true"]).ends_with(2).complains("cannot be used with");
    }
}

/// The signal comes while the command is on its way: it ends as a process does that has no handler yet.
#[test]
fn a_signal_before_the_command_runs_ends_it() {
    let Some(home) = Home::new("early_signal") else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let control = home.path().join("run/sandpod/pods").join(pod.inspect()["id"].as_str().expect("an id"));
    for round in 0..20 {
        let client = connect(&control.join("control.sock"));
        let null = File::options().read(true).write(true).open("/dev/null").expect("null");
        let argv = ["busybox", "sleep", "12345"].map(str::to_owned).to_vec();
        let exec = Request::Exec(ExecRequest { container: "main".to_owned(), argv, ..ExecRequest::default() });
        let say = |request: &Request, fds: &[_]| {
            client.send(&serde_json::to_vec(request).expect("JSON"), fds).expect("send");
        };
        say(&exec, &[null.as_fd(); 3]);
        std::thread::sleep(Duration::from_micros(round * 200));
        say(&Request::Signal { signal: 15 }, &[]);
        let last = loop {
            let message = client.receive_within(crate::support::LONG).expect("receive").expect("a reply");
            match serde_json::from_slice(&message.bytes).expect("JSON") {
                Reply::Started { .. } => {}
                last => break last,
            }
        };
        assert_eq!(last, Reply::Exited { code: 143 });
    }
    until("none is left", || {
        (pod.exec("main", &["pgrep", "-f", "^busybox sleep 12345"]).code == Some(1)).then_some(())
    });
}
