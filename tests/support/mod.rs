//! Pods of the real binary: as an ordinary user, in directories of their own, with nothing left behind.
//!
//! Run by root, every sandpod is started as a test user; run by anybody else, as whoever that is.

#![allow(dead_code, unused_imports, reason = "each test file uses a part")]
#![allow(clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout, reason = "tests act, and tell")]

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

#[path = "../cli_support/mod.rs"]
pub(crate) mod cli_support;
mod files;
mod home;
pub(crate) mod inside;
mod pod;
mod processes;
mod specs;
mod user;
mod web;

pub(crate) use cli_support::Said;
pub(crate) use files::{busybox_root, fingerprint};
pub(crate) use home::Home;
pub(crate) use pod::Pod;
pub(crate) use processes::{Reaped, is_live, memory_kb};
pub(crate) use specs::{and, idle, once, sh};
pub(crate) use user::{User, is_root};
pub(crate) use web::{fetch, web};

/// Longer than anything here takes: what has not happened by then never will.
pub(crate) const LONG: Duration = Duration::from_secs(60);

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
