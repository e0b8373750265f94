//! sandpod: a Kubernetes-equivalent Pod for an unprivileged user. No root, no daemon, one static binary.
//!
//! The straight line of `run` (docs/architecture.md follows it step by step):
//!
//! ```text
//! cli → manifest::parse → host::probe → plan::plan → state::create → supervisor → engine → exec
//! ```
//!
//! No layer calls back up. Everything is decided in [`plan`], which has no effects; `engine` leaves no choice open.
//! `unsafe` lives in [`sys`] and nowhere else.

mod bind_conflict;
pub mod cli;
pub mod engine;
pub mod host;
pub mod image;
pub mod manifest;
mod nearest;
pub mod plan;
pub mod proxy;
pub mod report;
pub mod state;
pub mod step;
pub mod supervisor;
pub mod sys;
#[cfg(test)]
mod testing;

/// False where pause and enter are copies of ourselves: only x86-64 has programs of its own for them (src/pause/).
pub(crate) const TINY_PROGRAMS: bool = option_env!("SANDPOD_WITHOUT_TINY_PROGRAMS").is_none();
