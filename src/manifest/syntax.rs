//! Text to tree: YAML (of which JSON is a part, but for tabs) by the events of serde-saphyr's parser.
//!
//! Every step has a budget, so a bomb of aliases, nesting or sheer size is refused in milliseconds. After a syntax error
//! the part before it is still handed on, for the other errors in it to be reported too.

mod escapes;
mod fault;
mod mapping;

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::MAX_TEXT_BYTES;
use super::problem::{Coverage, Problems, excerpt};
use super::scalar::ScalarKind;
use super::tree::{Entry, Node, Position, Scalar, Value};
use mapping::MappingBuilder;

/// A Pod nests about ten deep.
const MAX_DEPTH: usize = 64;
/// Bytes of memory for the tree with all aliases written out.
const MAX_TREE_COST: usize = 16 * 1024 * 1024;

/// The text was refused before any of it was understood; the reason is among the problems.
pub(super) struct Unreadable;

/// The bytes as text, without a byte order mark.
pub(super) fn decode<'b>(bytes: &'b [u8], problems: &mut Problems) -> Result<&'b str, Unreadable> {
    if bytes.len() > MAX_TEXT_BYTES {
        problems.general(too_long());
        return Err(Unreadable);
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        problems.general("is UTF-16; save it as UTF-8");
        return Err(Unreadable);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok());
            problems.add(end_of(valid.unwrap_or_default()), "", "is not UTF-8 from here on; save it as UTF-8");
            Err(Unreadable)
        }
    }
}

/// Refuses what no YAML parser should be given: too much, or characters outside of YAML 1.2 section 5.1.
pub(super) fn check_text(text: &str, problems: &mut Problems) -> Result<(), Unreadable> {
    if text.len() > MAX_TEXT_BYTES {
        problems.general(too_long());
        return Err(Unreadable);
    }
    let forbidden = |c: char| {
        (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    if let Some((offset, character)) = text.char_indices().find(|(_, c)| forbidden(*c)) {
        let what = if character == '\0' {
            "a NUL byte".to_owned()
        } else {
            format!("the control character U+{:04X}", u32::from(character))
        };
        problems.add(end_of(&text[..offset]), "", format!("{what} cannot stand in YAML; remove it"));
        return Err(Unreadable);
    }
    Ok(())
}

fn too_long() -> String {
    format!("is longer than {MAX_TEXT_BYTES} bytes (1 MiB), the most that a manifest may have")
}

/// The position just after `text`.
fn end_of(text: &str) -> Position {
    let last_line = text.rsplit('\n').next().unwrap_or_default();
    Position {
        line: text.matches('\n').count() + 1,
        column: last_line.trim_start_matches('\u{feff}').chars().count() + 1,
    }
}

/// The documents of the text that say something. A document that is cut short by a syntax error counts, and
/// `problems.coverage` tells.
pub(super) fn load(text: &str, problems: &mut Problems) -> Vec<Node> {
    let mended = escapes::mend(text.strip_prefix('\u{feff}').unwrap_or(text));
    let text = mended.text.as_ref();
    let mut builder = TreeBuilder {
        problems,
        documents: Vec::new(),
        open: Vec::new(),
        brackets: Vec::new(),
        anchors: HashMap::new(),
        cost: 0,
    };
    let mut understood = 0;
    for event in Parser::new_from_str_with_options(text, options()) {
        let fed = match event {
            Ok((event, span)) => {
                understood = offset(&span.end);
                builder.note_bracket(&event, text, &span.start);
                builder.feed(restored(event, &mended), position(&span.start))
            }
            Err(error) => Err(builder.fault(&error, text, understood)),
        };
        if let Err(stop) = fed {
            builder.stop(stop);
            break;
        }
    }
    builder.documents
}

fn options() -> granit_parser::Options {
    granit_parser::options! {
        emit_comments: false,
        disallow_directives: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    }
}

fn restored<'e>(event: Event<'e>, mended: &escapes::Mended<'_>) -> Event<'e> {
    match event {
        Event::Scalar(text, ScalarStyle::DoubleQuoted, anchor, tag) => {
            Event::Scalar(mended.restore(text), ScalarStyle::DoubleQuoted, anchor, tag)
        }
        other => other,
    }
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

/// In bytes; the parser keeps it for a text in memory.
fn offset(marker: &Marker) -> usize {
    marker.byte_offset().unwrap_or_default()
}

/// Why reading ended before the text did.
enum Stop {
    /// What stands before it can be checked all the same.
    Syntax(Position, String),
    /// A bomb: not worth a look at its parts, and its other errors would hide this one.
    Budget(Position, String),
}

/// A collection whose end has not come yet.
enum Open {
    Sequence { position: Position, anchor: usize, items: Vec<Node> },
    Mapping { position: Position, anchor: usize, mapping: MappingBuilder },
}

struct TreeBuilder<'p> {
    problems: &'p mut Problems,
    documents: Vec<Node>,
    open: Vec<Open>,
    /// Of each that is open, the `[` or `{` with which it begins; none where indentation alone makes it.
    brackets: Vec<Option<(char, Position)>>,
    anchors: HashMap<usize, Node>,
    cost: usize,
}

impl TreeBuilder<'_> {
    fn feed(&mut self, event: Event<'_>, position: Position) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind = self.scalar_kind(&text, style, tag.as_deref(), position);
                let node = Node { position, value: Value::Scalar(Scalar { text: text.into_owned(), kind }) };
                self.finish(node, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", position);
                self.start(Open::Sequence { position, anchor, items: Vec::new() }, position)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", position);
                self.start(Open::Mapping { position, anchor, mapping: MappingBuilder::new() }, position)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    let message = "not valid YAML or JSON: this alias stands inside of what it names";
                    return Err(Stop::Syntax(position, message.to_owned()));
                };
                if self.open.len() + node.height() > MAX_DEPTH {
                    return Err(Stop::Budget(position, format!("is nested more than {MAX_DEPTH} deep by its aliases")));
                }
                // Paid for before it is copied, or a bomb would go off first.
                let cost = node.cost();
                self.pay(cost, position)?;
                let node = self.anchors[&anchor].clone();
                self.attach(node);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note_bracket(&mut self, event: &Event<'_>, text: &str, start: &Marker) {
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let first = text.get(offset(start)..).and_then(|rest| rest.chars().next());
                let bracket = first.filter(|first| matches!(first, '[' | '{'));
                self.brackets.push(bracket.map(|bracket| (bracket, position(start))));
            }
            Event::SequenceEnd | Event::MappingEnd => drop(self.brackets.pop()),
            _ => {}
        }
    }

    /// `understood`: where the last event ended, in bytes.
    fn fault(&mut self, error: &ScanError, text: &str, understood: usize) -> Stop {
        let at = position(error.marker());
        if *error.kind() == ErrorKind::RecursionLimitExceeded {
            return Stop::Budget(at, format!("is nested more than {MAX_DEPTH} deep"));
        }
        let end = offset(error.marker());
        if text.get(end..).is_some_and(|rest| rest.starts_with(':'))
            && let Some(position) = self.mend_host()
        {
            let message = "`host:` needs quotes, since YAML takes a `:` at the end for a key's; write \"host:\"";
            return Stop::Syntax(position, message.to_owned());
        }
        let rest = text.get(understood..end).unwrap_or_default();
        let quote = rest.char_indices().find(|(_, letter)| matches!(letter, '"' | '\''));
        let scene = fault::Scene {
            at,
            bracket: self.brackets.iter().rev().find_map(|bracket| *bracket),
            quote: quote.map(|(before, _)| end_of(&text[..understood + before])),
            depth: self.open.len(),
        };
        Stop::Syntax(at, format!("not valid YAML or JSON: {}", fault::words(error.kind(), &scene)))
    }

    /// `image: host:`, the likeliest slip of all: what was meant is plain, and is not reported again as another image.
    fn mend_host(&mut self) -> Option<Position> {
        let Some(Open::Mapping { mapping, .. }) = self.open.last_mut() else { return None };
        let Entry { key, value } = mapping.entries.last_mut()?;
        let Value::Scalar(scalar) = &mut value.value else { return None };
        if key.text != "image" || scalar.text != "host" {
            return None;
        }
        scalar.text.push(':');
        Some(value.position)
    }

    fn pay(&mut self, cost: usize, position: Position) -> Result<(), Stop> {
        self.cost += cost;
        if self.cost > MAX_TREE_COST {
            let message = "is too large here once its aliases are written out; a Pod is never this large";
            return Err(Stop::Budget(position, message.to_owned()));
        }
        Ok(())
    }

    fn start(&mut self, open: Open, position: Position) -> Result<(), Stop> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Stop::Budget(position, format!("is nested more than {MAX_DEPTH} deep")));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let (node, anchor) = self.closed(open);
        self.finish(node, anchor)
    }

    fn closed(&mut self, open: Open) -> (Node, usize) {
        match open {
            Open::Sequence { position, anchor, items } => (Node { position, value: Value::Sequence(items) }, anchor),
            Open::Mapping { position, anchor, mapping } => {
                (Node { position, value: Value::Mapping(mapping.into_entries()) }, anchor)
            }
        }
    }

    fn stop(&mut self, stop: Stop) {
        self.problems.coverage = Coverage::Partial;
        match stop {
            Stop::Syntax(position, message) => {
                self.problems.add(position, "", message);
                self.forget_last();
                self.close_all();
            }
            Stop::Budget(position, message) => {
                self.problems.add(position, "", message);
                self.documents.clear();
            }
        }
    }

    /// Forgets the last item of the innermost `[` or `{`. Where that is not closed, the parser took the lines below it for a
    /// part of it, and what would be said of them is not true.
    fn forget_last(&mut self) {
        let Some(innermost) = self.brackets.iter().rposition(Option::is_some) else { return };
        // A `key: value` without braces is an item of its own.
        let within = self.open.len() > innermost + 1;
        self.open.truncate(innermost + 1);
        match self.open.last_mut() {
            Some(Open::Sequence { items, .. }) if !within => drop(items.pop()),
            Some(Open::Mapping { mapping, .. }) if !within => mapping.forget_last(),
            _ => {}
        }
    }

    /// Ends what a syntax error left open, without its half-read entries.
    fn close_all(&mut self) {
        while let Some(open) = self.open.pop() {
            let (node, _) = self.closed(open);
            self.attach(node);
        }
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        let own_cost = match &node.value {
            Value::Scalar(scalar) => size_of::<Node>() + scalar.text.len(),
            Value::Sequence(_) | Value::Mapping(_) => size_of::<Node>(),
        };
        self.pay(own_cost, node.position)?;
        if anchor > 0 {
            self.pay(node.cost(), node.position)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.attach(node);
        Ok(())
    }

    fn attach(&mut self, node: Node) {
        match self.open.last_mut() {
            None if node.is_null() => {}
            None => self.documents.push(node),
            Some(Open::Sequence { items, .. }) => items.push(node),
            Some(Open::Mapping { mapping, .. }) => mapping.attach(node, self.problems),
        }
    }

    fn scalar_kind(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, position: Position) -> ScalarKind {
        match tag {
            Some(tag) if tag.core_suffix() == Some("str") => ScalarKind::String,
            Some(_) => {
                self.check_tag(tag, "str", position);
                ScalarKind::String
            }
            None if style == ScalarStyle::Plain => ScalarKind::of_plain(text),
            None => ScalarKind::String,
        }
    }

    fn check_tag(&mut self, tag: Option<&Tag>, harmless: &str, position: Position) {
        if let Some(tag) = tag.filter(|tag| tag.core_suffix() != Some(harmless)) {
            let message = format!("the YAML tag `{}` is not supported; remove it", excerpt(&tag.original()));
            self.problems.add(position, "", message);
        }
    }
}
