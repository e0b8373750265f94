//! `logs -f`: a pod's logs until it ends. And how the life of a container ended.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Failure;
use super::client::{self, Conversation, exit_byte};
use super::logs::Shown;
use crate::report::{Report, exit_code};
use crate::state::{ContainerState, StoredPod};
use crate::supervisor::protocol::{Reply, Request};
use crate::sys::inotify::DirectoryWatch;
use crate::sys::poll::{self, Want};
use crate::sys::process::Exit;

/// Prints logs until `container` (or the pod) has ended for good, and all that was written until then.
pub(crate) fn until_end(pod: &StoredPod, container: Option<String>, shown: &mut Shown) -> Result<(), Failure> {
    let Some(end) = client::ask(pod, &Request::Wait { container }, &[])? else {
        return Ok(shown.print_all()?);
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
        let woken = wait(&end, shown, watch.as_ref())?;
        if woken.sink {
            shown.printer.write_some()?;
        }
        if woken.end {
            let reply = end.reply()?;
            shown.print_all()?;
            return match reply {
                Some((Reply::Exited { .. }, _)) | None => Ok(()),
                Some((other, _)) => Err(client::unexpected(&other).into()),
            };
        }
    }
}

struct Woken {
    end: bool,
    sink: bool,
}

fn wait(end: &Conversation, shown: &Shown, watch: Option<&DirectoryWatch>) -> Result<Woken, Failure> {
    // While there is output to be written no more is read, so the files need no watching then.
    let output = match (shown.printer.sink(), watch) {
        (Some(sink), _) => Some((sink, Want::Write)),
        (None, Some(watch)) => Some((watch.as_fd(), Want::Read)),
        (None, None) => None,
    };
    let mut watched = vec![(end.as_fd(), Want::Read)];
    watched.extend(output);
    // Without a watch: look again soon.
    let timeout = watch.is_none().then_some(Duration::from_millis(10));
    let woken = poll::any(&watched, timeout)?;
    // A full pipe to a slow reader must not hide the end, nor the end cut off what is still queued.
    Ok(Woken { end: woken[0], sink: shown.printer.sink().is_some() && woken[1] })
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
            ContainerState::Terminated { exit, .. } => Some(now.start_code.unwrap_or(exit.code())),
            ContainerState::Running { .. } if now.restarts == restarts => None,
            ContainerState::Running { .. } | ContainerState::Waiting { .. } => now.last_exit.map(Exit::code),
        });
        if let Some(code) = exit {
            return Ok(exit_byte(code));
        }
        if Instant::now() >= deadline {
            return Err(Report::new(exit_code::FAILURE, format!("container `{container}` closed its output"))
                .because("it still runs, or its exit code is not known")
                .hint(format!("`sandpod ps` shows pod `{}`", before.name)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
