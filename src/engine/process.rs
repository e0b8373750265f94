//! From a process inside a container to the user's command: stdio, ids, capabilities, exec. A container's first process
//! and an `exec` into it take the same way.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::failure::{During, Failure, Result};
use super::message::{Message, Speaker};
use super::programs::enter_prefix;
use super::user::{self, User};
use crate::plan::ProcessPlan;
use crate::plan::idmap::IdMapPlan;
use crate::plan::syscall_filter;
use crate::report::exit_code;
use crate::step::Step;
use crate::sys::path::{self, Missing};
use crate::sys::terminal::{self, WindowSize};
use crate::sys::{self, Errno, Error, clone, memfd, privileges, process, seccomp, stdio};

/// A container's ends, as the supervisor holds them.
#[derive(Debug)]
pub enum Stdio {
    Pipes {
        stdout: OwnedFd,
        stderr: OwnedFd,
        stdin: Option<OwnedFd>,
    },
    Terminal {
        master: OwnedFd,
    },
    /// The client's own descriptors; nothing for the supervisor to hold.
    Passed,
}

impl Stdio {
    /// As they came with a message; anything else than agreed is none at all.
    #[must_use]
    pub fn from_child(terminal: bool, fds: Vec<OwnedFd>) -> Stdio {
        let mut fds = fds.into_iter();
        match (terminal, fds.next(), fds.next(), fds.next()) {
            (true, Some(master), None, None) => Stdio::Terminal { master },
            (false, Some(stdout), Some(stderr), stdin) => Stdio::Pipes { stdout, stderr, stdin },
            _ => Stdio::Passed,
        }
    }
}

/// What the process shall have as stdin, stdout and stderr.
#[derive(Debug)]
pub enum Wish {
    /// New pipes to the supervisor; stdin is a pipe or `null`, as the plan says.
    Pipes { null: OwnedFd },
    /// A new terminal of the container's own devpts, of this size; its master to the supervisor.
    Terminal(WindowSize),
    /// These three, from the client of an `exec`.
    Given([OwnedFd; 3]),
}

/// A command about to be executed.
#[derive(Debug)]
pub struct Command<'a> {
    pub process: &'a ProcessPlan,
    pub idmap: &'a IdMapPlan,
    /// The container, for errors.
    pub name: &'a str,
    /// `exec -u`: resolved in the container's own /etc/passwd.
    pub user: Option<&'a str>,
}

impl Command<'_> {
    /// Gives up everything that the command must not have, and executes it. Called inside the container's root.
    pub fn execute(&self, wish: Wish, speaker: &Speaker, enter: BorrowedFd<'_>) -> Result<Infallible> {
        let user = self.user()?;
        self.open_stdio(wish, &user, speaker)?;
        let kept: Vec<_> = [speaker.as_fd(), enter].into_iter().chain(speaker.report()).collect();
        stdio::close_all_but(&kept).during(Step::DropPrivileges, self.name)?;
        // No way back: whoever called us owns descriptors that are closed now, and must not drop them.
        let Err(failure) = self.drop_privileges_and_execute(&user, speaker, enter);
        speaker.say_failed(failure);
        clone::exit_now(i32::from(exit_code::FAILURE));
    }

    fn drop_privileges_and_execute(&self, user: &User, speaker: &Speaker, enter: BorrowedFd<'_>) -> Result<Infallible> {
        let step = Step::DropPrivileges;
        stdio::set_umask(0o022);
        process::restore_descriptor_limit().during(step, self.name)?;
        privileges::leave_session_keyring().during(step, self.name)?;
        stdio::reset_signals().during(step, self.name)?;
        // Each process installs it for itself: setns(2) into a filtered container inherits no filter.
        let filter = || seccomp::install(&syscall_filter::program()).during(step, self.name);
        if !self.process.no_new_privs {
            // While CAP_SYS_ADMIN still allows it (seccomp(2)).
            filter()?;
        }
        let keep = &self.process.capabilities;
        privileges::limit_bounding_set(keep).during(step, self.name)?;
        privileges::become_identity(&user.identity).during(step, self.name)?;
        // As in Kubernetes: only root has capabilities in effect; for others they bound what a file may give.
        let effective: &[String] = if user.identity.uid == 0 { keep } else { &[] };
        privileges::limit_capabilities(effective).during(step, self.name)?;
        if self.process.no_new_privs {
            privileges::no_new_privileges().during(step, self.name)?;
            // As late as possible, so that it never refuses a call of ours.
            filter()?;
        }
        // The last change of ids has cleared what the launcher set; without a pid namespace of the pod this is all
        // that ties the command to the supervisor's life.
        clone::die_with_parent(None).during(step, self.name)?;
        if !speaker.has_listener() {
            clone::exit_now(125);
        }
        self.enter_working_directory()?;
        Err(self.replace_this_program(user, speaker, enter))
    }

    fn user(&self) -> Result<User> {
        let found = match self.user {
            Some(text) => user::parse(text),
            None => user::find(&self.process.uid, self.process.gid.as_ref()),
        };
        let user = found.map_err(|error| Failure::new(Step::DropPrivileges, self.name, &error))?;
        user.within(self.idmap).map_err(|error| Failure::new(Step::DropPrivileges, self.name, &error))
    }

    /// After the change of ids, so that the user's own rights decide; nothing but stdio and sockets is open any more.
    fn enter_working_directory(&self) -> Result<()> {
        let (step, cwd) = (Step::DropPrivileges, &self.process.cwd);
        let on = format!("working directory {}", cwd.display());
        path::change_directory(cwd).during(step, &on)?;
        let outside = || Error { call: "getcwd()".to_owned(), errno: Errno::ENOENT };
        // A directory outside the root has no path: the kernel says "(unreachable)…" and std an error.
        match std::env::current_dir() {
            Ok(here) if here.is_absolute() => Ok(()),
            _ => Err(Failure::new(step, on, &outside())),
        }
    }

    fn open_stdio(&self, wish: Wish, user: &User, speaker: &Speaker) -> Result<()> {
        let (step, name) = (Step::OpenStdio, self.name);
        let (uid, gid) = (user.identity.uid, user.identity.gid);
        stdio::new_session().during(step, name)?;
        match wish {
            Wish::Given([stdin, stdout, stderr]) => {
                stdio::set_stdio(stdin.as_fd(), stdout.as_fd(), stderr.as_fd()).during(step, name)
            }
            Wish::Terminal(size) => {
                let (master, slave) = stdio::open_terminal().during(step, name)?;
                // Before the exec: a program reads the size once, at its start, and then waits for SIGWINCH.
                terminal::set_window_size(master.as_fd(), size).during(step, name)?;
                path::change_owner(slave.as_fd(), uid, gid).during(step, name)?;
                stdio::control_terminal(slave.as_fd()).during(step, name)?;
                speaker.say(step, &Message::Terminal, &[master.as_fd()])?;
                stdio::set_stdio(slave.as_fd(), slave.as_fd(), slave.as_fd()).during(step, name)
            }
            Wish::Pipes { null } => {
                let (stdout_out, stdout) = stdio::pipe().during(step, name)?;
                let (stderr_out, stderr) = stdio::pipe().during(step, name)?;
                // So that the command may open /dev/stdout, as nginx's image does for its logs.
                for end in [&stdout, &stderr] {
                    path::change_owner(end.as_fd(), uid, gid).during(step, name)?;
                }
                if !self.process.stdin {
                    speaker.say(step, &Message::Pipes, &[stdout_out.as_fd(), stderr_out.as_fd()])?;
                    return stdio::set_stdio(null.as_fd(), stdout.as_fd(), stderr.as_fd()).during(step, name);
                }
                let (stdin, stdin_in) = stdio::pipe().during(step, name)?;
                path::change_owner(stdin.as_fd(), uid, gid).during(step, name)?;
                speaker.say(step, &Message::Pipes, &[stdout_out.as_fd(), stderr_out.as_fd(), stdin_in.as_fd()])?;
                stdio::set_stdio(stdin.as_fd(), stdout.as_fd(), stderr.as_fd()).during(step, name)
            }
        }
    }

    /// Only returns when it failed; a failure of the user's own file is told by the enter program.
    fn replace_this_program(&self, user: &User, speaker: &Speaker, enter: BorrowedFd<'_>) -> Failure {
        let command = self.process.argv.first().map_or("", String::as_str);
        let failed = |error: &Error| Failure::new(Step::ExecuteCommand, command, error);
        let environment = self.environment(user);
        let program = match find_program(command, &environment) {
            Ok(program) => program,
            Err(error) => return with_way_out(failed(&error), command),
        };
        let Some(report) = speaker.report() else {
            return failed(&Error { call: "there is no pipe for a report".to_owned(), errno: Errno::EBADF });
        };
        let number = std::os::fd::AsRawFd::as_raw_fd(&report).to_string();
        let mut argv: Vec<CString> = enter_prefix().into_iter().collect();
        for text in [program, number].iter().chain(&self.process.argv) {
            match memfd::c_string(text) {
                Ok(text) => argv.push(text),
                Err(error) => return failed(&error),
            }
        }
        let environment = environment.iter().map(|(name, value)| memfd::c_string(format!("{name}={value}")));
        let environment: Vec<CString> = match environment.collect() {
            Ok(environment) => environment,
            Err(error) => return failed(&error),
        };
        // With these in effect the kernel takes enter for a file that we may read, and lets the container's processes trace it
        // and take its pipe (would_dump, fs/exec.c). Root gets them back at the exec itself.
        let hidden = privileges::take_out_of_effect(&["DAC_OVERRIDE", "DAC_READ_SEARCH"]);
        match hidden.and_then(|()| stdio::keep_on_exec(report)) {
            Ok(()) => failed(&memfd::execute(enter, &argv, &environment)),
            Err(error) => failed(&error),
        }
    }

    /// The plan's, and HOME from the container's /etc/passwd where the manifest says none (as CRI runtimes do).
    fn environment(&self, user: &User) -> Vec<(String, String)> {
        let mut environment = self.process.env.clone();
        if !environment.iter().any(|(name, _)| name == "HOME") {
            environment.push(("HOME".to_owned(), user.home.clone()));
        }
        environment
    }
}

/// Raises `/proc/self/oom_score_adj` (proc_pid_oom_score_adj(5)); a higher one that we have inherited stays.
pub fn set_oom_score(score: i32) {
    const FILE: &str = "/proc/self/oom_score_adj";
    let present = std::fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if present.is_some_and(|present| present < score) {
        // It is a hint for the kernel in an emergency: no reason to fail.
        let _ = std::fs::write(FILE, score.to_string());
    }
}

/// Makes a container's working directory where it is missing, as runtimes do for an image's WORKDIR: as root's, once, by
/// its first process. An `exec` makes none: by then the container's processes move links about.
pub fn make_working_directory(process: &ProcessPlan) -> Result<()> {
    let (step, cwd) = (Step::EnterRoot, &process.cwd);
    let on = format!("working directory {}", cwd.display());
    let root = path::open_host_path(Path::new("/")).during(step, &on)?;
    path::open_in_root(root.as_fd(), cwd, Missing::MakeDirectory).during(step, &on).map(drop)
}

/// What to do about a command that is not there. The container's root is ours already.
fn with_way_out(failure: Failure, command: &str) -> Failure {
    if failure.exit_code() != exit_code::NOT_FOUND {
        return failure;
    }
    let is_shell = |path: &&str| path::is_executable(Path::new(*path)).is_ok();
    let shell = ["/bin/sh", "/bin/bash", "/bin/ash", "/usr/bin/sh"].into_iter().find(is_shell);
    let name = Path::new(command).file_name().and_then(|name| name.to_str()).unwrap_or(command);
    let asked_for_shell = ["sh", "bash", "ash", "dash", "zsh"].contains(&name);
    match shell {
        None if asked_for_shell => {
            failure.hint("the container's root file system has no shell: name one of its own programs as the command")
        }
        Some(shell) if asked_for_shell => failure.hint(format!("it has {shell}")),
        _ => failure.hint(
            "the container's root file system has no such program: look at `command` and `args`, and at the image",
        ),
    }
    .shortened()
}

/// As execvp(3) searches, but with the container's own PATH.
fn find_program(command: &str, environment: &[(String, String)]) -> sys::Result<String> {
    let missing = || Error { call: format!("looking for `{command}` in PATH"), errno: Errno::ENOENT };
    if command.contains('/') {
        // What is there may still fail, for reasons that only execve(2) knows.
        return match path::is_executable(Path::new(command)) {
            Err(Error { errno: Errno::ENOENT, .. }) => {
                Err(Error { call: format!("execve({command})"), errno: Errno::ENOENT })
            }
            _ => Ok(command.to_owned()),
        };
    }
    if command.is_empty() {
        return Err(missing());
    }
    let path = environment.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    let mut denied = None;
    for directory in path.split(':') {
        // An empty part of PATH means the current directory.
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = format!("{directory}/{command}");
        match path::is_executable(Path::new(&candidate)) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.errno == Errno::ENOENT || error.errno == Errno::ENOTDIR => {}
            Err(error) => denied = Some(error),
        }
    }
    Err(denied.unwrap_or_else(missing))
}
