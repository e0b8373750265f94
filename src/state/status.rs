//! What a pod is now: what its record says, corrected by what is looked up.

use super::record::Phase;

/// Looked up: does a supervisor hold the pod's lock?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    Supervised,
    Unsupervised,
}

/// What the user is told about a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Starting,
    Running,
    Stopping,
    Succeeded,
    Failed {
        reason: String,
    },
    /// The record cannot be read; `rm` still works.
    Damaged {
        reason: String,
    },
    /// Its runtime directory went with a boot (or the end of the login session); its files are left.
    Lost,
}

impl Status {
    /// Is anything of it alive, so that `ps` shows it and `rm` refuses it?
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Status::Starting | Status::Running | Status::Stopping)
    }

    /// One word, for a column.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Status::Starting => "Starting",
            Status::Running => "Running",
            Status::Stopping => "Stopping",
            Status::Succeeded => "Succeeded",
            Status::Failed { .. } => "Failed",
            Status::Damaged { .. } => "Damaged",
            Status::Lost => "Lost",
        }
    }

    /// Why, where there is more to say than the word.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Status::Failed { reason } | Status::Damaged { reason } => Some(reason),
            Status::Lost => Some("host restarted"),
            Status::Starting | Status::Running | Status::Stopping | Status::Succeeded => None,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.reason() {
            Some(reason) if !reason.is_empty() => write!(f, "{} ({reason})", self.word()),
            _ => f.write_str(self.word()),
        }
    }
}

/// A record that still says `Running` without a supervisor was left by one that was killed: pause and every container
/// went with it (design: death chain).
#[must_use]
pub fn effective_phase(recorded: &Phase, liveness: Liveness) -> Status {
    match (recorded, liveness) {
        (Phase::Succeeded, _) => Status::Succeeded,
        (Phase::Failed { reason }, _) => Status::Failed { reason: reason.clone() },
        (Phase::Starting, Liveness::Supervised) => Status::Starting,
        (Phase::Running, Liveness::Supervised) => Status::Running,
        (Phase::Stopping, Liveness::Supervised) => Status::Stopping,
        (Phase::Starting | Phase::Running | Phase::Stopping, Liveness::Unsupervised) => {
            Status::Failed { reason: "supervisor was killed".to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_believed_only_with_a_supervisor() {
        for phase in [Phase::Starting, Phase::Running, Phase::Stopping] {
            assert!(effective_phase(&phase, Liveness::Supervised).is_live(), "{phase:?}");
            let dead = effective_phase(&phase, Liveness::Unsupervised);
            assert_eq!(dead.to_string(), "Failed (supervisor was killed)", "{phase:?}");
        }
        assert_eq!(effective_phase(&Phase::Succeeded, Liveness::Unsupervised), Status::Succeeded);
        // The supervisor writes the end before it leaves.
        assert!(!effective_phase(&Phase::Succeeded, Liveness::Supervised).is_live());
    }
}
