//! Pods on disk; survives crashes.
//!
//! ```text
//! runtime/lock                      one pod is made at a time
//! runtime/admission.lock            one pod at a time is measured against the claims of the others
//! runtime/pods/<id>/lock            held by the pod's supervisor as long as it lives
//! runtime/pods/<id>/record.json     replaced, never edited
//! runtime/pods/<id>/record.spare    place for the last record on a full disk
//! runtime/pods/<id>/control.sock
//! data/pods/<id>/plan.json          replaced by `update`; locked as `lock` is
//! data/names/<name>                 a link to the pod's directory (`plan/dirs.rs`)
//! data/claims/<id>-<cpu>-<memory>   what a pod claims, for the admission of others
//! ```
//!
//! Nothing here is synced to disk: the runtime directory does not outlive a boot, and after one the plan only serves
//! to name what `rm` removes. Whether a pod lives is looked up ([`Liveness`]), never read. What a record or a plan says is
//! checked against the place where it was found (`checked.rs`).

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

mod admission;
mod checked;
mod error;
mod find;
#[cfg(test)]
mod fixture;
mod index;
mod record;
mod spare;
mod status;
mod store;
mod stored;

pub use admission::AdmissionLock;
pub use error::Error;
pub use record::*;
pub use status::{Liveness, Status, effective_phase};
pub use store::{CreatedPod, Store, commit, replace_plan};
pub use stored::{StoredPod, StoredRecord, wait_released};
