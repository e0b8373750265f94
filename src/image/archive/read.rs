//! The files of an archive, whose bytes are blobs of the store by then, or of a directory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{ArchiveError, Result};
use crate::image::compression::{Compression, decompress};
use crate::image::descriptor::MAX_DOCUMENT;
use crate::image::digest::Digest;
use crate::image::layer::archive::{Archive, FileContent, Next};
use crate::image::layer::entry::{Entry, Kind};
use crate::image::layer::{LayerError, Limits};
use crate::image::store::{Completed, ImageStore};
use crate::sys::{beneath, path};

/// Files of an archive: 500 layers of some hundred images.
const MAX_FILES: usize = 50_000;
/// Links that lead to one another.
const MAX_LINKS: usize = 8;

/// A file of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredFile {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// The files of an archive or of a directory. Paths are relative and have no `..`.
pub(super) trait Files {
    /// Puts a file into the store. `expected`: what it should be, if that is known; the caller compares.
    fn blob(&mut self, path: &str, expected: Option<StoredFile>) -> Result<Option<StoredFile>>;
    /// A document of at most [`MAX_DOCUMENT`] bytes.
    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>>;
    /// The blobs that are in the store since this was opened.
    fn added(&self) -> &[Digest];
}

/// How a file is compressed, by its first bytes (RFC 1952, RFC 8878).
pub(super) fn compression_of(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// A tar file that has been read to its end.
pub(super) struct TarFiles<'a> {
    store: &'a ImageStore,
    files: HashMap<PathBuf, StoredFile>,
    /// Old archives of docker have a layer once, and links to it.
    links: HashMap<PathBuf, PathBuf>,
    added: Vec<Digest>,
}

impl<'a> TarFiles<'a> {
    pub(super) fn new(store: &'a ImageStore) -> TarFiles<'a> {
        TarFiles { store, files: HashMap::new(), links: HashMap::new(), added: Vec::new() }
    }

    /// Puts every file of a stream into the store.
    pub(super) fn read(&mut self, stream: impl Read + Send) -> Result<()> {
        let mut archive = Archive::new(decompressed(stream)?);
        let found = self;
        let mut bytes = 0_u64;
        let most = Limits::default().bytes;
        while let Some(next) = archive.next()? {
            let Next::Entry { entry, content } = next else { continue };
            let entry = Entry::checked(entry)?;
            bytes = bytes.saturating_add(content.logical_size());
            if bytes > most {
                return Err(ArchiveError::TooManyBytes(most));
            }
            if found.files.len() + found.links.len() >= MAX_FILES {
                return Err(ArchiveError::TooManyFiles(MAX_FILES));
            }
            let name: PathBuf = entry.path.iter().collect();
            match entry.kind {
                Kind::File => {
                    let mut blob = found.store.new_blob()?;
                    let mut written = 0;
                    archive.content(content).for_each_piece(&mut |piece, offset| {
                        // A sparse file: what lies between has no bytes of its own.
                        if offset != written {
                            return Err(LayerError::Format("a sparse file in an archive of images".to_owned()));
                        }
                        written += piece.len() as u64;
                        blob.write_all(piece).map_err(LayerError::Read)
                    })?;
                    let Completed { digest, size, is_new } = blob.finish()?;
                    found.added.extend(is_new.then_some(digest));
                    found.links.remove(&name);
                    found.files.insert(name, StoredFile { digest, size });
                }
                Kind::Symlink { target } => {
                    let target = name.parent().unwrap_or(Path::new("")).join(target);
                    found.links.insert(name, plain(&target));
                }
                Kind::HardLink { target } => drop(found.links.insert(name, target.iter().collect())),
                Kind::Directory
                | Kind::Fifo
                | Kind::Device
                | Kind::Whiteout
                | Kind::OpaqueDirectory
                | Kind::Ignored => {}
            }
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Option<StoredFile> {
        let mut path = plain(Path::new(path));
        for _ in 0..MAX_LINKS {
            if let Some(file) = self.files.get(&path) {
                return Some(*file);
            }
            path = self.links.get(&path)?.clone();
        }
        None
    }
}

impl Files for TarFiles<'_> {
    fn blob(&mut self, path: &str, _: Option<StoredFile>) -> Result<Option<StoredFile>> {
        Ok(self.find(path))
    }

    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(StoredFile { digest, size }) = self.find(path) else { return Ok(None) };
        let too_large = || ArchiveError::Document { file: path.to_owned(), why: format!("it has {size} bytes") };
        self.store.document(digest)?.ok_or_else(too_large).map(Some)
    }

    fn added(&self) -> &[Digest] {
        &self.added
    }
}

/// A path without `.` and `..`, by its text alone: an archive has no links to directories that we would follow.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => plain.push(name),
            std::path::Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}

/// The bytes of an archive that may be compressed as a whole. Only gzip is undone here, whose decoder is written in a
/// memory-safe language: this process has the rights of its user, unlike the one that unpacks layers.
fn decompressed<'s>(mut stream: impl Read + Send + 's) -> Result<Box<dyn Read + Send + 's>> {
    let mut start = Vec::new();
    stream.by_ref().take(4).read_to_end(&mut start)?;
    let program = match start.as_slice() {
        [0xfd, b'7', b'z', b'X'] => Some("xz"),
        [b'B', b'Z', b'h', _] => Some("bzip2"),
        start if compression_of(start) == Compression::Zstd => Some("zstd"),
        _ => None,
    };
    if let Some(program) = program {
        return Err(ArchiveError::Compressed(program));
    }
    let compression = compression_of(&start);
    Ok(decompress(Cursor::new(start).chain(stream), compression)?)
}

/// A directory in OCI's layout.
pub(super) struct LayoutFiles<'a> {
    store: &'a ImageStore,
    path: PathBuf,
    directory: OwnedFd,
    added: Vec<Digest>,
}

impl<'a> LayoutFiles<'a> {
    pub(super) fn open(store: &'a ImageStore, path: &Path) -> Result<LayoutFiles<'a>> {
        let failed = |source| ArchiveError::Open { path: path.to_owned(), source };
        let directory = path::open_host_path(path).map_err(failed)?;
        Ok(LayoutFiles { store, path: path.to_owned(), directory, added: Vec::new() })
    }

    fn open_file(&self, path: &str) -> Result<Option<File>> {
        let failed = |source| ArchiveError::Open { path: self.path.join(path), source };
        beneath::open_file(self.directory.as_fd(), &plain(Path::new(path))).map_err(failed)
    }
}

impl Files for LayoutFiles<'_> {
    fn blob(&mut self, path: &str, expected: Option<StoredFile>) -> Result<Option<StoredFile>> {
        // It is in the store, as long as it says: its digest is compared when it is unpacked.
        if let Some(expected) = expected
            && let Some(file) = self.store.blob(expected.digest)?
            && file.metadata()?.len() == expected.size
        {
            return Ok(Some(expected));
        }
        let Some(file) = self.open_file(path)? else { return Ok(None) };
        let most = expected.map_or(Limits::default().bytes, |expected| expected.size);
        let mut blob = self.store.new_blob()?;
        // One byte more than there may be, so that a file which is too long is seen and not read on.
        let size = io::copy(&mut file.take(most.saturating_add(1)), &mut blob)?;
        if size > most {
            return Err(ArchiveError::TooManyBytes(most));
        }
        let Completed { digest, size, is_new } = blob.finish()?;
        self.added.extend(is_new.then_some(digest));
        Ok(Some(StoredFile { digest, size }))
    }

    fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            let why = format!("it has more than {MAX_DOCUMENT} bytes");
            return Err(ArchiveError::Document { file: path.to_owned(), why });
        }
        Ok(Some(bytes))
    }

    fn added(&self) -> &[Digest] {
        &self.added
    }
}
