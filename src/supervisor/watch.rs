//! What the supervisor waits for.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use super::output::Side;
use crate::sys::event::{Interest, Poller};

/// What a token of the poller stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Signals,
    Timer,
    Control,
    /// The network program's word that it is up.
    NetworkReady,
    /// Its stderr.
    NetworkStderr,
    /// The pause of the pod whose network this one has joined.
    JoinedPod,
    Client(u64),
    /// A look at what the pod has on disk.
    Storage,
    /// A container on its way.
    Starting(usize),
    /// The command of a client, on its way.
    CommandStarting(u64),
    /// A container's cgroup that a client (the first number) wants frozen.
    Freezing(u64, usize),
    /// A container's own stdout, stderr or terminal.
    Container(usize, Side),
    /// A container's stdin, waited for because it was full.
    ContainerStdin(usize),
    /// A client attached to a container, which holds this side back.
    Attached(usize, u64, Side),
    /// What an attached client types.
    AttachedInput(usize, u64),
}

/// The poller and the meaning of its tokens.
pub(super) struct Watch {
    pub(super) poller: Poller,
    pub(super) sources: BTreeMap<u64, Source>,
    next: u64,
}

impl Watch {
    pub(super) fn new() -> crate::sys::Result<Watch> {
        Ok(Watch { poller: Poller::new()?, sources: BTreeMap::new(), next: 0 })
    }

    pub(super) fn add(&mut self, fd: BorrowedFd<'_>, source: Source, interest: Interest) -> Option<u64> {
        let token = self.next;
        self.poller.add(fd, token, interest).ok()?;
        self.next += 1;
        self.sources.insert(token, source);
        Some(token)
    }

    pub(super) fn remove(&mut self, fd: BorrowedFd<'_>, source: Source) {
        // ENOENT: it was not watched just now.
        let _ = self.poller.remove(fd);
        self.sources.retain(|_, known| *known != source);
    }
}
