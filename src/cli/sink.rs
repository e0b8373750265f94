//! Where our output goes: the caller's stdout or stderr, or a descriptor of our own. A write never waits for a reader, so
//! that signals and all other streams go on.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;

use crate::sys::{inet, stdio};

/// What a pipe takes at once after poll(2) has called it writable (PIPE_BUF, pipe(7)).
const PIPE_BUF: usize = 4096;

pub(crate) struct Sink {
    file: File,
    way: Way,
    /// As it was at the start: one that was hung up answers EIO to every call, and is no terminal to isatty(3) any more.
    terminal: bool,
}

/// How a write does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The open file is non-blocking, or writes to it wait for no reader (a file, /dev/null).
    Whole,
    /// MSG_DONTWAIT.
    Socket,
    /// The open file is in blocking mode, which the caller shares, and cannot be opened again: in small pieces.
    Pieces,
}

impl Sink {
    pub(crate) fn new(file: File) -> Sink {
        let kind = file.metadata().map(|found| found.file_type());
        let terminal = file.is_terminal();
        let waits = kind.as_ref().is_ok_and(FileTypeExt::is_fifo) || terminal;
        if kind.as_ref().is_ok_and(FileTypeExt::is_socket) {
            return Sink { file, way: Way::Socket, terminal };
        }
        if !waits || stdio::is_nonblocking(file.as_fd()).unwrap_or(false) {
            return Sink { file, way: Way::Whole, terminal };
        }
        match stdio::open_again_for_writing(file.as_fd()) {
            Ok(ours) => Sink { file: ours.into(), way: Way::Whole, terminal },
            // EACCES: another user made it (sudo). ENXIO: it has no reader, which the first write finds, too.
            Err(_) => Sink { file, way: Way::Pieces, terminal },
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// How many bytes were taken; 0 when there is no room now. Call it when poll(2) has called the descriptor writable.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.way {
            Way::Whole => self.file.write(bytes),
            Way::Pieces => self.file.write(&bytes[..bytes.len().min(PIPE_BUF)]),
            Way::Socket => {
                let sent = inet::send_some(self.file.as_fd(), bytes);
                return sent
                    .map(Option::unwrap_or_default)
                    .map_err(|error| io::Error::from_raw_os_error(error.number()));
            }
        };
        match written {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            other => other,
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_full_pipe_of_the_caller_is_not_waited_for_and_stays_in_blocking_mode() {
        let (read, write) = stdio::pipe().expect("pipe2");
        let theirs = write.try_clone().expect("dup");
        let mut sink = Sink::new(write.into());
        assert_eq!(sink.way, Way::Whole);
        let mut written = 0;
        loop {
            match sink.write(&[b'x'; 100_000]).expect("write") {
                0 => break,
                count => written += count,
            }
        }
        assert!(written >= 4096);
        assert!(!stdio::is_nonblocking(theirs.as_fd()).expect("F_GETFL"));
        drop((sink, theirs));
        let mut received = Vec::new();
        File::from(read).read_to_end(&mut received).expect("read");
        assert_eq!(received.len(), written);
    }

    #[test]
    fn neither_is_a_full_socket() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("socketpair");
        let mut sink = Sink::new(OwnedFd::from(ours).into());
        while sink.write(&[b'x'; 100_000]).expect("write") > 0 {}
        drop(theirs);
        assert_eq!(sink.write(b"x").expect_err("its reader has gone").kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_file_keeps_the_offset_that_it_shares_with_the_caller() {
        let file = tempfile::tempfile().expect("a file");
        let mut theirs = file.try_clone().expect("dup");
        let mut sink = Sink::new(file);
        theirs.write_all(b"one ").expect("write");
        assert_eq!(sink.write(b"two ").expect("write"), 4);
        theirs.write_all(b"three").expect("write");
        assert_eq!(theirs.metadata().expect("stat").len(), 13);
    }
}
