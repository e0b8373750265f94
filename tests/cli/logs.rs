//! `sandpod logs` over logs on disk, and with a supervisor that this test plays.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::Arc;

use crate::support::cli_support::Home;
use sandpod::plan::LogPlan;
use sandpod::supervisor::log::{LogFile, Stream};
use sandpod::supervisor::protocol::{Reply, Request};
use sandpod::sys::own_dir::OwnDir;
use sandpod::sys::socket::{Channel, Listener};

const NGINX: [&str; 3] = ["12:00:01 stdout F one", "12:00:03 stderr F two", "12:00:05 stdout F three"];

#[test]
fn one_container_or_all_in_order_of_time() {
    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx", "log"]);
    home.log(&pod, "nginx", &NGINX);
    home.log(&pod, "log", &["12:00:02 stdout P a", "12:00:04 stdout F b"]);
    drop(pod);
    let logs = |arguments: &[&str]| home.run(&[&["logs", "web"], arguments].concat()).ends_with(0).stdout;
    assert_eq!(logs(&[]), "nginx | one\nnginx | two\nlog   | ab\nnginx | three\n");
    assert_eq!(logs(&["-c", "log"]), "ab\n");
    let nginx = |arguments: &[&str]| logs(&[&["-c", "nginx"], arguments].concat());
    assert_eq!(nginx(&["--tail", "1"]), "three\n");
    assert_eq!(nginx(&["--tail", "0"]), "");
    assert_eq!(nginx(&["--since", "2026-11-21T12:00:03Z"]), "two\nthree\n");
    assert_eq!(nginx(&["-t", "--tail", "1"]), "2026-11-21T12:00:05.000000000Z three\n");
    // The pod has ended: there is nothing to follow.
    assert_eq!(nginx(&["-f"]), "one\ntwo\nthree\n");
}

#[test]
fn a_pod_that_wrote_nothing_and_a_damaged_log() {
    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx"]);
    assert_eq!(home.run(&["logs", "web"]).ends_with(0).stdout, "");
    std::fs::write(pod.dirs.data.join("nginx.log"), b"garbage\n\n2026-11-21T12:00:00Z stdout F good\ncut")
        .expect("write");
    assert_eq!(home.run(&["logs", "web"]).ends_with(0).stdout, "garbage\n\ngood\n");
}

#[test]
fn following_sees_what_comes_across_a_rotation_and_ends_with_the_pod() {
    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx"]);
    home.log(&pod, "nginx", &NGINX[..1]);
    let control =
        Listener::bind(&OwnDir::of_pod(&pod.dirs.runtime).expect("ours"), "control.sock".as_ref()).expect("bind");
    let mut child =
        home.command(&["logs", "-f", "web"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    let client = accept(&control);
    let request = client.receive_within(DEADLINE).expect("receive").expect("a request");
    let request: Request = serde_json::from_slice(&request.bytes).expect("JSON");
    assert_eq!(request, Request::Wait { container: None });
    assert_eq!(next(), "one");
    home.log(&pod, "nginx", &NGINX[1..2]);
    assert_eq!(next(), "two");
    let log = pod.dirs.data.join("nginx.log");
    std::fs::rename(&log, pod.dirs.data.join("nginx.log.1")).expect("rotate");
    home.log(&pod, "nginx", &NGINX[2..]);
    assert_eq!(next(), "three");
    home.log(&pod, "nginx", &["12:00:09 stdout F last"]);
    client.send(&serde_json::to_vec(&Reply::Exited { code: 0 }).expect("JSON"), &[]).expect("send");
    assert_eq!(next(), "last");
    assert!(child.wait().expect("wait").success());
}

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

fn accept(control: &Listener) -> Channel {
    use std::os::fd::AsFd;
    assert!(sandpod::sys::poll::readable(control.as_fd(), DEADLINE).expect("poll"), "no client came");
    control.accept().expect("accept").expect("a client")
}

/// A log of numbered lines, of this many bytes each in the file.
const RECORD: usize = 100;

fn numbered(log: &mut LogFile, numbers: std::ops::Range<u32>) {
    let now = "2026-11-21T12:00:00Z".parse().expect("a time");
    for number in numbers {
        // 30 bytes of time, 10 of stream and tag.
        log.write_chunk(Stream::Stdout, format!("{number:059}\n").as_bytes(), now);
    }
}

/// Waits until the command has opened the logs and waits itself: it has written more than its pipe holds.
fn first_byte(child: &mut Child) -> (u8, std::process::ChildStdout) {
    let mut stdout = child.stdout.take().expect("piped");
    let mut first = [0];
    stdout.read_exact(&mut first).expect("output");
    (first[0], stdout)
}

#[test]
fn without_follow_the_output_ends_where_the_log_ended_at_the_start() {
    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx"]);
    let plan = LogPlan { path: pod.dirs.data.join("nginx.log"), max_size: 300_000, max_files: 3 };
    let mut log = open_log(&plan);
    numbered(&mut log, 0..5000);
    let mut child = home.command(&["logs", "web"]).stdout(Stdio::piped()).spawn().expect("spawn");
    let (first, mut stdout) = first_byte(&mut child);
    // All files that were there are rotated away meanwhile.
    numbered(&mut log, 5000..20_000);
    let mut text = String::from(char::from(first));
    stdout.read_to_string(&mut text).expect("UTF-8");
    assert!(child.wait().expect("wait").success());
    let numbers: Vec<u32> = text.lines().map(|line| line.parse().expect("a number")).collect();
    assert!(numbers == (0..5000).collect::<Vec<u32>>(), "{} lines, up to {:?}", numbers.len(), numbers.last());
}

#[test]
fn a_half_written_record_is_not_among_the_last_lines() {
    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx"]);
    home.log(&pod, "nginx", &NGINX);
    let mut file = std::fs::File::options().append(true).open(pod.dirs.data.join("nginx.log")).expect("open");
    for half in ["2026", "-11-21T12:00:06.000000000Z stdout F hal"] {
        std::io::Write::write_all(&mut file, half.as_bytes()).expect("write");
        assert_eq!(home.run(&["logs", "--tail", "1", "web"]).ends_with(0).stdout, "three\n");
        assert_eq!(home.run(&["logs", "--tail", "2", "web"]).ends_with(0).stdout, "two\nthree\n");
        assert_eq!(home.run(&["logs", "--tail", "0", "web"]).ends_with(0).stdout, "");
    }
}

/// What is written between counting and printing is not among the last lines.
#[test]
fn the_last_lines_are_as_many_while_the_container_writes() {
    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx"]);
    let plan = LogPlan { path: pod.dirs.data.join("nginx.log"), max_size: 10 << 20, max_files: 3 };
    let mut log = open_log(&plan);
    numbered(&mut log, 0..10);
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut from = 10;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) && from < 2_000_000 {
                numbered(&mut log, from..from + 20);
                from += 20;
            }
        });
        let lines = |_| home.run(&["logs", "--tail", "3", "web"]).ends_with(0).stdout.lines().count();
        let counted: Vec<usize> = (0..40).map(lines).collect();
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(counted, vec![3; 40]);
    });
}

#[test]
fn a_follower_that_is_too_slow_says_how_much_it_skipped_and_where() {
    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx"]);
    let plan = LogPlan { path: pod.dirs.data.join("nginx.log"), max_size: 300_000, max_files: 3 };
    let mut log = open_log(&plan);
    numbered(&mut log, 0..2000);
    let control =
        Listener::bind(&OwnDir::of_pod(&pod.dirs.runtime).expect("ours"), "control.sock".as_ref()).expect("bind");
    let mut child =
        home.command(&["logs", "-f", "web"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    let client = accept(&control);
    client.receive_within(DEADLINE).expect("receive").expect("a request");
    let (first, stdout) = first_byte(&mut child);
    numbered(&mut log, 2000..20_000);
    let mut lines = BufReader::new(std::io::Cursor::new([first]).chain(stdout)).lines();
    let mut numbers = Vec::new();
    while numbers.last() != Some(&19_999) {
        numbers.push(lines.next().expect("the last line comes").expect("text").parse::<u32>().expect("a number"));
    }
    client.send(&serde_json::to_vec(&Reply::Exited { code: 0 }).expect("JSON"), &[]).expect("send");
    assert!(child.wait().expect("wait").success());
    assert!(numbers.is_sorted(), "in order");
    let skipped = (20_000 - numbers.len()) * RECORD;
    assert!(skipped > 0, "this test wants a reader that is too slow");
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
    let time = "2026-11-21T12:00:00.000000000Z";
    let place = format!("{skipped} bytes of the log of container `nginx` are skipped, between {time} and {time}:");
    assert!(stderr.starts_with(&format!("warning: {place}")), "{stderr:?} lacks {place:?}");
}

/// What `sandpod logs` prints to a terminal, which script(1) makes.
fn on_a_terminal(home: &Home, arguments: &str) -> Vec<u8> {
    let logs = home.command(&[]);
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &format!("'{}' logs {arguments}", logs.get_program().display()), "/dev/null"]).env_clear();
    for (name, value) in logs.get_envs() {
        script.env(name, value.expect("set"));
    }
    let output = script.env("TERM", "xterm").stdin(Stdio::null()).output().expect("script");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn a_terminal_gets_colours_and_no_other_escape_sequences() {
    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx", "other"]);
    let evil = "\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}[2J";
    home.log(&pod, "nginx", &[&format!("12:00:01 stdout F {evil}")]);
    // A sequence across two records.
    home.log(&pod, "nginx", &["12:00:02 stderr P \u{1b}", "12:00:03 stderr F ]0;title\u{7}"]);
    let shown = "\u{1b}[31mred\u{1b}[0m ^[]0;title^G^[]52;c;ZXZpbA==^G^[[2J\r\n^[]0;title^G\r\n";
    let raw = format!("{evil}\n\u{1b}]0;title\u{7}\n");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    assert_eq!(text(on_a_terminal(&home, "-c nginx web")), shown);
    assert_eq!(text(on_a_terminal(&home, "--raw -c nginx web")), raw.replace('\n', "\r\n"));
    let named = text(on_a_terminal(&home, "web"));
    assert!(named.contains("^[]52;c;ZXZpbA==^G^[[2J\r\n") && !named.contains('\u{7}'), "{named:?}");
    // Data stays data.
    assert_eq!(home.run(&["logs", "-c", "nginx", "web"]).ends_with(0).stdout, raw);
}

fn open_log(plan: &LogPlan) -> LogFile {
    let directory = OwnDir::at(plan.path.parent().expect("a directory")).expect("ours");
    LogFile::open(Arc::new(directory), plan).expect("open")
}
