//! Pods of the real binary: as an ordinary user, in directories of their own, with nothing left behind.
//!
//! Run by root, every sandpod is started as a test user; run by anybody else, as whoever that is.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "tests act, and tell")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[path = "../cli_support/mod.rs"]
mod cli_support;

pub(crate) use cli_support::Said;

/// Longer than anything here takes: what has not happened by then never will.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Who runs sandpod.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// First subordinate uid and gid.
    pub(crate) subuid: u32,
    pub(crate) subgid: u32,
}

impl User {
    /// An ordinary user with subordinate ids: who we are, or for root one of the test users that the scripts make.
    fn found() -> Option<User> {
        let me = fs::metadata("/proc/self").ok()?.uid();
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let wanted = |fields: &Vec<&str>| match me {
            0 => ["sandpod-test", "podtest"].contains(&fields[0]),
            uid => fields[2] == uid.to_string(),
        };
        users.filter(wanted).find_map(|fields| {
            let (uid, gid) = (fields[2].parse().ok()?, fields[3].parse().ok()?);
            let (subuid, subgid) = (first_subid("/etc/subuid", fields[0])?, first_subid("/etc/subgid", fields[0])?);
            Some(User { uid, gid, subuid, subgid })
        })
    }
}

fn first_subid(file: &str, user: &str) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':')?.split(':').next()?.parse().ok())
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// True, and a word about it, when `test` cannot run here; a failure where nothing may be skipped.
pub(crate) fn skip(test: &str, reason: &str) {
    assert!(std::env::var("MUST_RUN").as_deref() != Ok("1"), "{test} must run, but {reason}");
    eprintln!("SKIP {test}: {reason}");
}

pub(crate) fn has_program(name: &str) -> bool {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|dir| Path::new(dir).join(name).exists())
}

/// A user's directories, empty at first. Dropped, it removes its pods and sees to it that nothing of them is left.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    pub(crate) user: User,
    /// Also the name of its pods.
    pub(crate) test: String,
}

impl Home {
    /// `None` after a SKIP.
    pub(crate) fn new(test: &str) -> Option<Home> {
        Home::with(test, &[])
    }

    /// As `new`, for a test that needs more programs than busybox.
    pub(crate) fn with(test: &str, programs: &[&str]) -> Option<Home> {
        for program in ["busybox", "newuidmap", "newgidmap"].iter().chain(programs) {
            if !has_program(program) {
                skip(test, &format!("{program} is missing"));
                return None;
            }
        }
        let Some(user) = User::found() else {
            skip(test, "there is no ordinary user with subordinate ids (scripts/test makes one)");
            return None;
        };
        // A short path: control.sock lies below it, and a socket's path has at most 107 bytes (unix(7)).
        let dir = tempfile::Builder::new().prefix("sp").tempdir().expect("tempdir");
        let home = Home { dir, user, test: test.replace('_', "-") };
        home.give(home.path(), 0o711);
        for name in ["run", "share"] {
            home.directory(name, 0o700);
        }
        Some(home)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes `path` the user's own.
    pub(crate) fn give(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        if is_root() {
            chown(path, Some(self.user.uid), Some(self.user.gid)).expect("chown");
        }
    }

    /// A directory of the user's below the home.
    pub(crate) fn directory(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path).expect("mkdir");
        self.give(&path, mode);
        path
    }

    /// A file of the user's below the home.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).expect("write");
        self.give(&path, mode);
        path
    }

    /// Any program as the user, with the environment that sandpod gets.
    pub(crate) fn program(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .env("XDG_DATA_HOME", self.path().join("share"))
            .env("TERM", "xterm")
            .current_dir(self.path())
            .stdin(Stdio::null());
        if is_root() {
            // No supplementary groups either: std calls setgroups(2) with none.
            command.uid(self.user.uid).gid(self.user.gid);
        }
        command
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_sandpod"), arguments)
    }

    /// Runs sandpod to its end, which must come.
    pub(crate) fn sandpod(&self, arguments: &[&str]) -> Said {
        self.said(self.command(arguments), &[])
    }

    /// As `sandpod`, with something on stdin.
    pub(crate) fn sandpod_given(&self, input: &[u8], arguments: &[&str]) -> Said {
        self.said(self.command(arguments), input)
    }

    pub(crate) fn said(&self, mut command: Command, input: &[u8]) -> Said {
        let shown = format!("{command:?}");
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let pid = child.id();
        if let Some(mut stdin) = child.stdin.take() {
            let input = input.to_vec();
            // Whoever reads may stop early: that is its own affair.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        // Never joined: a process that keeps the pipes open would keep us.
        std::thread::spawn(move || sender.send(child.wait_with_output().expect("wait")));
        match receiver.recv_timeout(LONG) {
            Ok(output) => Said::from(shown, output),
            Err(_) => {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
                panic!("no end, or its pipes are still open, after {LONG:?}: {shown}");
            }
        }
    }

    /// A manifest of one pod with this spec.
    pub(crate) fn manifest(&self, spec: &Value) -> PathBuf {
        self.manifest_of(&self.test, spec)
    }

    pub(crate) fn manifest_of(&self, name: &str, spec: &Value) -> PathBuf {
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec });
        self.file(&format!("{name}.json"), pod.to_string(), 0o644)
    }

    /// `run --rm` in the foreground. A pod of one container says exactly what its command says.
    pub(crate) fn run(&self, spec: &Value) -> Said {
        self.run_with(spec, &[])
    }

    pub(crate) fn run_with(&self, spec: &Value, options: &[&str]) -> Said {
        let manifest = self.manifest(spec);
        let manifest = manifest.to_str().expect("UTF-8");
        self.sandpod(&[&["run", "--rm", "-q"], options, &[manifest]].concat())
    }

    /// What a shell script says in a pod of one `host:` container, which must end with 0.
    #[track_caller]
    pub(crate) fn script(&self, script: &str) -> String {
        self.run(&once([sh("main", script)])).ends_with(0).stdout
    }

    /// `run -d`: a pod that is ready.
    #[track_caller]
    pub(crate) fn start(&self, spec: &Value) -> Pod<'_> {
        self.start_with(&self.test, spec, &[])
    }

    #[track_caller]
    pub(crate) fn start_with(&self, name: &str, spec: &Value, options: &[&str]) -> Pod<'_> {
        let manifest = self.manifest_of(name, spec);
        let manifest = manifest.to_str().expect("UTF-8");
        self.sandpod(&[&["run", "-d", "-q"], options, &[manifest]].concat()).ends_with(0);
        Pod { home: self, name: name.to_owned() }
    }

    /// Directories of pods that are still there.
    pub(crate) fn remains(&self) -> Vec<PathBuf> {
        let below = |dir: &str| fs::read_dir(self.path().join(dir)).into_iter().flatten().flatten();
        below("run/sandpod/pods").chain(below("share/sandpod/pods")).map(|entry| entry.path()).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.path().join("run/sandpod").exists() {
            return;
        }
        let removed = self.sandpod(&["rm", "-fa"]);
        if !std::thread::panicking() {
            removed.ends_with(0);
            assert_eq!(self.remains(), Vec::<PathBuf>::new(), "rm left something");
        }
    }
}

/// A running pod.
pub(crate) struct Pod<'a> {
    pub(crate) home: &'a Home,
    pub(crate) name: String,
}

impl Pod<'_> {
    pub(crate) fn exec(&self, container: &str, argv: &[&str]) -> Said {
        self.home.sandpod(&[&["exec", "-c", container, &self.name, "--"], argv].concat())
    }

    /// What a script says in a container; it must end with 0.
    #[track_caller]
    pub(crate) fn sh(&self, container: &str, script: &str) -> String {
        self.exec(container, &["busybox", "sh", "-c", script]).ends_with(0).stdout.trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn inspect(&self) -> Value {
        let said = self.home.sandpod(&["inspect", &self.name]).ends_with(0);
        serde_json::from_str(&said.stdout).expect("JSON")
    }

    /// The plan of its network; null where that is none of its own.
    #[track_caller]
    pub(crate) fn user_mode(&self) -> Value {
        self.inspect()["plan"]["sandbox"]["network"]["UserMode"].clone()
    }

    /// Of its network: `address`, `gateway` or `dns`. Which they are depends on the networks that the host is in.
    #[track_caller]
    pub(crate) fn ipv4(&self, which: &str) -> String {
        self.user_mode()["ipv4"][which].as_str().expect("a network of its own").to_owned()
    }

    #[track_caller]
    pub(crate) fn logs(&self, container: &str) -> String {
        self.home.sandpod(&["logs", "-c", container, &self.name]).ends_with(0).stdout
    }

    /// `sandpod VERB POD`, which must end with 0.
    #[track_caller]
    pub(crate) fn does(&self, words: &[&str]) -> Said {
        self.home.sandpod(&[words, &[self.name.as_str()]].concat()).ends_with(0)
    }

    /// The pid of a container's first process, as the host counts.
    #[track_caller]
    pub(crate) fn pid(&self, container: &str) -> u32 {
        let pid = self.inspect()["containers"][container]["pid"].as_u64().expect("it runs");
        u32::try_from(pid).expect("a pid")
    }

    #[track_caller]
    pub(crate) fn restarts(&self, container: &str) -> u64 {
        self.recorded(container)["restarts"].as_u64().expect("a number")
    }

    #[track_caller]
    pub(crate) fn recorded(&self, container: &str) -> Value {
        let inspected = self.inspect();
        let records = inspected["record"]["containers"].as_array().expect("containers").clone();
        records.into_iter().find(|record| record["name"] == container).expect("known")
    }
}

/// A `host:` container that runs a script.
pub(crate) fn sh(name: &str, script: &str) -> Value {
    json!({ "name": name, "image": "host:", "command": ["busybox", "sh", "-c", script] })
}

/// A `host:` container that stays, and ends at SIGTERM also as pid 1.
pub(crate) fn idle(name: &str) -> Value {
    sh(name, "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done")
}

/// `base` with the fields of `more`.
pub(crate) fn and(mut base: Value, more: Value) -> Value {
    let (Some(fields), Value::Object(more)) = (base.as_object_mut(), more) else { panic!("two objects") };
    fields.extend(more);
    base
}

/// A spec of containers that run once.
pub(crate) fn once<const N: usize>(containers: [Value; N]) -> Value {
    json!({ "restartPolicy": "Never", "containers": containers.to_vec() })
}

/// Waits until something is so; `what` is for the failure.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {LONG:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// True while a process has memory. A dead one without (a zombie, or one that waits for its pid namespace to be
/// reaped) is none that runs.
pub(crate) fn is_live(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("VmRSS") && !status.contains("State:\tZ")
}

/// A field of /proc/PID/status: `VmRSS`, in kB.
pub(crate) fn memory_kb(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Kills and reaps at the end of a test, whatever happened.
pub(crate) struct Reaped(pub(crate) Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A root file system of nothing but busybox, for `rootfs:`; below `home`, the user's.
pub(crate) fn busybox_root(home: &Home, name: &str) -> PathBuf {
    let root = home.directory(name, 0o755);
    for dir in ["bin", "etc", "root"] {
        home.directory(&format!("{name}/{dir}"), 0o755);
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox"))
        .or_else(|_| fs::copy("/bin/busybox", root.join("bin/busybox")))
        .expect("busybox");
    home.give(&root.join("bin/busybox"), 0o755);
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).expect("symlink");
    // Mount points: with an isolated map nobody in the pod may make them in a directory of the user's.
    for file in ["hostname", "hosts", "resolv.conf"] {
        home.file(&format!("{name}/etc/{file}"), "", 0o644);
    }
    home.file(
        &format!("{name}/etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        0o644,
    );
    home.file(
        &format!("{name}/etc/group"),
        "root:x:0:\nuser:x:1000:\nextra:x:2000:user\nmore:x:3000:root,user\n",
        0o644,
    );
    root
}

/// Every path below a directory with its type, mode, owner, size, link target and content: what must not change.
pub(crate) fn fingerprint(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(path) = ahead.pop() {
        let is = fs::symlink_metadata(&path).expect("stat");
        let content = if is.is_symlink() {
            format!("{:?}", fs::read_link(&path).expect("readlink"))
        } else if is.is_file() {
            format!("{:x?}", digest(&fs::read(&path).expect("read")))
        } else {
            let below = fs::read_dir(&path).expect("readdir").map(|entry| entry.expect("entry").path());
            ahead.extend(below);
            String::new()
        };
        found.push(format!("{} {:o} {}:{} {} {content}", path.display(), is.mode(), is.uid(), is.gid(), is.mtime()));
    }
    found.sort();
    found
}

/// FNV-1a: enough to see a change.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
