//! Landlock (landlock(7)): a process gives up its access to files for good.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope,
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
