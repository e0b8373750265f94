//! Callers in an odd state: no session, no terminal, no streams, few descriptors, a deleted directory, strange signals.
//! A pod starts all the same and has none of that.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use crate::crash_support::{Ground, Said};

const BINARY: &str = env!("CARGO_BIN_EXE_sandpod");
const SOON: Duration = Duration::from_secs(20);

/// `before` in a shell, then the pod in that shell's place.
fn in_shell(ground: &Ground, before: &str, redirect: &str) -> Said {
    let mut command = ground.program("bash");
    let text =
        format!("{before}\nexec \"{BINARY}\" run --rm --image host: --name odd -- sh -c 'echo hello' {redirect}");
    command.arg("-c").arg(text);
    Said::by(command)
}

#[track_caller]
fn nothing_stays(ground: &Ground, said: &Said) {
    ground.no_process_stays(SOON, &said.explain());
    ground.is_empty(&said.explain());
}

#[test]
fn shells_in_odd_states() {
    let Some(ground) = Ground::new("shells_in_odd_states") else { return };
    for before in [
        "unset HOME PATH USER LANG TERM",
        "export PATH=",
        "export PATH=relative:. HOME=/nonexistent",
        "umask 0777",
        "umask 0",
        "ulimit -n 64",
        "ulimit -c 0; ulimit -s 256",
        "ulimit -f 100",
        "for fd in $(seq 10 900); do eval \"exec $fd</dev/null\"; done",
        "mkdir gone && cd gone && rmdir ../gone",
        "trap '' HUP INT QUIT PIPE TERM CHLD USR1 TSTP",
        "export LC_ALL=tr_TR.UTF-8 RUST_BACKTRACE=full RUST_LOG=trace",
        "export LD_PRELOAD=/nonexistent.so IFS=x",
        "export A=$(head -c 100000 /dev/zero | tr '\\0' x)",
    ] {
        let said = in_shell(&ground, before, "");
        assert_eq!(said.code, Some(0), "{before}: {}", said.explain());
        assert!(said.stdout.contains("hello"), "{before}: {}", said.explain());
        nothing_stays(&ground, &said);
    }
}

#[test]
fn streams_that_are_closed() {
    let Some(ground) = Ground::new("streams_that_are_closed") else { return };
    for redirect in ["<&-", "2>&-", ">&-", "<&- >&-", "<&- >&- 2>&-", ">/dev/full", ">&- 2>/dev/full"] {
        let said = in_shell(&ground, "", redirect);
        assert!(matches!(said.code, Some(0 | 125)), "{redirect}: {}", said.explain());
        if !redirect.contains('>') {
            assert!(said.stdout.contains("hello"), "{redirect}: {}", said.explain());
        }
        nothing_stays(&ground, &said);
    }
}

/// Also where nothing fails yet: the log is the first to reach it.
#[test]
fn a_limit_of_a_files_size_is_named_with_its_fix() {
    let Some(ground) = Ground::new("a_limit_of_a_files_size_is_named_with_its_fix") else { return };
    let said = in_shell(&ground, "ulimit -f 100", "").ends_with(0);
    nothing_stays(&ground, &said.complains("warning: files that the pod writes").complains("ulimit -f unlimited"));
    let said = in_shell(&ground, "ulimit -f 1", "").ends_with(125).complains("(EFBIG)");
    let hint = said.stderr.split_once("hint: ").map(|(_, hint)| hint.to_owned()).unwrap_or_default();
    assert!(hint.contains("ulimit -f"), "{}", said.explain());
    ground.run(&["rm", "-f", "-a"]).ends_with(0);
    nothing_stays(&ground, &said);
}

#[test]
fn limits_that_leave_no_room() {
    let Some(ground) = Ground::new("limits_that_leave_no_room") else { return };
    // It works or says which limit; in no case does anything stay.
    let memory = (10..40).step_by(2).map(|megabytes| format!("ulimit -v {megabytes}000"));
    let others = ["ulimit -n 8", "ulimit -n 16", "ulimit -n 24", "ulimit -u 1"].map(str::to_owned);
    for before in others.into_iter().chain(memory) {
        let said = in_shell(&ground, &before, "");
        // Below the size of the program it is the kernel that ends it, before its first instruction (execve(2)).
        if before.starts_with("ulimit -v") && said.code.is_none() && said.stderr.is_empty() {
            continue;
        }
        if said.code != Some(0) {
            assert_eq!(said.code, Some(125), "{before}: {}", said.explain());
            assert!(said.stderr.contains("error: "), "{before}: {}", said.explain());
        }
        assert!(!said.stderr.contains("panicked"), "{before}: {}", said.explain());
        // With too few descriptors even to remove what was made, that is left to `rm`.
        ground.run(&["rm", "-f", "-a"]).ends_with(0);
        nothing_stays(&ground, &said);
    }
}

#[test]
fn no_session_and_no_terminal() {
    let Some(ground) = Ground::new("no_session_and_no_terminal") else { return };
    for wrapper in [&["setsid", "-w"][..], &["setsid", "-f"], &["nohup"], &["env", "-i"]] {
        let mut command = ground.program(wrapper[0]);
        command.args(&wrapper[1..]);
        if wrapper[0] == "env" {
            let path = ground.path();
            command.arg(format!("HOME={}", path.join("home").display()));
            command.arg(format!("XDG_RUNTIME_DIR={}", path.join("run").display()));
            command.arg(format!("XDG_DATA_HOME={}", path.join("share").display()));
        }
        command.args([BINARY, "run", "--rm", "--image", "host:", "--name", "odd", "--", "sh", "-c", "echo hello"]);
        let said = Said::by(command).ends_with(0);
        nothing_stays(&ground, &said);
    }
}

#[test]
fn any_name_for_the_program() {
    let Some(ground) = Ground::new("any_name_for_the_program") else { return };
    for name in ["", "-sandpod", "pause", "\u{1b}[31m", "../../x", "--help"] {
        let mut command = ground.command(&["run", "--rm", "--image", "host:", "--name", "odd", "--", "echo", "hello"]);
        command.arg0(name);
        let said = Said::by(command).ends_with(0).says("hello");
        nothing_stays(&ground, &said);
    }
}

/// What the caller blocked or ignored is not the container's: it starts with the defaults (signal(7)).
#[test]
fn the_container_has_none_of_it() {
    let Some(ground) = Ground::new("the_container_has_none_of_it") else { return };
    let mut command = ground.program("bash");
    let text = format!(
        "trap '' TERM USR1 CHLD PIPE; exec 7</etc/passwd 9</dev/null; umask 077; export SECRET=1
        exec \"{BINARY}\" run --rm --image host: --name odd -- sh -c \
        'grep -E \"^Sig(Blk|Ign)\" /proc/self/status; echo fds: $(ls /proc/self/fd); umask; echo secret: $SECRET.'"
    );
    command.arg("-c").arg(text);
    let said = Said::by(command).ends_with(0);
    // `ls` has one more for the directory that it reads.
    let said = said.says("fds: 0 1 2 3\n").says("0022").says("secret: .");
    for line in said.stdout.lines().filter(|line| line.contains("Sig")) {
        let mask = line.rsplit(char::is_whitespace).next().expect("a mask");
        assert_eq!(u64::from_str_radix(mask, 16), Ok(0), "{line}: {}", said.explain());
    }
    nothing_stays(&ground, &said);
}
