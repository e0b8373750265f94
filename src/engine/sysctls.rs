//! Writing the sysctls of the pod's namespaces, and what it means when the kernel refuses one.

use super::failure::{Failure, Result};
use crate::plan::Sysctl;
use crate::step::Step;
use crate::sys::{self, Errno, path};

/// Into the namespaces that this process is in. What nobody asked for may be refused.
pub(super) fn write(sysctls: &[Sysctl]) -> Result<()> {
    for Sysctl { file, value, asked_by } in sysctls {
        if let (Err(error), Some(field)) = (path::write_sysctl(file, value), asked_by) {
            return Err(refused(field, &error));
        }
    }
    Ok(())
}

/// Not by the table of `host/advice.rs`: at this step the same errno speaks of mounts there.
fn refused(field: &str, error: &sys::Error) -> Failure {
    let said = format!("{}: {}", error.call, sys::describe(error.number()));
    let sentence = match meaning(error.number()) {
        Some(meaning) => format!("{said}; {meaning}"),
        None => said,
    };
    Failure::because(Step::SetUpSandbox, field, sentence)
}

fn meaning(errno: i32) -> Option<&'static str> {
    match Errno::from_raw(errno) {
        Errno::ENOENT => Some(
            "this kernel has no such setting, or none for an ordinary user's namespaces (net.core.* in part); remove it",
        ),
        Errno::EACCES | Errno::EPERM => Some(
            "it is one that only the host's root may set (net.core.rmem_max, kernel.*_next_id); kernel.shm*, kernel.msg*, \
             kernel.sem and fs.mqueue.* can be set for a pod since Linux 6.9",
        ),
        Errno::EROFS => Some("/proc/sys is read-only here, as in a container: start that one without this protection"),
        Errno::EINVAL | Errno::ERANGE => Some("the kernel does not take this value"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_what_was_asked_for_is_missed() {
        let missing = |asked_by: Option<&str>| Sysctl {
            file: "net/no/such/file".into(),
            value: "1".into(),
            asked_by: asked_by.map(str::to_owned),
        };
        assert!(!Path::new("/proc/sys/net/no").exists());
        write(&[missing(None)]).expect("a kindness");
        let failure = write(&[missing(None), missing(Some("spec.x[0]"))]).expect_err("asked for");
        assert_eq!((failure.step, failure.on.as_str()), (Step::SetUpSandbox, "spec.x[0]"));
        assert!(failure.call.contains("/proc/sys/net/no/such/file") && failure.call.contains("ENOENT"), "{failure}");
    }
}
