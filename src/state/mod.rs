//! Pods on disk; survives crashes.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

mod record;

pub use record::*;
