//! One entry of `spec.volumes`.

use std::path::PathBuf;

use super::image;
use super::metadata::named;
use crate::manifest::names;
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::{HostPathType, Image, VolumeSource};
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::quantity::Quantity;
use crate::manifest::schema;

/// What could be read of a volume.
pub(super) struct Read<'t> {
    pub(super) name: Option<(String, Slot<'t>)>,
    pub(super) source: Option<VolumeSource>,
}

pub(super) fn read<'t>(slot: &Slot<'t>, problems: &mut Problems) -> Option<Read<'t>> {
    slot.object(&schema::VOLUME, problems, |object, problems| {
        let name = object.require("name", "mounts refer to it", problems).and_then(|slot| {
            // Kept though it breaks the rule: it is declared all the same.
            let text = slot.string(problems)?.to_owned();
            named(&slot, names::dns_label, problems);
            Some((text, slot))
        });
        Read { name, source: source(object, problems) }
    })
}

fn source(object: &mut Object<'_>, problems: &mut Problems) -> Option<VolumeSource> {
    // Kubernetes makes an emptyDir of a volume whose source is null. For `configMap:` that can only be a slip.
    let sources: Vec<&str> = schema::VOLUME.names().filter(|name| !["name", "emptyDir"].contains(name)).collect();
    for key in object.null_fields(|name| sources.contains(&name)) {
        problems.add(
            key.position,
            &object.path_of(&key.text),
            "has no value; fill it in (a volume without a source is an empty directory)",
        );
    }
    let empty_dir = object.take("emptyDir");
    let host_path = object.take("hostPath");
    let image = object.take("image");
    let sources = [("emptyDir", &empty_dir), ("hostPath", &host_path), ("image", &image)];
    let mut given = sources.iter().filter_map(|(name, slot)| Some((*name, slot.as_ref()?)));
    let first = given.next();
    for (_, another) in given {
        let name = first.map_or("another", |(name, _)| name);
        another.invalid(problems, format!("a volume has one source, and this one has {name} too; remove one"));
    }
    match (image, empty_dir, host_path) {
        (Some(slot), _, _) => slot.object(&schema::IMAGE_VOLUME, problems, image_source)?,
        (None, _, Some(slot)) => slot.object(&schema::HOST_PATH, problems, host_path_source)?,
        (None, Some(slot), None) => slot.object(&schema::EMPTY_DIR, problems, empty_dir_source)?,
        // Kubernetes' default (SetDefaults_Volume); when it has an unsupported source, that is a problem already.
        (None, None, None) => Some(VolumeSource::EmptyDirDisk { size_limit: None }),
    }
}

fn image_source(object: &mut Object<'_>, problems: &mut Problems) -> Option<VolumeSource> {
    let reference = object.require("reference", "the image whose files the volume has", problems);
    let image = reference.as_ref().and_then(|slot| image::read(slot, problems));
    let pull_policy = image::pull_policy(object, "pullPolicy", image.as_ref(), problems);
    match image? {
        Image::Stored(source) => Some(VolumeSource::Image { source, pull_policy }),
        Image::Host | Image::Rootfs(_) => {
            let message = "a volume has the files of an image from a registry or a file; for a directory of this machine \
                           write `hostPath: {path: /DIR}`";
            reference?.invalid(problems, message);
            None
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    Disk,
    Memory,
}

fn empty_dir_source(object: &mut Object<'_>, problems: &mut Problems) -> Option<VolumeSource> {
    let medium = match object.take("medium") {
        Some(slot) => medium(&slot, problems),
        None => Some(Medium::Disk),
    };
    let size_limit = object.take("sizeLimit").and_then(|slot| size_limit(&slot, problems));
    match medium? {
        Medium::Disk => Some(VolumeSource::EmptyDirDisk { size_limit }),
        Medium::Memory => Some(VolumeSource::EmptyDirMemory { size_limit }),
    }
}

fn medium(slot: &Slot<'_>, problems: &mut Problems) -> Option<Medium> {
    let text = slot.string(problems)?;
    if text == "HugePages" || text.starts_with("HugePages-") {
        problems.unsupported(
            slot.position(),
            &slot.path,
            "HugePages are not supported yet; allowed: Memory, or nothing for disk",
        );
        return None;
    }
    slot.choice(&[("", Medium::Disk), ("Memory", Medium::Memory)], problems)
}

/// Bytes; a fraction of one is rounded up.
fn size_limit(slot: &Slot<'_>, problems: &mut Problems) -> Option<u64> {
    let text = slot.quantity_text(problems)?;
    match text.parse::<Quantity>().map(|quantity| u64::try_from(quantity.value())) {
        // tmpfs(5) takes size=0 for "no limit", the opposite of what stands there; so does the kubelet on disk.
        Ok(Ok(0)) => slot.invalid(problems, "must be more than 0; leave it out for no limit"),
        Ok(Ok(bytes)) => return Some(bytes),
        Ok(Err(_)) => slot.invalid(problems, format!("`{}` must not be negative", excerpt(text))),
        Err(error) => slot.invalid(problems, format!("`{}` {error}", excerpt(text))),
    }
    None
}

const HOST_PATH_TYPES: [(&str, HostPathType); 8] = [
    ("", HostPathType::Unchecked),
    ("DirectoryOrCreate", HostPathType::DirectoryOrCreate),
    ("Directory", HostPathType::Directory),
    ("FileOrCreate", HostPathType::FileOrCreate),
    ("File", HostPathType::File),
    ("Socket", HostPathType::Socket),
    ("CharDevice", HostPathType::CharDevice),
    ("BlockDevice", HostPathType::BlockDevice),
];

fn host_path_source(object: &mut Object<'_>, problems: &mut Problems) -> Option<VolumeSource> {
    let path = object
        .require("path", "the path on this machine", problems)
        .and_then(|slot| named(&slot, names::absolute_path, problems));
    let kind = match object.take("type") {
        Some(slot) => slot.choice(&HOST_PATH_TYPES, problems),
        None => Some(HostPathType::Unchecked),
    };
    Some(VolumeSource::HostPath { path: PathBuf::from(names::normalized_path(&path?)), kind: kind? })
}
