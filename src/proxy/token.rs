//! What a token of the poller stands for, in 64 bits: three of kind, 29 of generation, 32 of number.

/// A place in a [`Slab`](super::slab::Slab).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl Key {
    /// The highest; then they begin again.
    pub(super) const GENERATIONS: u32 = (1 << 29) - 1;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// What ends the proxy, by place.
    Stop(u32),
    /// A TCP listener, or a UDP socket of the host, by place among the ports.
    Port(u32),
    /// The two sockets of a connection.
    Client(Key),
    Pod(Key),
    /// The pod's side of a UDP flow.
    Flow(Key),
}

impl Token {
    pub(super) fn to_bits(self) -> u64 {
        let (kind, key) = match self {
            Token::Stop(index) => (0, Key { index, generation: 0 }),
            Token::Port(index) => (1, Key { index, generation: 0 }),
            Token::Client(key) => (2, key),
            Token::Pod(key) => (3, key),
            Token::Flow(key) => (4, key),
        };
        kind << 61 | u64::from(key.generation & Key::GENERATIONS) << 32 | u64::from(key.index)
    }

    /// `None`: not one of ours.
    pub(super) fn from_bits(bits: u64) -> Option<Token> {
        let index = u32::try_from(bits & u64::from(u32::MAX)).ok()?;
        let generation = u32::try_from(bits >> 32).ok()? & Key::GENERATIONS;
        let key = Key { index, generation };
        match bits >> 61 {
            0 => Some(Token::Stop(index)),
            1 => Some(Token::Port(index)),
            2 => Some(Token::Client(key)),
            3 => Some(Token::Pod(key)),
            4 => Some(Token::Flow(key)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let key = Key { index: u32::MAX, generation: Key::GENERATIONS };
        let small = Key { index: 1, generation: 2 };
        for token in [Token::Stop(1), Token::Port(u32::MAX), Token::Client(key), Token::Pod(small), Token::Flow(key)] {
            assert_eq!(Token::from_bits(token.to_bits()), Some(token));
        }
        assert_eq!(Token::from_bits(u64::MAX), None);
    }
}
