//! exec, attach and run as their users type them: codes, streams, terminals, signals.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use crate::support::{Home, Reaped, Said, and, busybox_root, idle, once, sh, until};
use serde_json::json;

/// 20 MB that no run-length trick makes smaller.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(20 << 20);
    while bytes.len() < 20 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

#[test]
fn exec_passes_codes_and_words_through() {
    let Some(home) = Home::new("exec_passes") else { return };
    let pod = home.start(
        &json!({ "containers": [and(idle("one"), json!({ "env": [{ "name": "A", "value": "1" }] })), idle("two")] }),
    );
    for code in [0, 1, 42, 255] {
        assert_eq!(pod.exec("one", &["busybox", "sh", "-c", &format!("exit {code}")]).code, Some(code));
    }
    assert_eq!(pod.exec("one", &["busybox", "sh", "-c", "kill -9 $$"]).code, Some(137));
    pod.exec("one", &["no-such-program"]).ends_with(127).complains("looking for `no-such-program` in PATH");
    pod.exec("one", &["/etc"]).ends_with(126);
    pod.exec("three", &["true"]).ends_with(125).complains("three");
    home.sandpod(&["exec", "nobody-knows", "--", "true"]).ends_with(125);
    let said = pod.exec("one", &["busybox", "printf", "%s|", "a b", "", "$(A)", "*"]).ends_with(0);
    assert_eq!(said.stdout, "a b||$(A)|*|");
    let said = pod.exec("one", &["busybox", "sh", "-c", "echo out; echo err >&2"]).ends_with(0);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("out\n", "err\n"));
    let exec = |options: &[&str], script: &str| {
        home.sandpod(&[&["exec"], options, &[&pod.name, "--", "busybox", "sh", "-c", script]].concat())
    };
    assert_eq!(exec(&["-w", "/usr/lib", "-e", "B=2"], "pwd; echo $A$B").ends_with(0).stdout, "/usr/lib\n12\n");
    assert_eq!(exec(&["-e", "A=other"], "echo $A").ends_with(0).stdout, "other\n");
    // Without -i nothing is read, whatever stdin holds.
    let said = home.sandpod_given(b"typed", &["exec", &pod.name, "--", "cat"]).ends_with(0);
    assert_eq!(said.stdout, "");
}

/// User parsing is where runtimes went wrong (crun's CVE-2026-30892): never root by accident.
#[test]
fn exec_as_a_user() {
    let Some(home) = Home::new("exec_as_a_user") else { return };
    let root = busybox_root(&home, "root-fs");
    let passwd = "root:x:0:0::/root:/bin/sh\ntwice:x:1001:1::/one:\ntwice:x:0:0::/two:\nuser:x:1000:1000::/home/user:\nodd:x:0x0:0::/:\n";
    home.file("root-fs/etc/passwd", passwd, 0o644);
    let image = format!("rootfs:{}", root.display());
    let main = json!({ "name": "main", "image": image, "command": ["/bin/busybox", "sleep", "1000"] });
    let pod = home.start(&json!({ "terminationGracePeriodSeconds": 0, "containers": [main] }));
    let exec = |user: &str| {
        let user = format!("--user={user}");
        home.sandpod(&["exec", &user, &pod.name, "--", "busybox", "sh", "-c", "echo $(id -u):$(id -g) $HOME"])
    };
    for (user, expected) in [
        ("root", "0:0 /root"),
        ("user", "1000:1000 /home/user"),
        ("1000", "1000:1000 /home/user"),
        ("user:extra", "1000:2000 /home/user"),
        ("7:8", "7:8 /"),
        ("4242", "4242:0 /"),
        ("twice", "1001:1 /one"),
    ] {
        assert_eq!(exec(user).ends_with(0).stdout.trim_end(), expected, "{user}");
    }
    for user in
        ["0x0", "+0", "-1", "4294967295", "4294967296", "1000:", ":", "", " 0", "odd", "nobody-knows", "user:nope"]
    {
        let said = exec(user).ends_with(125);
        assert_eq!(said.stdout, "", "{user:?}");
    }
    // The image's files may be anything: an endless one, a FIFO, a link to nowhere. Bounded, and root is not the fallback.
    for hostile in [
        "rm /etc/passwd; mkfifo /etc/passwd",
        "rm /etc/passwd; ln -s /dev/zero /etc/passwd",
        "rm /etc/passwd; ln -s /nowhere /etc/passwd",
    ] {
        pod.exec("main", &["busybox", "sh", "-c", hostile]).ends_with(0);
        exec("user").ends_with(125);
        // (id(1) itself would wait for the FIFO.)
        let said =
            home.sandpod(&["exec", "-u", "1000", &pod.name, "--", "busybox", "grep", "^[UG]id", "/proc/self/status"]);
        let said = said.ends_with(0).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(said, "Uid: 1000 1000 1000 1000 Gid: 0 0 0 0", "{hostile}");
    }
}

#[test]
fn twenty_megabytes_both_ways() {
    let Some(home) = Home::new("twenty_megabytes") else { return };
    let noise = noise();
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let check = |said: Said| assert!(said.ends_with(0).stdout == home.script_sum(&noise), "another checksum");
    check(home.sandpod_given(&noise, &["exec", "-i", &pod.name, "--", "md5sum"]));
    check(home.sandpod_given(&noise, &["run", "--rm", "-q", "-i", "--image", "host:", "--", "md5sum"]));
    // And back: what cat gives is what it got.
    for words in
        [&["exec", "-i", &pod.name, "--", "cat"][..], &["run", "--rm", "-q", "-i", "--image", "host:", "--", "cat"]]
    {
        let output = home.bytes(words, &noise);
        assert!(output == noise, "{words:?}: {} of {} bytes, or others", output.len(), noise.len());
    }
}

impl Home {
    /// md5sum of these bytes by the host's program.
    fn script_sum(&self, bytes: &[u8]) -> String {
        self.said(self.program("/usr/bin/md5sum", &[]), bytes).ends_with(0).stdout
    }

    /// What sandpod says on stdout, as it is.
    fn bytes(&self, words: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = self.command(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        std::thread::scope(|scope| {
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().expect("wait").stdout
        })
    }

    /// sandpod on a terminal of its own, which script(1) makes; `typed` goes to it.
    fn on_a_terminal(&self, words: &[&str]) -> (Child, std::process::ChildStdin) {
        self.line_on_a_terminal(&line(words))
    }

    /// A line of the shell's on a terminal of its own.
    fn line_on_a_terminal(&self, line: &str) -> (Child, std::process::ChildStdin) {
        let mut command = self.program("/usr/bin/script", &["-qefc", line, "/dev/null"]);
        command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("script starts");
        let stdin = child.stdin.take().expect("piped");
        (child, stdin)
    }
}

/// sandpod with these words, for a shell.
fn line(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    format!("{} {}", env!("CARGO_BIN_EXE_sandpod"), quoted.join(" "))
}

/// Reads until `wanted` has come; a terminal sends no end while somebody may type.
fn read_until(child: &mut Child, wanted: &str) -> String {
    let stdout = child.stdout.as_mut().expect("piped");
    let mut text = String::new();
    let mut byte = [0; 1];
    while !text.contains(wanted) && std::io::Read::read(stdout, &mut byte).is_ok_and(|count| count == 1) {
        text.push(char::from(byte[0]));
    }
    assert!(text.contains(wanted), "{wanted:?} never came: {text:?}");
    text
}

#[test]
fn terminals() {
    let Some(home) = Home::with("terminals", &["script"]) else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    // The answers are worked out inside, so that what is typed and echoed cannot be taken for them.
    let session = "busybox tty; echo a$((1+1))b\nexit 7\n";
    for words in [
        &["exec", "-it", &pod.name, "--", "busybox", "sh"][..],
        &["run", "--rm", "-q", "-it", "--image", "host:", "--", "busybox", "sh"],
    ] {
        let (child, mut stdin) = home.on_a_terminal(words);
        let mut child = Reaped(child);
        stdin.write_all(session.as_bytes()).expect("typed");
        let text = read_until(&mut child.0, "a2b");
        assert!(text.contains("/dev/pts/0"), "{text}");
        let status = until("the shell ends", || child.0.try_wait().expect("wait"));
        assert_eq!(status.code(), Some(7), "{words:?}");
    }
    // ^C reaches the command in the container, not sandpod.
    let (child, mut stdin) =
        home.on_a_terminal(&["exec", "-it", &pod.name, "--", "busybox", "sh", "-c", "echo up; sleep 1000"]);
    let mut child = Reaped(child);
    read_until(&mut child.0, "up");
    stdin.write_all(b"\x03").expect("typed");
    let status = until("the command ends", || child.0.try_wait().expect("wait"));
    assert_eq!(status.code(), Some(130));
    // -it without a terminal is refused.
    home.sandpod(&["exec", "-it", &pod.name, "--", "true"]).ends_with(2).complains("need a terminal");
    home.sandpod(&["run", "-it", "--image", "host:", "--", "true"]).ends_with(2).complains("need a terminal");
}

/// A terminal that a container holds is read by it long after: what is typed to the next program, sudo's password say.
#[test]
fn what_exec_leaves_behind_cannot_read_the_terminal() {
    let Some(home) = Home::with("leaves_behind", &["script"]) else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    // Readers of each descriptor, explicitly: a shell gives /dev/null to what it puts into the background.
    let script = "for n in 0 1 2; do busybox readlink /proc/self/fd/$n; done; exec 3<&0 4<&1 5<&2
        for n in 3 4 5; do busybox cat <&$n >>/tmp/stolen & done; exit 3";
    let exec = line(&["exec", "-i", &pod.name, "--", "busybox", "sh", "-c", script]);
    let shell = "while read -r typed; do echo \"<$typed>\"; [ $typed != end ] || exit 9; done";
    let (child, mut stdin) = home.line_on_a_terminal(&format!("{exec}; echo code=$?; stty -echo; echo ready; {shell}"));
    let mut child = Reaped(child);
    let text = read_until(&mut child.0, "ready");
    assert!(text.contains("code=3"), "{text}");
    assert_eq!(text.matches("pipe:[").count(), 3, "{text}");
    for number in 0..20 {
        writeln!(stdin, "secret{number}").expect("typed");
        read_until(&mut child.0, &format!("<secret{number}>"));
    }
    stdin.write_all(b"end\n").expect("typed");
    let status = until("the shell ends", || child.0.try_wait().expect("wait"));
    assert_eq!(status.code(), Some(9));
    assert_eq!(pod.sh("main", "cat /tmp/stolen"), "");
}

/// `/proc/self/fd/0` opens a file once more, for writing as well.
#[test]
fn the_callers_files_stay_outside() {
    let Some(home) = Home::new("files_stay_outside") else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let input = home.file("input", "precious\n", 0o666);
    let output = home.file("output", "", 0o666);
    let exec = |options: &[&str], script: &str| {
        let words = [&["exec"], options, &[&pod.name, "--", "busybox", "sh", "-c", script]].concat();
        let mut command = home.command(&words);
        let open = fs::OpenOptions::new().write(true).truncate(true).open(&output).expect("open");
        command.stdin(fs::File::open(&input).expect("open")).stdout(open.try_clone().expect("dup")).stderr(open);
        let mut child = Reaped(command.spawn().expect("it starts"));
        let status = until("exec ends", || child.0.try_wait().expect("wait"));
        (status.code(), String::from_utf8_lossy(&fs::read(&output).expect("read")).into_owned())
    };
    let hostile = "read -r line; echo changed >/proc/self/fd/0; busybox cat /proc/self/fd/1 & echo got $line";
    // What `cat` reads is the command's own output, in a pipe of its own, and gone where `cat` has it at the end.
    let (code, text) = exec(&["-i"], hostile);
    assert!(code == Some(0) && ["", "got precious\n"].contains(&text.as_str()), "{code:?} {text}");
    assert_eq!(fs::read_to_string(&input).expect("read"), "precious\n");
    // One file for both keeps the order of the lines.
    let both = "for n in 1 2 3 4 5; do echo $n; echo e$n >&2; done; exit 4";
    assert_eq!(exec(&[], both), (Some(4), "1\ne1\n2\ne2\n3\ne3\n4\ne4\n5\ne5\n".to_owned()));
    // /dev/stdout can be opened, by whoever the command is.
    assert_eq!(exec(&["-u", "1000"], "echo out >/dev/stdout"), (Some(0), "out\n".to_owned()));
    // A process that is left behind with the pipe keeps nobody waiting, quiet or not; all from before is there.
    let left =
        "(while :; do echo more; done) & (sleep 1000) & busybox head -c 60000 /dev/zero | busybox tr '\\0' x; exit 5";
    let (code, text) = exec(&[], left);
    assert_eq!((code, text.matches('x').count()), (Some(5), 60000));
    let quiet = exec(&[], "sleep 1000 & echo done");
    assert_eq!(quiet, (Some(0), "done\n".to_owned()));
    // A command that reads nothing of a long input.
    fs::write(&input, noise()).expect("write");
    assert_eq!(exec(&["-i"], "exec <&-; echo no thanks"), (Some(0), "no thanks\n".to_owned()));
    exec(&["-i"], "exec cat");
    assert!(fs::read(&output).expect("read") == noise(), "20 MB from a file to a file");
    let sum = exec(&["-i"], "exec md5sum");
    assert_eq!(sum, (Some(0), home.script_sum(&noise())));
}

#[test]
fn interrupting_run_stops_the_pod() {
    let Some(home) = Home::new("interrupting_run") else { return };
    let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
    let manifest = home.manifest(&once([sh("main", script)]));
    for signal in ["-INT", "-TERM", "-HUP"] {
        let mut command = home.command(&["run", "--rm", manifest.to_str().expect("UTF-8")]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Reaped(command.spawn().expect("it starts"));
        read_until(&mut child.0, "ready");
        // Our own child, not yet reaped.
        assert!(Command::new("kill").args([signal, &child.0.id().to_string()]).status().expect("kill").success());
        let status = until("run ends", || child.0.try_wait().expect("wait"));
        assert_eq!(status.code(), Some(5), "{signal}");
        read_until(&mut child.0, "bye");
        assert!(home.remains().is_empty(), "--rm: {:?}", home.remains());
    }
}

#[test]
fn attach_joins_stdin_and_stdout() {
    let Some(home) = Home::new("attach_joins") else { return };
    let script = "while read -r line; do echo \"got $line\"; done; echo end; exit 6";
    let main = and(sh("main", script), json!({ "stdin": true, "stdinOnce": true }));
    let pod = home.start(&once([main]));
    let said = home.sandpod_given(b"one\ntwo\n", &["attach", &pod.name]).ends_with(6);
    assert_eq!(said.stdout, "got one\ngot two\nend\n");
    home.sandpod(&["wait", &pod.name]).ends_with(0).says("6\n");
    home.sandpod(&["attach", &pod.name]).ends_with(125);
    assert_eq!(pod.logs("main"), "got one\ngot two\nend\n");
}

#[test]
fn wait_tells_every_code() {
    let Some(home) = Home::new("wait_tells") else { return };
    let pod = home.start(&once([sh("main", "sleep 0.3; exit 4"), sh("side", "exit 8")]));
    home.sandpod(&["wait", "-c", "side", &pod.name]).ends_with(0).says("8\n");
    home.sandpod(&["wait", &pod.name]).ends_with(0).says("4\n");
    home.sandpod(&["wait", &pod.name]).ends_with(0).says("4\n");
}
