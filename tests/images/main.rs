//! Images from registries: a small registry of the tests' own, which also lies, stalls and breaks off.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../support/mod.rs"]
mod support;

mod archives;
mod confinement;
mod hostile;
mod judged;
mod kept;
mod made;
mod pull;
mod quickstart;
mod server;
mod volumes;
