//! Which program makes a user-mode network, or why none does.

use std::path::PathBuf;

use super::{Backend, Wish};
use crate::host::{NetworkFacts, Tun};
use crate::report::{Report, exit_code};

/// Why there is no user-mode network.
pub(super) struct Lack {
    pub(super) why: String,
    pub(super) fix: String,
}

pub(super) fn refused(asked: &str, Lack { why, fix }: Lack) -> Report {
    Report::new(exit_code::FAILURE, format!("no network as asked for: {asked}")).because(why).hint(fix)
}

pub(super) fn one(backend: Backend, facts: &NetworkFacts) -> Result<(Backend, PathBuf), Lack> {
    let (found, package) = match backend {
        Backend::Slirp4netns => (&facts.slirp4netns, "slirp4netns"),
        Backend::Pasta => (&facts.pasta, "passt"),
    };
    let program = found.clone().ok_or_else(|| Lack {
        why: format!("{} is not installed", backend.word()),
        fix: format!("install it: sudo apt install {package}"),
    })?;
    usable_tun(facts)?;
    Ok((backend, program))
}

/// slirp4netns first: it closes more of the host by itself, and needs no address of the host's to be there.
pub(super) fn any(facts: &NetworkFacts) -> Result<(Backend, PathBuf), Lack> {
    usable_tun(facts)?;
    one(Backend::Slirp4netns, facts).or_else(|_| one(Backend::Pasta, facts)).map_err(|_| Lack {
        why: "neither slirp4netns nor pasta is installed".to_owned(),
        fix: "sudo apt install slirp4netns (or passt, which has pasta)".to_owned(),
    })
}

fn usable_tun(facts: &NetworkFacts) -> Result<(), Lack> {
    match &facts.tun {
        Tun::Usable => Ok(()),
        Tun::Refused { why, fix } => Err(Lack { why: format!("/dev/net/tun: {why}"), fix: fix.clone() }),
    }
}

/// While it starts, the network program is a process with your ids and the host's files in the pod's user namespace.
pub(super) fn untraced(wish: Wish<'_>) -> Result<(), Lack> {
    match wish.tracer.filter(|_| wish.host_pid) {
        None => Ok(()),
        Some(container) => Err(Lack {
            why: format!(
                "with hostPID and SYS_PTRACE container `{container}` could take over the program that makes it"
            ),
            fix: "leave one of the two out, or use this host's network: --network host".to_owned(),
        }),
    }
}
