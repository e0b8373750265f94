//! What `run` in the foreground shows: every byte, whatever the reader does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use crate::support::{Home, Reaped, and, idle, memory_kb, once, sh, until};
use serde_json::json;

/// What `seq FIRST LAST` prints.
fn numbers(first: u32, last: u32) -> String {
    let mut text = String::new();
    (first..=last).for_each(|number| writeln!(text, "{number}").expect("memory"));
    text
}

/// For large texts, which no failure should print.
#[track_caller]
fn same(found: &[u8], expected: &str) {
    let line = found.iter().zip(expected.as_bytes()).position(|(one, other)| one != other);
    assert!(found == expected.as_bytes(), "{} of {} bytes, first different: {line:?}", found.len(), expected.len());
}

/// The pod has ended, by its record.
fn has_ended(home: &Home, pod: &str) -> Option<()> {
    home.sandpod(&["wait", pod]).ends_with(0);
    Some(())
}

/// A prompt has no newline, and waits for an answer that comes from another place.
#[test]
fn a_prompt_of_one_of_several_containers_is_shown_on_a_terminal() {
    let Some(home) = Home::with("prompt_of_several", &["script"]) else { return };
    let asks = "printf 'name? '; until [ -e /tmp/answer ]; do busybox sleep 0.05; done; echo bob";
    let spec = once([sh("asks", asks), sh("other", "exec sleep 1000")]);
    let manifest = home.manifest_of("prompts", &spec);
    let run = home.command(&["run", "-q", "--rm", manifest.to_str().expect("UTF-8")]);
    let line = format!("'{}' run -q --rm '{}'", run.get_program().display(), manifest.display());
    let mut child = in_foreground(home.program("/usr/bin/script", &["-qec", &line, "/dev/null"]));
    let mut stdout = child.0.stdout.take().expect("piped");
    let (mut shown, mut bytes) = (Vec::new(), [0; 1024]);
    // It waits for the answer until the prompt is here.
    while !String::from_utf8_lossy(&shown).contains("name? ") {
        let count = stdout.read(&mut bytes).expect("read");
        assert!(count > 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&bytes[..count]);
    }
    assert!(!shown.contains(&b'\n'), "{}", String::from_utf8_lossy(&shown));
    home.sandpod(&["exec", "-c", "asks", "prompts", "--", "touch", "/tmp/answer"]).ends_with(0);
    while !String::from_utf8_lossy(&shown).contains("name? bob\r\n") {
        let count = stdout.read(&mut bytes).expect("read");
        assert!(count > 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&bytes[..count]);
    }
    home.sandpod(&["stop", "-t", "0", "prompts"]).ends_with(0);
    code_of(&mut child.0);
}

fn in_foreground(mut command: Command) -> Reaped {
    Reaped(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"))
}

#[track_caller]
fn code_of(child: &mut Child) -> Option<i32> {
    until("run ends", || child.try_wait().expect("wait")).code()
}

/// The next line on stdout, and what comes later.
fn first_line(child: &mut Child) -> (String, BufReader<std::process::ChildStdout>) {
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    (line, stdout)
}

#[test]
fn a_fast_writer_loses_nothing_to_a_file() {
    let Some(home) = Home::new("fast_writer") else { return };
    let path = home.file("output", "", 0o644);
    for options in [&[][..], &["-i"]] {
        let words = [&["run", "--rm", "-q"], options, &["--image", "host:", "--", "seq", "1", "1500000"]].concat();
        let mut command = home.command(&words);
        command.stdout(File::create(&path).expect("open"));
        let mut child = Reaped(command.spawn().expect("it starts"));
        assert_eq!(code_of(&mut child.0), Some(0));
        same(&fs::read(&path).expect("read"), &numbers(1, 1_500_000));
    }
}

#[test]
fn a_slow_reader_of_a_pipe_gets_every_byte() {
    let Some(home) = Home::new("slow_reader") else { return };
    let mut child =
        in_foreground(home.command(&["run", "--rm", "-q", "--image", "host:", "--", "seq", "1", "1500000"]));
    let mut stdout = child.0.stdout.take().expect("piped");
    let mut received = Vec::new();
    let mut part = vec![0; 50_000];
    loop {
        let count = stdout.read(&mut part).expect("read");
        if count == 0 {
            break;
        }
        received.extend_from_slice(&part[..count]);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert_eq!(code_of(&mut child.0), Some(0));
    same(&received, &numbers(1, 1_500_000));
}

/// More than a socket holds, and less than all buffers together: the container ends, and its reader has read nothing.
#[test]
fn what_a_container_wrote_last_waits_for_a_reader_that_comes_later() {
    let Some(home) = Home::new("reads_later") else { return };
    // 200 kB: the pipes of container and client take 64 KiB each, the socket between them at least half of its 208 KiB (the
    // kernel counts what it needs around each message, socket(7)). More could keep the container from its end.
    for options in [&[][..], &["-i"]] {
        let words = [&["run", "-q", "--name", "late"], options, &["--image", "host:", "--", "seq", "1", "36000"]];
        let mut child = in_foreground(home.command(&words.concat()));
        until("the pod is there", || (home.sandpod(&["inspect", "late"]).code == Some(0)).then_some(()));
        until("the pod ends without a reader", || has_ended(&home, "late"));
        // As long as the supervisor waited for slow readers once.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let mut received = Vec::new();
        child.0.stdout.take().expect("piped").read_to_end(&mut received).expect("read");
        same(&received, &numbers(1, 36_000));
        assert_eq!(code_of(&mut child.0), Some(0));
        home.sandpod(&["rm", "late"]).ends_with(0);
    }
}

/// A pipe can be made larger by the container itself.
#[test]
fn a_pipe_of_a_megabyte_is_read_to_its_end() {
    let Some(home) = Home::with("large_pipe", &["python3"]) else { return };
    let script = "import fcntl, os, sys\nfcntl.fcntl(1, 1031, 1 << 20)\nsys.stdout.write('x' * 1000000)";
    let mut child = in_foreground(
        home.command(&["run", "-q", "--name", "large", "--image", "host:", "--", "python3", "-c", script]),
    );
    until("the pod is there", || (home.sandpod(&["inspect", "large"]).code == Some(0)).then_some(()));
    until("the pod ends without a reader", || has_ended(&home, "large"));
    let mut received = Vec::new();
    child.0.stdout.take().expect("piped").read_to_end(&mut received).expect("read");
    assert_eq!(received.len(), 1_000_000);
    assert_eq!(code_of(&mut child.0), Some(0));
}

#[test]
fn a_stopped_reader_holds_up_its_container_and_nothing_else() {
    let Some(home) = Home::new("stopped_reader") else { return };
    let loud = sh("loud", "trap 'exit 0' TERM; exec 2>&1; n=0; while :; do n=$((n+1)); echo line $n; done");
    let manifest = home.manifest(&json!({
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [loud, idle("quiet")] }));
    let mut child = in_foreground(home.command(&["run", "-q", manifest.to_str().expect("UTF-8")]));
    let (line, stdout) = first_line(&mut child.0);
    assert_eq!(line, "loud  | line 1\n");
    let pod = crate::support::Pod { home: &home, name: home.test.clone() };
    // It writes no more: its log does not grow.
    let size = || {
        fs::metadata(pod.inspect()["dirs"]["data"].as_str().map_or_else(String::new, |data| format!("{data}/loud.log")))
            .map(|found| found.len())
            .unwrap_or_default()
    };
    let mut before = u64::MAX;
    until("the container waits for its reader", || {
        let now = size();
        std::thread::sleep(std::time::Duration::from_millis(300));
        (std::mem::replace(&mut before, now) == now).then_some(())
    });
    for number in 0..5 {
        assert_eq!(pod.sh("quiet", &format!("echo {number}")), number.to_string());
    }
    let supervisor = pod.inspect()["supervisor"].as_u64().expect("a pid");
    assert!(memory_kb(u32::try_from(supervisor).expect("a pid"), "RssAnon") < 4096);
    // The reader goes on, and every line is there, in order.
    for (number, line) in (2..).zip(stdout.lines().take(100_000)) {
        assert_eq!(line.expect("a line"), format!("loud  | line {number}"));
    }
}

#[test]
fn lines_of_two_containers_are_whole_and_each_is_in_order() {
    let Some(home) = Home::new("two_containers") else { return };
    let script = "busybox seq 1 100000; printf unfinished";
    let said = home.run(&json!({ "restartPolicy": "Never", "containers": [sh("one", script), sh("three", script)] }));
    let said = said.ends_with(0);
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    for line in said.stdout.lines() {
        let (name, text) = line.split_once(" | ").expect("a name");
        writeln!(found.entry(name.trim_end()).or_default(), "{text}").expect("memory");
    }
    assert_eq!(found.len(), 2);
    found.values().for_each(|text| same(text.as_bytes(), &format!("{}unfinished\n", numbers(1, 100_000))));
}

/// Also when a life ends before the last one's output is read.
#[test]
fn output_goes_on_over_a_restart() {
    let Some(home) = Home::new("over_a_restart") else { return };
    // No more than the pipes on the way hold: nothing is read before the second life.
    let script = "busybox seq 1 20000; [ -e /data/second ] && exit 0; busybox touch /data/second; exit 1";
    let main = and(sh("main", script), json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] }));
    let manifest = home.manifest(&json!({
        "restartPolicy": "OnFailure", "containers": [main], "volumes": [{ "name": "data", "emptyDir": {} }] }));
    let mut child = in_foreground(home.command(&["run", "-q", manifest.to_str().expect("UTF-8")]));
    let pod = crate::support::Pod { home: &home, name: home.test.clone() };
    until("the pod is there", || (home.sandpod(&["inspect", &home.test]).code == Some(0)).then_some(()));
    until("it is started again", || (pod.restarts("main") == 1).then_some(()));
    let mut received = Vec::new();
    child.0.stdout.take().expect("piped").read_to_end(&mut received).expect("read");
    same(&received, &numbers(1, 20_000).repeat(2));
    assert_eq!(code_of(&mut child.0), Some(0));
}

#[test]
fn after_a_killed_client_the_output_goes_to_the_log_alone() {
    let Some(home) = Home::new("killed_client") else { return };
    let script = "echo ready; busybox seq 1 300000; echo end; exit 4";
    let manifest = home.manifest(&once([sh("main", script)]));
    let mut child = in_foreground(home.command(&["run", "-q", manifest.to_str().expect("UTF-8")]));
    let (_, stdout) = first_line(&mut child.0);
    // Unread output holds the container up until its client is gone.
    child.0.kill().expect("kill");
    child.0.wait().expect("wait");
    drop(stdout);
    home.sandpod(&["wait", &home.test]).ends_with(0).says("4\n");
    let pod = crate::support::Pod { home: &home, name: home.test.clone() };
    assert!(pod.logs("main").ends_with("300000\nend\n"));
}
