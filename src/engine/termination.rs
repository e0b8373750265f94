//! What a container says of its own end: a file of ours, bound into the container, as the kubelet does it.
//!
//! <https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;

use super::failure::{During as _, Result};
use crate::plan::{ContainerPlan, PodDirs, container_log, container_message};
use crate::step::Step;
use crate::sys::own_dir::OwnDir;
use crate::sys::{Errno, Error};

/// The end of a log that takes the place of a message: 2048 bytes or 80 lines, whichever is smaller.
const LOG_BYTES: usize = 2048;
const LOG_LINES: usize = 80;
/// More than [`LOG_BYTES`] of text need on disk: in [`LOG_LINES`] lines, each with time, stream and tag before it.
const LOG_WINDOW: u64 = 16 << 10;

/// An empty file for the next life of a container. A new one each time: processes of the life before may still have the
/// old one open.
pub fn prepare(dirs: &PodDirs, container: &str) -> Result<()> {
    let name = container_message(container);
    let made = OwnDir::of_pod(&dirs.data).and_then(|data| match data.create(name.as_ref()) {
        Err(error) if error.errno == Errno::EEXIST => {
            data.remove(name.as_ref())?;
            data.create(name.as_ref())
        }
        made => made,
    });
    // Any user of the container may write to it, whatever ids the pod has; no other user of the host gets to it, since the
    // pod's directory is closed to them.
    let opened = made.and_then(|file| {
        file.set_permissions(Permissions::from_mode(0o666)).map_err(|error| Error::of_io("fchmod(0666)", &error))
    });
    opened.during(Step::PrepareVolumes, container)
}

/// The message of a container that has ended. `None`: it left none, or none that can be read, which must not hide how it
/// ended.
#[must_use]
pub fn message(dirs: &PodDirs, plan: &ContainerPlan, failed: bool) -> Option<String> {
    let data = OwnDir::of_pod(&dirs.data).ok()?;
    let end_of = |name: &str, limit: u64| end_of(data.read(name.as_ref()).ok()?, limit).ok();
    let message = end_of(&container_message(&plan.name), u64::from(plan.termination.limit)).unwrap_or_default();
    if !message.is_empty() {
        return Some(String::from_utf8_lossy(&message).into_owned());
    }
    if !failed || !plan.termination.falls_back_to_log {
        return None;
    }
    let log = end_of(&container_log(&plan.name), LOG_WINDOW).unwrap_or_default();
    Some(end_of_log(&log)).filter(|text| !text.is_empty())
}

/// At most the last `limit` bytes, as the kubelet reads them.
fn end_of(mut file: File, limit: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(limit)))?;
    let mut end = Vec::new();
    file.take(limit).read_to_end(&mut end)?;
    Ok(end)
}

/// The text of the last lines of a log in the CRI's format: `TIME STREAM F|P TEXT`; after P the line goes on.
fn end_of_log(log: &[u8]) -> String {
    let mut text = Vec::new();
    let entries: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    for entry in &entries[entries.len().saturating_sub(LOG_LINES)..] {
        let mut words = entry.strip_suffix(b"\n").unwrap_or(entry).splitn(4, |byte| *byte == b' ');
        let tag = words.nth(2);
        // The first may be the end of an entry whose beginning is outside of the window.
        let (Some(tag @ (b"F" | b"P")), Some(said)) = (tag, words.next()) else { continue };
        text.extend_from_slice(said);
        if tag == b"F" {
            text.push(b'\n');
        }
    }
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_BYTES)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_eighty_lines_or_two_kilobytes() {
        let entry = |number: usize| format!("2026-12-01T00:00:00Z stdout F line {number}\n");
        let log: String = (0..100).map(entry).collect();
        let said = end_of_log(log.as_bytes());
        assert_eq!(
            (said.lines().count(), said.lines().next(), said.lines().last()),
            (80, Some("line 20"), Some("line 99"))
        );

        let long = format!("t stderr P {}\nt stderr P {}\n", "a".repeat(2000), "b".repeat(100));
        let said = end_of_log(long.as_bytes());
        assert_eq!(said, "a".repeat(1948) + &"b".repeat(100));
        // Cut off at the beginning of the window.
        assert_eq!(end_of_log(b"out F half\nt stdout F whole\n"), "whole\n");
        assert_eq!(end_of_log(b""), "");
    }
}
