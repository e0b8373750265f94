//! What the puller and the unpacker may do, read from the kernel while a registry keeps them waiting.

use std::fs;
use std::process::Stdio;

use super::made::{Image, file, layer, noise};
use super::server::{Fault, Server};
use crate::support::{Home, until};

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP (linux/capability.h).
const UNPACKER: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn capabilities(pid: u32, set: &str) -> u64 {
    u64::from_str_radix(&field(pid, set), 16).expect("a mask")
}

/// What a shell prints that is root of the unpacker's user namespace: to its own user the files of a process that hides from
/// ptrace are closed.
fn inside(home: &Home, pid: u32, script: &str) -> Vec<u8> {
    let target = pid.to_string();
    let words = ["--user", "--target", &target, "/bin/sh", "-c", script, "sh", &target];
    let output = home.program("/usr/bin/nsenter", &words).output().expect("nsenter runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn lines(home: &Home, pid: u32, script: &str) -> Vec<String> {
    String::from_utf8(inside(home, pid, script)).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// All of its memory that it can write to.
const MEMORY: &str = "while read range rights rest; do case $rights in rw*) \
    from=$((0x${range%-*} / 4096)); to=$((0x${range#*-} / 4096)); \
    dd if=/proc/$1/mem bs=4096 skip=$from count=$((to - from)) 2>/dev/null;; esac; done </proc/$1/maps";

fn limit(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("such a limit");
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

const PASSWORD: &str = "Rumpelstilzchen-4711";

/// A pull whose registry stops in the middle of a layer: (server, command, unpacker, puller).
fn waiting_pull(home: &Home) -> (Server, std::process::Child, u32, u32) {
    let server = Server::start();
    server.used_by(home);
    // `user:Rumpelstilzchen-4711`
    let auth = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpSdW1wZWxzdGlsemNoZW4tNDcxMQ=="}}}}}}"#, server.host());
    home.file(".config/containers/auth.json", auth, 0o600);
    let big = layer(&[file("big", &noise(400_000))]);
    server.add("a", &Image::new(std::slice::from_ref(&big)));
    server.fault("a", &big, Some(Fault::Stall(100_000)));
    let mut command = home.command(&["pull", &format!("{}/a:1", server.host())]);
    let pull = command.env("SECRET", "of the user").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
    let named = |name: &str| children(pull.id()).into_iter().find(|pid| field(*pid, "Name") == name);
    // The filter is the last thing that it gives up something by.
    let unpacker = until("an unpacker", || named("sandpod:unpack").filter(|pid| field(*pid, "Seccomp") == "2"));
    // The other child is the puller, which waits for the registry.
    let puller = children(pull.id()).into_iter().find(|pid| *pid != unpacker).expect("a puller");
    (server, pull, unpacker, puller)
}

#[test]
fn the_two_processes_have_no_more_than_they_need() {
    let Some(home) = Home::new("image_confined") else { return };
    let (server, mut pull, unpacker, puller) = waiting_pull(&home);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(capabilities(unpacker, set), UNPACKER, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(capabilities(unpacker, set), 0, "{set}");
    }
    assert_eq!(field(unpacker, "NoNewPrivs"), "1");
    assert_eq!(field(unpacker, "Uid").split_whitespace().next(), Some(home.user.subuid.to_string().as_str()));
    assert_eq!(fs::read_to_string(format!("/proc/{puller}/cmdline")).expect("read"), "sandpod:puller\0");
    assert_eq!((field(puller, "NoNewPrivs").as_str(), capabilities(puller, "CapPrm")), ("1", 0));
    assert_eq!(field(puller, "Seccomp"), "2");
    for pid in [puller, unpacker] {
        assert_eq!(limit(pid, "Max open files"), "256 256");
        assert_eq!(limit(pid, "Max core file size"), "0 0");
    }
    let memory = 96 << 20;
    assert_eq!(limit(unpacker, "Max data size"), format!("{memory} {memory}"));
    let file = 64_u64 << 30;
    assert_eq!(limit(unpacker, "Max file size"), format!("{file} {file}"));
    // Neither can be traced or dumped by what runs as the user: the passwords are in the puller's memory.
    for pid in [puller, unpacker] {
        let open = home.program("/bin/cat", &[&format!("/proc/{pid}/environ")]).stderr(Stdio::null()).status();
        assert!(!open.expect("cat runs").success(), "the user's other processes can read the memory of {pid}");
    }
    server.go_on();
    assert!(pull.wait().expect("wait").success());
}

/// It is a program of its own: nothing of the command, which has read the passwords, is in it.
#[test]
fn the_unpacker_has_nothing_of_the_command() {
    let Some(home) = Home::new("image_unpacker") else { return };
    let (server, mut pull, unpacker, _) = waiting_pull(&home);
    let proc = |file: &str| lines(&home, unpacker, &format!("cat /proc/$1/{file}"));
    assert_eq!(proc("cmdline"), ["sandpod:unpack\0"]);
    assert_eq!(proc("environ"), [""; 0]);
    let memory = inside(&home, unpacker, MEMORY);
    let has = |text: &str| memory.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("sandpod:unpack"), "{} bytes of memory, without its own name", memory.len());
    for secret in [PASSWORD, "dXNlcjpSdW1wZWxzdGlsemNoZW4tNDcxMQ", "of the user", &server.host()] {
        assert!(!has(secret), "`{secret}` is in the memory of the unpacker");
    }
    // Its root directory is the quarantine, by the only mount; and there is no interface but the loopback.
    assert_eq!(lines(&home, unpacker, "ls /proc/$1/root"), ["trash", "tree"]);
    let mounts = proc("mountinfo");
    let [mount] = &mounts[..] else { panic!("{mounts:?}") };
    assert!(mount.contains(" / rw,nosuid,nodev,noexec"), "{mount}");
    let interfaces: Vec<String> =
        proc("net/dev")[2..].iter().map(|line| line.trim().split(':').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(interfaces, ["lo"]);
    // Its socket, twice; the blob and its copy; the layer. /dev/null is what stdout and stderr are.
    let mut open: Vec<String> = lines(&home, unpacker, "cd /proc/$1/fd; for fd in *; do readlink $fd; done")
        .into_iter()
        .map(|target| match target.split_once(':') {
            Some((kind, _)) => kind.to_owned(),
            None => target.rsplit('/').next().unwrap_or_default().to_owned(),
        })
        .collect();
    open.sort();
    open.dedup();
    let partial = open.iter().position(|name| name.len() == 64).map(|place| open.remove(place));
    assert!(partial.is_some(), "{open:?}");
    // The file that it writes to, once enough of it has come.
    open.retain(|name| name != "big");
    // "" is its root directory.
    assert_eq!(open, ["", "null", "pipe", "socket", "trash", "tree"]);
    server.go_on();
    assert!(pull.wait().expect("wait").success());
}
