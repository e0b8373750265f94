//! `image`: which transports there are, and which of them work so far.

use std::path::PathBuf;

use crate::manifest::image_reference::{self, InvalidReference};
use crate::manifest::names;
use crate::manifest::object::Slot;
use crate::manifest::pod::Image;
use crate::manifest::problem::{Problems, excerpt};

/// containers-transports(5), without those that are supported.
const OTHER_TRANSPORTS: [&str; 8] =
    ["oci:", "oci-archive:", "docker-archive:", "docker-daemon:", "containers-storage:", "dir:", "sif:", "ostree:"];

pub(super) fn read(slot: &Slot<'_>, problems: &mut Problems) -> Option<Image> {
    let text = slot.string(problems)?;
    match parse(text) {
        Ok(image) => Some(image),
        Err(Refusal::Invalid(message)) => {
            slot.invalid(problems, message);
            None
        }
        Err(Refusal::Unsupported(message)) => {
            problems.unsupported(slot.position(), &slot.path, message);
            None
        }
    }
}

enum Refusal {
    Invalid(String),
    Unsupported(String),
}

fn parse(text: &str) -> Result<Image, Refusal> {
    const USE: &str =
        "use \"host:\" (this machine's own system, in quotes) or rootfs:/DIR (an unpacked root file system)";
    let name = excerpt(text);
    if text == "host:" {
        return Ok(Image::Host);
    }
    if let Some(dir) = text.strip_prefix("rootfs:") {
        return match names::absolute_path(dir) {
            Ok(()) => Ok(Image::Rootfs(PathBuf::from(names::normalized_path(dir)))),
            Err(broken) => {
                Err(Refusal::Invalid(format!("the directory of `{name}` must {broken}: rootfs:/srv/alpine")))
            }
        };
    }
    if text.trim().is_empty() {
        return Err(Refusal::Invalid(format!("is empty; {USE}")));
    }
    // What YAML leaves of an unquoted `image: host:`.
    if text == "host" {
        return Err(Refusal::Invalid("`host` lacks its colon; write \"host:\", in quotes".to_owned()));
    }
    if text.starts_with("host:") {
        return Err(Refusal::Invalid(format!(
            "`{name}`: nothing may follow `host:`, which is this machine's own system; {USE}"
        )));
    }
    if let Some(transport) = OTHER_TRANSPORTS.iter().find(|transport| text.starts_with(**transport)) {
        return Err(Refusal::Unsupported(format!("`{name}`: images by `{transport}` are not supported yet; {USE}")));
    }
    match from_registry(text) {
        Ok(what) => Err(Refusal::Unsupported(format!("`{name}` means {what}; {USE}"))),
        Err(wrong) => Err(Refusal::Invalid(format!("`{name}` {wrong}; {USE}"))),
    }
}

/// What the name of an image in a registry means, and that such images are not supported yet.
///
/// # Errors
/// Why it is no such name.
pub(crate) fn from_registry(text: &str) -> Result<String, InvalidReference> {
    let reference = image_reference::parse(text.strip_prefix("docker://").unwrap_or(text))?;
    Ok(format!("{reference}; images from a registry are not supported yet"))
}
