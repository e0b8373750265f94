//! One process per pod: starts it, watches it, ends it.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

pub mod lifecycle;
pub mod log;
pub mod protocol;
