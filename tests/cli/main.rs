//! The command line of the real binary, mostly against pods that are files only.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../support/mod.rs"]
mod support;

mod cgroups;
mod client;
mod completions;
mod logs;
mod publish;
mod run;
mod state;
mod words;
