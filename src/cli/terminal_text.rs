//! A container's output on its way to a person's terminal. Escape sequences can set the clipboard or the title, answer on
//! the terminal's input, or erase what is above: only colours and movement within the line are passed on. Everything else
//! is shown as `cat -v` shows it (`^[`, `^G`).
//!
//! Sequences: ECMA-48, 5.4 (CSI); <https://invisible-island.net/xterm/ctlseqs/ctlseqs.html>.

/// Longer sequences are not meant for a terminal.
const LONGEST: usize = 64;
const ESC: u8 = 0x1b;

/// Filters a stream that comes in pieces of any size.
#[derive(Debug, Clone, Default)]
pub(crate) struct TerminalText {
    /// The beginning of an escape sequence or of a character.
    held: Vec<u8>,
    within: Within,
}

/// How far a text may move to the left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Within {
    /// To the beginning of its line.
    #[default]
    Line,
    /// Not at all, but for a carriage return: its line begins with a name, and some terminals go on from the beginning of a line
    /// to the end of the one above (terminfo(5), `bw`).
    RestOfLine,
}

/// What the first bytes of a text are.
enum Unit {
    /// To be passed on: so many bytes.
    Harmless(usize),
    /// To be shown: so many bytes.
    Shown(usize),
    /// More bytes decide.
    Unfinished,
}

impl TerminalText {
    /// For lines that begin with a name of ours. The caller writes it again after each carriage return.
    pub(crate) fn behind_a_name() -> TerminalText {
        TerminalText { held: Vec::new(), within: Within::RestOfLine }
    }

    /// Appends to `out` what of `bytes` can be shown now.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let joined;
        let mut rest = if self.held.is_empty() {
            bytes
        } else {
            self.held.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.held);
            &joined
        };
        while !rest.is_empty() {
            let length = match unit(rest, self.within) {
                Unit::Harmless(length) => {
                    out.extend_from_slice(&rest[..length]);
                    length
                }
                Unit::Shown(length) => {
                    show(&rest[..length], out);
                    length
                }
                Unit::Unfinished => {
                    self.held = rest.to_vec();
                    return;
                }
            };
            rest = &rest[length..];
        }
    }

    /// The stream or its line has ended: what is held is shown.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        show(&std::mem::take(&mut self.held), out);
    }
}

fn unit(text: &[u8], within: Within) -> Unit {
    let is_plain = |byte: &u8| match byte {
        b' '..=b'~' | b'\n' | b'\t' | b'\r' => true,
        0x08 => within == Within::Line,
        _ => false,
    };
    let plain = text.iter().take_while(|byte| is_plain(byte)).count();
    match text[0] {
        _ if plain > 0 => Unit::Harmless(plain),
        ESC => sequence(text, within),
        0x80.. => character(text),
        _ => Unit::Shown(1),
    }
}

/// A control sequence: `ESC [`, numbers, a letter.
fn sequence(text: &[u8], within: Within) -> Unit {
    match text.get(1) {
        None => return Unit::Unfinished,
        Some(b'[') => {}
        Some(_) => return Unit::Shown(1),
    }
    // No private parameters (`<=>?`): `ESC [ > 4 ; 2 m` changes what keys send.
    let numbers = text[2..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).count();
    match text.get(2 + numbers) {
        _ if numbers > LONGEST => Unit::Shown(1),
        None => Unit::Unfinished,
        // Left, to a column (CUB, CHA, HPA).
        Some(b'D' | b'G' | b'`') if within == Within::RestOfLine => Unit::Shown(1),
        // EL: 1 and 2 erase what is to the left, too.
        Some(b'K') if within == Within::RestOfLine && !text[2..2 + numbers].iter().all(|digit| *digit == b'0') => {
            Unit::Shown(1)
        }
        // SGR (colours); right (CUF); erase, insert and delete in the line (EL, ECH, ICH, DCH).
        Some(b'm' | b'C' | b'D' | b'G' | b'`' | b'K' | b'X' | b'@' | b'P') => Unit::Harmless(3 + numbers),
        Some(_) => Unit::Shown(1),
    }
}

/// A character beyond ASCII. C1 controls are escape sequences in one character (`U+009B` is `ESC [`).
fn character(text: &[u8]) -> Unit {
    let length = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Unit::Shown(1),
    };
    let Some(bytes) = text.get(..length) else {
        let begun = text[1..].iter().all(|byte| matches!(byte, 0x80..=0xbf));
        return if begun { Unit::Unfinished } else { Unit::Shown(1) };
    };
    match std::str::from_utf8(bytes) {
        Ok(letter) if super::print::escape(letter) == letter => Unit::Harmless(length),
        Ok(_) => Unit::Shown(length),
        Err(_) => Unit::Shown(1),
    }
}

/// Control characters with a caret, others by their number.
fn show(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\0'..='\x1f' => out.extend([b'^', (letter as u8) ^ 0x40]),
                '\x7f' => out.extend(b"^?"),
                ' '..='~' => out.push(letter as u8),
                _ => out.extend(letter.escape_unicode().to_string().into_bytes()),
            }
        }
        for byte in chunk.invalid() {
            out.extend(format!("\\x{byte:02x}").into_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(pieces: &[&[u8]]) -> String {
        let mut filter = TerminalText::default();
        let mut out = Vec::new();
        pieces.iter().for_each(|piece| filter.push(piece, &mut out));
        filter.finish(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn colours_and_movement_in_the_line_pass() {
        for text in [
            "plain é 漢 🎈\ttab\r\n",
            "\u{1b}[1;38;5;208mcolour\u{1b}[0m \u{1b}[38:2::1:2:3mcolour\u{1b}[m",
            "10 %\u{8}\u{8}\u{8}\u{8}20 %\r\u{1b}[K\u{1b}[2K\u{1b}[3C\u{1b}[D\u{1b}[12G\u{1b}[4X\u{1b}[P\u{1b}[@",
        ] {
            assert_eq!(filtered(&[text.as_bytes()]), text);
        }
    }

    #[test]
    fn everything_else_is_shown() {
        for (text, shown) in [
            ("\u{1b}]0;title\u{7}x", "^[]0;title^Gx"),
            ("\u{1b}]52;c;ZXZpbA==\u{1b}\\", "^[]52;c;ZXZpbA==^[\\"),
            ("\u{1b}[2J\u{1b}[H\u{1b}[1A\u{1b}[6n\u{1b}[c", "^[[2J^[[H^[[1A^[[6n^[[c"),
            ("\u{1b}[?1049h\u{1b}[>4;2m\u{1b}[=1m", "^[[?1049h^[[>4;2m^[[=1m"),
            ("\u{1b}c\u{1b}P+q544e\u{1b}\\\u{1b}7", "^[c^[P+q544e^[\\^[7"),
            ("\u{9b}2J\u{9d}0;t\u{9c}", "\\u{9b}2J\\u{9d}0;t\\u{9c}"),
            ("a\u{0}\u{b}\u{c}\u{e}\u{7f}", "a^@^K^L^N^?"),
            ("\u{202e}gpj", "\\u{202e}gpj"),
            ("\u{1b}[0\u{1b}[31mred", "^[[0\u{1b}[31mred"),
        ] {
            assert_eq!(filtered(&[text.as_bytes()]), shown, "{text:?}");
        }
        assert_eq!(filtered(&[b"\x9b2J\xff\xe9t\xc3"]), "\\x9b2J\\xff\\xe9t\\xc3");
        let long = format!("\u{1b}[{}m", "1;".repeat(40));
        assert_eq!(filtered(&[long.as_bytes()]), long.replace('\u{1b}', "^["));
    }

    #[test]
    fn behind_a_name_nothing_goes_to_the_left() {
        for (text, shown) in [
            ("a\u{8}\u{8}\u{8}b", "a^H^H^Hb"),
            ("a\u{1b}[99Db\u{1b}[1Gc\u{1b}[`d", "a^[[99Db^[[1Gc^[[`d"),
            ("\u{1b}[1Ka\u{1b}[2Kb", "^[[1Ka^[[2Kb"),
            (
                "\u{1b}[32mok\u{1b}[m\r\u{1b}[K\u{1b}[0K\u{1b}[3C\tx",
                "\u{1b}[32mok\u{1b}[m\r\u{1b}[K\u{1b}[0K\u{1b}[3C\tx",
            ),
        ] {
            let (mut filter, mut out) = (TerminalText::behind_a_name(), Vec::new());
            filter.push(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).expect("UTF-8"), shown, "{text:?}");
        }
    }

    #[test]
    fn pieces_of_any_size_are_the_same_text() {
        let text = "é\u{1b}[1;31mred\u{1b}[0m\u{1b}]52;c;eA==\u{7}漢\u{9b}2J\u{1b}[2J🎈\u{1b}".as_bytes();
        let whole = filtered(&[text]);
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(filtered(&pieces), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn what_could_be_a_sequence_is_held_for_a_bounded_time() {
        let mut filter = TerminalText::default();
        let mut out = Vec::new();
        filter.push(b"prompt> \x1b[", &mut out);
        assert_eq!(out, b"prompt> ");
        filter.push(&[b'1'; 200], &mut out);
        assert!(filter.held.is_empty());
    }
}
