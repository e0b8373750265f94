//! Clients of the control socket: one request for each connection, answered now or when it has come true.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::attached::{Joining, Stays};
use super::event_loop::Supervisor;
use super::lifecycle::Event;
use super::protocol::{Reply, Request};
use super::watch::Source;
use crate::engine::Failure;
use crate::report::{Report, exit_code};
use crate::step::Step;
use crate::sys::process::{self, Exit, PidFd};
use crate::sys::socket::{self, Channel, Message};
use crate::sys::{Errno, Error, memfd};

/// The most clients, however many descriptors we may have: a bug in a script must not use up our memory.
const MAX_CLIENTS: usize = 4096;
/// What a client takes of our descriptors: its connection, and the pidfd of a command or three ends of an attached client;
/// for a moment also what comes with the request, and what a command is started with.
const DESCRIPTORS_EACH: u64 = 8;
/// Room for requests that are answered at once, beside clients that stay: nothing keeps a pod from being stopped.
const LOBBY: usize = 16;

#[derive(Debug)]
pub(super) struct Clients {
    open: BTreeMap<u64, Client>,
    next: u64,
    /// The most of them that stay.
    max: usize,
}

#[derive(Debug)]
pub(super) struct Client {
    channel: Channel,
    waits_for: WaitsFor,
}

/// What a client still has to hear.
#[derive(Debug, PartialEq, Eq)]
enum WaitsFor {
    /// It has not asked yet.
    Request,
    /// Its command: to begin, then to end.
    Command,
    Container {
        index: usize,
    },
    Pod,
    /// The pod's end, and what happens until then.
    News,
    Stop,
    /// What it wants paused stands still.
    Pause,
    /// It takes part in a container's stdio until it closes the connection.
    Attached {
        index: usize,
    },
    /// It has its answer.
    Nothing,
}

impl Client {
    pub(super) fn new(channel: Channel) -> Client {
        Client { channel, waits_for: WaitsFor::Request }
    }

    /// A client that does not take its answers loses them: we never wait for one.
    pub(super) fn reply(&self, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        let bytes = serde_json::to_vec(reply).unwrap_or_default();
        let _ = self.channel.try_send(&bytes, fds);
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Clients {
    /// `descriptors`: how many this process may have open.
    pub(super) fn new(descriptors: u64) -> Clients {
        let max = usize::try_from(descriptors / DESCRIPTORS_EACH).unwrap_or(MAX_CLIENTS).clamp(LOBBY, MAX_CLIENTS);
        Clients { open: BTreeMap::new(), next: 0, max }
    }

    /// The next client's number; `None` when there are too many.
    pub(super) fn reserve(&mut self) -> Option<u64> {
        if self.open.len() >= self.max + LOBBY {
            return None;
        }
        self.next += 1;
        Some(self.next)
    }

    /// Whether another may stay.
    fn has_room_for_a_stay(&self) -> bool {
        self.open.values().filter(|client| client.waits_for != WaitsFor::Request).count() < self.max
    }

    pub(super) fn insert(&mut self, id: u64, client: Client) {
        self.open.insert(id, client);
    }
}

impl Supervisor<'_> {
    /// A request, or the end of a connection.
    pub(super) fn on_client(&mut self, id: u64) {
        let Some(client) = self.clients.open.get(&id) else { return };
        let message = match client.channel.try_receive() {
            Err(Error { errno: Errno::EAGAIN, .. }) => return,
            Ok(Some(message)) => message,
            Ok(None) | Err(_) => return self.drop_client(id),
        };
        let answer = match (request(message), &client.waits_for) {
            (Ok((Request::Signal { signal: signal @ 1..=64 }, _)), WaitsFor::Command) => {
                return self.signal_command(id, signal);
            }
            (Ok((request, fds)), WaitsFor::Request) => self.serve(id, request, fds),
            (Err(report), WaitsFor::Request) => Err(report),
            // It talks out of turn.
            (_, _) => return self.drop_client(id),
        };
        if let Err(report) = answer {
            self.refuse_client(id, report);
        }
    }

    fn serve(&mut self, id: u64, request: Request, fds: Vec<OwnedFd>) -> Result<(), Report> {
        let stays =
            matches!(request, Request::Exec(_) | Request::Attach { .. } | Request::Wait { .. } | Request::Follow);
        if stays && !self.clients.has_room_for_a_stay() {
            return Err(self.too_many_clients());
        }
        match request {
            Request::Signal { .. } | Request::InMemory => Err(refuse("a request that comes alone".to_owned())),
            Request::Exec(request) => self.exec(id, &request, fds),
            Request::Attach { container } => self.attach_client(id, &container, fds),
            Request::Stop { grace_seconds } => {
                self.wait_for(id, WaitsFor::Stop);
                self.handle(Event::StopRequested { grace: grace_seconds.map(Duration::from_secs) });
                Ok(())
            }
            Request::Kill { container, signal } => {
                let meant = match container {
                    Some(name) => vec![self.running_container(&name)?],
                    None => (0..self.containers.len()).collect(),
                };
                meant.into_iter().for_each(|index| self.kill(index, signal));
                self.reply(id, &Reply::Done, &[]);
                Ok(())
            }
            Request::Pause { container } => {
                self.wait_for(id, WaitsFor::Pause);
                self.pause(id, container.as_deref())
            }
            Request::Update(change) => {
                self.update(&change)?;
                self.reply(id, &Reply::Done, &[]);
                Ok(())
            }
            Request::Unpause { container } => {
                self.unpause(container.as_deref())?;
                self.reply(id, &Reply::Done, &[]);
                Ok(())
            }
            Request::Wait { container } => {
                let waits_for = match container {
                    Some(name) => WaitsFor::Container { index: self.container(&name)? },
                    None => WaitsFor::Pod,
                };
                self.wait_for(id, waits_for);
                self.answer_waiting();
                Ok(())
            }
            Request::Follow => {
                self.wait_for(id, WaitsFor::News);
                for (what, why) in self.network_troubles().into_iter().chain(self.ports_trouble()) {
                    self.reply(id, &Reply::Told { what: what.to_owned(), why }, &[]);
                }
                Ok(())
            }
        }
    }

    /// Tells whoever follows the pod.
    pub(super) fn tell(&self, what: &str, why: &str) {
        let told = Reply::Told { what: what.to_owned(), why: why.to_owned() };
        self.waiting(|waits_for| *waits_for == WaitsFor::News).into_iter().for_each(|id| self.reply(id, &told, &[]));
    }

    /// A command has been sent on its way.
    pub(super) fn waits_for_command(&mut self, id: u64) {
        self.wait_for(id, WaitsFor::Command);
    }

    /// A client's command runs; `master` is its terminal's.
    pub(super) fn command_started(&self, id: u64, pid: i32, master: Option<BorrowedFd<'_>>) {
        self.reply(id, &Reply::Started { pid }, &Vec::from_iter(master));
    }

    /// A client's command has ended.
    pub(super) fn command_exited(&mut self, id: u64, exit: Exit) {
        self.reply(id, &Reply::Exited { code: exit.code() }, &[]);
        self.drop_client(id);
    }

    /// What a client wanted paused stands still.
    pub(super) fn paused(&mut self, id: u64) {
        self.reply(id, &Reply::Done, &[]);
        self.wait_for(id, WaitsFor::Nothing);
    }

    /// The end of a request that could not be met.
    pub(super) fn refuse_client(&mut self, id: u64, report: Report) {
        self.reply(id, &Reply::Failed(report), &[]);
        self.drop_client(id);
    }

    fn attach_client(&mut self, id: u64, container: &str, fds: Vec<OwnedFd>) -> Result<(), Report> {
        let index = self.running_container(container)?;
        let not_sockets = || refuse("attach takes two sockets".to_owned());
        let streams = <[OwnedFd; 2]>::try_from(fds).map_err(|_| not_sockets())?;
        // Anything else may be a file, whose end cannot be waited for (epoll_ctl(2), EPERM).
        if !streams.iter().all(|fd| socket::is_stream(fd.as_fd())) {
            return Err(not_sockets());
        }
        let joining = Joining { streams, input: true, stays: Stays::ForThisLife };
        self.attach(index, id, joining).ok_or_else(|| refuse("attach could not use the sockets".to_owned()))?;
        match self.containers[index].output.terminal() {
            Some(master) => self.reply(id, &Reply::Attached, &[master.as_fd()]),
            None => self.reply(id, &Reply::Attached, &[]),
        }
        self.wait_for(id, WaitsFor::Attached { index });
        Ok(())
    }

    /// Answers who waits for a container that has ended for good.
    pub(super) fn answer_waiting(&mut self) {
        for index in 0..self.containers.len() {
            let Some(code) = self.pod.code_of(index) else { continue };
            for id in self.waiting(|waits_for| *waits_for == WaitsFor::Container { index }) {
                self.reply(id, &Reply::Exited { code }, &[]);
                self.drop_client(id);
            }
        }
    }

    /// The pod has ended: everybody hears so.
    pub(super) fn answer_finished(&mut self) {
        let code = self.pod.main_exit().unwrap_or(i32::from(exit_code::FAILURE));
        for (id, client) in std::mem::take(&mut self.clients.open) {
            let reply = match client.waits_for {
                WaitsFor::Stop => Reply::Stopped,
                // Its process was in the pod, and the pod has been killed.
                WaitsFor::Command if self.commands.has_begun(id) => Reply::Exited { code: Exit::Signal(9).code() },
                WaitsFor::Command => Reply::Failed(self.pod_ended_first()),
                WaitsFor::Container { index } => Reply::Exited { code: self.pod.code_of(index).unwrap_or(code) },
                WaitsFor::Pod | WaitsFor::News => Reply::Exited { code },
                WaitsFor::Request | WaitsFor::Pause | WaitsFor::Attached { .. } | WaitsFor::Nothing => continue,
            };
            client.reply(&reply, &[]);
        }
    }

    fn waiting(&self, what: impl Fn(&WaitsFor) -> bool) -> Vec<u64> {
        self.clients.open.iter().filter(|(_, client)| what(&client.waits_for)).map(|(id, _)| *id).collect()
    }

    fn wait_for(&mut self, id: u64, what: WaitsFor) {
        if let Some(client) = self.clients.open.get_mut(&id) {
            client.waits_for = what;
        }
    }

    fn reply(&self, id: u64, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        if let Some(client) = self.clients.open.get(&id) {
            client.reply(reply, fds);
        }
    }

    pub(super) fn drop_client(&mut self, id: u64) {
        self.client_left(id);
        if let Some(client) = self.clients.open.remove(&id) {
            self.watch.remove(client.channel.as_fd(), Source::Client(id));
            if let WaitsFor::Attached { index } = client.waits_for {
                // Other processes may keep its sockets open.
                self.detach(index, id);
            }
        }
    }

    /// For a client that there is no room for.
    pub(super) fn too_many_clients(&self) -> Report {
        let max = self.clients.max;
        refuse(format!("pod `{}` has {max} clients, and there is no room for another", self.plan.sandbox.name))
            .because("commands of `exec`, `attach`, `wait` and `run` in the foreground are clients")
            .hint("try again when some of them have ended; a higher `ulimit -Hn` of `run` allows more, up to 4096")
    }

    pub(super) fn container(&self, name: &str) -> Result<usize, Report> {
        self.plan.containers.iter().position(|container| container.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.plan.containers.iter().map(|container| container.name.as_str()).collect();
            refuse(format!("pod `{}` has no container `{name}`", self.plan.sandbox.name))
                .hint(format!("its containers are: {}", names.join(", ")))
        })
    }

    pub(super) fn running_container(&self, name: &str) -> Result<usize, Report> {
        let index = self.container(name)?;
        let running = self.containers[index].running.as_ref();
        // Its end may be on the way to us.
        let alive = |process: &PidFd| !process.wait_gone(Duration::ZERO).unwrap_or(true);
        if running.is_some_and(|running| alive(&running.process)) { Ok(index) } else { Err(not_running(name)) }
    }
}

/// What a client asks for, and what came with it.
fn request(mut message: Message) -> Result<(Request, Vec<OwnedFd>), Report> {
    let unknown = |error| refuse(format!("a request that this sandpod does not know: {error}"));
    let request = serde_json::from_slice(&message.bytes).map_err(unknown)?;
    if request != Request::InMemory {
        return Ok((request, message.fds));
    }
    let Some(memory) = message.fds.pop() else { return Err(refuse("a request without its text".to_owned())) };
    let bytes = memfd::read_sealed(memory, longest_request()).map_err(|error| match error.errno {
        // Only a command line can be that long: the kernel would refuse it, too.
        Errno::EFBIG => {
            Failure::of_call(Step::ExecuteCommand, error.call, E2BIG).into_report("could not run a command")
        }
        _ => refuse("could not read a request".to_owned()).because(error.to_string()),
    })?;
    Ok((serde_json::from_slice(&bytes).map_err(unknown)?, message.fds))
}

/// A command line that execve(2) takes, in JSON. Text takes a few characters more there; twice as many are enough for all but a
/// text of control characters.
fn longest_request() -> u64 {
    2 * process::longest_command_line() + (64 << 10)
}

/// Argument list too long (execve(2)).
const E2BIG: i32 = 7;

pub(super) fn refuse(what: String) -> Report {
    Report::new(exit_code::FAILURE, what)
}

pub(super) fn not_running(name: &str) -> Report {
    refuse(format!("container `{name}` is not running")).hint("`sandpod ps -a` shows its state")
}
