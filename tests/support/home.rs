//! A user's directories, and sandpod started in them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{LONG, Pod, Said, User, has_program, is_root, once, sh, skip};

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
        if mode & 0o111 == 0 {
            fs::write(&path, content).expect("write");
        } else {
            write_program(&path, content.as_ref());
        }
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

/// Writes a file that is to be executed, in a process of its own. A descriptor of ours could be inherited by what another
/// test starts at that moment, and while it is open for writing there, execve(2) is ETXTBSY.
fn write_program(path: &Path, bytes: &[u8]) {
    let mut command = Command::new("sh");
    let mut child =
        command.args(["-c", "exec cat >\"$0\""]).arg(path).stdin(Stdio::piped()).spawn().expect("sh starts");
    child.stdin.take().expect("piped").write_all(bytes).expect("write");
    assert!(child.wait().expect("wait").success(), "{}", path.display());
}
