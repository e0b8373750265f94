//! Finds the delegated cgroup v2 subtree, or says why there is none.

mod advice;
mod facts;
pub mod usage;

pub use facts::{AncestorLimits, Capacity, CgroupFacts, Delegation, Hierarchy, Membership, NoDelegation, PassedOver};
