//! Manifests, good and bad, through the real binary.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests may act")]

mod bad;
mod good;
