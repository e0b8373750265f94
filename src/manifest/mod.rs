//! What the user asked, or the exact line that is wrong. Pure: no file, environment, host or clock.
//!
//! ```text
//! text ── syntax ──▶ tree (every node knows its line and column) ── read ──▶ Pod
//!             └────────────────── problems ◀──────────────────────────┘
//! ```
//!
//! There is no serde here on purpose: a derive stops at the first error, and this module promises all of them at once.
//! What the reader does not take from the tree is refused (`object`), so a forgotten field cannot be dropped in silence.

mod amount;
mod capability;
pub mod image_reference;
mod image_source;
mod names;
mod object;
mod pod;
mod problem;
mod proxy_protocol;
pub mod quantity;
mod read;
mod scalar;
mod schema;
mod syntax;
mod sysctl;
mod tree;

pub(crate) use amount::written;
pub use amount::{Role, amount, pids_limit};
pub use capability::LINUX_CAPABILITIES;
pub use image_source::{ImageSource, InvalidSource, PullPolicy};
pub(crate) use names::{dns_label, dns_subdomain, label_key, label_value};
pub use pod::*;
pub use problem::{ManifestErrors, Problem, ProblemClass};
pub use proxy_protocol::{ChosenPort, ProxyProtocol};
pub use schema::{accepted_values, supported_fields};
pub use tree::Position;

use problem::Problems;

/// Bytes. A longer manifest is refused unread: etcd, and so Kubernetes, takes no object above 1.5 MiB either.
/// Who reads a file for [`parse_bytes`] may stop after this many bytes and one more.
pub const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// Reads one Pod, in YAML or JSON; `source_name` (`web.yaml`, `-`) opens every line of an error.
///
/// # Errors
/// Everything that is wrong with the manifest, in the order of its lines.
pub fn parse(text: &str, source_name: &str) -> Result<Pod, ManifestErrors> {
    let mut problems = Problems::default();
    let pod = match syntax::check_text(text, &mut problems) {
        Ok(()) => {
            let documents = syntax::load(text, &mut problems);
            read::pod(&documents, &mut problems)
        }
        Err(syntax::Unreadable) => None,
    };
    match pod {
        Some(pod) if problems.is_empty() => Ok(pod),
        _ => Err(problems.into_errors(source_name)),
    }
}

/// [`parse`] for what came from a file or a pipe and may not be text at all.
///
/// # Errors
/// As [`parse`]; also where the bytes stop being UTF-8.
pub fn parse_bytes(bytes: &[u8], source_name: &str) -> Result<Pod, ManifestErrors> {
    let mut problems = Problems::default();
    match syntax::decode(bytes, &mut problems) {
        Ok(text) => parse(text, source_name),
        Err(syntax::Unreadable) => Err(problems.into_errors(source_name)),
    }
}

/// Where a field of a manifest that was read stands: `spec.containers[0].ports[0].hostPort`. For what turns out to be wrong
/// only beside the command line, or this host. `None` where there is none.
#[must_use]
pub fn position(bytes: &[u8], path: &str) -> Option<Position> {
    let mut problems = Problems::default();
    let text = syntax::decode(bytes, &mut problems).ok()?;
    let documents = syntax::load(text, &mut problems);
    read::objects(&documents).first()?.node_at(path).map(|node| node.position)
}

#[cfg(test)]
mod tests;
