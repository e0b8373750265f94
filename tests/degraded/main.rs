//! Callers, hosts and containers that lack something, and what sandpod says then. The tests take turns (crash_support).

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../crash_support/mod.rs"]
mod crash_support;
#[path = "../seccomp_support/mod.rs"]
mod seccomp_support;

mod callers;
mod containers;
mod hosts;
#[path = "../image_support/layout.rs"]
mod layout;
mod words;
