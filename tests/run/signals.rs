//! How `run` in the foreground ends: by signals, by readers that go, by output that cannot be written.

use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use crate::support::{Home, Reaped, and, once, sh, until};
use serde_json::{Value, json};

/// A pod whose stop would take an hour, unless it ends by itself.
fn patient(script: &str) -> Value {
    and(once([sh("main", script)]), json!({ "terminationGracePeriodSeconds": 3600 }))
}

/// `run` with these options, its output piped.
struct Foreground {
    child: Reaped,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Foreground {
    fn start(home: &Home, options: &[&str], spec: &Value) -> Foreground {
        let manifest = home.manifest(spec);
        let mut command = home.command(&[&["run"], options, &[manifest.to_str().expect("UTF-8")]].concat());
        Foreground::of(&mut command)
    }

    fn of(command: &mut Command) -> Foreground {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        Foreground { child: Reaped(child), stdout, stderr }
    }

    /// Reads stdout up to a line.
    #[track_caller]
    fn says(&mut self, wanted: &str) {
        wait_for(&mut self.stdout, wanted);
    }

    #[track_caller]
    fn notes(&mut self, wanted: &str) {
        wait_for(&mut self.stderr, wanted);
    }

    /// Its own child, not yet reaped.
    #[track_caller]
    fn send(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.0.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    /// Its code, and what else it wrote.
    #[track_caller]
    fn ends(mut self) -> (Option<i32>, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).expect("read");
        self.stderr.read_to_string(&mut stderr).expect("read");
        (code_of(&mut self.child.0), stdout, stderr)
    }
}

#[track_caller]
fn wait_for(stream: &mut impl std::io::BufRead, wanted: &str) {
    let mut seen = String::new();
    loop {
        let before = seen.len();
        let count = stream.read_line(&mut seen).expect("read");
        assert!(count > 0, "{wanted:?} never came: {seen}");
        if seen[before..].contains(wanted) {
            return;
        }
    }
}

#[track_caller]
fn code_of(child: &mut Child) -> Option<i32> {
    until("run ends", || child.try_wait().expect("wait")).code()
}

/// A line of the shell's on a terminal of its own, which script(1) makes.
fn on_a_terminal(home: &Home, line: &str) -> Reaped {
    let mut command = home.program("/usr/bin/script", &["-qefc", line, "/dev/null"]);
    command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Reaped(command.spawn().expect("script starts"))
}

#[test]
fn output_that_cannot_be_written_stops_the_pod_and_is_an_error() {
    let Some(home) = Home::new("cannot_be_written") else { return };
    let forever = "trap 'exit 3' TERM; while :; do echo more; busybox sleep 0.01; done";
    for script in ["echo hi", forever] {
        for options in [&["-q"][..], &["-q", "-i"]] {
            let words =
                [&["run", "--rm", "--image", "host:"], options, &["--", "busybox", "sh", "-c", script]].concat();
            let mut command = home.command(&words);
            command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("open"));
            let mut child = Reaped(command.stderr(Stdio::piped()).spawn().expect("it starts"));
            let mut stderr = String::new();
            child.0.stderr.take().expect("piped").read_to_string(&mut stderr).expect("read");
            assert_eq!(code_of(&mut child.0), Some(125), "{stderr}");
            assert!(stderr.contains("error: could not write to stdout"), "{stderr}");
            assert!(stderr.contains("ENOSPC") && !stderr.contains("Ctrl-C"), "{stderr}");
            assert!(home.remains().is_empty(), "--rm: {:?}", home.remains());
        }
    }
}

#[test]
fn an_id_that_cannot_be_printed_is_in_the_error_and_the_pod_goes_on() {
    let Some(home) = Home::new("id_not_printed") else { return };
    let mut command = home.command(&["run", "-d", "-q", "--image", "host:", "--name", "unseen", "--", "sleep", "1000"]);
    command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("open"));
    let mut child = Reaped(command.stderr(Stdio::piped()).spawn().expect("it starts"));
    let mut stderr = String::new();
    child.0.stderr.take().expect("piped").read_to_string(&mut stderr).expect("read");
    assert_eq!(code_of(&mut child.0), Some(125), "{stderr}");
    let id = home.sandpod(&["ps", "-q"]).ends_with(0).stdout;
    assert!(stderr.contains(&format!("of pod `unseen`, which runs: {id}")), "{stderr}");
    assert!(stderr.contains("(ENOSPC)") && stderr.contains("hint: `sandpod rm -f unseen`"), "{stderr}");
    home.sandpod(&["rm", "-f", "unseen"]).ends_with(0);
}

#[test]
fn attach_and_exec_say_why_they_could_not_write() {
    let Some(home) = Home::new("could_not_write") else { return };
    let script = "while :; do echo more; busybox sleep 0.1; done";
    let pod = home.start(&and(once([sh("main", script)]), json!({ "terminationGracePeriodSeconds": 0 })));
    let exec = ["exec", &pod.name, "--", "busybox", "yes"];
    for words in [&["attach", &pod.name][..], &exec, &["logs", "-f", &pod.name]] {
        let mut command = home.command(words);
        command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("open"));
        let mut child = Reaped(command.stderr(Stdio::piped()).spawn().expect("it starts"));
        let mut stderr = String::new();
        child.0.stderr.take().expect("piped").read_to_string(&mut stderr).expect("read");
        // A command's own pipe is relayed; its failure is ours.
        assert_eq!(code_of(&mut child.0), Some(125), "{words:?}: {stderr}");
        assert!(stderr.contains("No space left on device (ENOSPC)"), "{words:?}: {stderr}");
    }
    assert_eq!(pod.sh("main", "echo goes on"), "goes on");
}

#[test]
fn a_reader_that_goes_ends_the_pod_soon() {
    let Some(home) = Home::new("reader_goes") else { return };
    for options in [&["--rm", "-q"][..], &["--rm", "-q", "-i"]] {
        let spec = and(
            patient("trap '' TERM; while :; do echo y; done"),
            json!({ "containers": [and(sh("main", "trap '' TERM; while :; do echo y; done"), json!({ "stdin": true }))] }),
        );
        let mut run = Foreground::start(&home, options, &spec);
        run.says("y");
        let Foreground { mut child, stdout, mut stderr } = run;
        drop(stdout);
        assert_eq!(code_of(&mut child.0), Some(141), "as SIGPIPE would");
        let mut said = String::new();
        stderr.read_to_string(&mut said).expect("read");
        assert_eq!(said, "", "{options:?}");
        assert!(home.remains().is_empty(), "--rm: {:?}", home.remains());
    }
}

/// The kernel hangs up a terminal that is closed.
#[test]
fn a_closed_terminal_lets_a_container_shut_down_in_order() {
    let Some(home) = Home::with("closed_terminal", &["script"]) else { return };
    let script = "trap 'for n in 1 2 3 4 5; do echo step $n; busybox sleep 0.2; done; echo clean; exit 0' TERM
        echo ready; while :; do busybox sleep 1000 & wait $!; done";
    let manifest = home.manifest(&patient(script));
    let line = format!("exec {} run -q {}", env!("CARGO_BIN_EXE_sandpod"), manifest.display());
    let mut terminal = on_a_terminal(&home, &line);
    wait_for(&mut BufReader::new(terminal.0.stdout.as_mut().expect("piped")), "ready");
    terminal.0.kill().expect("kill");
    home.sandpod(&["wait", &home.test]).ends_with(0).says("0\n");
    let pod = crate::support::Pod { home: &home, name: home.test.clone() };
    assert!(pod.logs("main").ends_with("step 5\nclean\n"), "{}", pod.logs("main"));
}

#[test]
fn only_a_person_shortens_the_grace() {
    let Some(home) = Home::with("shortens_the_grace", &["script"]) else { return };
    let script = "trap 'echo asked' TERM; trap 'echo between' USR1; echo ready
        until [ -e /tmp/go ]; do busybox sleep 0.05; done; exit 5";
    let mut run = Foreground::start(&home, &["--rm", "-q"], &patient(script));
    run.says("ready");
    run.send("-INT");
    run.says("asked");
    for signal in ["-INT", "-TERM", "-HUP", "-INT", "-TERM", "-HUP"] {
        run.send(signal);
        // Read by now: the next one is passed on after it.
        run.send("-USR1");
        run.says("between");
    }
    let pod = crate::support::Pod { home: &home, name: home.test.clone() };
    pod.sh("main", "touch /tmp/go");
    assert_eq!(run.ends().0, Some(5));
    // On a terminal a second Ctrl-C is the end of patience.
    let manifest =
        home.manifest(&patient("trap 'echo deaf' TERM; echo ready; while :; do busybox sleep 1000 & wait $!; done"));
    let line = format!("exec {} run --rm -q {}", env!("CARGO_BIN_EXE_sandpod"), manifest.display());
    let mut terminal = on_a_terminal(&home, &line);
    let mut stdin = terminal.0.stdin.take().expect("piped");
    let mut stdout = BufReader::new(terminal.0.stdout.take().expect("piped"));
    wait_for(&mut stdout, "ready");
    stdin.write_all(b"\x03").expect("typed");
    wait_for(&mut stdout, "Ctrl-C again kills it");
    wait_for(&mut stdout, "deaf");
    stdin.write_all(b"\x03").expect("typed");
    assert_eq!(code_of(&mut terminal.0), Some(137));
}

#[test]
fn signals_that_say_nothing_to_run_go_to_the_main_container() {
    let Some(home) = Home::new("go_to_the_main") else { return };
    let names = ["QUIT", "USR1", "USR2", "ALRM", "WINCH"];
    let traps: Vec<String> = names.iter().map(|name| format!("trap 'echo got {name}' {name}")).collect();
    let script = format!("{}; echo ready; while :; do busybox sleep 1000 & wait $!; done", traps.join("; "));
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": home.test, "annotations": { "kubectl.kubernetes.io/default-container": "second" } },
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [sh("first", &script), sh("second", &script)] } });
    let manifest = home.file("annotated.json", manifest.to_string(), 0o644);
    let mut command = home.command(&["run", "--rm", "-q", manifest.to_str().expect("UTF-8")]);
    let mut run = Foreground::of(&mut command);
    run.says("ready");
    run.says("ready");
    for name in names {
        run.send(&format!("-{name}"));
        run.says(&format!("second | got {name}"));
    }
    run.send("-TERM");
    let (code, rest, _) = run.ends();
    assert_eq!((code, rest.as_str()), (Some(137), ""));
}

#[test]
fn a_pod_whose_client_was_killed_is_removed_at_its_end() {
    let Some(home) = Home::new("client_was_killed") else { return };
    let script = "echo ready; until [ -e /tmp/go ]; do busybox sleep 0.05; done; busybox seq 1 100000; exit 3";
    let mut run = Foreground::start(&home, &["--rm", "-q"], &once([sh("main", script)]));
    run.says("ready");
    run.send("-KILL");
    assert_eq!(run.ends().0, None);
    let pod = crate::support::Pod { home: &home, name: home.test.clone() };
    pod.sh("main", "touch /tmp/go");
    until("the pod is removed", || home.remains().is_empty().then_some(()));
}

/// Its output is complete in the client's pipes, but the client is killed before it has shown it.
#[test]
fn so_is_one_whose_client_is_killed_after_the_end() {
    let Some(home) = Home::new("killed_after_the_end") else { return };
    let mut run = Foreground::start(&home, &["--rm", "-q"], &once([sh("main", "busybox seq 1 40000")]));
    run.says("1");
    until("the pod has ended", || {
        let said = home.sandpod(&["inspect", &home.test]);
        (said.code != Some(0) || said.stdout.contains("Succeeded")).then_some(())
    });
    assert!(!home.remains().is_empty(), "its client has not read everything");
    run.send("-KILL");
    until("the pod is removed", || home.remains().is_empty().then_some(()));
}

#[test]
fn stdin_stays_open_over_clients_unless_it_is_for_one() {
    let Some(home) = Home::new("stays_open") else { return };
    let script = "while read -r line; do echo \"got $line\"; done; echo end; exit 6";
    let spec = |more: Value| once([and(and(sh("main", script), json!({ "stdin": true })), more)]);
    let pod = home.start(&spec(json!({})));
    for word in ["one", "two"] {
        let mut command = home.command(&["attach", &pod.name]);
        let mut attached = Foreground::of(command.stdin(Stdio::piped()));
        let mut stdin = attached.child.0.stdin.take().expect("piped");
        writeln!(stdin, "{word}").expect("typed");
        drop(stdin);
        attached.says(&format!("got {word}"));
        attached.send("-INT");
        let (code, _, stderr) = attached.ends();
        assert_eq!(code, Some(130));
        assert!(stderr.contains("goes on") && !stderr.contains("error"), "{stderr}");
    }
    assert_eq!(pod.logs("main"), "got one\ngot two\n");
    pod.does(&["rm", "-f"]);
    let pod = home.start(&spec(json!({ "stdinOnce": true })));
    let said = home.sandpod_given(b"one\ntwo\n", &["attach", &pod.name]).ends_with(6);
    assert_eq!(said.stdout, "got one\ngot two\nend\n");
}

#[test]
fn run_connects_stdin_to_a_manifests_container_when_asked() {
    let Some(home) = Home::new("connects_stdin") else { return };
    let script = "while read -r line; do echo \"got $line\"; done; exit 6";
    let open = json!({ "stdin": true, "stdinOnce": true });
    let manifest = home.manifest(&once([and(sh("main", script), open)]));
    let manifest = manifest.to_str().expect("UTF-8");
    let said = home.sandpod_given(b"one\ntwo\n", &["run", "--rm", "-q", "-i", manifest]).ends_with(6);
    assert_eq!(said.stdout, "got one\ngot two\n");
    // Without -i it says so, and does not take it for the end of input.
    let mut command = home.command(&["run", "--rm", manifest]);
    let mut run = Foreground::of(&mut command);
    run.notes("stdin of container `main` is open but not connected");
    let pod = crate::support::Pod { home: &home, name: home.test.clone() };
    until("it runs", || (pod.exec("main", &["true"]).code == Some(0)).then_some(()));
    let said = home.sandpod_given(b"three\n", &["attach", &pod.name]).ends_with(6);
    assert_eq!(said.stdout, "got three\n");
    let (code, stdout, _) = run.ends();
    assert_eq!((code, stdout.as_str()), (Some(6), "got three\n"));
    home.sandpod(&["run", "-i", "-d", manifest]).ends_with(2).complains("-d");
    home.sandpod_given(b"{}", &["run", "-i", "-"]).ends_with(2);
    let without = home.manifest(&once([sh("main", "true")]));
    let without = without.to_str().expect("UTF-8");
    home.sandpod(&["run", "-i", without]).ends_with(2).complains("stdin: true");
}
