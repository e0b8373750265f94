//! Whole pods of the real binary.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../rounds/mod.rs"]
mod rounds;
#[path = "../support/mod.rs"]
mod support;

mod clients;
mod examples;
mod files;
mod lifecycle;
mod many;
mod namespaces;
mod process;
mod removal;
mod storage;
mod termination;
