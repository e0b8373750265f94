//! `sandpod logs`, and the logs of several containers in one order.

use std::io;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::arguments::LogsArguments;
use super::log_files::{Log, LogReader, Missed};
use super::log_line::Record;
use super::log_printer::Printer;
use super::{Outcome, client, follow, store};
use crate::plan::container_log;
use crate::report::{Report, exit_code};
use crate::state::StoredPod;
use crate::sys::Errno;
use crate::sys::own_dir::OwnDir;

/// Queued output beyond this waits in the files.
const BATCH: usize = 256;

/// Prints what there is; with `--follow` also what comes, until the pod has ended.
pub(crate) fn logs(asked: &LogsArguments) -> Outcome {
    let since = asked.since.as_deref().map(|typed| parse_since(typed, Timestamp::now())).transpose()?;
    let pod = store()?.find(&asked.pod)?;
    let names = match &asked.container {
        None => all_containers(&pod),
        one => vec![client::container(&pod, one.as_deref())?],
    };
    let mut printer = Printer::new(&names, names.len() > 1, asked.timestamps)?;
    if asked.raw {
        printer.write_raw();
    }
    let mut shown = Shown::open(&pod, &names, asked.tail, since, printer)?;
    if asked.follow {
        follow::until_end(&pod, asked.container.clone(), &mut shown)?;
    } else {
        shown.end_here()?;
        shown.print_all()?;
    }
    Ok(0)
}

/// In the plan's order.
pub(crate) fn all_containers(pod: &StoredPod) -> Vec<String> {
    match (&pod.plan, pod.record()) {
        (Some(plan), _) => plan.containers.iter().map(|container| container.name.clone()).collect(),
        (None, Some(record)) => record.containers.iter().map(|container| container.name.clone()).collect(),
        (None, None) => Vec::new(),
    }
}

/// Logs of some containers on their way to a printer.
pub(crate) struct Shown {
    names: Vec<String>,
    readers: Vec<LogReader>,
    since: Option<Timestamp>,
    pub(crate) printer: Printer,
}

impl Shown {
    pub(crate) fn open(
        pod: &StoredPod,
        names: &[String],
        tail: Option<u64>,
        since: Option<Timestamp>,
        printer: Printer,
    ) -> Result<Shown, Report> {
        let failed = |why: String| {
            Report::new(exit_code::FAILURE, format!("could not read the logs of pod `{}`", pod.name)).because(why)
        };
        let directory = match OwnDir::of_pod(&pod.dirs.data) {
            Ok(directory) => Arc::new(directory),
            // The pod has been removed meanwhile.
            Err(error) if error.errno == Errno::ENOENT => {
                return Ok(Shown { names: Vec::new(), readers: Vec::new(), since, printer });
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        let readers = names.iter().map(|name| {
            let log = Log { directory: Arc::clone(&directory), name: container_log(name).into() };
            LogReader::open(log, tail)
        });
        let readers = readers.collect::<io::Result<_>>();
        let readers = readers.map_err(|error| failed(crate::sys::describe_io(&error)))?;
        Ok(Shown { names: names.to_vec(), readers, since, printer })
    }

    /// Shows no more than what is there now, also while the containers go on writing.
    fn end_here(&mut self) -> io::Result<()> {
        self.readers.iter_mut().try_for_each(LogReader::end_here)
    }

    /// Hands some records to the printer, earliest first; false when there are none now.
    pub(crate) fn advance(&mut self) -> io::Result<bool> {
        for taken in 0..BATCH {
            let Some((container, record)) = self.next()? else {
                if taken == 0 {
                    self.printer.show_begun();
                }
                return Ok(taken > 0);
            };
            if let Some(missed) = self.readers[container].take_missed() {
                self.printer.add_warning(&warning(&self.names[container], missed, record.time));
            }
            // A damaged line has no time; it is shown rather than lost.
            if record.time.zip(self.since).is_none_or(|(time, since)| time >= since) {
                self.printer.add(container, &record);
            }
        }
        Ok(true)
    }

    /// Everything that is there now.
    pub(crate) fn print_all(&mut self) -> io::Result<()> {
        while self.advance()? {
            while self.printer.sink().is_some() {
                self.printer.write_some()?;
            }
        }
        self.printer.add_unfinished();
        while self.printer.sink().is_some() {
            self.printer.write_some()?;
        }
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<(usize, Record)>> {
        let mut earliest: Option<(usize, Option<Timestamp>)> = None;
        for (index, reader) in self.readers.iter_mut().enumerate() {
            let Some(record) = reader.peek()? else { continue };
            if earliest.is_none_or(|(_, time)| record.time < time) {
                earliest = Some((index, record.time));
            }
        }
        let Some((index, _)) = earliest else { return Ok(None) };
        Ok(self.readers[index].take().map(|record| (index, record)))
    }
}

/// What was skipped, and where. `next`: the time of the record that follows.
fn warning(container: &str, missed: Missed, next: Option<Timestamp>) -> String {
    let Missed { bytes, after } = missed;
    let much = bytes.map_or_else(|| "an unknown number of bytes".to_owned(), |bytes| format!("{bytes} bytes"));
    let time = |time: Option<Timestamp>| time.map_or_else(|| "an unknown time".to_owned(), |time| format!("{time:.9}"));
    format!(
        "{much} of the log of container `{container}` are skipped, between {} and {}: rotation removed them before they \
         were read",
        time(after),
        time(next)
    )
}

/// A time (RFC 3339), or how long ago.
fn parse_since(typed: &str, now: Timestamp) -> Result<Timestamp, Report> {
    if let Ok(time) = typed.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago: Option<SignedDuration> = typed.parse().ok();
    ago.filter(|ago| !ago.is_negative()).and_then(|ago| now.checked_sub(ago).ok()).ok_or_else(|| {
        Report::new(exit_code::USAGE, format!("--since {typed} is neither a time nor a duration"))
            .hint("for example 2026-11-21T12:00:00Z, or 10m, or 1h30m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let since = |typed: &str| parse_since(typed, now).map(|time| time.to_string());
        assert_eq!(since("10m").expect("ago"), "2026-11-21T11:50:00Z");
        assert_eq!(since("1h30m").expect("ago"), "2026-11-21T10:30:00Z");
        assert_eq!(since("2026-11-21T13:00:00+01:00").expect("a time"), "2026-11-21T12:00:00Z");
        for bad in ["", "yesterday", "-5m", "10", "1000000y", "2026-11-21"] {
            assert_eq!(since(bad).expect_err(bad).exit_code, exit_code::USAGE);
        }
    }
}
