//! `sandpod image load` and `sandpod image save`

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::super::arguments::{ArchiveFormat, ImageLoadArguments, ImageSaveArguments};
use super::super::pull_progress::Shown;
use super::super::{Failure, Outcome, print, pull};
use super::{facts, find};
use crate::engine::images::Pull;
use crate::image::StoredImage;
use crate::image::archive::{self, ArchiveError, Format, Loaded};
use crate::image::store::Found;
use crate::manifest::{ImageSource, image_reference};
use crate::plan::{self, idmap};
use crate::report::{Report, exit_code};
use crate::sys::describe_io;

/// Takes the images, unpacks them as `pull` does, and then gives them their names.
pub(crate) fn load(asked: &ImageLoadArguments) -> Outcome {
    let facts = facts()?;
    let idmap = idmap::of_images(&facts, asked.userns.into())?;
    let platform = pull::platform(asked.platform.as_deref())?;
    let place = asked.input.clone().unwrap_or_else(|| PathBuf::from("-"));
    let failed =
        |why: String| Report::new(exit_code::FAILURE, format!("could not load {}", shown(&place))).because(why);
    let store = pull::open_store(&facts)?;
    let _lock = store.shared().map_err(|error| error.into_report("could not lock the image store"))?;
    let loaded = match &asked.input {
        Some(file) => {
            let file = File::open(file).map_err(|error| failed(describe_io(&error)))?;
            archive::load(&store, file, &platform)
        }
        None if io::stdin().is_terminal() => {
            let what = Report::new(exit_code::USAGE, "an archive of images cannot be typed");
            return Err(what.hint("sandpod image load -i FILE, or: podman save NAME | sandpod image load").into());
        }
        None => archive::load(&store, io::stdin(), &platform),
    };
    let loaded = loaded.map_err(|error| failed(error.to_string()))?;
    if loaded.is_empty() {
        return Err(failed("it has no images".to_owned()).into());
    }
    let mut out = Shown::brief(asked.quiet);
    for Loaded { image, names } in loaded {
        let (names, unusable) = canonical(&names);
        for name in unusable {
            print::notice(
                "warning",
                &format!("an image in it is called `{name}`, which is no complete name: it gets none"),
            );
        }
        // For messages alone.
        let source = names.first().and_then(|name| ImageSource::parse(name).ok());
        let source = source.unwrap_or(ImageSource::DockerArchive { file: place.clone(), tag: None });
        Pull::new(&store, &source, Vec::new()).ensure(&image, plan::merges_layers(&image, &facts), &idmap, &mut out)?;
        for name in &names {
            let named = store.set_name(name, image.manifest);
            named.map_err(|error| error.into_report(format!("could not give the image the name `{name}`")))?;
        }
        print::text(&said(&image, &names, asked.quiet))?;
    }
    out.finish()?;
    Ok(0)
}

/// What is printed of an image that was loaded.
fn said(image: &StoredImage, names: &[String], quiet: bool) -> String {
    if quiet || names.is_empty() {
        return format!("{}\n", image.manifest);
    }
    names.iter().map(|name| format!("{name}@{}\n", image.manifest)).collect()
}

fn shown(place: &Path) -> String {
    if place == Path::new("-") {
        "an archive of images from stdin".to_owned()
    } else {
        format!("`{}`", place.display())
    }
}

/// The names that are complete, as the store writes them, and those that are none. In OCI's layout a name may be a tag alone.
fn canonical(names: &[String]) -> (Vec<String>, Vec<String>) {
    let complete = |name: &String| {
        let reference = image_reference::parse(name).ok().filter(|reference| reference.digest.is_none())?;
        name.contains([':', '/']).then(|| reference.to_string())
    };
    let mut found: Vec<String> = names.iter().filter_map(complete).collect();
    found.sort();
    found.dedup();
    let unusable = if found.is_empty() { names.to_vec() } else { Vec::new() };
    (found, unusable)
}

/// Writes the images, each with the name that was typed.
pub(crate) fn save(asked: &ImageSaveArguments) -> Outcome {
    let store = pull::open_store(&facts()?)?;
    let _lock = store.shared().map_err(|error| error.into_report("could not lock the image store"))?;
    let mut images: Vec<(StoredImage, Vec<String>)> = Vec::new();
    for typed in &asked.images {
        let Found { image, name } = find(&store, typed)?;
        let name = name.filter(|name| image_reference::parse(name).is_ok_and(|reference| reference.digest.is_none()));
        match images.iter_mut().find(|(other, _)| other.manifest == image.manifest) {
            Some((_, names)) => names.extend(name),
            None => images.push((image, name.into_iter().collect())),
        }
    }
    let format = match asked.format {
        ArchiveFormat::DockerArchive => Format::DockerArchive,
        ArchiveFormat::OciArchive => Format::OciArchive,
    };
    match &asked.output {
        Some(file) => save_to_file(file, |out| archive::save(&store, &images, format, out)).map(|()| 0),
        None if io::stdout().is_terminal() => {
            let what = Report::new(exit_code::USAGE, "an archive of images is not written to a terminal");
            Err(what.hint("sandpod image save -o FILE IMAGE, or: sandpod image save IMAGE | podman load").into())
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            match archive::save(&store, &images, format, &mut out) {
                Err(ArchiveError::Read(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    Err(Failure::StdoutClosed)
                }
                saved => saved.map(|()| 0).map_err(|error| could_not_save("stdout", &error).into()),
            }
        }
    }
}

fn could_not_save(place: &str, error: &ArchiveError) -> Report {
    Report::new(exit_code::FAILURE, format!("could not save images to {place}")).because(error.to_string())
}

/// The file appears when it is complete; what is in its place until then stays, and after an error, too.
fn save_to_file(file: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), ArchiveError>) -> Result<(), Failure> {
    let place = format!("`{}`", file.display());
    let failed = |error: io::Error| could_not_save(&place, &ArchiveError::Read(error));
    // A pipe or a device is written to; nothing can take its place.
    if file.metadata().is_ok_and(|found| !found.is_file()) {
        let mut out = BufWriter::new(File::options().write(true).open(file).map_err(failed)?);
        return write(&mut out).map_err(|error| could_not_save(&place, &error).into());
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let unfinished = file.with_file_name(name);
    let written = File::create(&unfinished)
        .map_err(ArchiveError::Read)
        .and_then(|out| write(&mut BufWriter::new(out)).and_then(|()| Ok(std::fs::rename(&unfinished, file)?)));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&unfinished);
        could_not_save(&place, &error).into()
    })
}
