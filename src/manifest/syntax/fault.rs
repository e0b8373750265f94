//! The parser's errors in words that say what to change: it names the place where it could not go on, which for a bracket
//! or quote that is not closed is lines below the slip.

use serde_saphyr::granit_parser::ErrorKind;

use crate::manifest::problem::{escaped, excerpt};
use crate::manifest::tree::Position;

/// What stood open where the parser gave up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    pub(super) at: Position,
    /// The innermost `[` or `{`.
    pub(super) bracket: Option<(char, Position)>,
    /// The first quote after what was understood.
    pub(super) quote: Option<Position>,
    /// Collections, of either kind.
    pub(super) depth: usize,
}

/// What is wrong, after "not valid YAML or JSON".
pub(super) fn words(kind: &ErrorKind, scene: &Scene) -> String {
    if let Some(words) = of_bracket(kind, scene).or_else(|| of_quote(kind, scene)) {
        return words;
    }
    let fixed = match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInIndentation => "a tab cannot indent YAML; use spaces",
        ErrorKind::TabInPlainScalar => "a tab cannot stand here; use spaces",
        ErrorKind::UnknownAnchor => {
            "this alias (`*name`) has no anchor (`&name`) before it; a text that starts with `*` needs quotes"
        }
        ErrorKind::UnexpectedCharacter { character } => {
            return format!("no value can start with `{}`; put the text in quotes", excerpt(&character.to_string()));
        }
        ErrorKind::InvalidIndentation | ErrorKind::ExpectedBlockMappingKey | ErrorKind::ExpectedBlockSequenceEntry
            if scene.depth > 0 =>
        {
            "is indented unlike its neighbours; align it with them"
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "a key lacks its `: ` here, or a text of several lines its quotes"
        }
        ErrorKind::BlockSequenceEntryNotAllowed => {
            "a list cannot begin here: `- ` comes on a line of its own, below its field"
        }
        ErrorKind::InvalidBlockEntryWhitespace => "after `-` comes a space, not a tab",
        ErrorKind::InvalidMappingValueWhitespace => "after `:` comes a space, not a tab",
        ErrorKind::MappingValueNotAllowed | ErrorKind::MappingKeyNotAllowed => {
            "a `:` before a space or the line's end cannot stand here; put the text in quotes, or check the indentation"
        }
        ErrorKind::InvalidBlockScalarIndent => {
            "is indented less than the text after `|` or `>` that it belongs to; indent it as far"
        }
        // Fixed texts of the parser; characters of the manifest in them are escaped all the same.
        kind => return kind.to_string().lines().map(escaped).collect::<Vec<_>>().join(" "),
    };
    fixed.to_owned()
}

fn closing(open: char) -> char {
    if open == '[' { ']' } else { '}' }
}

/// What goes wrong between brackets.
fn of_bracket(kind: &ErrorKind, scene: &Scene) -> Option<String> {
    match kind {
        ErrorKind::UnclosedFlowCollection { open } => return Some(format!("this `{open}` is never closed")),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            let since = scene.bracket.map(|(_, at)| format!(" at {at}")).unwrap_or_default();
            let wanted = closing(*open);
            return Some(format!("`{close}` cannot close the `{open}`{since}; a `{wanted}` is missing before it"));
        }
        ErrorKind::MisplacedFlowCollectionEnd => {
            return Some("this bracket was never opened; remove it, or put the text in quotes".to_owned());
        }
        _ => {}
    }
    let (open, at) = scene.bracket?;
    let missing = matches!(
        kind,
        ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator
            | ErrorKind::InvalidColonPlacement
            | ErrorKind::InvalidFlowScalarIndent
            | ErrorKind::BlockEntryInFlowCollection
            | ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::UnexpectedEofImplicitFlowMapping
            | ErrorKind::SimpleKeyExpected
            | ErrorKind::InvalidSimpleKey
            | ErrorKind::InvalidIndentation
            | ErrorKind::MappingValueNotAllowed
    );
    // That of a JSON text's own beginning is open to its end.
    let far = at.line < scene.at.line && at != (Position { line: 1, column: 1 });
    let since = if far { format!(": the `{open}` at {at} is still open") } else { String::new() };
    missing.then(|| format!("a `,` or `{}` is missing before this{since}", closing(open)))
}

/// What goes wrong within quotes, or after them.
fn of_quote(kind: &ErrorKind, scene: &Scene) -> Option<String> {
    let text = scene.quote.map_or("a quoted text".to_owned(), |at| format!("the quoted text that begins at {at}"));
    match kind {
        ErrorKind::UnclosedQuotedScalar
        | ErrorKind::InvalidQuotedScalarIndent
        | ErrorKind::DocumentIndicatorInQuotedScalar => {
            Some(format!("{text} is not closed before this; add the quote at its end"))
        }
        ErrorKind::InvalidTrailingDoubleQuotedScalar => Some(format!(
            "more comes after {text}; is its closing quote missing further up, or the `\\` before a `\"` within it?"
        )),
        ErrorKind::InvalidTrailingSingleQuotedScalar => Some(format!(
            "more comes after {text}; is its closing quote missing further up? A `'` within it is written twice"
        )),
        ErrorKind::UnknownQuotedScalarEscape => {
            Some("a `\\` within \"…\" begins an escape, and this is none; write `\\\\`, or use '…'".to_owned())
        }
        ErrorKind::InvalidQuotedScalarHexEscape => Some(
            "this escape lacks hexadecimal digits: two after `\\x`, four after `\\u`, eight after `\\U`".to_owned(),
        ),
        _ => None,
    }
}
