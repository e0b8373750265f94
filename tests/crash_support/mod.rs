//! Ground on which pods are killed: the real binary, run as an ordinary user, below a process that sees and reaps
//! everything that it leaves.
//!
//! The test process is a subreaper (prctl(2)): whoever loses its parent becomes its child, so that "all processes of
//! this test" are its descendants, whatever else runs on the machine, and no slow pid 1 is waited for. Tests of one
//! executable therefore take turns ([`Ground::new`] holds a lock).

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::disallowed_methods, reason = "tests may act")]

pub(crate) mod processes;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Two who count descendants at once would count each other's.
static TURN: Mutex<()> = Mutex::new(());
/// Commands whose end somebody here waits for: nobody else may reap them.
static COMMANDS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// An ordinary user with subordinate ids.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) name: String,
}

impl Account {
    /// Ourselves, or, for root, one of the test users that `scripts/test` and its like make.
    fn to_test_with() -> Option<Account> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let accounts = || {
            passwd.lines().filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
                Some(Account { uid, gid, name: (*fields.first()?).to_owned() })
            })
        };
        let uid = nix::unistd::geteuid().as_raw();
        if uid != 0 {
            let gid = nix::unistd::getegid().as_raw();
            return Some(accounts().find(|known| known.uid == uid).unwrap_or(Account {
                uid,
                gid,
                name: String::new(),
            }));
        }
        ["sandpod-test", "podtest"].iter().find_map(|name| accounts().find(|known| known.name == *name))
    }

    pub(crate) fn has_subids(&self) -> bool {
        let own = [format!("{}:", self.name), format!("{}:", self.uid)];
        ["/etc/subuid", "/etc/subgid"].iter().all(|file| {
            fs::read_to_string(file)
                .is_ok_and(|text| text.lines().any(|line| own.iter().any(|own| line.starts_with(own))))
        })
    }
}

/// Says that a test could not run; under `MUST_RUN=1` that is a failure.
#[track_caller]
pub(crate) fn skip(name: &str, reason: &str) {
    assert!(std::env::var("MUST_RUN").as_deref() != Ok("1"), "MUST_RUN=1 and {name} cannot run: {reason}");
    #[allow(clippy::print_stdout, reason = "scripts/test counts these lines")]
    {
        println!("SKIP {name}: {reason}");
    }
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Directories of an ordinary user, the right to run the binary as that user, and the turn of this test.
pub(crate) struct Ground {
    pub(crate) account: Account,
    dir: tempfile::TempDir,
    mounts_before: usize,
    _turn: MutexGuard<'static, ()>,
}

impl Ground {
    /// `None`, said aloud: this machine has no user to test with.
    pub(crate) fn new(test: &str) -> Option<Ground> {
        let Some(account) = Account::to_test_with() else {
            skip(test, "root, and there is no user sandpod-test or podtest to become");
            return None;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if !Path::new("/proc/thread-self/children").exists() {
            skip(test, "the kernel has no CONFIG_PROC_CHILDREN");
            return None;
        }
        nix::sys::prctl::set_child_subreaper(true).expect("prctl");
        // Sockets below it have paths of at most 107 bytes (unix(7)).
        let dir = tempfile::Builder::new().prefix("sp").rand_bytes(5).tempdir_in("/tmp").expect("tempdir");
        let ground = Ground { account, mounts_before: mounts_below(dir.path()), dir, _turn: turn };
        ground.give(ground.path());
        for name in ["run", "share", "home", "tmp"] {
            ground.make(&ground.path().join(name));
        }
        fs::set_permissions(ground.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
        Some(ground)
    }

    /// As [`new`](Self::new), where ranges of subordinate ids are needed, too.
    pub(crate) fn with_subids(test: &str) -> Option<Ground> {
        let ground = Ground::new(test)?;
        if ground.account.has_subids() && Path::new("/usr/bin/newuidmap").exists() {
            return Some(ground);
        }
        skip(test, "newuidmap is missing, or the user has no subordinate ids");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.path().join("run/sandpod")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("share/sandpod")
    }

    /// A directory of the user's.
    pub(crate) fn make(&self, path: &Path) {
        fs::create_dir_all(path).expect("mkdir");
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("chmod");
        self.give(path);
    }

    pub(crate) fn give(&self, path: &Path) {
        chown(path, Some(self.account.uid), Some(self.account.gid)).expect("chown");
    }

    /// A file of the user's.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        fs::write(&path, text).expect("write");
        self.give(&path);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// A root file system of busybox alone; `None` where busybox is no static program.
    pub(crate) fn busybox(&self) -> Option<PathBuf> {
        let root = self.path().join("rootfs");
        self.make(&root.join("bin"));
        fs::copy("/bin/busybox", root.join("bin/busybox")).ok()?;
        for applet in ["sh", "sleep", "true", "mkdir", "touch", "cat", "setsid"] {
            let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(applet));
        }
        for directory in [&root, &root.join("bin")] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        let runs = Command::new(root.join("bin/true")).env_clear().status().is_ok_and(|status| status.success());
        runs.then_some(root)
    }

    /// Any program as the user, in the ground's directories.
    pub(crate) fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.path().join("home"))
            .env("USER", &self.account.name)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TMPDIR", self.path().join("tmp"))
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .env("XDG_DATA_HOME", self.path().join("share"))
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if is_root() {
            // With a uid the library drops root's supplementary groups as well.
            command.uid(self.account.uid).gid(self.account.gid);
        }
        command
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_sandpod"));
        command.args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::by(self.command(arguments))
    }

    /// What is on disk below the ground's sandpod directories, apart from what every pod shares.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for top in [self.runtime(), self.data(), self.path().join("tmp")] {
            walk(&top, &mut found);
        }
        let shared =
            ["lock", "pods", "data", "data/pods", "data/names", "data/claims"].map(|name| self.runtime().join(name));
        let of_all = ["pods", "names", "claims"].map(|name| self.data().join(name));
        found.retain(|path| !shared.contains(path) && !of_all.contains(path));
        found
    }

    /// Nothing on disk, no mount. Processes are [`processes::Clear`]'s.
    #[track_caller]
    pub(crate) fn is_empty(&self, why: &str) {
        assert_eq!(self.files(), Vec::<PathBuf>::new(), "files are left: {why}");
        assert_eq!(mounts_below(self.path()), self.mounts_before, "mounts are left: {why}");
    }

    /// Processes end by themselves within a time that this machine's own speed gives.
    #[track_caller]
    pub(crate) fn no_process_stays(&self, within: Duration, why: &str) {
        let left = processes::left_after(within);
        assert!(left.is_empty(), "processes are left after {within:?}: {why}\n{}", left.join("\n"));
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // After a failed test: nothing of it may disturb the next one.
        processes::end_all();
        if !is_root() && std::thread::panicking() {
            let _ = self.command(&["rm", "-f", "-a"]).output();
        }
    }
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        }
    }
}

fn mounts_below(path: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    table.lines().filter(|line| line.contains(path.to_str().expect("UTF-8"))).count()
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) command: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What hangs for this long hangs for ever, on any machine.
const FOR_EVER: Duration = Duration::from_secs(120);

impl Said {
    /// Output goes through files: a process left behind would hold a pipe open.
    pub(crate) fn by(command: Command) -> Said {
        let shown = format!("{:?}", command.get_args().collect::<Vec<_>>());
        Said::of(Running::start(command), shown)
    }

    pub(crate) fn of(running: Running, shown: String) -> Said {
        let output = running.finish(&shown);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { command: shown, code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub(crate) fn explain(&self) -> String {
        let Said { command, code, stdout, stderr } = self;
        format!("\n{command}\nended with {code:?}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }

    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Said {
        assert_eq!(self.code, Some(code), "{}", self.explain());
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Said {
        assert!(self.stdout.contains(text), "stdout lacks {text:?}: {}", self.explain());
        self
    }

    #[track_caller]
    pub(crate) fn complains(self, text: &str) -> Said {
        assert!(self.stderr.contains(text), "stderr lacks {text:?}: {}", self.explain());
        self
    }
}

/// A command on its way.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: fs::File,
    stderr: fs::File,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        let (stdout, stderr) = (tempfile::tempfile().expect("tempfile"), tempfile::tempfile().expect("tempfile"));
        command.stdout(stdout.try_clone().expect("dup")).stderr(stderr.try_clone().expect("dup"));
        // Known before anybody can look for zombies.
        let mut commands = COMMANDS.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        commands.insert(child.id().cast_signed());
        drop(commands);
        Running { child, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().expect("waitpid").is_some()
    }

    #[track_caller]
    fn finish(mut self, shown: &str) -> Output {
        use std::io::{Read, Seek};
        let deadline = Instant::now() + FOR_EVER;
        let mut nap = Duration::from_micros(200);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waitpid") {
                COMMANDS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pid());
                break status;
            }
            if nap > Duration::from_millis(4) {
                // A killed pause only ends when its children are reaped, and a command may wait for that.
                processes::reap_but(&COMMANDS.lock().unwrap_or_else(PoisonError::into_inner));
            }
            if Instant::now() > deadline {
                let tree = processes::descendants().iter().map(processes::Process::to_string).collect::<Vec<_>>();
                let _ = self.child.kill();
                panic!("{shown} hangs; the processes:\n{}", tree.join("\n"));
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(5));
        };
        let read = |mut file: fs::File| {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read");
            bytes
        };
        Output { status, stdout: read(self.stdout), stderr: read(self.stderr) }
    }
}

/// Moments and choices, the same again for the same seed: `CRASH_SEED=N`.
pub(crate) struct Dice {
    pub(crate) seed: u64,
    state: u64,
}

impl Dice {
    pub(crate) fn new() -> Dice {
        let given = std::env::var("CRASH_SEED").ok().and_then(|text| text.parse().ok());
        let now = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
        Dice::from(given.unwrap_or(now % 1_000_000_007))
    }

    pub(crate) fn from(seed: u64) -> Dice {
        let seed = seed | 1;
        Dice { seed, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // Marsaglia's xorshift64.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % limit.max(1)
    }

    /// A moment within `limit`.
    pub(crate) fn moment(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(limit.as_micros()).expect("a short time")))
    }
}
