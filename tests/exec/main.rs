//! `sandpod exec` in real pods.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../rounds/mod.rs"]
mod rounds;
#[path = "../support/mod.rs"]
mod support;

mod files;
mod races;
mod sharing;
mod signals;
mod terminals;
