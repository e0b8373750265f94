//! Does what the plan says, in order, and undoes it.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

mod failure;
pub mod idmap;
pub mod remove;
mod tree;

pub use failure::Failure;
