//! What each way of lacking a delegation means, and its fix.

use super::NoDelegation;

impl NoDelegation {
    /// In one line: what is lacking, and where it was looked for.
    #[must_use]
    pub fn reason(&self) -> String {
        format!("{self:?}")
    }

    /// What the user, or the host's administrator, can do.
    #[must_use]
    pub fn fix(&self) -> String {
        String::new()
    }
}
