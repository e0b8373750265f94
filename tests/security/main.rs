//! What a container cannot do to its host, to the supervisor, or to other pods.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../rounds/mod.rs"]
mod rounds;
#[path = "../support/mod.rs"]
mod support;

mod enter;
mod filter;
mod host;
mod inside;
mod masks;
mod peers;
mod places;
mod records;
