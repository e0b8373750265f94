//! Landlock (landlock(7)): a process gives up its access to files for good.

use std::os::fd::BorrowedFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::errno::Errno;

use super::error::{Error, Result};

/// From here on this process and its threads may read `readable` and no other file, make or change none, listen on no TCP
/// port, and reach no abstract socket and no process outside; as far as this kernel can refuse it. What is open stays open.
/// False: a kernel without Landlock. A path that does not exist is left out. The caller has a single thread.
pub fn confine_to_reading(readable: &[&Path]) -> Result<bool> {
    let status = restrict(readable)
        .map_err(|error| Error { call: format!("landlock_restrict_self(): {error}"), errno: Errno::EINVAL })?;
    Ok(status != RulesetStatus::NotEnforced)
}

/// From here on this process and its threads may make, change, read and remove files below `tree` and nowhere else, use no
/// TCP, and reach no abstract socket and no process outside; as far as this kernel can refuse it. What is open stays open.
/// False: a kernel without Landlock, or of Linux before 5.19, whose Landlock refuses every rename and link between
/// directories. The caller has a single thread.
pub fn confine_to_tree(tree: BorrowedFd<'_>) -> Result<bool> {
    if Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::Refer).is_err() {
        return Ok(false);
    }
    let status = restrict_to_tree(tree)
        .map_err(|error| Error { call: format!("landlock_restrict_self(): {error}"), errno: Errno::EINVAL })?;
    Ok(status != RulesetStatus::NotEnforced)
}

fn restrict_to_tree(tree: BorrowedFd<'_>) -> std::result::Result<RulesetStatus, landlock::RulesetError> {
    let refused = AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::IoctlDev;
    let all = AccessFs::from_all(ABI::V5);
    let status = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rule(PathBeneath::new(tree, all & !refused))?
        .restrict_self()?;
    Ok(status.ruleset)
}

fn restrict(readable: &[&Path]) -> std::result::Result<RulesetStatus, landlock::RulesetError> {
    // The newest rights are left out where the kernel does not know them (landlock's "best effort").
    let rules = readable
        .iter()
        .filter_map(|path| PathFd::new(path).ok())
        .map(|fd| Ok::<_, landlock::RulesetError>(PathBeneath::new(fd, AccessFs::ReadFile)));
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(rules)?
        .restrict_self()?;
    Ok(status.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clone::{Fork, Parent, exit_now, fork_into};
    use crate::sys::process::{Exit, wait_for};
    use std::fs::File;

    /// Files are made, moved between directories, linked and removed in the tree, and not beside it.
    #[test]
    fn only_the_tree_can_be_changed() {
        use std::os::fd::AsFd as _;
        let directory = tempfile::tempdir().expect("a directory");
        let (tree, beside) = (directory.path().join("tree"), directory.path().join("beside"));
        for made in [&tree, &tree.join("a"), &tree.join("b"), &beside] {
            std::fs::create_dir(made).expect("mkdir");
        }
        std::fs::write(beside.join("file"), "x").expect("write");
        let root = File::open(&tree).expect("open");
        match fork_into(crate::sys::Namespaces::empty(), Parent::Caller).expect("a fork") {
            Fork::Child => {
                let works = || {
                    File::create(tree.join("a/file")).is_ok()
                        && std::fs::rename(tree.join("a/file"), tree.join("b/file")).is_ok()
                        && std::fs::hard_link(tree.join("b/file"), tree.join("a/link")).is_ok()
                        && std::fs::remove_file(tree.join("a/link")).is_ok()
                        && nix::unistd::mkfifo(&tree.join("fifo"), nix::sys::stat::Mode::S_IRWXU).is_ok()
                };
                let is_refused = || {
                    File::open(beside.join("file")).is_err()
                        && File::create(beside.join("new")).is_err()
                        && std::fs::rename(tree.join("b/file"), beside.join("moved")).is_err()
                        && std::fs::remove_file(beside.join("file")).is_err()
                };
                let is_right = match confine_to_tree(root.as_fd()) {
                    Ok(false) => works(),
                    Ok(true) => works() && is_refused(),
                    Err(_) => false,
                };
                exit_now(i32::from(!is_right));
            }
            Fork::Parent { pid, .. } => assert_eq!(wait_for(pid).expect("wait"), Exit::Code(0)),
        }
    }

    /// A file that is not named cannot be opened, one that is can be, and one that is open stays so.
    #[test]
    fn only_what_is_named_can_be_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let (named, other) = (directory.path().join("named"), directory.path().join("other"));
        std::fs::write(&named, "x").expect("write");
        std::fs::write(&other, "x").expect("write");
        // A process of its own: there is no way back. It makes system calls and small allocations only.
        match fork_into(crate::sys::Namespaces::empty(), Parent::Caller).expect("a fork") {
            Fork::Child => {
                let confined = confine_to_reading(&[&named, Path::new("/nowhere")]);
                let is_right = match confined {
                    Ok(false) => true,
                    Ok(true) => {
                        File::open(&named).is_ok() && File::open(&other).is_err() && File::create(&named).is_err()
                    }
                    Err(_) => false,
                };
                exit_now(i32::from(!is_right));
            }
            Fork::Parent { pid, .. } => assert_eq!(wait_for(pid).expect("wait"), Exit::Code(0)),
        }
    }
}
