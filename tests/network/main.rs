//! The network of real pods.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../network_support/mod.rs"]
mod network_support;
#[path = "../support/mod.rs"]
mod support;

mod aborts;
mod backend;
mod down;
mod hidden;
mod ipv6;
mod lacks;
mod names;
mod ports;
