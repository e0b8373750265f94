//! A container's own processes against the last program of ours before a command that `exec` brings in: they shall not get
//! its descriptors (docs/decisions/0002-enter.md).

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Home, Pod, Said, and, idle, inside};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use serde_json::{Value, json};

/// A command that is stopped again and again gets little of the processor: as many as fit are tried.
const BUDGET: Duration = Duration::from_secs(10);
const STOP: &str = "/tmp/stop";

/// What runs in the pod.
#[test]
fn in_a_pod() {
    if inside::role().as_deref() == Some("thief") {
        thief();
    }
}

/// Waits for each new process of this pid namespace and tries to take a socket or a pipe from it.
fn thief() {
    // In a pid namespace numbers are given in order (pid_namespaces(7)).
    let mut next = newest() + 1;
    let (mut seen, mut stolen) = (0, 0);
    inside::say("ready");
    for round in 0_u64.. {
        if round % 64 == 0 {
            if Path::new(STOP).exists() {
                break;
            }
            // A process that was missed stays missed.
            next = next.max(newest() - 2);
        }
        let Some((pid, pidfd)) = (next..next + 4).find_map(|pid| Some((pid, pidfd_open(pid)?))) else { continue };
        next = pid + 1;
        seen += 1;
        stolen += usize::from(rob(pid, &pidfd));
    }
    inside::say(&format!("seen {seen}"));
    inside::say(&format!("stolen {stolen}"));
}

/// The last process that was made in this pid namespace (proc_loadavg(5)).
fn newest() -> i32 {
    let text = std::fs::read_to_string("/proc/loadavg").expect("loadavg");
    text.split_whitespace().last().and_then(|number| number.parse().ok()).expect("a number")
}

fn pidfd_open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: the kernel has just made this descriptor and nothing else owns it.
    i32::try_from(fd).ok().filter(|fd| *fd >= 0).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Until the process has ended, or is a program of the user's. A stop that comes while it executes `enter` takes effect before
/// the first instruction of that.
fn rob(pid: i32, pidfd: &OwnedFd) -> bool {
    let mut stolen = false;
    loop {
        // SAFETY: integers only.
        if unsafe { libc::kill(pid, libc::SIGSTOP) } != 0 {
            return stolen;
        }
        let open = (0..20).any(|_| may_take(pidfd));
        stolen |= open && (3..256).any(|fd| takes(pidfd, fd));
        // SAFETY: integers only.
        unsafe { libc::kill(pid, libc::SIGCONT) };
        let program = std::fs::read_link(format!("/proc/{pid}/exe"));
        if stolen || open && program.is_ok_and(|exe| !exe.to_string_lossy().contains("enter")) {
            return stolen;
        }
    }
}

/// Whether the kernel lets us have descriptors of it at all (pidfd_getfd(2)).
fn may_take(pidfd: &OwnedFd) -> bool {
    // SAFETY: integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, std::os::fd::AsRawFd::as_raw_fd(pidfd), 100_000, 0) };
    fd < 0 && Errno::last() == Errno::EBADF
}

fn takes(pidfd: &OwnedFd, number: i32) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    let Some(fd) = i32::try_from(fd).ok().filter(|fd| *fd >= 0) else { return false };
    // SAFETY: the kernel has just made this descriptor and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let kind = SFlag::from_bits_truncate(fstat(fd.as_fd()).expect("fstat").st_mode & SFlag::S_IFMT.bits());
    kind == SFlag::S_IFSOCK || kind == SFlag::S_IFIFO
}

/// (processes that the thief has seen, those from which it took something).
fn steal(home: &Home, security: &Value, userns: &str, execs: usize) -> (usize, usize) {
    let (volume, mount) = inside::volume(home);
    let main = and(idle("main"), json!({ "securityContext": security, "volumeMounts": [mount] }));
    let spec = json!({ "containers": [main], "volumes": [volume] });
    let pod = home.start_with(&home.test, &spec, &["--userns", userns]);
    let words = inside::command("enter::in_a_pod", "thief");
    let attack = [&["exec", &pod.name, "--"], &words.each_ref().map(String::as_str)[..]].concat();
    let said = std::thread::scope(|scope| {
        let thief = scope.spawn(|| home.sandpod(&attack));
        let began = Instant::now();
        for _ in 0..execs {
            command(&pod, &["true"]).ends_with(0);
            if began.elapsed() > BUDGET {
                break;
            }
        }
        command(&pod, &["touch", STOP]).ends_with(0);
        thief.join().expect("it ran")
    });
    let said = said.ends_with(0);
    let number = |word: &str| {
        let found =
            inside::said_inside(&said.stdout).into_iter().find_map(|line| line.strip_prefix(word)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no {word}: {}", said.explain()))
    };
    let counted = (number("seen"), number("stolen"));
    pod.does(&["rm", "-f"]);
    counted
}

fn command(pod: &Pod<'_>, argv: &[&str]) -> Said {
    pod.exec("main", argv)
}

#[test]
fn nothing_is_stolen_from_a_command_on_its_way() {
    let Some(home) = Home::new("nothing_is_stolen") else { return };
    // Without the cure, a quarter of them lose something.
    let execs = crate::rounds::rounds("execs beside a thief", 100, 1000) as usize;
    for userns in ["root-is-you", "isolated"] {
        let (seen, stolen) = steal(&home, &json!({}), userns, execs);
        assert_eq!(stolen, 0, "{userns}: of {seen}");
        assert!(seen >= 5, "the thief has seen only {seen}");
    }
}

/// With this capability a process may trace all of its user namespace: `enter` must not belong to that.
#[test]
fn nothing_is_stolen_by_a_tracer() {
    let Some(home) = Home::new("nothing_is_stolen_by_a_tracer") else { return };
    let release = nix::sys::utsname::uname().expect("uname").release().to_string_lossy().into_owned();
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: [u32; 2] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    if version < [6, 3] {
        return crate::support::skip("nothing_is_stolen_by_a_tracer", "Linux before 6.3 has no idmapped tmpfs");
    }
    let execs = crate::rounds::rounds("execs beside a tracer", 100, 1000) as usize;
    let security = json!({ "capabilities": { "add": ["SYS_PTRACE"] } });
    for userns in ["root-is-you", "single"] {
        let (seen, stolen) = steal(&home, &security, userns, execs);
        assert_eq!(stolen, 0, "{userns}: of {seen}");
        assert!(seen >= 5, "the thief has seen only {seen}");
    }
}
