//! The network program as it is executed: a copy in memory that may be executed, and not read.
//!
//! It enters the pod's user namespace, where a container's capabilities count for it, with your ids and with files of the
//! host. A container that finds its pid, by hostPID or a hostPath of /proc, could look into it and change it, were it not
//! that the kernel lets nobody do so whose program its user may not read (would_dump, fs/exec.c).

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::STEP;
use crate::engine::failure::{During, Result};
use crate::plan::network::Backend;
use crate::sys::memfd;
use crate::sys::probe::open_regular;

/// More than any such program; what is longer is executed as it is.
const LONGEST: u64 = 64 << 20;

/// A program that is about to be executed.
#[derive(Debug)]
pub(super) struct Program {
    /// What to execute.
    pub(super) path: PathBuf,
    /// Whom `path` leads to, as long as this is open.
    copy: Option<OwnedFd>,
}

impl Program {
    /// `directory`: of the pod's own, for a link that gives the copy the name by which ps(1) shows it.
    ///
    /// What is no program of the machine's, as a script that ends in executing one, is executed as it is: what it executes
    /// is its own affair. So is what cannot be read: its error is for whoever executes it.
    pub(super) fn hidden(backend: Backend, named: &Path, directory: &Path) -> Result<Program> {
        let Some(bytes) = machine_code(&fastest(backend, named)) else {
            return Ok(Program { path: named.to_owned(), copy: None });
        };
        let copy = memfd::sealed_program(backend.word(), &bytes).during(STEP, backend.word())?;
        memfd::make_execute_only(copy.as_fd()).during(STEP, backend.word())?;
        // Read by whoever executes it, who has the descriptor under the same number.
        let number = PathBuf::from(format!("/proc/self/fd/{}", memfd::number(&copy)));
        let link = directory.join(backend.word());
        let _ = std::fs::remove_file(&link);
        // A runtime directory that is gone or full costs the name, not the network.
        let path = if std::os::unix::fs::symlink(&number, &link).is_ok() { link } else { number };
        Ok(Program { path, copy: Some(copy) })
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.copy.as_ref().map(AsFd::as_fd)
    }
}

/// pasta executes a build of itself for processors with AVX2 where it lies beside it (arch.c), which it does not in memory.
fn fastest(backend: Backend, named: &Path) -> PathBuf {
    let mut faster = OsString::from(named);
    faster.push(".avx2");
    let faster = PathBuf::from(faster);
    if backend == Backend::Pasta && has_avx2() && faster.is_file() { faster } else { named.to_owned() }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// The bytes of an ELF file (elf(5)).
fn machine_code(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // A FIFO or a device would be opened or read for ever.
    let file = open_regular(path).ok()?;
    let metadata = file.metadata().ok().filter(|found| found.len() <= LONGEST)?;
    bytes.reserve_exact(usize::try_from(metadata.len()).ok()?);
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    bytes.starts_with(b"\x7fELF").then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;
    use crate::sys::stdio;

    #[test]
    fn machine_code_is_executed_from_memory_and_cannot_be_read() {
        let directory = tempfile::tempdir().expect("tempdir");
        for _ in 0..2 {
            let program =
                Program::hidden(Backend::Slirp4netns, Path::new("/bin/true"), directory.path()).expect("a copy");
            assert_eq!(program.path, directory.path().join("slirp4netns"));
            let copy = program.descriptor().expect("a copy");
            stdio::keep_on_exec(copy).expect("fcntl");
            assert!(Command::new(&program.path).status().expect("it is executed").success());
            let mode =
                std::fs::File::from(copy.try_clone_to_owned().expect("dup")).metadata().expect("stat").permissions();
            assert_eq!(mode.mode() & 0o777, 0o111);
        }
    }

    #[test]
    fn without_a_directory_for_its_name_it_is_executed_by_its_number() {
        let program = Program::hidden(Backend::Pasta, Path::new("/bin/true"), Path::new("/no/such")).expect("a copy");
        stdio::keep_on_exec(program.descriptor().expect("a copy")).expect("fcntl");
        assert!(Command::new(&program.path).status().expect("it is executed").success());
    }

    #[test]
    fn anything_else_is_executed_as_it_is() {
        let directory = tempfile::tempdir().expect("tempdir");
        let script = directory.path().join("script");
        std::fs::write(&script, "#!/bin/sh\n").expect("write");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
        for named in [script.as_path(), fifo.as_path(), Path::new("/no/such"), Path::new("/dev/zero"), directory.path()]
        {
            let program = Program::hidden(Backend::Slirp4netns, named, directory.path()).expect("no copy");
            assert!(program.path == named && program.descriptor().is_none());
        }
    }
}
