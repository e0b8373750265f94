//! `\'` within double quotes. YAML 1.2 has no such escape, kubectl's parser (go-yaml, after libyaml) takes it for `'`.
//!
//! The parser here does not, and only it knows where a double-quoted text begins. So it is run ahead: in a text that it
//! stops at, each `\'` becomes a mark and a `'`, which keeps all columns, and is run again. The mark is a character that
//! the text does not have.

use std::borrow::Cow;

use serde_saphyr::granit_parser::{ErrorKind, Parser};

use super::{offset, options};

/// Private use characters that are tried.
const MARKS: std::ops::RangeInclusive<char> = '\u{f8e0}'..='\u{f8ff}';
/// Bytes that are read again in all: a text with very many of these escapes is left to the parser's own error.
const MOST_READ_AGAIN: usize = 64 * 1024 * 1024;

pub(super) struct Mended<'t> {
    pub(super) text: Cow<'t, str>,
    mark: Option<char>,
}

impl Mended<'_> {
    /// A double-quoted text without the marks.
    pub(super) fn restore<'s>(&self, scalar: Cow<'s, str>) -> Cow<'s, str> {
        match self.mark {
            Some(mark) if scalar.contains(mark) => Cow::Owned(scalar.replace(mark, "")),
            _ => scalar,
        }
    }
}

pub(super) fn mend(text: &str) -> Mended<'_> {
    let mut mended = Mended { text: Cow::Borrowed(text), mark: None };
    let Some(mark) = text.contains(r"\'").then(|| unused(text)).flatten() else { return mended };
    let mut read = 0;
    while read <= MOST_READ_AGAIN {
        let Some(start) = unknown_escape(&mended.text) else { break };
        let Some(text) = with_marks(&mended.text, start, mark) else { break };
        read += text.len();
        mended = Mended { text: Cow::Owned(text), mark: Some(mark) };
    }
    mended
}

/// Neither in the text nor written as an escape in it.
fn unused(text: &str) -> Option<char> {
    let lower = text.to_ascii_lowercase();
    MARKS.into_iter().find(|mark| !text.contains(*mark) && !lower.contains(&format!("{:x}", u32::from(*mark))))
}

/// Where the double-quoted text begins in which the parser stops at an escape, in bytes.
fn unknown_escape(text: &str) -> Option<usize> {
    let error = Parser::new_from_str_with_options(text, options()).find_map(Result::err)?;
    (*error.kind() == ErrorKind::UnknownQuotedScalarEscape).then(|| offset(error.marker()))
}

/// `None` when the double-quoted text that begins at `start` has no `\'`.
fn with_marks(text: &str, start: usize, mark: char) -> Option<String> {
    let body = text.get(start..)?.strip_prefix('"')?;
    let mut marked = String::with_capacity(text.len() + 16);
    marked.push_str(text.get(..=start)?);
    let mut letters = body.char_indices();
    let mut found = false;
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => {
                marked.push_str(&body[at..]);
                return found.then_some(marked);
            }
            '\\' => match letters.next() {
                Some((_, '\'')) => {
                    found = true;
                    marked.extend([mark, '\'']);
                }
                Some((_, escaped)) => marked.extend([letter, escaped]),
                None => marked.push(letter),
            },
            _ => marked.push(letter),
        }
    }
    found.then_some(marked)
}

#[cfg(test)]
mod tests {
    use serde_saphyr::granit_parser::Event;

    use super::*;

    fn meaning(text: &str) -> String {
        let mended = mend(text);
        let mut scalars = Vec::new();
        for event in Parser::new_from_str_with_options(&mended.text, options()) {
            match event {
                Ok((Event::Scalar(text, ..), _)) => scalars.push(mended.restore(text).into_owned()),
                Ok(_) => {}
                Err(error) => scalars.push(error.kind().to_string()),
            }
        }
        scalars.join("|")
    }

    #[test]
    fn an_escaped_single_quote_is_one_in_double_quotes_alone() {
        assert_eq!(meaning(r#"["it\'s", 'it\', it\'s, "\\'"]"#), r"it's|it\|it\'s|\'");
        assert_eq!(meaning("a: |\n  echo \\'x\\'\nb: \"\\'\\'\""), "a|echo \\'x\\'\n|b|''");
        assert_eq!(meaning(r#"{"a\'b": "\"\'\""}"#), r#"a'b|"'""#);
    }

    #[test]
    fn other_unknown_escapes_stay_errors() {
        assert!(meaning(r#""\'\q""#).contains("escape"), "{}", meaning(r#""\'\q""#));
    }

    #[test]
    fn the_mark_is_never_one_of_the_texts_own_characters() {
        assert_eq!(meaning("[\"\\'\u{f8e0}\", \"\\uF8E1\"]"), "'\u{f8e0}|\u{f8e1}");
    }

    #[test]
    fn very_many_end_in_an_error_and_not_in_hours() {
        let text = format!("[{}]", r#""\'", "#.repeat(100_000));
        assert!(unknown_escape(&mend(&text).text).is_some());
    }
}
