//! The pipes through which bytes are spliced. A connection has one only while bytes of it are on their way, so that idle
//! connections cost two sockets and nothing else.

use crate::sys::splice::Pipe;

/// Empty pipes that are kept for the next who needs one.
const KEPT: usize = 16;
/// Bytes that a pipe is made for, by how many are open: few and large for throughput (each fill and drain wakes somebody
/// up), many and small where thousands of readers are slow. All pipes of a user share `fs.pipe-user-pages-soft` (64 MiB),
/// above which *every* new pipe of that user, in whatever program, has one page or two (pipe(7)); 2,000 of ours stay
/// below it.
const SIZES: [(usize, usize); 4] = [(4, 1 << 20), (16, 256 << 10), (256, 64 << 10), (usize::MAX, 16 << 10)];

/// What bytes pass through where there is no pipe for them.
const BUFFER: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Pipes {
    idle: Vec<Pipe>,
    /// All that exist, on their way or not.
    open: usize,
    /// At a time: whoever does not read keeps one for as long as that lasts, and must not have all descriptors.
    most: usize,
    buffer: Vec<u8>,
}

impl Pipes {
    pub(super) fn new(most: usize) -> Pipes {
        Pipes { idle: Vec::new(), open: 0, most, buffer: Vec::new() }
    }

    /// For whoever gets no pipe. Nothing stays in it.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        self.buffer.resize(BUFFER, 0);
        &mut self.buffer
    }

    /// An empty pipe; `None` when there are enough, or neither descriptors nor memory for one are to be had now.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.open >= self.most {
            return None;
        }
        let (_, size) = SIZES.iter().find(|(below, _)| self.open < *below)?;
        let pipe = Pipe::new(*size).ok()?;
        self.open += 1;
        Some(pipe)
    }

    /// Takes back an empty pipe.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        // After a crowd the small ones go first.
        let large = pipe.capacity() >= SIZES[1].1 || self.open <= KEPT;
        if large && self.idle.len() < KEPT {
            self.idle.push(pipe);
        } else {
            self.close(pipe);
        }
    }

    /// For a pipe that may still hold bytes that nobody wants.
    pub(super) fn close(&mut self, pipe: Pipe) {
        drop(pipe);
        self.open = self.open.saturating_sub(1);
    }

    /// Gives back what nobody needs now.
    pub(super) fn shrink(&mut self) {
        self.open = self.open.saturating_sub(self.idle.len());
        self.idle = Vec::new();
        self.buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_kept_and_many_are_small() {
        let mut pipes = Pipes::new(41);
        let taken: Vec<Pipe> = (0..40).map(|_| pipes.take().expect("a pipe")).collect();
        assert!(taken[39].capacity() <= taken[0].capacity());
        for pipe in taken {
            pipes.give_back(pipe);
        }
        assert_eq!((pipes.idle.len(), pipes.open), (KEPT, KEPT));
        let pipe = pipes.take().expect("a pipe");
        pipes.close(pipe);
        pipes.shrink();
        assert_eq!((pipes.idle.len(), pipes.open), (0, 0));
    }

    #[test]
    fn there_are_only_so_many() {
        let mut pipes = Pipes::new(2);
        let (first, second) = (pipes.take().expect("a pipe"), pipes.take().expect("a pipe"));
        assert!(pipes.take().is_none());
        pipes.close(first);
        assert!(pipes.take().is_some());
        pipes.give_back(second);
    }
}
