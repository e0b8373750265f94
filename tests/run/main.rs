//! `sandpod run` in the foreground: output, signals, logs.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../support/mod.rs"]
mod support;

mod log_limits;
mod output;
mod signals;
