//! The wrapper, and what its exit statuses say.

/// Finds and starts slirp4netns.
pub(super) const TEXT: &str = include_str!("../../../scripts/slirp4netns-wrapper.sh");

/// What the wrapper itself refuses, before it becomes slirp4netns; its last line says what would mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Usage,
    NotFound,
    CannotRun,
    NoTun,
    NoProcess,
    /// By hand only; with `--exec` slirp4netns's own words say it.
    NoSandbox,
}

impl Refusal {
    const ALL: [Refusal; 6] =
        [Refusal::Usage, Refusal::NotFound, Refusal::CannotRun, Refusal::NoTun, Refusal::NoProcess, Refusal::NoSandbox];

    /// The exit status (`--help`); 64 is sysexits.h's EX_USAGE.
    #[must_use]
    pub const fn status(self) -> i32 {
        match self {
            Refusal::Usage => 64,
            Refusal::NotFound => 80,
            Refusal::CannotRun => 81,
            Refusal::NoTun => 82,
            Refusal::NoProcess => 83,
            Refusal::NoSandbox => 84,
        }
    }

    /// `None`: it is slirp4netns's own.
    #[must_use]
    pub fn of(status: i32) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|refusal| refusal.status() == status)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn known() -> BTreeSet<i32> {
        Refusal::ALL.iter().map(|refusal| refusal.status()).collect()
    }

    fn first_number(text: &str) -> Option<i32> {
        text.split_whitespace().next()?.parse().ok()
    }

    #[test]
    fn the_wrappers_help_lists_them() {
        let (_, listed) = TEXT.split_once("exit status: that of slirp4netns, or\n").expect("in the help");
        let (listed, _) = listed.split_once("USAGE").expect("its end");
        assert_eq!(listed.lines().filter_map(first_number).collect::<BTreeSet<_>>(), known());
    }

    #[test]
    fn the_wrapper_ends_with_each_of_them_and_with_no_other() {
        let calls = TEXT.lines().flat_map(|line| line.split("fail ").skip(1));
        assert_eq!(calls.filter_map(first_number).collect::<BTreeSet<_>>(), known());
        assert_eq!(Refusal::of(64), Some(Refusal::Usage));
        assert_eq!(Refusal::of(1), None);
    }
}
