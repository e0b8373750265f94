//! The command line of the real binary, mostly against pods that are files only.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../image_support/mod.rs"]
mod image_support;
#[path = "../support/mod.rs"]
mod support;
use support::skip;

mod cgroups;
mod client;
mod completions;
mod login;
mod logs;
mod publish;
mod push;
mod run;
mod state;
mod words;
