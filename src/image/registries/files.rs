//! Reading of files that others wrote: bounded, and never one that blocks.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {why}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct Unreadable {
    pub file: PathBuf,
    /// From 1 on.
    pub line: Option<usize>,
    pub why: String,
}

impl Unreadable {
    pub(super) fn new(file: &Path, why: impl Into<String>) -> Unreadable {
        Unreadable { file: file.to_owned(), line: None, why: why.into() }
    }
}

/// Bytes of one file of configuration.
const MAX_FILE: u64 = 4 << 20;
/// Files of one directory.
const MAX_FILES: usize = 1000;

/// The content of a file; `None` where there is none.
///
/// # Errors
/// What cannot be read, is no regular file (a fifo would block) or has more than [`MAX_FILE`] bytes.
pub(super) fn read(file: &Path) -> Result<Option<Vec<u8>>, Unreadable> {
    let failed = |error: io::Error| Unreadable::new(file, error.to_string());
    match fs::metadata(file) {
        Ok(found) if !found.is_file() => return Err(Unreadable::new(file, "is not a regular file")),
        Ok(_) => {}
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let mut bytes = Vec::new();
    fs::File::open(file).and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Unreadable::new(file, format!("has more than {MAX_FILE} bytes")));
    }
    Ok(Some(bytes))
}

/// As [`read`], of a text.
///
/// # Errors
/// As [`read`], and what is not UTF-8.
pub(super) fn read_text(file: &Path) -> Result<Option<String>, Unreadable> {
    let Some(bytes) = read(file)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
        Unreadable { file: file.to_owned(), line: Some(line), why: "is not UTF-8".to_owned() }
    })
}

/// The files of a directory whose names end in `.EXTENSION`, by name; empty where there is no directory.
///
/// # Errors
/// A directory that cannot be read, or has more than [`MAX_FILES`] such files.
pub(super) fn with_extension(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, Unreadable> {
    let failed = |error: io::Error| Unreadable::new(directory, error.to_string());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|it| it == extension) && !path.is_dir() {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            return Err(Unreadable::new(directory, format!("has more than {MAX_FILES} files *.{extension}")));
        }
    }
    found.sort();
    Ok(found)
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The line of a byte, from 1 on.
pub(super) fn line_at(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|byte| **byte == b'\n').count()
}
