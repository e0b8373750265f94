//! `sandpod version`

use super::arguments::VersionArguments;
use super::{Outcome, print};

pub(crate) fn version(asked: &VersionArguments) -> Outcome {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    if asked.json {
        let architecture = std::env::consts::ARCH;
        print::json(&serde_json::json!({ "name": name, "version": version, "architecture": architecture }))?;
    } else {
        print::text(&format!("{name} {version}\n"))?;
    }
    Ok(0)
}
