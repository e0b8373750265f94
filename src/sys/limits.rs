//! What a process that reads bytes from strangers may take (setrlimit(2)). Soft and hard limit, so that nothing raises it again.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Result;
use super::error::Named;

/// Bytes of heap, stacks and other private memory (RLIMIT_DATA; Linux 4.7 counts mmap(2) too).
pub fn limit_memory(bytes: u64) -> Result<()> {
    limit(Resource::RLIMIT_DATA, bytes)
}

/// Open descriptors (RLIMIT_NOFILE).
pub fn limit_descriptors(count: u64) -> Result<()> {
    limit(Resource::RLIMIT_NOFILE, count)
}

/// Bytes of a file that is written (RLIMIT_FSIZE).
pub fn limit_file_size(bytes: u64) -> Result<()> {
    limit(Resource::RLIMIT_FSIZE, bytes)
}

/// No core file: it would hold what was in memory, passwords included (RLIMIT_CORE).
pub fn write_no_core() -> Result<()> {
    limit(Resource::RLIMIT_CORE, 0)
}

/// A limit that is lower already stays: only a privileged process may raise it.
fn limit(resource: Resource, value: u64) -> Result<()> {
    let (_, hard) = getrlimit(resource).named(|| format!("getrlimit({resource:?})"))?;
    let value = value.min(hard);
    setrlimit(resource, value, value).named(|| format!("setrlimit({resource:?}, {value})"))
}
