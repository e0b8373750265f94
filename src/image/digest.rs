//! Digests of content (image-spec, descriptor.md, "Digests").

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest. Other algorithms are registered with OCI and used by no registry that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A text that is not `sha256:` and 64 hexadecimal digits in lowercase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: expected sha256: and 64 hexadecimal digits in lowercase")]
pub struct InvalidDigest(String);

impl Digest {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digits without `sha256:`: the name of a blob in a store.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::str::FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Digest, InvalidDigest> {
        let invalid = || InvalidDigest(text.chars().take(200).collect());
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or_else(invalid)?;
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |letter: u8| match letter {
                b'0'..=b'9' => Some(letter - b'0'),
                b'a'..=b'f' => Some(letter - b'a' + 10),
                _ => None,
            };
            let (Some(high), Some(low)) = (digit(digits[0]), digit(digits[1])) else { return Err(invalid()) };
            *byte = high << 4 | low;
        }
        Ok(Digest(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Digest, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{}", self.hex())
    }
}

/// A digest of bytes that come piece by piece, and their number.
#[derive(Debug, Default)]
pub struct RunningDigest {
    state: Sha256,
    count: u64,
}

impl RunningDigest {
    pub fn add(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.count += bytes.len() as u64;
    }

    /// Of all bytes that were added, and how many those are.
    #[must_use]
    pub fn finish(self) -> (Digest, u64) {
        (Digest(self.state.finalize().into()), self.count)
    }
}

/// Reads from another reader, and knows the digest and the number of the bytes that passed.
pub struct Digesting<R> {
    inner: R,
    state: Sha256,
    count: u64,
}

impl<R> Digesting<R> {
    pub fn new(inner: R) -> Digesting<R> {
        Digesting { inner, state: Sha256::new(), count: 0 }
    }

    /// Bytes so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Of all bytes that were read.
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.state.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_digest_is_written_as_it_is_read() {
        let digest: Digest = OF_ABC.parse().expect("a digest");
        assert_eq!((Digest::of(b"abc"), digest.to_string().as_str()), (digest, OF_ABC));
        for wrong in ["", "sha256:", &OF_ABC[7..], &OF_ABC.to_uppercase(), &OF_ABC[..70], &OF_ABC.replace("256", "512")]
        {
            wrong.parse::<Digest>().expect_err(wrong);
        }
    }

    #[test]
    fn what_passes_is_digested_and_counted() {
        let mut reader = Digesting::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).expect("copied");
        assert_eq!((reader.count(), reader.finish().to_string().as_str()), (3, OF_ABC));
    }
}
