//! Bytes from socket to socket: without a copy in between, by pipe(7) and splice(2), or without a pipe, by a buffer.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::socket::{MsgFlags, recv};

use super::error::Named;
use super::{Result, inet};

/// What one splice did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    Bytes(usize),
    /// The source says no more.
    End,
    /// Nothing to take, or no room, just now.
    Later,
}

/// A pipe whose two ends are ours: bytes on their way.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

impl Pipe {
    /// `capacity` in bytes is a wish: `fs.pipe-max-size` bounds it, and so does `fs.pipe-user-pages-soft` for all pipes of
    /// a user together. Then the pipe is as small as the kernel makes it.
    pub fn new(capacity: usize) -> Result<Pipe> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).named(|| "pipe2()".to_owned())?;
        let wish = i32::try_from(capacity).unwrap_or(i32::MAX);
        let given = fcntl(&write, FcntlArg::F_SETPIPE_SZ(wish)).or_else(|_| fcntl(&write, FcntlArg::F_GETPIPE_SZ));
        let capacity = given.ok().and_then(|given| usize::try_from(given).ok()).unwrap_or(4096);
        Ok(Pipe { read, write, capacity })
    }

    /// In bytes, if every page of it is full.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes from a socket as much as there is and fits.
    pub fn fill(&self, from: BorrowedFd<'_>) -> Result<Moved> {
        match moved(from, self.write.as_fd(), self.capacity)? {
            // splice(2) never gets past a byte of urgent data (tcp(7)): it would look like the end, or like nothing to read.
            Moved::End | Moved::Later if inet::is_at_urgent_mark(from) => self.copy(from),
            moved => Ok(moved),
        }
    }

    /// As [`fill`](Self::fill) into an empty pipe, byte by byte; urgent data comes in its place (SO_OOBINLINE).
    fn copy(&self, from: BorrowedFd<'_>) -> Result<Moved> {
        let mut bytes = [0; 4096];
        let count = match recv(from.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Ok(Moved::End),
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Moved::Later),
            Err(errno) => return Err(errno).named(|| "recv()".to_owned()),
        };
        // The smallest pipe is a page.
        nix::unistd::write(&self.write, &bytes[..count]).map(Moved::Bytes).named(|| "write(pipe)".to_owned())
    }

    /// Gives up to `length` bytes to a socket.
    pub fn drain(&self, to: BorrowedFd<'_>, length: usize) -> Result<Moved> {
        moved(self.read.as_fd(), to, length)
    }
}

/// What [`pass_on`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    Bytes(usize),
    /// The source says no more.
    End,
    /// The source has nothing just now.
    Nothing,
    /// The sink takes nothing just now.
    NoRoom,
    /// Neither will any more.
    SourceFailed,
    SinkFailed,
}

/// From one TCP socket to another what the other takes now, and not a byte more: what it does not take stays at its source.
pub fn pass_on(from: BorrowedFd<'_>, to: BorrowedFd<'_>, buffer: &mut [u8]) -> Passed {
    let count = match recv(from.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK) {
        Ok(0) => return Passed::End,
        Ok(count) => count,
        Err(Errno::EAGAIN | Errno::EINTR) => return Passed::Nothing,
        Err(_) => return Passed::SourceFailed,
    };
    let sent = match inet::send_some(to, &buffer[..count]) {
        Ok(Some(sent)) => sent,
        Ok(None) => return Passed::NoRoom,
        Err(_) => return Passed::SinkFailed,
    };
    // What was looked at is there, also when a reset has come since.
    match recv(from.as_raw_fd(), &mut buffer[..sent], MsgFlags::MSG_DONTWAIT) {
        Ok(taken) if taken == sent => Passed::Bytes(sent),
        _ => Passed::SourceFailed,
    }
}

fn moved(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: usize) -> Result<Moved> {
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    loop {
        match splice(from, None, to, None, length, flags) {
            Ok(0) => return Ok(Moved::End),
            Ok(count) => return Ok(Moved::Bytes(count)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(Moved::Later),
            Err(errno) => return Err(errno).named(|| format!("splice({length} bytes)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_and_the_end_pass_through() {
        let pipe = Pipe::new(1 << 20).expect("pipe2");
        assert!(pipe.capacity() >= 4096);
        let (mut source, from) = UnixStream::pair().expect("socketpair");
        let (to, mut sink) = UnixStream::pair().expect("socketpair");
        from.set_nonblocking(true).expect("O_NONBLOCK");
        assert_eq!(pipe.fill(from.as_fd()).expect("splice"), Moved::Later);
        source.write_all(b"hello").expect("write");
        assert_eq!(pipe.fill(from.as_fd()).expect("splice"), Moved::Bytes(5));
        assert_eq!(pipe.drain(to.as_fd(), 5).expect("splice"), Moved::Bytes(5));
        drop((source, to));
        assert_eq!(pipe.fill(from.as_fd()).expect("splice"), Moved::End);
        let mut text = String::new();
        sink.read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello");
    }

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        (ours, listener.accept().expect("accept").0)
    }

    #[test]
    fn without_a_pipe_what_is_not_taken_stays_where_it_was() {
        let ((mut source, from), (to, mut sink)) = (connected(), connected());
        let mut buffer = vec![0; 1 << 16];
        let mut pass = || pass_on(from.as_fd(), to.as_fd(), &mut buffer);
        assert_eq!(pass(), Passed::Nothing);
        let text: Vec<u8> = (0..16 << 20).map(|number: u32| (number % 251) as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                source.write_all(&text).expect("send");
                source.shutdown(std::net::Shutdown::Write).expect("shutdown");
            });
            let (mut received, mut full) = (vec![0; text.len()], 0);
            let mut read = 0;
            while read < text.len() {
                match pass() {
                    // Nobody reads meanwhile: sooner or later it is full.
                    Passed::Bytes(_) | Passed::Nothing => {}
                    Passed::NoRoom | Passed::End => {
                        full += 1;
                        let part = (text.len() - read).min(1 << 16);
                        sink.read_exact(&mut received[read..read + part]).expect("receive");
                        read += part;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(full > 1 && received == text);
        });
        while pass() == Passed::Nothing {}
        assert_eq!(pass(), Passed::End);
    }
}
