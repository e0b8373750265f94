//! How often a test repeats what depends on the moment.

#![allow(clippy::print_stderr, reason = "scripts/test collects the numbers")]

/// `short`, or `long` with `SANDPOD_TEST_LONG=1` (`scripts/test --long`). The number is printed, for the log.
pub(crate) fn rounds(test: &str, short: u32, long: u32) -> u32 {
    let is_long = std::env::var("SANDPOD_TEST_LONG").as_deref() == Ok("1");
    let count = if is_long { long } else { short };
    eprintln!("ROUNDS {test}: {count} ({})", if is_long { "long form" } else { "short form" });
    count
}
