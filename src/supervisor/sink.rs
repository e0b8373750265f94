//! One direction to an attached client, with what the client has not taken yet.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use crate::sys::{memfd, stdio};

/// What is read from a spool at once.
const CHUNK: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Sink {
    fd: OwnedFd,
    /// At most what one read of the container's pipe has brought.
    pending: Vec<u8>,
    /// Comes after `pending`. Only the rest of a container that has ended goes here: a living one is not read meanwhile.
    spool: Option<Spool>,
    gone: bool,
}

impl Sink {
    /// `fd` must be non-blocking.
    pub(super) fn new(fd: OwnedFd) -> Sink {
        Sink { fd, pending: Vec::new(), spool: None, gone: false }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        if self.gone {
            return;
        }
        if self.pending.is_empty() {
            self.pending.extend_from_slice(bytes);
            self.flush();
        } else {
            self.keep(bytes);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.spool.is_none() {
            self.spool = Spool::new().ok();
        }
        let kept = self.spool.as_mut().is_some_and(|spool| spool.append(bytes).is_ok());
        if !kept {
            // Without a memfd (no descriptor is free, say) the heap has to hold it.
            if let Some(mut spool) = self.spool.take() {
                while let Some(earlier) = spool.take(CHUNK) {
                    self.pending.extend_from_slice(&earlier);
                }
            }
            self.pending.extend_from_slice(bytes);
        }
    }

    /// Writes what the client takes now.
    pub(super) fn flush(&mut self) {
        loop {
            let mut written = 0;
            while written < self.pending.len() {
                match stdio::write_some(self.fd.as_fd(), &self.pending[written..]) {
                    Ok(Some(count)) => written += count,
                    Ok(None) => {
                        self.pending.drain(..written);
                        return;
                    }
                    Err(_) => {
                        self.gone = true;
                        (self.pending, self.spool) = (Vec::new(), None);
                        return;
                    }
                }
            }
            self.pending = Vec::new();
            match self.spool.as_mut().and_then(|spool| spool.take(CHUNK)) {
                Some(bytes) => self.pending = bytes,
                None => {
                    self.spool = None;
                    return;
                }
            }
        }
    }

    /// True while the client has something to take.
    pub(super) fn is_full(&self) -> bool {
        !self.pending.is_empty()
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A queue of bytes in a memfd, which is not part of this process's memory.
#[derive(Debug)]
struct Spool {
    file: File,
    written: u64,
    taken: u64,
}

impl Spool {
    fn new() -> crate::sys::Result<Spool> {
        Ok(Spool { file: memfd::scratch("sandpod-output")?.into(), written: 0, taken: 0 })
    }

    /// All of `bytes`, or an error and none of them.
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// The next bytes, at most `limit`; `None` when there are none.
    fn take(&mut self, limit: usize) -> Option<Vec<u8>> {
        let length = usize::try_from(self.written - self.taken).map_or(limit, |left| left.min(limit));
        let mut bytes = vec![0; length];
        if length == 0 || self.file.read_exact_at(&mut bytes, self.taken).is_err() {
            return None;
        }
        self.taken += length as u64;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_client_that_reads_late_gets_every_byte_in_order() {
        let (ours, mut theirs) = UnixStream::pair().expect("socketpair");
        ours.set_nonblocking(true).expect("O_NONBLOCK");
        let mut sink = Sink::new(ours.into());
        let sent: Vec<u8> = (0..5 << 20).map(|number: u32| (number % 251) as u8).collect();
        for part in sent.chunks(60_000) {
            sink.send(part);
        }
        assert!(sink.is_full() && sink.pending.len() <= 60_000, "{} bytes on the heap", sink.pending.len());
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            theirs.read_to_end(&mut received).expect("read");
            received
        });
        while sink.is_full() {
            sink.flush();
        }
        assert!(sink.spool.is_none());
        drop(sink);
        assert!(reader.join().expect("it reads") == sent);
    }

    #[test]
    fn for_a_client_that_has_gone_nothing_is_kept() {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        ours.set_nonblocking(true).expect("O_NONBLOCK");
        let mut sink = Sink::new(ours.into());
        for _ in 0..100 {
            sink.send(&[b'x'; 60_000]);
        }
        assert!(sink.is_full());
        drop(theirs);
        sink.flush();
        sink.send(b"more");
        assert!(!sink.is_full());
    }
}
