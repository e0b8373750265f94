//! One entry of a layer, checked: after this no path can leave the root, and every number is in its range.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use tar_core::EntryType;
use tar_core::parse::ParsedEntry;

use super::LayerError;

/// Bytes of a file name (NAME_MAX, limits.h).
const MAX_NAME: usize = 255;
/// Where the time of the last change is in a tar header.
const MTIME_FIELD: std::ops::Range<usize> = 136..148;
/// What marks a whiteout (image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that AUFS used for itself; docker and containerd skip them.
const AUFS: &[u8] = b".wh..wh.";

/// An entry as tar has it, with nothing borrowed from the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawEntry {
    path: Vec<u8>,
    kind: EntryType,
    link_target: Option<Vec<u8>>,
    mode: u32,
    uid: u64,
    gid: u64,
    modified: Time,
    size: u64,
    is_sparse: bool,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Seconds since 1970, and nanoseconds after that second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// A checked entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Names below the root; none: the root itself.
    pub(crate) path: Vec<OsString>,
    pub(crate) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Time,
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink {
        target: OsString,
    },
    /// Another name of what an earlier entry made.
    HardLink {
        target: Vec<OsString>,
    },
    Fifo,
    Device,
    /// The path names what lower layers have and this one removes.
    Whiteout,
    /// The path names a directory of which nothing in lower layers is seen.
    OpaqueDirectory,
    /// Another driver's own notes.
    Ignored,
}

impl RawEntry {
    /// Checks what a PAX header says of numbers, since tar-core was asked to be lenient with them.
    pub(crate) fn of(entry: &ParsedEntry<'_>, is_sparse: bool) -> Result<RawEntry, LayerError> {
        let refuse = |why: String| LayerError::Entry { path: entry.path_lossy().into_owned(), why };
        let mut modified = header_time(&entry.header.as_bytes()[MTIME_FIELD]).map_err(refuse)?;
        for (key, value) in pax_records(entry.pax.unwrap_or_default()).map_err(refuse)? {
            match key {
                b"mtime" => modified = pax_time(value).map_err(refuse)?,
                b"uid" | b"gid" | b"size" if decimal(value).is_none() => {
                    let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
                    return Err(refuse(format!("the PAX header says {key}={value}, which is not a number")));
                }
                // tar-core would take it for the bytes behind the map.
                b"size" if is_sparse => return Err(refuse("a sparse file with a size in its PAX header".to_owned())),
                _ => {}
            }
        }
        Ok(RawEntry {
            path: entry.path.to_vec(),
            kind: entry.entry_type,
            link_target: entry.link_target.as_ref().map(|target| target.to_vec()),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            modified,
            size: entry.size,
            is_sparse,
            xattrs: entry.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        })
    }

    /// Bytes that follow the header. Only files have some: Go's archive/tar, with which nearly all images are made and
    /// read, ignores the size of every other type.
    pub(crate) fn content_size(&self) -> u64 {
        match self.kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse | EntryType::Other(_) => self.size,
            _ if self.is_sparse => self.size,
            _ => 0,
        }
    }
}

impl Entry {
    /// An entry of a layer.
    pub(crate) fn checked(raw: RawEntry) -> Result<Entry, LayerError> {
        Entry::read(raw, Whiteouts::Marks)
    }

    /// An entry of an archive that is no layer: a name that begins with `.wh.` is a name.
    pub(crate) fn literal(raw: RawEntry) -> Result<Entry, LayerError> {
        Entry::read(raw, Whiteouts::Names)
    }

    fn read(raw: RawEntry, whiteouts: Whiteouts) -> Result<Entry, LayerError> {
        let shown = String::from_utf8_lossy(&raw.path).into_owned();
        check(raw, whiteouts).map_err(|why| LayerError::Entry { path: shown, why })
    }
}

/// What names that begin with `.wh.` are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whiteouts {
    Marks,
    Names,
}

fn check(raw: RawEntry, whiteouts: Whiteouts) -> Result<Entry, String> {
    let RawEntry { path, kind, link_target, mode, uid, gid, modified, size: _, is_sparse: _, xattrs } = raw;
    let trailing_slash = path.ends_with(b"/");
    let mut path = names(&path)?;
    let kind = match kind {
        // Before POSIX a directory was a file whose name ends in a slash (GNU tar manual, "Standard").
        EntryType::Regular | EntryType::Continuous if trailing_slash => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => match link_target {
            Some(target) if !target.contains(&0) => Kind::Symlink { target: OsString::from_vec(target) },
            _ => return Err("a symbolic link without a valid target".to_owned()),
        },
        EntryType::Link => match link_target.as_deref().map(names).transpose()? {
            Some(target) if !target.is_empty() => Kind::HardLink { target },
            _ => return Err("a hard link without a target".to_owned()),
        },
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char | EntryType::Block => Kind::Device,
        other => return Err(format!("its type {:?} is unknown", char::from(other.to_byte()))),
    };
    let kind = match whiteouts {
        Whiteouts::Marks => whiteout(&mut path)?.unwrap_or(kind),
        Whiteouts::Names => kind,
    };
    if path.is_empty() && !matches!(kind, Kind::Directory | Kind::OpaqueDirectory | Kind::Ignored) {
        return Err("the root can only be a directory".to_owned());
    }
    let id = |id: u64, what: &str| u32::try_from(id).map_err(|_| format!("its {what} {id} has more than 32 bits"));
    Ok(Entry {
        path,
        kind,
        mode: mode & 0o7777,
        uid: id(uid, "uid")?,
        gid: id(gid, "gid")?,
        modified,
        xattrs: xattrs.into_iter().map(|(name, value)| (OsString::from_vec(name), value)).collect(),
    })
}

/// The names of a path. `.` and empty names mean nothing; `..` is refused and not resolved, since no image needs it.
fn names(path: &[u8]) -> Result<Vec<OsString>, String> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".") {
        match name {
            b".." => return Err("a path with `..`".to_owned()),
            _ if name.contains(&0) => return Err("a NUL byte in its path".to_owned()),
            _ if name.len() > MAX_NAME => return Err(format!("a name of more than {MAX_NAME} bytes")),
            _ => names.push(OsStr::from_bytes(name).to_owned()),
        }
    }
    Ok(names)
}

/// What a name that begins with `.wh.` means; the path then names what is meant. No file can have such a name.
fn whiteout(path: &mut Vec<OsString>) -> Result<Option<Kind>, String> {
    let Some((last, directories)) = path.split_last() else { return Ok(None) };
    if directories.iter().any(|name| name.as_bytes().starts_with(WHITEOUT)) {
        return Err("a directory whose name begins with `.wh.`".to_owned());
    }
    let Some(hidden) = last.as_bytes().strip_prefix(WHITEOUT) else { return Ok(None) };
    if last.as_bytes() == OPAQUE {
        path.pop();
        return Ok(Some(Kind::OpaqueDirectory));
    }
    if last.as_bytes().starts_with(AUFS) {
        return Ok(Some(Kind::Ignored));
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err("a whiteout that names no file".to_owned());
    }
    let hidden = OsStr::from_bytes(hidden).to_owned();
    path.pop();
    path.push(hidden);
    Ok(Some(Kind::Whiteout))
}

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The records of a PAX header: `LENGTH KEY=VALUE\n`, where LENGTH counts all of it (pax(1)). Every byte must belong to
/// one: tar-core stops at a length that it cannot read, and other readers go on.
fn pax_records(mut text: &[u8]) -> Result<Vec<Record<'_>>, String> {
    let broken = || "its PAX header is malformed".to_owned();
    let mut records = Vec::new();
    while !text.is_empty() {
        let space = text.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length = decimal(&text[..space]).and_then(|length| usize::try_from(length).ok()).ok_or_else(broken)?;
        if length <= space + 1 || length > text.len() {
            return Err(broken());
        }
        let (record, rest) = text.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(broken)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        records.push((&record[..equals], &record[equals + 1..]));
        text = rest;
    }
    Ok(records)
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `1234.5`, `-1.25`: seconds before or after 1970.
fn pax_time(text: &[u8]) -> Result<Time, String> {
    let wrong = || format!("the PAX header says mtime={}, which is not a time", String::from_utf8_lossy(text));
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    let seconds = decimal(whole).and_then(|seconds| i64::try_from(seconds).ok()).ok_or_else(wrong)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let place = |at: usize| u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
    let nanoseconds = (0..9).fold(0, |sum, at| sum * 10 + place(at));
    Ok(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        // -1.25 is 0.75 seconds after second -2.
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// Octal digits, or for what these cannot say a two's complement number behind a first bit (GNU tar, "base-256").
fn header_time(field: &[u8]) -> Result<Time, String> {
    let seconds = if field[0] & 0x80 == 0 {
        let text = field.split(|byte| matches!(byte, 0 | b' ')).find(|part| !part.is_empty()).unwrap_or(b"0");
        let text = std::str::from_utf8(text).unwrap_or("?");
        i64::from_str_radix(text, 8).map_err(|_| format!("the time {text:?} in its header is not a number"))?
    } else {
        let sign = if field[0] & 0x40 == 0 { 0 } else { -1 };
        let first = i64::from(field[0] & 0x3f) | (sign << 6);
        let wide = field[1..].iter().try_fold(first, |value, byte| Some(value.checked_mul(256)? + i64::from(*byte)));
        wide.ok_or_else(|| "the time in its header has more than 64 bits".to_owned())?
    };
    Ok(Time { seconds, nanoseconds: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_between_seconds() {
        let time = |seconds, nanoseconds| Ok(Time { seconds, nanoseconds });
        for (text, expected) in [
            (&b"0"[..], time(0, 0)),
            (b"1234567890.5", time(1_234_567_890, 500_000_000)),
            (b"1.000000001234", time(1, 1)),
            (b"-1", time(-1, 0)),
            (b"-1.25", time(-2, 750_000_000)),
            (b"-0.5", time(-1, 500_000_000)),
        ] {
            assert_eq!(pax_time(text), expected);
        }
        for wrong in [&b""[..], b"x", b"1.x", b"--1", b"99999999999999999999", b"1e5"] {
            pax_time(wrong).expect_err("not a time");
        }
        assert_eq!(header_time(b"00000000012\0"), time(10, 0));
        assert_eq!(header_time(b"       12 \0\0"), time(10, 0));
        assert_eq!(header_time(&[0; 12]), time(0, 0));
        assert_eq!(header_time(&[0xff; 12]), time(-1, 0));
        assert_eq!(header_time(&[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]), time(1 << 32, 0));
        header_time(&[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).expect_err("too large");
        header_time(b"9\0\0\0\0\0\0\0\0\0\0\0").expect_err("not octal");
    }

    #[test]
    fn every_byte_of_a_pax_header_belongs_to_a_record() {
        assert_eq!(pax_records(b"6 a=b\n9 cd=e=\n\n"), Ok(vec![(&b"a"[..], &b"b"[..]), (b"cd", b"e=\n")]));
        for broken in
            [&b"6 a=b"[..], b"5 a=b\n", b"7 a=b\n", b"x a=b\n", b"6 a=b\n\0", b"0 a=b\n", b"4 ab\n", b"-6 a=b\n"]
        {
            pax_records(broken).expect_err("malformed");
        }
    }

    #[test]
    fn whiteouts_by_their_names() {
        let kind = |path: &str| {
            let mut path = names(path.as_bytes()).expect("names");
            whiteout(&mut path).map(|kind| (kind, path.join(OsStr::new("/")).into_string().expect("UTF-8")))
        };
        assert_eq!(kind("a/.wh.b"), Ok((Some(Kind::Whiteout), "a/b".to_owned())));
        assert_eq!(kind("a/.wh..wh..opq"), Ok((Some(Kind::OpaqueDirectory), "a".to_owned())));
        assert_eq!(kind(".wh..wh..opq"), Ok((Some(Kind::OpaqueDirectory), String::new())));
        assert_eq!(kind("a/.wh..wh.plnk"), Ok((Some(Kind::Ignored), "a/.wh..wh.plnk".to_owned())));
        assert_eq!(kind("a/b"), Ok((None, "a/b".to_owned())));
        for refused in [".wh.", ".wh..", ".wh...", "a/.wh.b/c"] {
            kind(refused).expect_err(refused);
        }
    }
}
