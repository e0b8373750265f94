//! `image` and `imagePullPolicy`.

use std::path::PathBuf;

use crate::manifest::image_source::{ImageSource, InvalidSource, PullPolicy};
use crate::manifest::names;
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::Image;
use crate::manifest::problem::{Problems, excerpt};

const POLICIES: [(&str, PullPolicy); 3] =
    [("Always", PullPolicy::Always), ("IfNotPresent", PullPolicy::IfNotPresent), ("Never", PullPolicy::Never)];

const USE: &str = "use the name of an image (docker.io/library/nginx:1.25), oci:/DIR, oci-archive:/FILE, \
                   docker-archive:/FILE, \"host:\" (this machine's own system, in quotes) or rootfs:/DIR (an unpacked \
                   root file system)";

pub(super) fn read(slot: &Slot<'_>, problems: &mut Problems) -> Option<Image> {
    let text = slot.string(problems)?;
    match parse(text) {
        Ok(image) => Some(image),
        Err(message) => {
            slot.invalid(problems, message);
            None
        }
    }
}

/// `imagePullPolicy`, or Kubernetes' default for this image. `host:` and `rootfs:` are never pulled, whatever it says.
pub(super) fn pull_policy(
    object: &mut Object<'_>,
    field: &'static str,
    image: Option<&Image>,
    problems: &mut Problems,
) -> PullPolicy {
    // Empty means the default, as in Kubernetes.
    let slot = object.take(field).filter(|slot| !slot.is_empty());
    let asked = slot.and_then(|slot| slot.choice(&POLICIES, problems));
    match image {
        Some(Image::Stored(source)) => asked.unwrap_or_else(|| source.default_pull_policy()),
        Some(Image::Host | Image::Rootfs(_)) | None => PullPolicy::Never,
    }
}

fn parse(text: &str) -> Result<Image, String> {
    let name = excerpt(text);
    if text == "host:" {
        return Ok(Image::Host);
    }
    if let Some(dir) = text.strip_prefix("rootfs:") {
        return match names::absolute_path(dir) {
            Ok(()) => Ok(Image::Rootfs(PathBuf::from(names::normalized_path(dir)))),
            Err(broken) => Err(format!("the directory of `{name}` must {broken}: rootfs:/srv/alpine")),
        };
    }
    if text.trim().is_empty() {
        return Err(format!("is empty; {USE}"));
    }
    // What YAML leaves of an unquoted `image: host:`.
    if text == "host" {
        return Err("`host` lacks its colon; write \"host:\", in quotes".to_owned());
    }
    if text.starts_with("host:") {
        return Err(format!("`{name}`: nothing may follow `host:`, which is this machine's own system; {USE}"));
    }
    let source = ImageSource::parse(text).map_err(|wrong: InvalidSource| format!("`{name}` {wrong}; {USE}"))?;
    let Some(path) = source.path().map(|path| path.to_string_lossy().into_owned()) else {
        return Ok(Image::Stored(source));
    };
    match names::absolute_path(&path) {
        Ok(()) => Ok(Image::Stored(source.at(PathBuf::from(names::normalized_path(&path))))),
        Err(broken) => Err(format!("the path of `{name}` must {broken}: oci:/srv/images/nginx")),
    }
}
