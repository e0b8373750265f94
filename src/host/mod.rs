//! What this machine allows: reads, never changes.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

mod facts;

pub use facts::*;
