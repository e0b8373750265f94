//! One line of a CRI log: `2026-11-21T12:00:00.000000000Z stdout F text`.
//!
//! Pure. The format is the kubelet's: `P` marks a part of a line that goes on in the next record of the same stream
//! (KEP-2411 and `pkg/kubelet/kuberuntime/logs` of Kubernetes).

use jiff::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// The tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// `F`: the line ends here.
    Full,
    /// `P`: it goes on.
    Partial,
}

/// One record, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// `None`: this is not a CRI record, and `text` is all of it.
    pub(crate) time: Option<Timestamp>,
    pub(crate) stream: Stream,
    pub(crate) tag: Tag,
    pub(crate) text: Vec<u8>,
}

/// A record from its line. What is no record (a damaged file) is shown as it is rather than dropped.
pub(crate) fn parse(line: &[u8]) -> Record {
    parse_record(line).unwrap_or_else(|| Record {
        time: None,
        stream: Stream::Stdout,
        tag: Tag::Full,
        text: line.to_vec(),
    })
}

fn parse_record(line: &[u8]) -> Option<Record> {
    let (time, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    // A record with an empty text may end right after its tag.
    let (tags, text) = word(rest).unwrap_or((rest, b""));
    Some(Record {
        time: Some(std::str::from_utf8(time).ok()?.parse().ok()?),
        stream: match stream {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        },
        // More tags may follow the first, parted by colons.
        tag: match tags.split(|byte| *byte == b':').next()? {
            b"F" => Tag::Full,
            b"P" => Tag::Partial,
            _ => return None,
        },
        text: text.to_vec(),
    })
}

fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b' ')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let record = parse(b"2026-11-21T12:00:00.000000001Z stderr F a  b ");
        assert_eq!(record.time.expect("a time").subsec_nanosecond(), 1);
        assert_eq!((record.stream, record.tag, &record.text[..]), (Stream::Stderr, Tag::Full, &b"a  b "[..]));
        let part = parse(b"2026-11-21T12:00:00+01:00 stdout P \xff\xfe");
        assert_eq!((part.stream, part.tag, &part.text[..]), (Stream::Stdout, Tag::Partial, &b"\xff\xfe"[..]));
        for empty in [&b"2026-11-21T12:00:00Z stdout F"[..], b"2026-11-21T12:00:00Z stdout F "] {
            assert_eq!((parse(empty).time.is_some(), parse(empty).text.len()), (true, 0));
        }
    }

    #[test]
    fn what_is_no_record_is_kept_whole() {
        for damaged in ["", "hello", "2026-11-21T12:00:00Z stdout", "now stdout F x", "2026-11-21T12:00:00Z out F x"] {
            let record = parse(damaged.as_bytes());
            assert_eq!((record.time, record.text), (None, damaged.as_bytes().to_vec()), "{damaged}");
        }
    }
}
