//! What a process that reads bytes from strangers may take (setrlimit(2)). Soft and hard limit, so that nothing raises it again.

use nix::sys::resource::{Resource, setrlimit};

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

/// No core file: it would hold what was in memory, passwords included (RLIMIT_CORE).
pub fn write_no_core() -> Result<()> {
    limit(Resource::RLIMIT_CORE, 0)
}

fn limit(resource: Resource, value: u64) -> Result<()> {
    setrlimit(resource, value, value).named(|| format!("setrlimit({resource:?}, {value})"))
}
