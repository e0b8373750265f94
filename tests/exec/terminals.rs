//! The terminal of a command: its size and its environment when the command starts.

use crate::support::{Home, and, idle, sh, until};
use serde_json::json;

/// Terminals that a session opens. The old fault was a race: most, but not all, were 0x0.
const TERMINALS: usize = 8;

impl Home {
    /// What a shell line writes on a terminal of its own, without carriage returns and the echo of script's end of input.
    fn on_terminal(&self, line: &str) -> String {
        let said = self.said(self.program("/usr/bin/script", &["-qec", line, "/dev/null"]), &[]);
        said.ends_with(0).stdout.replace('\r', "").replace("^@", "").replace("^D\u{8}\u{8}", "")
    }
}

fn sandpod(words: &str) -> String {
    format!("'{}' {words}", env!("CARGO_BIN_EXE_sandpod"))
}

#[test]
fn a_command_starts_with_the_size_of_the_callers_terminal() {
    let Some(home) = Home::with("terminal_size", &["script", "stty"]) else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    for command in [
        format!("exec -t {} -- stty size", pod.name),
        format!("exec -it {} -- stty size </dev/tty", pod.name),
        // The terminal is stdin, or stdout, or both.
        format!("exec -t {} -- stty size | cat", pod.name),
        "run --rm -q -t --image host: -- stty size".to_owned(),
        "run --rm -q -it --image host: -- stty size </dev/tty".to_owned(),
    ] {
        let line = format!("stty rows 33 cols 77; for n in $(seq {TERMINALS}); do {}; done", sandpod(&command));
        assert_eq!(home.on_terminal(&line), "33 77\n".repeat(TERMINALS), "{command}");
    }
}

#[test]
fn a_terminal_without_a_client_has_the_usual_size() {
    let Some(home) = Home::with("usual_size", &["stty"]) else { return };
    let main = and(sh("main", "stty size; sleep 1000"), json!({ "tty": true }));
    let pod = home.start(&json!({ "terminationGracePeriodSeconds": 0, "containers": [main] }));
    let shown = until("it has written its size", || Some(pod.logs("main")).filter(|logs| !logs.is_empty()));
    assert_eq!(shown, "24 80\r\n");
    assert_eq!(home.sandpod(&["exec", "-t", &pod.name, "--", "stty", "size"]).ends_with(0).stdout, "24 80\r\n");
}

#[test]
fn a_command_with_a_terminal_has_term() {
    let Some(home) = Home::with("term", &["script"]) else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let term = |options: &[&str]| {
        let words = [&["exec"], options, &[&pod.name, "--", "busybox", "sh", "-c", "echo ${TERM-none}"]].concat();
        home.sandpod(&words).ends_with(0).stdout.trim_end().to_owned()
    };
    assert_eq!(term(&["-t"]), "xterm");
    assert_eq!(term(&["-t", "-e", "TERM=dumb"]), "dumb");
    assert_eq!(term(&[]), "none");
    let run = sandpod("run --rm -q -t --image host: -- busybox sh -c 'echo $TERM'");
    assert_eq!(home.on_terminal(&run), "xterm\n");
}
