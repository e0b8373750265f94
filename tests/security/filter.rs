//! The system calls that no process of a pod may make: those on keyrings, which belong to a user and not to a namespace,
//! AF_VSOCK, which no network namespace contains, and io_uring, which goes round both.

use crate::support::{Home, and, has_program, idle, inside, once, skip};
use nix::errno::Errno;
use serde_json::{Value, json};

/// What runs in the pods: makes each call and says what came of it.
#[test]
fn in_a_pod() {
    match inside::role().as_deref() {
        Some("native") => native_calls(),
        #[cfg(target_arch = "x86_64")]
        Some("i386") => foreign::i386_calls(),
        #[cfg(target_arch = "x86_64")]
        Some("x32") => foreign::x32_calls(),
        _ => {}
    }
}

fn tell(name: &str, result: i64) {
    let errno = if result < 0 { Errno::from_raw(i32::try_from(-result).unwrap_or(0)) } else { Errno::UnknownErrno };
    inside::say(&if result < 0 { format!("{name} {errno:?}") } else { format!("{name} {result}") });
}

fn native_calls() {
    let calls: [(&str, i64, [usize; 4]); 6] = [
        // KEYCTL_GET_KEYRING_ID of the user keyring, to be made.
        ("keyctl", libc::SYS_keyctl, [0, (-4_isize).cast_unsigned(), 1, 0]),
        ("add_key", libc::SYS_add_key, [0, 0, 0, 0]),
        ("request_key", libc::SYS_request_key, [0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0]),
        ("vsock", libc::SYS_socket, [40, 1, 0, 0]),
        ("unix", libc::SYS_socket, [1, 1, 0, 0]),
    ];
    for (name, number, [a, b, c, d]) in calls {
        // SAFETY: integers and null pointers only.
        let result = unsafe { libc::syscall(number, a, b, c, d) };
        let errno = i64::from(Errno::last_raw());
        // The number of a new socket says nothing.
        tell(name, if result < 0 { -errno } else { 0 });
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let filters = status.lines().find(|line| line.starts_with("Seccomp:")).expect("a kernel with seccomp");
    inside::say(&filters.replace('\t', " "));
}

#[cfg(target_arch = "x86_64")]
mod foreign {
    use super::tell;

    /// A call as a 32-bit program makes it, which a 64-bit one may, too, where the kernel has IA32 emulation; it ends by
    /// SIGSEGV where not.
    fn call32(number: u32, arguments: [u32; 3]) -> i64 {
        let [first, second, third] = arguments;
        let result: u64;
        // SAFETY: integers and null pointers only; rbx, which the compiler keeps for itself, is put back.
        unsafe {
            std::arch::asm!(
                "xchg {first}, rbx",
                "int 0x80",
                "xchg {first}, rbx",
                first = inout(reg) u64::from(first) => _,
                inlateout("rax") u64::from(number) => result,
                in("rcx") u64::from(second),
                in("rdx") u64::from(third),
                in("rsi") 0_u64,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        i64::from((result & 0xffff_ffff) as u32 as i32)
    }

    pub(super) fn i386_calls() {
        tell("getpid", call32(20, [0; 3]).signum());
        tell("keyctl", call32(288, [0, (-4_i32).cast_unsigned(), 1]));
        tell("add_key", call32(286, [0; 3]));
        tell("request_key", call32(287, [0; 3]));
        tell("io_uring_setup", call32(425, [1, 0, 0]));
        tell("vsock", call32(359, [40, 1, 0]).min(0));
        tell("unix", call32(359, [1, 1, 0]).min(0));
    }

    pub(super) fn x32_calls() {
        for (name, number) in [("keyctl", 250), ("add_key", 248), ("request_key", 249), ("io_uring_setup", 425)] {
            // SAFETY: integers and null pointers only.
            let result = unsafe { libc::syscall(0x4000_0000 | number, 1, 0, 0, 0) };
            let errno = i64::from(nix::errno::Errno::last_raw());
            tell(name, if result < 0 { -errno } else { 0 });
        }
    }
}

const REFUSED: [&str; 4] = ["keyctl ENOSYS", "add_key ENOSYS", "request_key ENOSYS", "io_uring_setup ENOSYS"];

/// A container that stays, in each of the ways in which privileges differ.
fn containers(mount: &Value) -> Vec<Value> {
    let escalate = json!({ "allowPrivilegeEscalation": true });
    [
        ("usual", json!({})),
        ("escalates", escalate.clone()),
        ("all", json!({ "allowPrivilegeEscalation": true, "capabilities": { "add": ["ALL"] } })),
        ("none", json!({ "capabilities": { "drop": ["ALL"] } })),
        ("user", json!({ "runAsUser": 1000 })),
        ("user-escalates", and(json!({ "runAsUser": 1000 }), escalate)),
    ]
    .into_iter()
    .map(|(name, security)| and(idle(name), json!({ "securityContext": security, "volumeMounts": [mount] })))
    .collect()
}

/// In a container's first process and in an `exec`, with and without no_new_privs, as root and as a user.
#[test]
fn refused_in_every_process() {
    let Some(home) = Home::new("refused_in_every") else { return };
    let (volume, mount) = inside::volume(&home);
    let expected = [&REFUSED[..], &["vsock EAFNOSUPPORT", "unix 0", "Seccomp: 2"]].concat();
    let all = containers(&mount);
    let pod = home.start(&json!({ "containers": all, "volumes": [volume] }));
    let words = inside::command("filter::in_a_pod", "native");
    let argv: Vec<&str> = words.iter().map(String::as_str).collect();
    for container in &all {
        let name = container["name"].as_str().expect("a name");
        let said = pod.exec(name, &argv).ends_with(0);
        assert_eq!(inside::said_inside(&said.stdout), expected, "exec into {name}");
    }
    pod.does(&["rm", "-f"]);
    for container in all {
        let spec = and(once([and(container, json!({ "command": words }))]), json!({ "volumes": [volume] }));
        let said = home.run(&spec).ends_with(0);
        assert_eq!(inside::said_inside(&said.stdout), expected, "{}", said.explain());
    }
}

/// The same calls by the numbers of the other architectures of this machine.
#[cfg(target_arch = "x86_64")]
#[test]
fn refused_by_every_number() {
    let Some(home) = Home::new("refused_by_every") else { return };
    let (volume, mount) = inside::volume(&home);
    let pod = home
        .start(&json!({ "containers": [and(idle("main"), json!({ "volumeMounts": [mount] }))], "volumes": [volume] }));
    let run = |role: &str| {
        let words = inside::command("filter::in_a_pod", role);
        pod.exec("main", &words.each_ref().map(String::as_str))
    };
    assert_eq!(inside::said_inside(&run("x32").ends_with(0).stdout), REFUSED);
    let said = run("i386");
    if inside::said_inside(&said.stdout).is_empty() {
        // Nothing to refuse: there is no IA32 emulation.
        assert_eq!(said.code, Some(128 + 11), "{}", said.explain());
        return;
    }
    let expected = [&["getpid 1"], &REFUSED[..], &["vsock EAFNOSUPPORT", "unix 0"]].concat();
    assert_eq!(inside::said_inside(&said.ends_with(0).stdout), expected);
}

/// A session keyring counts against the 200 keys of a user (kernel.keys.maxkeys). Without a free one, containers start and
/// commands run nevertheless.
#[test]
fn a_used_up_quota_of_keys_is_no_obstacle() {
    let Some(home) = Home::new("quota_of_keys") else { return };
    if !has_program("perl") {
        return skip("quota_of_keys", "perl is missing");
    }
    // keyctl(KEYCTL_JOIN_SESSION_KEYRING), then add_key(2) to it (-3) until EDQUOT (122). They live as long as this
    // process and those that it becomes.
    let fill = "syscall(250, 1, 0) > 0 or die \"join: $!\"; my $i = 0; my ($t, $p) = ('user', 'x');
        while ($i < 5000) { my $d = \"sandpod-$i\"; last if syscall(248, $t, $d, $p, 1, -3) < 0; $i++ }
        $! == 122 or die \"$i keys and no EDQUOT: $!\"; exec @ARGV";
    let sandpod = env!("CARGO_BIN_EXE_sandpod");
    let words =
        ["-e", fill, sandpod, "run", "--rm", "-q", "--userns", "root-is-you", "--image", "host:", "--", "echo", "ran"];
    home.said(home.program("/usr/bin/perl", &words), b"").ends_with(0).says("ran\n");
    let pod = home.start_with(&home.test, &json!({ "containers": [idle("main")] }), &["--userns", "root-is-you"]);
    let words = ["-e", fill, sandpod, "exec", &pod.name, "--", "echo", "ran"];
    home.said(home.program("/usr/bin/perl", &words), b"").ends_with(0).says("ran\n");
}
