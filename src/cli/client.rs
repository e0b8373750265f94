//! One request to a pod's supervisor, and its replies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::report::{Report, exit_code};
use crate::state::{Liveness, StoredPod};
use crate::supervisor::protocol::{CONTROL_SOCKET, MAX_INLINE, Reply, Request};
use crate::sys::memfd;
use crate::sys::own_dir::OwnDir;
use crate::sys::signals::PassedSignals;
use crate::sys::socket::Channel;

/// A supervisor answers at once or not at all; only `Wait` and `Stop` take as long as they take.
const ANSWER: Duration = Duration::from_secs(10);

/// A supervisor that has let go of its socket lets go of its lock.
const ENDING: Duration = Duration::from_millis(500);

/// Who listens on a pod's control socket.
pub(crate) enum Connected {
    ToSupervisor(Channel),
    /// Not a process of yours in this user namespace: a container that can write to the runtime directory may have put its
    /// own socket there. It must get neither requests nor descriptors.
    ToStranger,
}

pub(crate) fn connect(pod: &StoredPod) -> crate::sys::Result<Connected> {
    let channel = Channel::connect(&OwnDir::of_pod(&pod.dirs.runtime)?, CONTROL_SOCKET.as_ref())?;
    Ok(if channel.is_peer_ours() { Connected::ToSupervisor(channel) } else { Connected::ToStranger })
}

fn stranger(pod: &StoredPod) -> Report {
    Report::new(exit_code::FAILURE, format!("could not reach the supervisor of pod `{}`", pod.name))
        .because(format!(
            "what listens on {} is no process of yours in this user namespace",
            pod.dirs.runtime.join(CONTROL_SOCKET).display()
        ))
        .hint(format!(
            "in a user namespace other than the supervisor's (`unshare -U`, say) run sandpod outside of it; else a \
             container that can write there has taken the socket's place: `sandpod rm -f {}` removes the pod",
            pod.name
        ))
}

/// A connection on which one request was made.
pub(crate) struct Conversation {
    channel: Channel,
    pod: String,
}

/// Makes one request. `None`: nobody supervises the pod any more, so its record is final.
///
/// # Errors
/// It is supervised, but does not take the request.
pub(crate) fn ask(pod: &StoredPod, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Option<Conversation>, Report> {
    if pod.liveness == Liveness::Unsupervised {
        return Ok(None);
    }
    let unreachable = |line: String| {
        Report::new(exit_code::FAILURE, format!("could not reach the supervisor of pod `{}`", pod.name)).because(line)
    };
    let bytes = serde_json::to_vec(request).map_err(|error| unreachable(error.to_string()))?;
    let connected = match connect(pod) {
        Ok(Connected::ToSupervisor(channel)) => Ok(channel),
        // A supervisor that has ended cannot be looked at any more.
        Ok(Connected::ToStranger) if crate::state::wait_released(&pod.dirs, ENDING) => return Ok(None),
        Ok(Connected::ToStranger) => return Err(stranger(pod)),
        Err(error) => Err(error),
    };
    let asked = connected.and_then(|channel| match send(&channel, &bytes, fds) {
        // It has closed the connection before it was asked anything, but may have said why.
        Err(error) => channel.try_receive().ok().flatten().map(|said| (channel, Some(said))).ok_or(error),
        Ok(()) => Ok((channel, None)),
    });
    let (channel, said) = match asked {
        Ok(asked) => asked,
        // It ended since we looked (EPIPE: between the two calls), or it is only starting or just ending.
        Err(error) => {
            return match io::Error::from_raw_os_error(error.number()).kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                    if crate::state::wait_released(&pod.dirs, ENDING) =>
                {
                    Ok(None)
                }
                _ => Err(unreachable(error.to_string())
                    .hint(format!("if it hangs: `sandpod rm -f {}` ends it without asking it", pod.name))),
            };
        }
    };
    let conversation = Conversation { channel, pod: pod.name.clone() };
    if let Some(said) = said {
        let reply = conversation.read(Ok(Some(said)))?;
        return Err(reply.map_or_else(|| not_running(pod), |(reply, _)| unexpected(&reply)));
    }
    Ok(Some(conversation))
}

fn send(channel: &Channel, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> crate::sys::Result<()> {
    if bytes.len() <= MAX_INLINE {
        return channel.send(bytes, fds);
    }
    let memory = memfd::sealed_bytes("request", bytes)?;
    let fds: Vec<BorrowedFd<'_>> = fds.iter().copied().chain([memory.as_fd()]).collect();
    channel.send(&serde_json::to_vec(&Request::InMemory).unwrap_or_default(), &fds)
}

impl Conversation {
    /// To the command that was asked for. A supervisor that has gone took the command along: its reply, or that there is
    /// none, is read next.
    pub(crate) fn pass_signals(&self, signals: &PassedSignals) {
        while let Some(signal) = signals.next() {
            let request = serde_json::to_vec(&Request::Signal { signal }).unwrap_or_default();
            let _ = self.channel.send(&request, &[]);
        }
    }

    /// The next reply and its descriptors; `None` when the supervisor has gone. Waits at most ten seconds.
    pub(crate) fn reply_soon(&self) -> Result<Option<(Reply, Vec<OwnedFd>)>, Report> {
        self.read(self.channel.receive_within(ANSWER))
    }

    /// As [`reply_soon`](Self::reply_soon), for as long as it takes.
    pub(crate) fn reply(&self) -> Result<Option<(Reply, Vec<OwnedFd>)>, Report> {
        self.read(self.channel.receive())
    }

    fn read(
        &self,
        received: crate::sys::Result<Option<crate::sys::socket::Message>>,
    ) -> Result<Option<(Reply, Vec<OwnedFd>)>, Report> {
        let broken = |line: String| {
            Report::new(exit_code::FAILURE, format!("the supervisor of pod `{}` does not answer", self.pod))
                .because(line)
        };
        let message = match received {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            // It ended with our request unread (unix(7)).
            Err(error) if io::Error::from_raw_os_error(error.number()).kind() == io::ErrorKind::ConnectionReset => {
                return Ok(None);
            }
            Err(error) => return Err(broken(error.to_string())),
        };
        match serde_json::from_slice(&message.bytes).map_err(|error| broken(error.to_string()))? {
            Reply::Failed(report) => Err(report),
            reply => Ok(Some((reply, message.fds))),
        }
    }
}

impl AsFd for Conversation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// What a verb says that needs a living pod. `pod` may have been read when it still lived.
pub(crate) fn not_running(pod: &StoredPod) -> Report {
    let report = Report::new(exit_code::FAILURE, format!("pod `{}` is not running", pod.name));
    let now = pod.reload();
    // A removal takes the data first: while they are there, what was read is true.
    if !pod.dirs.data.exists() {
        return report.because("it has ended and was removed");
    }
    report
        .because(format!("it is {}", now.status()))
        .hint(format!("`sandpod logs {0}` shows what it wrote, `sandpod rm {0}` removes it", pod.name))
}

/// The supervisor has closed the connection without a last reply; `meanwhile` is what was going on.
pub(crate) fn lost(pod: &StoredPod, meanwhile: &str) -> Report {
    if crate::state::wait_released(&pod.dirs, Duration::from_millis(500)) {
        return Report::new(exit_code::FAILURE, format!("pod `{}` ended while {meanwhile}", pod.name));
    }
    Report::new(
        exit_code::FAILURE,
        format!("the supervisor of pod `{}` closed the connection while {meanwhile}", pod.name),
    )
    .hint("it may be another version of sandpod: stop the pod and start it again")
}

/// The reply to a request came, but it is none that the protocol has for it.
pub(crate) fn unexpected(reply: &Reply) -> Report {
    Report::new(exit_code::FAILURE, "the supervisor answered something else than was asked")
        .because(format!("{reply:?}"))
        .hint("it may be another version of sandpod: stop the pod and start it again")
}

/// The container that is meant: the named one, which must exist, or the pod's main one.
pub(crate) fn container(pod: &StoredPod, named: Option<&str>) -> Result<String, Report> {
    let names: Vec<&str> = match (&pod.plan, pod.record()) {
        (Some(plan), _) => plan.containers.iter().map(|container| container.name.as_str()).collect(),
        (None, Some(record)) => record.containers.iter().map(|container| container.name.as_str()).collect(),
        (None, None) => Vec::new(),
    };
    let main = pod.plan.as_ref().map(|plan| plan.main.as_str()).or(names.first().copied());
    let damaged = || Report::new(exit_code::FAILURE, format!("pod `{}`: its plan cannot be read", pod.name));
    let Some(wanted) = named else { return main.map(str::to_owned).ok_or_else(damaged) };
    if names.contains(&wanted) {
        return Ok(wanted.to_owned());
    }
    let report = Report::new(exit_code::FAILURE, format!("pod `{}` has no container `{wanted}`", pod.name))
        .because(format!("it has {}", names.join(", ")));
    Err(match crate::nearest::nearest(wanted, names.iter().copied()) {
        Some((near, _)) => report.hint(format!("did you mean `{near}`?")),
        None => report,
    })
}

/// The code with which the pod (its main container) or one container ended, from the record.
pub(crate) fn recorded_exit(pod: &StoredPod, container: &str) -> Result<u8, Report> {
    use crate::state::ContainerState;
    let found = pod.record().and_then(|record| record.containers.iter().find(|found| found.name == container));
    match found.map(|found| (&found.state, found.start_code)) {
        Some((ContainerState::Terminated { exit, .. }, start_code)) => Ok(exit_byte(start_code.unwrap_or(exit.code()))),
        _ => Err(Report::new(exit_code::FAILURE, format!("the exit code of pod `{}` is not known", pod.name))
            .because(format!("the pod is {}", pod.status()))
            .hint(format!("`sandpod rm {}` removes it", pod.name))),
    }
}

/// As a shell would see it.
pub(crate) fn exit_byte(code: i32) -> u8 {
    u8::try_from(code & 0xff).unwrap_or(exit_code::FAILURE)
}
