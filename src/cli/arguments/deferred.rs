//! The arguments of a verb, defined only when that verb was typed.

use std::ops::Deref;

use clap::{ArgMatches, Args, Command, FromArgMatches};

/// `T`, whose definitions are made by [`Command::defer`]: every start of sandpod would otherwise make those of all verbs,
/// each within the stack frame of the function that makes all of them. A caller may have a small stack (`ulimit -s 256`).
#[derive(Debug)]
pub(crate) struct Deferred<T>(T);

impl<T> Deref for Deferred<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: FromArgMatches> FromArgMatches for Deferred<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(Deferred)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches_mut(matches).map(Deferred)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<T: Args> Args for Deferred<T> {
    fn augment_args(verb: Command) -> Command {
        verb.defer(define::<T>)
    }

    fn augment_args_for_update(verb: Command) -> Command {
        verb.defer(define::<T>)
    }
}

/// The verb's own description stays: that of the struct, which clap's derive also sets, is for readers of the source.
fn define<T: Args>(verb: Command) -> Command {
    let about = verb.get_about().cloned().unwrap_or_default();
    T::augment_args(verb).about(about)
}
