//! Finds the delegated cgroup v2 subtree, or says why there is none.

mod advice;
mod candidate;
mod capacity;
mod container;
mod facts;
mod find;
mod hierarchy;
mod systemd;
pub mod usage;

pub(super) use container::around as container_around;
pub use facts::{
    AncestorLimits, Capacity, CgroupFacts, Container, Delegation, Hierarchy, Membership, NoDelegation, NoSystemd,
    PassedOver,
};
pub(super) use find::{Rights, View, find};
