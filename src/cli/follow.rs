//! Stays with a pod until it ends: its logs on our stdout and stderr, our signals to it.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::client::{self, Conversation, exit_byte};
use super::log_printer::{Printer, Streams};
use super::logs::{self, Shown};
use super::{Failure, print, rm};
use crate::report::{Report, exit_code};
use crate::state::{ContainerState, StoredPod};
use crate::supervisor::protocol::{Reply, Request};
use crate::sys::inotify::DirectoryWatch;
use crate::sys::poll::{self, Want};
use crate::sys::terminal::{ForegroundSignals, Sent};

/// How following a pod ended.
pub(crate) enum Ending {
    /// With the pod: its main container's exit code.
    Exited(u8),
    /// The pod goes on.
    Detached,
}

/// Prints the logs of all containers until the pod has ended. A signal ends the pod.
pub(crate) fn follow(pod: &StoredPod, signals: &ForegroundSignals) -> Result<Ending, Failure> {
    let names = logs::all_containers(pod);
    let printer = Printer::new(&names, names.len() > 1, false, Streams::Apart)?;
    let mut shown = Shown::open(pod, &names, None, None, printer)?;
    let mut stopper = Stopper::new(pod);
    match until_end(pod, None, &mut shown, Some((signals, &mut stopper)))? {
        Some(code) => Ok(Ending::Exited(code)),
        None => outcome(pod),
    }
}

/// Our side of what happens while logs are followed.
type Foreground<'a> = Option<(&'a ForegroundSignals, &'a mut Stopper)>;

/// Prints logs until `container` (or the pod) has ended for good, and all that was written until then. The exit code,
/// where the supervisor said it.
pub(crate) fn until_end(
    pod: &StoredPod,
    container: Option<String>,
    shown: &mut Shown,
    mut foreground: Foreground<'_>,
) -> Result<Option<u8>, Failure> {
    let request = if foreground.is_some() { Request::Follow } else { Request::Wait { container } };
    let Some(end) = client::ask(pod, &request, &[])? else {
        print_rest(shown, foreground.is_some())?;
        return Ok(None);
    };
    let mut watch = None;
    let mut first_look = true;
    loop {
        // Not for a pod that ends at once: taking an inotify watch down costs milliseconds (synchronize_srcu). Watched
        // and acknowledged before the files are looked at, or what is written in between is missed.
        if !std::mem::take(&mut first_look) {
            watch = watch.or_else(|| DirectoryWatch::new(&pod.dirs.data).ok());
        }
        if let Some(watch) = &watch {
            watch.acknowledge()?;
        }
        while shown.printer.sink().is_none() && shown.advance()? {}
        let woken = wait(&end, shown, watch.as_ref(), foreground.as_ref().map(|(signals, _)| *signals))?;
        if woken.signal
            && let Some((signals, stopper)) = &mut foreground
            && let Some(Sent::End(_)) = signals.next()
        {
            stopper.interrupt()?;
        }
        if woken.sink
            && let Err(error) = shown.printer.write_some()
        {
            // Nobody reads us any more: as SIGPIPE would end a program, this ends the pod, in its own time.
            let Some((_, stopper)) = &mut foreground else { return Err(error.into()) };
            shown.printer.mute();
            stopper.interrupt()?;
        }
        if woken.end {
            let reply = end.reply()?;
            if let Some((Reply::Told { what, why }, _)) = &reply {
                print::notice(what, why);
                continue;
            }
            print_rest(shown, foreground.is_some())?;
            return match reply {
                Some((Reply::Exited { code }, _)) => Ok(Some(exit_byte(code))),
                Some((other, _)) => Err(client::unexpected(&other).into()),
                None => Ok(None),
            };
        }
    }
}

/// Whoever follows in the foreground wants the exit code also when nobody reads the output any more.
fn print_rest(shown: &mut Shown, foreground: bool) -> io::Result<()> {
    match shown.print_all() {
        Err(error) if foreground && error.kind() == io::ErrorKind::BrokenPipe => {
            shown.printer.mute();
            Ok(())
        }
        other => other,
    }
}

struct Woken {
    end: bool,
    signal: bool,
    sink: bool,
}

fn wait(
    end: &Conversation,
    shown: &Shown,
    watch: Option<&DirectoryWatch>,
    signals: Option<&ForegroundSignals>,
) -> Result<Woken, Failure> {
    // While there is output to be written no more is read, so the files need no watching then.
    let output = match (shown.printer.sink(), watch) {
        (Some(sink), _) => Some((sink, Want::Write)),
        (None, Some(watch)) => Some((watch.as_fd(), Want::Read)),
        (None, None) => None,
    };
    let mut watched = vec![(end.as_fd(), Want::Read)];
    watched.extend(output);
    watched.extend(signals.map(|signals| (signals.as_fd(), Want::Read)));
    // Without a watch: look again soon.
    let timeout = watch.is_none().then_some(Duration::from_millis(10));
    let woken = poll::any(&watched, timeout)?;
    Ok(Woken {
        // A full pipe to a slow reader must not hide the end, nor the end cut off what is still queued.
        end: woken[0],
        sink: shown.printer.sink().is_some() && woken[1],
        signal: signals.is_some() && woken.last() == Some(&true),
    })
}

/// What SIGINT and the like ask of a pod in the foreground: first its graceful end, then its end, then that of its
/// supervisor.
pub(crate) struct Stopper {
    pod: StoredPod,
    asked: u32,
    /// Kept open: a request ends with its connection.
    conversations: Vec<Conversation>,
}

impl Stopper {
    pub(crate) fn new(pod: &StoredPod) -> Stopper {
        Stopper { pod: pod.clone(), asked: 0, conversations: Vec::new() }
    }

    pub(crate) fn interrupt(&mut self) -> Result<(), Failure> {
        self.asked += 1;
        let grace_seconds = match self.asked {
            1 => None,
            2 => Some(0),
            _ => {
                rm::end(&self.pod.reload())?;
                return Ok(());
            }
        };
        if self.asked == 1 {
            let name = &self.pod.name;
            let grace = self.pod.plan.as_ref().map(|plan| plan.lifecycle.termination_grace_period.as_secs());
            let time = grace.map_or_else(String::new, |seconds| format!(" has {seconds} s to end by itself"));
            print::notice("stopping", &format!("pod `{name}`{time}; Ctrl-C again kills it"));
        }
        self.conversations.extend(client::ask(&self.pod, &Request::Stop { grace_seconds }, &[])?);
        Ok(())
    }
}

/// How the pod ended, once it has or when it does.
pub(crate) fn outcome(pod: &StoredPod) -> Result<Ending, Failure> {
    let main = client::container(pod, None)?;
    if let Some(conversation) = client::ask(pod, &Request::Wait { container: None }, &[])?
        && let Some((Reply::Exited { code }, _)) = conversation.reply()?
    {
        return Ok(Ending::Exited(exit_byte(code)));
    }
    client::recorded_exit(&pod.reload(), &main).map(Ending::Exited).map_err(Failure::from)
}

/// How one life of a container ended, though it may have been restarted since. `before` was read while it lived.
pub(crate) fn container_exit(before: &StoredPod, container: &str) -> Result<u8, Report> {
    let found = |pod: &StoredPod| pod.record()?.containers.iter().find(|found| found.name == container).cloned();
    let restarts = found(before).map_or(0, |record| record.restarts);
    // Its sockets close a moment before its record is replaced.
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let now = found(&before.reload());
        let exit = now.and_then(|now| match now.state {
            ContainerState::Terminated { exit, .. } => Some(exit),
            ContainerState::Running { .. } if now.restarts == restarts => None,
            ContainerState::Running { .. } | ContainerState::Waiting { .. } => now.last_exit,
        });
        if let Some(exit) = exit {
            return Ok(exit_byte(exit.code()));
        }
        if Instant::now() >= deadline {
            return Err(Report::new(exit_code::FAILURE, format!("container `{container}` closed its output"))
                .because("it still runs, or its exit code is not known")
                .hint(format!("`sandpod ps` shows pod `{}`", before.name)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
