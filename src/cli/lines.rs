//! Lines of several containers on one output, each behind its container's name. A line that comes in pieces is held up to
//! its end. A person can be shown what there is of it ([`Lines::show_begun`]); it goes on there unless another line came
//! in between.

use super::terminal_text::TerminalText;

/// A line is collected up to here; a longer one is broken.
const LONGEST: usize = 256 << 10;

#[derive(Default)]
pub(crate) struct Lines {
    lines: Vec<Line>,
    /// The line that is shown up to here, without its newline.
    open: Option<usize>,
}

/// One that can be begun while others are: of a container's stdout, say.
#[derive(Default)]
struct Line {
    prefix: Vec<u8>,
    /// Begun, and not shown yet.
    text: Vec<u8>,
    /// For a terminal: a container must not write over the lines and names of others.
    filter: Option<TerminalText>,
    /// A carriage return came last: what comes next begins where the name does.
    returned: bool,
    /// Colours may be on, which would go on in the lines of others.
    coloured: bool,
}

/// SGR 0: no colours.
const PLAIN: &[u8] = b"\x1b[m";

impl Lines {
    /// Another line; gives its number.
    pub(crate) fn add(&mut self, filtered: bool) -> usize {
        self.lines.push(Line { filter: filtered.then(TerminalText::behind_a_name), ..Line::default() });
        self.lines.len() - 1
    }

    /// Appends to `to` what is complete now. `prefix` is for lines that begin in `bytes`.
    pub(crate) fn push(&mut self, number: usize, prefix: &[u8], bytes: &[u8], to: &mut Vec<u8>) {
        let mut filtered = Vec::new();
        let bytes = match &mut self.lines[number].filter {
            Some(filter) => {
                filter.push(bytes, &mut filtered);
                &filtered
            }
            None => bytes,
        };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = &mut self.lines[number];
            if line.text.is_empty() && self.open != Some(number) {
                line.prefix.clear();
                line.prefix.extend_from_slice(prefix);
            }
            line.append(part);
            if part.ends_with(b"\n") {
                self.show(number, to);
            } else if line.text.len() >= LONGEST {
                line.end_colours();
                self.show(number, to);
                to.push(b'\n');
            }
        }
    }

    /// For what is not filtered after all.
    pub(crate) fn pass_all(&mut self) {
        self.lines.iter_mut().for_each(|line| line.filter = None);
    }

    /// Whether there is something of this line that is not shown.
    pub(crate) fn has_begun(&self, number: usize) -> bool {
        !self.lines[number].text.is_empty()
    }

    /// Shows what there is of this line.
    pub(crate) fn show_begun(&mut self, number: usize, to: &mut Vec<u8>) {
        if self.has_begun(number) {
            self.show(number, to);
            self.open = Some(number);
        }
    }

    /// What was begun and will not end.
    pub(crate) fn end(&mut self, number: usize, to: &mut Vec<u8>) {
        let line = &mut self.lines[number];
        line.filter.iter_mut().for_each(|filter| filter.finish(&mut line.text));
        if !line.text.is_empty() || self.open == Some(number) {
            line.end_colours();
            self.show(number, to);
            to.push(b'\n');
        }
    }

    /// All of them.
    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.lines.len()
    }

    fn show(&mut self, number: usize, to: &mut Vec<u8>) {
        match self.open.take() {
            Some(open) if open == number => {}
            Some(open) => {
                if std::mem::take(&mut self.lines[open].coloured) {
                    to.extend_from_slice(PLAIN);
                }
                to.push(b'\n');
                to.extend_from_slice(&self.lines[number].prefix);
            }
            None => to.extend_from_slice(&self.lines[number].prefix),
        }
        to.append(&mut self.lines[number].text);
    }
}

impl Line {
    /// Where it is filtered, its name is written again after a carriage return, and its colours end with it.
    fn append(&mut self, part: &[u8]) {
        if self.filter.is_none() {
            self.text.extend_from_slice(part);
            return;
        }
        for byte in part {
            match byte {
                b'\n' => self.end_colours(),
                // At the end of a line, too: `\r\n`.
                b'\r' => {}
                _ if self.returned => self.text.extend_from_slice(&self.prefix),
                _ => {}
            }
            self.returned = *byte == b'\r';
            self.text.push(*byte);
            match byte {
                0x1b => self.coloured = true,
                b'm' if [PLAIN, b"\x1b[0m"].iter().any(|plain| self.text.ends_with(plain)) => self.coloured = false,
                _ => {}
            }
        }
    }

    fn end_colours(&mut self) {
        if std::mem::take(&mut self.coloured) {
            self.text.extend_from_slice(PLAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(shown: Vec<u8>) -> String {
        String::from_utf8(shown).expect("text")
    }

    #[test]
    fn every_line_has_its_name_however_it_is_cut() {
        let mut lines = Lines::default();
        let (web, mut shown) = (lines.add(false), Vec::new());
        for part in ["a", "b\n\nc", "\nd"] {
            lines.push(web, b"web | ", part.as_bytes(), &mut shown);
        }
        lines.end(web, &mut shown);
        lines.end(web, &mut shown);
        assert_eq!(text(shown), "web | ab\nweb | \nweb | c\nweb | d\n");
    }

    #[test]
    fn a_line_without_an_end_does_not_take_all_memory() {
        let mut lines = Lines::default();
        let (web, mut shown) = (lines.add(false), Vec::new());
        for _ in 0..10 {
            lines.push(web, b"web | ", &[b'x'; 100_000], &mut shown);
        }
        lines.end(web, &mut shown);
        assert!(lines.lines[web].text.capacity() < 2 * LONGEST);
        assert_eq!(shown.iter().filter(|byte| **byte == b'x').count(), 1_000_000);
    }

    /// A container writes neither over its name nor over the lines of others, and does not colour them.
    #[test]
    fn a_line_stays_behind_its_name() {
        let mut lines = Lines::default();
        let (web, mut shown) = (lines.add(true), Vec::new());
        for part in ["10 %\r", "20 %\r\n", "a\rdb  | b\n", "\u{1b}[8mhidden\n", "\u{8}\u{1b}[9Dx\n", "\u{1b}[31mred"] {
            lines.push(web, b"web | ", part.as_bytes(), &mut shown);
        }
        lines.end(web, &mut shown);
        let wanted = "web | 10 %\rweb | 20 %\r\nweb | a\rweb | db  | b\nweb | \u{1b}[8mhidden\u{1b}[m\n\
                      web | ^H^[[9Dx\nweb | \u{1b}[31mred\u{1b}[m\n";
        assert_eq!(text(shown), wanted);
        // What goes to a file stays as it is.
        let (raw, mut shown) = (lines.add(false), Vec::new());
        lines.push(raw, b"", b"a\rb\x1b[31m\x08\n", &mut shown);
        assert_eq!(text(shown), "a\rb\u{1b}[31m\u{8}\n");
    }

    #[test]
    fn a_prompt_is_shown_once_and_its_line_goes_on_where_it_can() {
        let mut lines = Lines::default();
        let (web, db, mut shown) = (lines.add(true), lines.add(true), Vec::new());
        lines.push(web, b"web | ", b"name? ", &mut shown);
        assert!(shown.is_empty() && lines.has_begun(web) && !lines.has_begun(db));
        lines.show_begun(web, &mut shown);
        lines.show_begun(web, &mut shown);
        lines.show_begun(db, &mut shown);
        assert_eq!(text(shown.clone()), "web | name? ");
        lines.push(web, b"web | ", b"bob\nage? ", &mut shown);
        lines.show_begun(web, &mut shown);
        lines.push(db, b"db | ", b"x\n", &mut shown);
        lines.push(web, b"web | ", b"7\n", &mut shown);
        lines.push(db, b"db | ", b"y? ", &mut shown);
        lines.show_begun(db, &mut shown);
        lines.end(db, &mut shown);
        assert_eq!(text(shown), "web | name? bob\nweb | age? \ndb | x\nweb | 7\ndb | y? \n");
    }
}
