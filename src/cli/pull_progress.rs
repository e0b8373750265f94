//! How a pull or a push is shown: bars on a terminal, lines elsewhere, JSON with `--json`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::print;
use crate::engine::images::{BlobPushed, Event, Progress};
use crate::image::Digest;

/// Hexadecimal digits of a digest that are enough for a reader.
const DIGITS: usize = 12;
const UNIT: u64 = 1000;

/// What is shown on stderr, or as JSON on stdout.
pub(crate) struct Shown {
    form: Form,
    /// Only what takes time: a pod that starts from what is here says nothing.
    brief: bool,
    /// The first write to stdout that failed.
    failed: Option<io::Error>,
}

enum Form {
    Nothing,
    Lines,
    Bars { all: MultiProgress, layers: BTreeMap<Digest, ProgressBar> },
    Json,
}

impl Shown {
    pub(crate) fn new(quiet: bool, json: bool) -> Shown {
        let form = match (quiet, json) {
            (true, _) => Form::Nothing,
            (false, true) => Form::Json,
            (false, false) if io::stderr().is_terminal() => {
                Form::Bars { all: MultiProgress::new(), layers: BTreeMap::new() }
            }
            (false, false) => Form::Lines,
        };
        Shown { form, brief: false, failed: None }
    }

    /// For a verb that pulls only where it must.
    pub(crate) fn brief(quiet: bool) -> Shown {
        Shown { brief: true, ..Shown::new(quiet, false) }
    }

    /// All is shown.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Form::Bars { all, layers: _ } = &self.form {
            // A terminal that has gone takes nothing more.
            let _ = all.clear();
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// A line for a person.
    pub(crate) fn line(&self, text: &str) {
        let text = print::escape(text);
        match &self.form {
            Form::Nothing | Form::Json => {}
            Form::Lines => {
                // Where stderr is closed no one reads.
                let _ = writeln!(anstream::stderr(), "{text}");
            }
            Form::Bars { all, layers: _ } => {
                let _ = all.println(text);
            }
        }
    }

    fn json(&mut self, event: &Event<'_>) {
        let written = serde_json::to_string(event).map_err(io::Error::from);
        let written = written.and_then(|line| print::json_line(&line));
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }

    fn bar(&mut self, event: &Event<'_>) {
        let Form::Bars { all, layers } = &mut self.form else { return };
        match event {
            Event::LayerBegun { layer, size, from, .. } => {
                let bar = all.add(ProgressBar::new(*size).with_style(style()).with_message(short(*layer)));
                bar.set_position(*from);
                layers.insert(*layer, bar);
            }
            Event::LayerProgress { layer, bytes, .. } => {
                if let Some(bar) = layers.get(layer) {
                    bar.set_position(*bytes);
                }
            }
            Event::BlobBegun { blob, size } => {
                let bar = all.add(ProgressBar::new(*size).with_style(style()).with_message(short(*blob)));
                layers.insert(*blob, bar);
            }
            Event::BlobProgress { blob, bytes, .. } => {
                if let Some(bar) = layers.get(blob) {
                    bar.set_position(*bytes);
                }
            }
            Event::LayerDone { layer, .. } | Event::LayerAgain { layer, .. } | Event::BlobDone { blob: layer, .. } => {
                if let Some(bar) = layers.remove(layer) {
                    bar.finish_and_clear();
                    all.remove(&bar);
                }
            }
            _ => {}
        }
    }
}

impl Progress for Shown {
    fn say(&mut self, event: &Event<'_>) {
        match self.form {
            Form::Nothing => {}
            Form::Json => self.json(event),
            Form::Lines | Form::Bars { .. } => {
                self.bar(event);
                let is_of_what_is_here =
                    matches!(event, Event::Asking { .. } | Event::Resolved { .. } | Event::LayerHere { .. });
                if let Some(line) = sentence(event).filter(|_| !(self.brief && is_of_what_is_here)) {
                    self.line(&line);
                }
            }
        }
    }
}

fn style() -> ProgressStyle {
    // The template is constant; were it wrong, the default would be shown.
    ProgressStyle::with_template("{msg} {wide_bar} {decimal_bytes:>10}/{decimal_total_bytes:10}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// What a reader of lines wants to know; how far a layer is is not among it.
fn sentence(event: &Event<'_>) -> Option<String> {
    Some(match event {
        Event::Asking { image, host } => format!("asking {host} for {image}"),
        Event::Resolved { manifest, platform, layers, bytes, .. } => {
            let layers = if *layers == 1 { "1 layer".to_owned() } else { format!("{layers} layers") };
            format!("{} for {platform}: {layers}, {}", short(*manifest), size(*bytes))
        }
        Event::NextEndpoint { host, why } => format!("not from {host}: {why}"),
        Event::LayerHere { layer } => format!("layer {}: is here", short(*layer)),
        Event::LayerAgain { layer, why } => format!("layer {}: once more: {why}", short(*layer)),
        Event::LayerDone { layer, size: bytes, entries, devices_replaced, xattrs_dropped, owners_squashed } => {
            let mut line = format!("layer {}: {}, {entries} entries", short(*layer), size(*bytes));
            let lacks = [
                (devices_replaced, "device nodes are empty files"),
                (xattrs_dropped, "extended attributes cannot be kept here"),
                (owners_squashed, "files of other ids belong to you"),
            ];
            for (count, what) in lacks.iter().filter(|(count, _)| **count > 0) {
                line.push_str(&format!("; {count} {what}"));
            }
            line
        }
        Event::BlobDone { blob, size: bytes, how } => {
            let how = match how {
                BlobPushed::WasThere => "was there",
                BlobPushed::Mounted => "taken from another repository",
                BlobPushed::Sent => "sent",
            };
            format!("blob {}: {how}, {}", short(*blob), size(*bytes))
        }
        Event::LayerBegun { layer, from, kept: false, .. } if *from > 0 => {
            format!("layer {}: {} are here from an earlier pull", short(*layer), size(*from))
        }
        Event::LayerWaits { .. }
        | Event::LayerBegun { .. }
        | Event::LayerProgress { .. }
        | Event::BlobBegun { .. }
        | Event::BlobProgress { .. } => return None,
    })
}

fn short(digest: Digest) -> String {
    digest.hex().chars().take(DIGITS).collect()
}

/// `29.1 MB`
fn size(bytes: u64) -> String {
    let mut value = bytes;
    let mut tenths = 0;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < UNIT {
            return if unit == "B" { format!("{value} B") } else { format!("{value}.{tenths} {unit}") };
        }
        tenths = value % UNIT / 100;
        value /= UNIT;
    }
    format!("{value}.{tenths} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (29_149_999, "29.1 MB"), (3 << 40, "3.2 TB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
