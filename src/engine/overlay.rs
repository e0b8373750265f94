//! overlayfs mounts of a container's root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::failure::{During, Failure, Result};
use super::root::fresh_directory;
use crate::step::Step;
use crate::sys::mount::{Attributes, DetachedMount};
use crate::sys::path;
use crate::sys::{Errno, Error};

const STEP: Step = Step::BuildRoot;

/// The kernel's OVL_MAX_STACK: one more is EINVAL.
const MOST_LAYERS: usize = 500;
/// Bytes of a value of fsconfig(2), without its NUL.
const LONGEST_VALUE: usize = 255;

/// The directories below an overlay.
pub(super) struct StackedLayers<'a> {
    /// The highest first.
    layers: Vec<BorrowedFd<'a>>,
    /// Below all of them, where there would be fewer than an overlay needs.
    empty: Option<OwnedFd>,
}

/// One directory that shows what several hold.
pub(super) enum Merged<'a> {
    Directory(BorrowedFd<'a>),
    Overlay(DetachedMount),
}

impl AsFd for Merged<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Merged::Directory(directory) => directory.as_fd(),
            Merged::Overlay(mount) => mount.as_fd(),
        }
    }
}

impl<'a> StackedLayers<'a> {
    /// `store`: where the empty directory below an image without layers is made.
    pub(super) fn new(store: BorrowedFd<'_>, layers: &'a [(&Path, OwnedFd)]) -> Result<StackedLayers<'a>> {
        // The layer of mount points comes on top.
        if layers.len() >= MOST_LAYERS {
            let why = format!("the image has {} layers, and overlayfs takes at most {}", layers.len(), MOST_LAYERS - 1);
            return Err(Failure::because(STEP, "/".to_owned(), why));
        }
        let empty = if layers.is_empty() { Some(fresh_directory(store, "empty")?) } else { None };
        Ok(StackedLayers { layers: layers.iter().map(|(_, opened)| opened.as_fd()).collect(), empty })
    }

    /// The highest first.
    pub(super) fn each(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.layers.iter().copied().chain(self.empty.iter().map(AsFd::as_fd))
    }

    /// To look something up in: whiteouts and opaque directories count as the kernel counts them.
    pub(super) fn merged(&self) -> Result<Merged<'_>> {
        match (self.layers.as_slice(), &self.empty) {
            ([], Some(only)) => Ok(Merged::Directory(only.as_fd())),
            ([only], None) => Ok(Merged::Directory(*only)),
            // Without an upper layer the kernel wants at least two.
            _ => mount(self.each(), &[], Path::new("/")).map(Merged::Overlay),
        }
    }
}

/// What at least two directories show together, the highest first.
pub(super) fn read_only<'a>(layers: impl Iterator<Item = BorrowedFd<'a>>, on: &Path) -> Result<DetachedMount> {
    mount(layers, &[], on)
}

/// A writable overlay. `lowers`: the highest first.
///
/// `userxattr`: overlayfs in a user namespace keeps its marks in `user.overlay.*`, since `trusted.*` is for the host's
/// root. `volatile`: no sync of the whole disk when the container ends; the layer never outlives its container.
pub(super) fn overlay<'a>(
    lowers: impl Iterator<Item = BorrowedFd<'a>>,
    upper: &OwnedFd,
    work: &OwnedFd,
    on: &Path,
) -> Result<DetachedMount> {
    let (upper, work) = (path::through_proc(upper.as_fd()), path::through_proc(work.as_fd()));
    mount(lowers, &[("upperdir", Some(upper.as_str())), ("workdir", Some(work.as_str())), ("volatile", None)], on)
}

/// By descriptor: an id of an isolated map could not walk the path, and `:` in a name would split it.
fn mount<'a>(
    lowers: impl Iterator<Item = BorrowedFd<'a>>,
    options: &[(&str, Option<&str>)],
    on: &Path,
) -> Result<DetachedMount> {
    let lowers: Vec<BorrowedFd<'_>> = lowers.collect();
    let paths: Vec<String> = lowers.iter().map(|lower| path::through_proc(*lower)).collect();
    let one = paths.join(":");
    let create = |lowers: &[(&str, Option<&str>)]| {
        let options = [lowers, options, &[("userxattr", None)]].concat();
        DetachedMount::create("overlay", &options, Attributes::NO_DEV)
    };
    // Every kernel takes this.
    if one.len() <= LONGEST_VALUE {
        return create(&[("lowerdir", Some(&one))]).during(STEP, on.display());
    }
    let each: Vec<_> = paths.iter().map(|path| ("lowerdir+", Some(path.as_str()))).collect();
    match create(&each) {
        // Before Linux 6.7 it is no parameter (fs_parser.c).
        Err(Error { errno: Errno::EINVAL, call }) if call.contains("lowerdir+=") => {}
        other => return other.during(STEP, on.display()),
    }
    let short = short_paths(&lowers);
    if short.len() > LONGEST_VALUE {
        let why = format!(
            "the image has {} layers, and before Linux 6.7 overlayfs takes what fits into {LONGEST_VALUE} bytes, \
             about 60",
            lowers.len()
        );
        return Err(Failure::because(STEP, on.display().to_string(), why));
    }
    in_descriptors(|| create(&[("lowerdir", Some(&short))]).during(STEP, on.display()))
}

/// Relative to the directory of our own descriptors.
fn short_paths(lowers: &[BorrowedFd<'_>]) -> String {
    use std::os::fd::AsRawFd;
    lowers.iter().map(|lower| lower.as_raw_fd().to_string()).collect::<Vec<_>>().join(":")
}

/// Acts with /proc/self/fd as the current directory.
fn in_descriptors<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let here = path::open_host_path(Path::new(".")).during(STEP, ".")?;
    path::change_directory(Path::new("/proc/self/fd")).during(STEP, "/proc/self/fd")?;
    let done = act();
    path::enter_directory(here.as_fd()).during(STEP, ".")?;
    done
}
