//! Pods that are killed, damaged or out of space. The tests take turns (crash_support).

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../crash_support/mod.rs"]
mod crash_support;
#[path = "../rounds/mod.rs"]
mod rounds;

mod full_disk;
mod kill;
mod state;
