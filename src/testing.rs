//! For unit tests that need to be somebody else, or somewhere else: they run themselves again in another process.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

use std::io::Write as _;
use std::process::Command;

/// Where a test finds itself after [`again`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the process that the prefix started: do the test.
    Inside,
    /// The other one has done it, or this host cannot and stderr says so.
    Outside,
}

const INSIDE: &str = "SANDPOD_TEST_INSIDE";

/// Runs `test` (its full path) once more, below the command `prefix`. Skips loudly where that is not installed, unless
/// `MUST_RUN=1`.
pub(crate) fn again(prefix: &[&str], test: &str) -> Place {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        return Place::Inside;
    }
    let me = std::env::current_exe().expect("a test has an executable");
    let (program, arguments) = match prefix {
        [program, arguments @ ..] => (*program, arguments),
        [] => ("env", &[][..]),
    };
    let output = Command::new(program)
        .args(arguments)
        .arg(me)
        .args(["--exact", test, "--test-threads=1"])
        .env(INSIDE, test)
        .output();
    match output {
        Err(error) => skip(test, &format!("{program}: {error}")),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("1 passed"), "inside {program}:\n{text}\n{said}");
        }
    }
    Place::Outside
}

/// As [`again`], as an ordinary user with subordinate ids: ourselves, or `podtest` where we are root.
pub(crate) fn again_as_ordinary_user(test: &str) -> Place {
    if crate::sys::privileges::uid() != 0 {
        return again(&[], test);
    }
    let known =
        std::fs::read_to_string("/etc/passwd").is_ok_and(|text| text.lines().any(|line| line.starts_with("podtest:")));
    if !known && std::env::var_os(INSIDE).is_none() {
        skip(test, "root runs this as the user podtest, which does not exist (scripts/test makes it)");
        return Place::Outside;
    }
    again(&["setpriv", "--reuid=podtest", "--regid=podtest", "--init-groups"], test)
}

pub(crate) fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("MUST_RUN").is_none(), "{test} must run: {why}");
    // Not print: libtest would hide it.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}
