//! What a command shares with its caller: no flag of an open file, no limit of descriptors of the supervisor's; and how much
//! it can be given.

use std::fs;
use std::io::{Read as _, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::support::{Home, Pod, Reaped, and, idle, sh, until};
use serde_json::json;

/// Sets O_NONBLOCK on stdin, stdout and stderr.
const NONBLOCK: &str = "use Fcntl; for (STDIN, STDOUT, STDERR) { fcntl($_, F_SETFL, fcntl($_, F_GETFL, 0) | O_NONBLOCK) or die } \
                        print 'done'; print STDERR 'done'";

fn is_nonblocking(fd: &impl AsFd) -> bool {
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let info = fs::read_to_string(path).expect("fdinfo");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
    u32::from_str_radix(flags, 8).expect("octal") & 0o4000 != 0
}

fn copy(fd: &impl AsFd) -> Stdio {
    Stdio::from(fd.as_fd().try_clone_to_owned().expect("dup"))
}

/// `exec -i` with these three, of which the caller keeps a copy each.
fn exec_with(pod: &Pod<'_>, command: &[&str], ends: &[OwnedFd; 3]) {
    let words = [&["exec", "-i", &pod.name, "--"], command].concat();
    let mut exec = pod.home.command(&words);
    exec.stdin(copy(&ends[0])).stdout(copy(&ends[1])).stderr(copy(&ends[2]));
    let mut child = Reaped(exec.spawn().expect("it starts"));
    assert!(until("exec ends", || child.0.try_wait().expect("wait")).success());
}

/// What the caller's next program writes would be lost (EAGAIN).
#[test]
fn a_command_cannot_make_the_callers_streams_nonblocking() {
    let Some(home) = Home::with("nonblocking", &["perl"]) else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let (input, _typed) = pipe().expect("pipe");
    let (mut out, output) = pipe().expect("pipe");
    let (mut err, errors) = pipe().expect("pipe");
    let ends = [input.into(), output.into(), errors.into()];
    exec_with(&pod, &["perl", "-e", NONBLOCK], &ends);
    assert_eq!(ends.each_ref().map(is_nonblocking), [false; 3], "pipes");
    drop(ends);
    let mut said = String::new();
    out.read_to_string(&mut said).expect("UTF-8");
    err.read_to_string(&mut said).expect("UTF-8");
    assert_eq!(said, "donedone");
    let pairs = [(); 3].map(|()| UnixStream::pair().expect("socketpair"));
    let (ends, others) =
        pairs.map(|(ours, theirs)| (OwnedFd::from(ours), theirs)).into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    let ends = <[OwnedFd; 3]>::try_from(ends).expect("three");
    exec_with(&pod, &["perl", "-e", NONBLOCK], &ends);
    assert_eq!(ends.each_ref().map(is_nonblocking), [false; 3], "sockets");
    drop(ends);
    let mut said = String::new();
    for mut other in others.into_iter().skip(1) {
        other.read_to_string(&mut said).expect("UTF-8");
    }
    assert_eq!(said, "donedone");
}

/// The other way round: a program that expects its stdout to wait would lose what it writes.
#[test]
fn a_command_gets_streams_that_wait_whatever_the_callers_do() {
    let Some(home) = Home::with("waiting_streams", &["perl"]) else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    // A pipe holds 64 kB; it is not read before it is full.
    let script = "exec 3>&1; perl -e 'use Fcntl; fcntl(STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK) or die' || exit 9
        \"$SANDPOD\" exec \"$POD\" -- busybox seq 1 200000";
    let mut command = home.program("/bin/sh", &["-c", script]);
    command.env("SANDPOD", env!("CARGO_BIN_EXE_sandpod")).env("POD", &pod.name).stdout(Stdio::piped());
    let mut child = Reaped(command.spawn().expect("it starts"));
    let mut stdout = child.0.stdout.take().expect("piped");
    until("the pipe is full", || (readable(&stdout) >= 60_000).then_some(()));
    let mut said = String::new();
    stdout.read_to_string(&mut said).expect("UTF-8");
    assert!(said == (1..=200_000).map(|number| format!("{number}\n")).collect::<String>(), "{} bytes", said.len());
    assert!(child.0.wait().expect("wait").success());
}

fn readable(fd: &impl AsFd) -> usize {
    sandpod::sys::stdio::readable_bytes(fd.as_fd()).expect("FIONREAD")
}

/// `prlimit OPTION sandpod WORDS`.
fn limited(home: &Home, option: &str, words: &[&str]) -> Command {
    home.program("/usr/bin/prlimit", &[&[option, env!("CARGO_BIN_EXE_sandpod")], words].concat())
}

#[test]
fn the_supervisor_has_all_descriptors_and_the_container_the_callers() {
    let Some(home) = Home::with("descriptors", &["prlimit"]) else { return };
    let main = and(sh("main", "ulimit -n; ulimit -Hn; sleep 1000"), json!({}));
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [main] });
    let manifest = home.manifest(&spec);
    let run = ["run", "-d", "-q", "-p", "127.0.0.1::80", manifest.to_str().expect("UTF-8")];
    home.said(limited(&home, "--nofile=300:3000", &run), &[]).ends_with(0);
    let pod = Pod { home: &home, name: home.test.clone() };
    let seen = until("it has written its limits", || Some(pod.logs("main")).filter(|logs| logs.lines().count() == 2));
    assert_eq!(seen, "300\n3000\n");
    assert_eq!(pod.sh("main", "ulimit -n; ulimit -Hn"), "300\n3000");
    let supervisor = u32::try_from(pod.inspect()["supervisor"].as_u64().expect("a pid")).expect("a pid");
    for (pid, name) in [(supervisor, "supervisor"), (pod.port_proxy(), "port proxy")] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
        let words: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        assert_eq!(words, ["3000", "3000"], "{name}");
    }
}

#[test]
fn a_command_line_may_be_as_long_as_execve_takes() {
    let Some(home) = Home::with("long_lines", &["prlimit"]) else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    // MAX_ARG_STRLEN, and most of a quarter of 8 MiB.
    let word = "\u{e4}\"".repeat(131_071 / 3);
    let exec = |pod: &Pod<'_>, count: usize| {
        let script = "printf '%s\\n' \"$@\" | wc -c";
        let words = ["exec", &pod.name, "--", "busybox", "sh", "-c", script, "sh"];
        home.sandpod(&[&words[..], &vec![word.as_str(); count]].concat())
    };
    for count in [1, 2, 12] {
        assert_eq!(exec(&pod, count).ends_with(0).stdout.trim(), (count * (word.len() + 1)).to_string());
    }
    // Also as the command's own name, which is in the error.
    for name in [word.clone(), format!("/{word}")] {
        let said = home.sandpod(&["exec", &pod.name, "--", &name]).ends_with(126).complains("too long");
        assert!(said.stderr.len() < 10_000, "{} bytes", said.stderr.len());
    }
    pod.does(&["rm", "-f"]);
    // One whose own limit is smaller than the caller's.
    let manifest = home.manifest(&json!({ "containers": [idle("main")] }));
    let run = ["run", "-d", "-q", manifest.to_str().expect("UTF-8")];
    home.said(limited(&home, "--stack=1048576", &run), &[]).ends_with(0);
    let pod = Pod { home: &home, name: home.test.clone() };
    exec(&pod, 1).ends_with(0);
    exec(&pod, 12).ends_with(126).complains("too long together: the limit is a quarter of `ulimit -s`");
}
