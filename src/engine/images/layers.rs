//! Brings the layers of an image: several at once, each in one pass from the registry to its tree.
//!
//! Two pulls of one layer share the work by the store's locks: who comes second waits. **Locks are taken in the order of the
//! diffIDs**, so that two pulls which each have a layer that the other wants do not wait for each other for ever; a layer
//! that is tried again is begun when this process holds no other one.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use super::progress::{Event, Progress};
use super::puller::Trouble;
use super::unpacker::{Blame, Blob, Task, Unpacker, Word};
use super::{Pull, could_not};
use crate::image::layer::pipeline::Expected;
use crate::image::layer::{Limits, Summary};
use crate::image::store::{MapLines, NewTree, PartialBlob};
use crate::image::{StoredImage, StoredLayer};
use crate::plan::idmap::{IdMapPlan, MapEntry};
use crate::report::Report;
use crate::sys::poll::{self, Want};
use crate::sys::{probe, stdio};

/// More at once would only take turns on the connection.
const MOST_AT_ONCE: usize = 4;

pub(super) struct Layers<'p, 's, 'o> {
    pull: &'p mut Pull<'s>,
    idmap: &'p IdMapPlan,
    lines: MapLines,
    out: &'o mut dyn Progress,
    /// Where all layers go, one over the other; `None`: each has a tree of its own.
    merged: Option<Merged>,
    waiting: VecDeque<Wanted>,
    running: Vec<Job<'s>>,
}

struct Merged {
    tree: NewTree,
    /// Of the layers so far.
    summary: Summary,
}

/// A layer to bring.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    layer: StoredLayer,
    /// How many endpoints have failed for it, counted from the one that had the manifest.
    endpoints_tried: usize,
    /// It was tried before: see the top of this file.
    alone: bool,
    /// What was here was damaged and is gone; a second time it is not what was here.
    fresh: bool,
}

struct Job<'s> {
    wanted: Wanted,
    /// `None`: the layer goes over those before it.
    tree: Option<NewTree>,
    /// `None`: the blob is in the store.
    partial: Option<PartialBlob<'s>>,
    /// Bytes that were there before.
    from: u64,
    unpacker: Unpacker,
    /// The number of the puller's task.
    fetch: Option<u64>,
    fetched: Option<Result<(), Trouble>>,
    last_word: Option<LastWord>,
}

enum LastWord {
    Done(Summary),
    Refused { why: Vec<String>, blame: Blame },
}

impl Job<'_> {
    fn is_over(&self) -> bool {
        self.last_word.is_some() && (self.fetch.is_none() || self.fetched.is_some())
    }
}

impl<'p, 's, 'o> Layers<'p, 's, 'o> {
    pub(super) fn new(
        pull: &'p mut Pull<'s>,
        idmap: &'p IdMapPlan,
        out: &'o mut dyn Progress,
    ) -> Result<Layers<'p, 's, 'o>, Report> {
        Ok(Layers {
            pull,
            idmap,
            lines: lines_of(idmap),
            out,
            merged: None,
            waiting: VecDeque::new(),
            running: Vec::new(),
        })
    }

    pub(super) fn bring(mut self, image: &StoredImage) -> Result<(), Report> {
        // An image may have one layer twice; it is brought once.
        let layers: BTreeMap<_, _> = image.layers.iter().map(|layer| (layer.diff_id, *layer)).collect();
        self.waiting = layers
            .into_values()
            .map(|layer| Wanted { layer, endpoints_tried: 0, alone: false, fresh: false })
            .collect();
        self.bring_waiting()
    }

    /// All layers as one tree, from the lowest to the highest.
    pub(super) fn bring_merged(mut self, image: &StoredImage) -> Result<(), Report> {
        let Some(chain_id) = image.chain_id() else { return Ok(()) };
        let tree = self.pull.store.new_tree(&self.lines, chain_id).map_err(|error| self.pull.of_store(error))?;
        let Some(tree) = tree else {
            image.layers.iter().for_each(|layer| self.out.say(&Event::LayerHere { layer: layer.blob }));
            return Ok(());
        };
        self.merged = Some(Merged { tree, summary: Summary::default() });
        for layer in &image.layers {
            self.waiting.push_back(Wanted { layer: *layer, endpoints_tried: 0, alone: false, fresh: false });
            self.bring_waiting()?;
        }
        match self.merged {
            Some(Merged { tree, summary }) => tree.commit(&summary).map_err(|error| self.pull.of_store(error)),
            None => Ok(()),
        }
    }

    fn bring_waiting(&mut self) -> Result<(), Report> {
        let processors = probe::cpus().map_or(1, |count| usize::try_from(count).unwrap_or(1));
        let most = processors.clamp(1, MOST_AT_ONCE);
        loop {
            while self.running.len() < most
                && let Some(wanted) = self.waiting.front().copied()
                && (!wanted.alone || self.running.is_empty())
            {
                self.waiting.pop_front();
                self.begin(wanted)?;
            }
            if self.running.is_empty() && self.waiting.is_empty() {
                return Ok(());
            }
            self.wait()?;
            while let Some(over) = self.running.iter().position(Job::is_over) {
                let job = self.running.remove(over);
                self.finish(job)?;
            }
        }
    }

    fn begin(&mut self, wanted: Wanted) -> Result<(), Report> {
        if self.merged.is_some() {
            return self.begin_blob(wanted, None);
        }
        let layer = wanted.layer;
        let store = self.pull.store;
        if store.has_tree(&self.lines.key, layer.diff_id).map_err(|error| self.pull.of_store(error))? {
            self.out.say(&Event::LayerHere { layer: layer.blob });
            return Ok(());
        }
        self.out.say(&Event::LayerWaits { layer: layer.blob });
        let tree = store.new_tree(&self.lines, layer.diff_id).map_err(|error| self.pull.of_store(error))?;
        let Some(tree) = tree else {
            self.out.say(&Event::LayerHere { layer: layer.blob });
            return Ok(());
        };
        self.begin_blob(wanted, Some(tree))
    }

    fn begin_blob(&mut self, wanted: Wanted, tree: Option<NewTree>) -> Result<(), Report> {
        let layer = wanted.layer;
        let store = self.pull.store;
        let mut kept = store.blob(layer.blob).map_err(|error| self.pull.of_store(error))?;
        let mut partial = None;
        if kept.is_none() {
            partial = store.partial(layer.blob).map_err(|error| self.pull.of_store(error))?;
            if partial.is_none() {
                kept = store.blob(layer.blob).map_err(|error| self.pull.of_store(error))?;
            }
        }
        match (kept, partial) {
            (Some(kept), _) => self.unpack_kept(wanted, tree, &kept),
            (None, Some(partial)) => self.fetch(wanted, tree, partial),
            // Removed in the moment between: not while we hold the store's lock, unless it was damaged.
            (None, None) => {
                self.waiting.push_back(Wanted { alone: true, ..wanted });
                Ok(())
            }
        }
    }

    fn unpack_kept(&mut self, wanted: Wanted, tree: Option<NewTree>, blob: &File) -> Result<(), Report> {
        let StoredLayer { blob: layer, size, .. } = wanted.layer;
        self.out.say(&Event::LayerBegun { layer, size, from: size, kept: true });
        let unpacker = self.start(tree.as_ref(), Blob::Kept(blob), &wanted.layer)?;
        let job =
            Job { wanted, tree, partial: None, from: size, unpacker, fetch: None, fetched: None, last_word: None };
        self.running.push(job);
        Ok(())
    }

    fn fetch(&mut self, wanted: Wanted, tree: Option<NewTree>, partial: PartialBlob<'s>) -> Result<(), Report> {
        let StoredLayer { blob: layer, size, .. } = wanted.layer;
        let mut from = partial.length().map_err(|error| self.pull.of_store(error))?;
        if from > size {
            partial.clear().map_err(|error| self.pull.of_store(error))?;
            from = 0;
        }
        self.out.say(&Event::LayerBegun { layer, size, from, kept: false });
        let mut fetch = None;
        let mut pipe = None;
        // A pull that was killed after the last byte left a whole blob.
        if from < size {
            let (read, id) = self.ask_for(&wanted, from)?;
            pipe = Some(read);
            fetch = Some(id);
        }
        let unpacker =
            self.start(tree.as_ref(), Blob::Arriving { partial: partial.file(), length: from, pipe }, &wanted.layer)?;
        let partial = Some(partial);
        self.running.push(Job { wanted, tree, partial, from, unpacker, fetch, fetched: None, last_word: None });
        Ok(())
    }

    /// Has the puller send a blob; the end of the pipe that it comes out of.
    fn ask_for(&mut self, wanted: &Wanted, from: u64) -> Result<(OwnedFd, u64), Report> {
        let count = self.pull.endpoints.len();
        if count == 0 {
            let why = format!("layer {} is not in the store, and no registry is asked for it", wanted.layer.blob);
            return Err(self.pull.failed(why).hint(format!("sandpod pull {}", self.pull.name)));
        }
        let endpoint = (self.pull.from + wanted.endpoints_tried) % count;
        let (read, write) = stdio::pipe().map_err(|error| self.pull.failed(error.to_string()))?;
        let StoredLayer { blob, size, .. } = wanted.layer;
        let id = self.pull.puller()?.blob(endpoint, blob, size, from, write.as_fd())?;
        Ok((read, id))
    }

    fn start(&self, tree: Option<&NewTree>, blob: Blob<'_>, layer: &StoredLayer) -> Result<Unpacker, Report> {
        let StoredLayer { blob: digest, size, compression, diff_id } = *layer;
        let expected = Expected { digest, size, compression, diff_id };
        let (idmap, limits) = (self.idmap, Limits::default());
        let Some(quarantine) = tree.or(self.merged.as_ref().map(|merged| &merged.tree)).map(NewTree::directory) else {
            return Err(self.pull.failed(format!("layer {digest} has no place to go")));
        };
        Unpacker::start(Task { quarantine, blob, expected, idmap, limits, merged: self.merged.is_some() })
            .map_err(|failure| failure.into_report(format!("could not unpack a layer of `{}`", self.pull.name)))
    }

    /// Until something was heard.
    fn wait(&mut self) -> Result<(), Report> {
        let mut watched: Vec<_> = self.running.iter().map(|job| (job.unpacker.as_fd(), Want::Read)).collect();
        // A job whose unpacker has said its last word is not listened to: the end of its socket would be taken for a death.
        let listened: Vec<usize> =
            (0..self.running.len()).filter(|place| self.running[*place].last_word.is_none()).collect();
        watched = listened.iter().map(|place| watched[*place]).collect();
        let puller = self.running.iter().any(|job| job.fetch.is_some() && job.fetched.is_none());
        if puller && let Some(puller) = &self.pull.puller {
            watched.push((puller.as_fd(), Want::Read));
        }
        let ready = poll::any(&watched, None)
            .map_err(|error| could_not("wait for the layers of an image", error.to_string()))?;
        drop(watched);
        for (number, place) in listened.iter().enumerate() {
            if ready[number] {
                self.hear(*place)?;
            }
        }
        if puller && ready.last() == Some(&true) {
            self.hear_puller()?;
        }
        Ok(())
    }

    fn hear(&mut self, place: usize) -> Result<(), Report> {
        let job = &mut self.running[place];
        let StoredLayer { blob: layer, size, .. } = job.wanted.layer;
        let failed = |failure: crate::engine::Failure| {
            failure.into_report(format!("could not unpack layer {layer} of `{}`", self.pull.name))
        };
        match job.unpacker.hear().map_err(failed)? {
            Word::Bytes(bytes) => self.out.say(&Event::LayerProgress { layer, size, bytes }),
            Word::Done(summary) => job.last_word = Some(LastWord::Done(summary)),
            Word::Refused { why, blame } => job.last_word = Some(LastWord::Refused { why, blame }),
            Word::Failed(failure) => return Err(failed(failure)),
        }
        Ok(())
    }

    fn hear_puller(&mut self) -> Result<(), Report> {
        let Some(puller) = self.pull.puller.as_mut() else { return Ok(()) };
        puller.hear()?;
        for job in &mut self.running {
            if let Some(id) = job.fetch
                && let Some(outcome) = puller.outcome(id)
            {
                job.fetched = Some(outcome);
            }
        }
        Ok(())
    }

    fn finish(&mut self, job: Job<'s>) -> Result<(), Report> {
        let Job { wanted, tree, partial, from, unpacker, fetch, fetched, last_word } = job;
        // It has ended, and reaped it holds no lock and writes nothing any more.
        drop(unpacker);
        let StoredLayer { blob: layer, size, .. } = wanted.layer;
        match (last_word, fetched) {
            (Some(LastWord::Done(summary)), _) => {
                if let Some(partial) = partial {
                    partial.commit().map_err(|error| self.pull.of_store(error))?;
                }
                match (tree, &mut self.merged) {
                    (Some(tree), _) => tree.commit(&summary).map_err(|error| self.pull.of_store(error))?,
                    (None, Some(merged)) => merged.summary.add(&summary),
                    (None, None) => {}
                }
                let Summary { entries, devices_replaced, xattrs_dropped, owners_squashed, .. } = summary;
                self.out.say(&Event::LayerDone {
                    layer,
                    size,
                    entries,
                    devices_replaced,
                    xattrs_dropped,
                    owners_squashed,
                });
                Ok(())
            }
            (Some(LastWord::Refused { blame: Blame::Layer, why }), _) => Err(self.refused(&wanted, why, None)),
            // The registry's own error says more than the end of the pipe.
            (Some(LastWord::Refused { .. }), Some(Err(trouble))) => self.next_endpoint(wanted, trouble),
            (Some(LastWord::Refused { blame, why }), _) => {
                let was_here = from > 0 || fetch.is_none();
                // Then it cannot be read from here at all.
                let blame = if fetch.is_none() { Blame::Bytes } else { blame };
                match partial {
                    None => {
                        self.pull.store.remove_blob(layer).map_err(|error| self.pull.of_store(error))?;
                    }
                    Some(partial) if blame == Blame::Bytes => {
                        partial.clear().map_err(|error| self.pull.of_store(error))?;
                    }
                    Some(_) => {}
                }
                if was_here && !wanted.fresh && blame == Blame::Bytes {
                    // What an earlier pull left was damaged (a power cut): all of it once more.
                    self.out.say(&Event::LayerAgain { layer, why: &why.join(": ") });
                    self.waiting.push_back(Wanted { alone: true, fresh: true, ..wanted });
                    return Ok(());
                }
                self.next_endpoint(wanted, Trouble { why: why.join(": "), hint: None, is_final: false })
            }
            (None, _) => Err(self.pull.failed(format!("layer {layer} was not unpacked"))),
        }
    }

    fn next_endpoint(&mut self, wanted: Wanted, trouble: Trouble) -> Result<(), Report> {
        let endpoints_tried = wanted.endpoints_tried + 1;
        if trouble.is_final || endpoints_tried >= self.pull.endpoints.len() {
            return Err(self.refused(&wanted, vec![trouble.why], trouble.hint));
        }
        self.out.say(&Event::LayerAgain { layer: wanted.layer.blob, why: &trouble.why });
        self.waiting.push_back(Wanted { endpoints_tried, alone: true, ..wanted });
        Ok(())
    }

    fn refused(&self, wanted: &Wanted, why: Vec<String>, hint: Option<String>) -> Report {
        let mut report = self.pull.failed(format!("layer {}", wanted.layer.blob));
        report = why.into_iter().fold(report, Report::because);
        report.hint = hint;
        report
    }
}

fn lines_of(idmap: &IdMapPlan) -> MapLines {
    let lines = |entries: &[MapEntry]| entries.iter().map(|it| [it.inside.0, it.outside.0, it.count]).collect();
    MapLines { key: idmap.key(), uids: lines(&idmap.uids), gids: lines(&idmap.gids) }
}
