//! Unix sockets that carry whole messages and file descriptors (unix(7), SOCK_SEQPACKET).

use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, getsockopt, listen, recv, recvmsg, sendmsg, setsockopt, socket, socketpair, sockopt,
};

use super::error::Named;
use super::own_dir::OwnDir;
use super::process::PidFd;
use super::{Error, Result, poll};

/// The longest message either side takes. An exec request carries argv and environment.
pub const MAX_MESSAGE: usize = 256 * 1024;
/// The most descriptors in one message.
pub const MAX_FDS: usize = 8;

/// One message and what came with it.
#[derive(Debug)]
pub struct Message {
    pub bytes: Vec<u8>,
    pub fds: Vec<OwnedFd>,
    /// The sender's pid *as this process sees it*: the kernel translates it. Only after [`Channel::pass_credentials`].
    pub sender: Option<i32>,
}

/// A connected end that sends and receives whole messages.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Two connected ends, both close-on-exec.
    pub fn pair() -> Result<(Channel, Channel)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .named(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)".to_owned())?;
        Ok((Channel(a), Channel(b)))
    }

    /// Connects to a listening socket in a directory of ours, and not where a symbolic link in its place leads.
    pub fn connect(directory: &OwnDir, name: &OsStr) -> Result<Channel> {
        Channel::connect_to(directory.open_path(name)?.as_fd(), &directory.path().join(name))
    }

    /// Connects to the listening socket behind an O_PATH descriptor; `path` is for errors.
    pub fn connect_to(socket_file: BorrowedFd<'_>, path: &Path) -> Result<Channel> {
        let call = || format!("connect({})", path.display());
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).named(call)?;
        // Also shorter than its path, of which a sockaddr_un takes 107 bytes.
        let address = UnixAddr::new(format!("/proc/self/fd/{}", socket_file.as_raw_fd()).as_str()).named(call)?;
        connect(fd.as_raw_fd(), &address).named(call)?;
        Ok(Channel(fd))
    }

    /// Asks the kernel to add the sender's credentials to every message (unix(7), SO_PASSCRED).
    pub fn pass_credentials(&self) -> Result<()> {
        setsockopt(&self.0, sockopt::PassCred, &true).named(|| "setsockopt(SO_PASSCRED)".to_owned())
    }

    /// Who is at the other end: (pid, uid) at the time of connect (SO_PEERCRED).
    pub fn peer(&self) -> Result<(i32, u32)> {
        let peer = getsockopt(&self.0, sockopt::PeerCredentials).named(|| "getsockopt(SO_PEERCRED)".to_owned())?;
        Ok((peer.pid(), peer.uid()))
    }

    /// Whether the other end is a process with our uid in our own user namespace. False also where this cannot be seen.
    #[must_use]
    pub fn is_peer_ours(&self) -> bool {
        self.peer().is_ok_and(|(_, uid)| uid == super::privileges::uid()) && self.is_peer_in_our_user_namespace()
    }

    /// Whether who connected lives in our own user namespace. Its uid does not say so: a map may give ours to the root of
    /// another one. False also where this cannot be seen.
    #[must_use]
    pub fn is_peer_in_our_user_namespace(&self) -> bool {
        let pidfd = match getsockopt(&self.0, sockopt::PeerPidfd) {
            Ok(pidfd) => PidFd::from(pidfd),
            // Before Linux 6.5 there is its pid alone, which may be another's once it has gone.
            Err(Errno::ENOPROTOOPT) => return self.peer().is_ok_and(|(pid, _)| shares_our_user_namespace(pid)),
            Err(_) => return false,
        };
        // As long as it lives its pid is nobody else's, so it is looked at first.
        pidfd.pid().is_ok_and(shares_our_user_namespace) && pidfd.wait_gone(Duration::ZERO).is_ok_and(|gone| !gone)
    }

    /// Sends one message. Never raises SIGPIPE.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_flags(bytes, fds, MsgFlags::MSG_NOSIGNAL)
    }

    /// As [`send`](Self::send), but EAGAIN instead of waiting for a peer that does not read.
    pub fn try_send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_flags(bytes, fds, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)
    }

    fn send_flags(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: MsgFlags) -> Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let control = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &control[..0] } else { &control[..] };
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop).named(|| format!("sendmsg({} bytes)", bytes.len())),
            }
        }
    }

    /// The next message; `None` when the peer has closed its end. Waits as long as it takes.
    pub fn receive(&self) -> Result<Option<Message>> {
        self.receive_flags(MsgFlags::MSG_CMSG_CLOEXEC)
    }

    /// As [`receive`](Self::receive), but EAGAIN when nothing is there.
    pub fn try_receive(&self) -> Result<Option<Message>> {
        self.receive_flags(MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT)
    }

    /// As [`receive`](Self::receive), with a deadline: ETIMEDOUT when nothing came.
    pub fn receive_within(&self, timeout: Duration) -> Result<Option<Message>> {
        if poll::readable(self.as_fd(), timeout)? {
            return self.receive();
        }
        Err(Error { call: format!("recvmsg(), after {} s", timeout.as_secs()), errno: Errno::ETIMEDOUT })
    }

    fn receive_flags(&self, flags: MsgFlags) -> Result<Option<Message>> {
        let call = || "recvmsg()".to_owned();
        // First its length: room for the longest at every receive would cost more than this call.
        let mut bytes = loop {
            match recv(self.0.as_raw_fd(), &mut [], flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC) {
                // A peer that has gone with unread messages resets the connection, which is reported once; what it sent comes
                // next.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                length => break vec![0; length.named(call)?.min(MAX_MESSAGE)],
            }
        };
        let mut control = nix::cmsg_space!([RawFd; MAX_FDS], nix::libc::ucred);
        let (length, truncated, fds, sender) = {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let received = loop {
                match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                    Err(Errno::EINTR | Errno::ECONNRESET) => {}
                    other => break other.named(call)?,
                }
            };
            let mut fds = Vec::new();
            let mut sender = None;
            for message in received.cmsgs().named(call)? {
                match message {
                    ControlMessageOwned::ScmRights(raw) => {
                        // SAFETY: SCM_RIGHTS hands us new descriptors that nothing else in this process owns.
                        fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                    ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials.pid()),
                    _ => {}
                }
            }
            let cut = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
            (received.bytes, received.flags.intersects(cut), fds, sender)
        };
        if truncated {
            return Err(Error { call: call(), errno: Errno::EMSGSIZE });
        }
        if length == 0 && fds.is_empty() {
            return Ok(None);
        }
        bytes.truncate(length);
        Ok(Some(Message { bytes, fds, sender }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.0
    }
}

/// What a parent has handed over to a program: its end of a [`Channel::pair`].
impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Channel {
        Channel(fd)
    }
}

/// A listening socket of mode 0600.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Makes it in a directory of ours, wherever that is by now: what has taken the place of the directory gets nothing.
    pub fn bind(directory: &OwnDir, name: &OsStr) -> Result<Listener> {
        let call = || format!("bind({})", directory.path().join(name).display());
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).named(call)?;
        // A sockaddr_un takes 107 bytes.
        let place = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        let address = UnixAddr::new(&place).named(call)?;
        // The socket's own mode is what bind(2) gives the file, so it is never there with a wider one.
        nix::sys::stat::fchmod(&fd, nix::sys::stat::Mode::from_bits_truncate(0o600)).named(call)?;
        bind(fd.as_raw_fd(), &address).named(call)?;
        listen(&fd, Backlog::new(64).named(call)?).named(call)?;
        Ok(Listener(fd))
    }

    /// The next waiting client; `None` when there is none.
    pub fn accept(&self) -> Result<Option<Channel>> {
        loop {
            match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                // SAFETY: accept4 has just given us this descriptor and nobody else owns it.
                Ok(fd) => return Ok(Some(Channel(unsafe { OwnedFd::from_raw_fd(fd) }))),
                Err(Errno::EAGAIN) => return Ok(None),
                // Another one may wait behind it.
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(errno) => return Err(errno).named(|| "accept4()".to_owned()),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a descriptor is a stream socket.
#[must_use]
pub fn is_stream(fd: BorrowedFd<'_>) -> bool {
    getsockopt(&fd, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream)
}

/// namespaces(7): the same device and inode is the same namespace. Another's link is followed for whoever may trace it.
fn shares_our_user_namespace(pid: i32) -> bool {
    let namespace = |whose: &str| {
        let file = std::fs::metadata(format!("/proc/{whose}/ns/user")).ok()?;
        Some((file.dev(), file.ino()))
    };
    let theirs = namespace(&pid.to_string());
    theirs.is_some() && theirs == namespace("self")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors_and_its_sender() {
        let (a, b) = Channel::pair().expect("socketpair");
        b.pass_credentials().expect("SO_PASSCRED");
        a.send(b"hello", &[a.as_fd()]).expect("send");
        let message = b.receive_within(Duration::from_secs(5)).expect("receive").expect("open");
        assert_eq!(message.bytes, b"hello");
        assert_eq!(message.fds.len(), 1);
        assert_eq!(message.sender, Some(std::process::id().cast_signed()));
    }

    #[test]
    fn what_a_peer_said_before_it_went_with_unread_messages_is_heard() {
        let (a, b) = Channel::pair().expect("socketpair");
        b.send(b"a question", &[]).expect("send");
        a.send(b"an answer", &[]).expect("send");
        drop(a);
        assert_eq!(b.receive().expect("receive").expect("a message").bytes, b"an answer");
        assert!(b.receive().expect("receive").is_none());
    }

    const NAME: &str = "control.sock";

    fn directory() -> (tempfile::TempDir, OwnDir) {
        let dir = tempfile::tempdir().expect("tempdir");
        let own = OwnDir::at(dir.path()).expect("ours");
        (dir, own)
    }

    #[test]
    fn a_link_in_the_place_of_a_socket_is_not_followed() {
        let (dir, own) = directory();
        let _listener = Listener::bind(&own, NAME.as_ref()).expect("bind");
        std::os::unix::fs::symlink(dir.path().join(NAME), dir.path().join("link")).expect("symlink");
        Channel::connect(&own, "link".as_ref()).expect_err("a link");
        assert!(Channel::connect(&own, NAME.as_ref()).expect("connect").is_peer_ours());
    }

    #[test]
    fn what_takes_the_place_of_the_directory_gets_no_socket() {
        let top = tempfile::tempdir().expect("tempdir");
        let (real, moved) = (top.path().join("real"), top.path().join("moved"));
        std::fs::create_dir(&real).expect("mkdir");
        let own = OwnDir::at(&real).expect("ours");
        std::fs::rename(&real, &moved).expect("rename");
        std::fs::create_dir(&real).expect("mkdir");
        let _listener = Listener::bind(&own, NAME.as_ref()).expect("bind");
        assert!(moved.join(NAME).exists() && !real.join(NAME).exists());
        Channel::connect(&own, NAME.as_ref()).expect("connect");
    }

    #[test]
    fn nobody_else_may_connect() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, own) = directory();
        let _listener = Listener::bind(&own, NAME.as_ref()).expect("bind");
        let mode = std::fs::metadata(dir.path().join(NAME)).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn who_has_connected_and_lives_is_seen_to_be_of_our_user_namespace() {
        let (_dir, own) = directory();
        let listener = Listener::bind(&own, NAME.as_ref()).expect("bind");
        let _ours = Channel::connect(&own, NAME.as_ref()).expect("connect");
        assert!(listener.accept().expect("accept").expect("a client").is_peer_in_our_user_namespace());
        // Nobody's, and what has no pid that could be looked up.
        assert!(!shares_our_user_namespace(0) && !shares_our_user_namespace(i32::MAX));
    }

    #[test]
    fn a_closed_peer_is_the_end_and_silence_is_a_timeout() {
        let (a, b) = Channel::pair().expect("socketpair");
        let silence = b.receive_within(Duration::from_millis(1)).expect_err("nothing was sent");
        assert_eq!(silence.errno, Errno::ETIMEDOUT);
        drop(a);
        assert!(b.receive().expect("receive").is_none());
    }
}
