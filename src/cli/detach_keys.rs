//! Ctrl-P Ctrl-Q among what is typed, as Docker and podman have it.

/// Ctrl-P and Ctrl-Q.
const KEYS: [u8; 2] = [0x10, 0x11];

/// What is to be done with typed bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    Pass(Vec<u8>),
    /// These bytes came before the keys.
    Detach(Vec<u8>),
}

/// Remembers a first key whose second may come with the next read.
#[derive(Debug, Default)]
pub(crate) struct DetachKeys {
    held: bool,
}

impl DetachKeys {
    /// A held Ctrl-P is passed on as soon as something else than Ctrl-Q follows.
    pub(crate) fn type_bytes(&mut self, bytes: &[u8]) -> Typed {
        let mut passed = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            if self.held && byte == KEYS[1] {
                self.held = false;
                return Typed::Detach(passed);
            }
            if self.held {
                passed.push(KEYS[0]);
            }
            self.held = byte == KEYS[0];
            if !self.held {
                passed.push(byte);
            }
        }
        Typed::Pass(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_found_across_reads_and_nothing_else_is_lost() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.type_bytes(b"ab"), Typed::Pass(b"ab".to_vec()));
        assert_eq!(keys.type_bytes(b"c\x10"), Typed::Pass(b"c".to_vec()));
        assert_eq!(keys.type_bytes(b"d\x10\x10"), Typed::Pass(b"\x10d\x10".to_vec()));
        assert_eq!(keys.type_bytes(b"\x11rest"), Typed::Detach(Vec::new()));
        assert_eq!(keys.type_bytes(b"\x11x\x10\x11"), Typed::Detach(b"\x11x".to_vec()));
    }
}
