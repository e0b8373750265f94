//! The programs that run in a pod on our behalf, each from a sealed memfd: pause and enter (src/pause/).

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::failure::{During, Result};
use super::roles;
use crate::TINY_PROGRAMS;
use crate::step::Step;
use crate::sys::memfd;

const PAUSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));
const ENTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/enter"));

/// One set for each pod, made once by its supervisor.
#[derive(Debug)]
pub struct Programs {
    pause: OwnedFd,
    enter: OwnedFd,
}

impl Programs {
    /// Where there is no tiny program for this architecture, a sealed copy of ourselves plays its role by its first
    /// argument ([`super::roles`]). A copy, so that our own file cannot be reached either.
    pub fn prepare() -> Result<Programs> {
        let prepare = |name, bytes: &[u8]| {
            let program = if bytes.is_empty() { memfd::sealed_self() } else { memfd::sealed_program(name, bytes) };
            program.during(Step::StartSupervisor, name)
        };
        let programs = Programs { pause: prepare("pause", PAUSE)?, enter: prepare("enter", ENTER)? };
        // A process whose program it may not read is closed to ptrace by the kernel (would_dump, fs/exec.c): enter runs
        // as the container's user with a way to the supervisor. Not pause: setns(2) by its pidfd wants read access.
        memfd::make_execute_only(programs.enter()).during(Step::StartSupervisor, "enter")?;
        Ok(programs)
    }

    #[must_use]
    pub fn pause(&self) -> BorrowedFd<'_> {
        self.pause.as_fd()
    }

    #[must_use]
    pub fn enter(&self) -> BorrowedFd<'_> {
        self.enter.as_fd()
    }

    /// The same program in a file that is better guarded takes the place of the one in memory.
    pub(super) fn replace_enter(&mut self, file: OwnedFd) {
        self.enter = file;
    }

    pub(super) fn bytes_of_enter(&self) -> Result<Vec<u8>> {
        memfd::contents(self.enter()).during(Step::SetUpSandbox, "enter")
    }
}

/// The command line of pause.
#[must_use]
pub fn pause_argv() -> CString {
    if TINY_PROGRAMS { c"pause".to_owned() } else { roles::PAUSE.to_owned() }
}

/// What comes before the words of enter: nothing, or the role that a copy of ourselves is to play.
#[must_use]
pub fn enter_prefix() -> Option<CString> {
    (!TINY_PROGRAMS).then(|| roles::ENTER.to_owned())
}
