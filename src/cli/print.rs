//! The one printer of errors and notices. Everything here goes to stderr.

use std::io::Write;

use anstyle::{AnsiColor, Style};

use crate::host;
use crate::report::Report;
use crate::step::Step;

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();

/// What, the chain below it, and the way out. A hint that nobody gave is looked up by where it failed and the errno.
pub(crate) fn report(report: &Report) {
    let hint = report.hint.clone().or_else(|| report.cause.and_then(|(step, errno)| advice(step, errno)));
    // Where stderr is closed nobody is left to be told.
    let _ = anstream::stderr().write_all(render(report, hint.as_deref()).as_bytes());
}

fn advice(step: Step, errno: i32) -> Option<String> {
    let facts = host::probe(&host::Asked::default()).ok()?;
    host::full_disk(errno, &facts).or_else(|| host::advice(step, errno, &facts))
}

fn render(report: &Report, hint: Option<&str>) -> String {
    let mut text = String::new();
    lines(&mut text, &format!("{RED}error:{RED:#} "), "  ", &report.what);
    for line in &report.chain {
        lines(&mut text, "  ", "  ", line);
    }
    if let Some(hint) = hint {
        lines(&mut text, &format!("{CYAN}hint:{CYAN:#} "), "      ", hint);
    }
    text
}

/// One line on stderr: `warning: …`, `degraded: …`.
pub(crate) fn notice(label: &str, message: &str) {
    let _ = anstream::stderr().write_all(labelled(label, message).as_bytes());
}

/// A warning as text, for a caller that writes to stderr in an order of its own; with colours where stderr has them.
pub(crate) fn warning(message: &str) -> String {
    let text = labelled("warning", message);
    match anstream::AutoStream::choice(&std::io::stderr()) {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(&text).to_string(),
        _ => text,
    }
}

fn labelled(label: &str, message: &str) -> String {
    let mut text = String::new();
    lines(&mut text, &format!("{YELLOW}{label}:{YELLOW:#} "), "  ", message);
    text
}

fn lines(text: &mut String, first: &str, rest: &str, message: &str) {
    for (index, line) in message.lines().enumerate() {
        text.push_str(if index == 0 { first } else { rest });
        text.push_str(&escape(line));
        text.push('\n');
    }
}

/// Text of a manifest or a file name may hold escape sequences; none of them reaches the terminal.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if steers(letter) {
            escaped.extend(letter.escape_default());
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

/// A value as indented JSON on stdout.
pub(crate) fn json(value: &impl serde::Serialize) -> std::io::Result<()> {
    let mut text = without_controls(&serde_json::to_string_pretty(value)?);
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes())
}

/// One JSON object as one line on stdout.
pub(crate) fn json_line(json: &str) -> std::io::Result<()> {
    std::io::stdout().write_all(format!("{}\n", without_controls(json)).as_bytes())
}

/// The same JSON without the characters that could steer a terminal and that JSON may leave as they are (RFC 8259, 7).
fn without_controls(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter != '\n' && steers(letter) {
            safe.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// Control characters, and those that reorder what the reader sees (CVE-2021-42574).
fn steers(letter: char) -> bool {
    (letter.is_control() && letter != '\t') || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text on stdout.
pub(crate) fn text(text: &str) -> std::io::Result<()> {
    let mut stdout = anstream::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_the_way_out() {
        let report = Report::new(125, "could not start pod `web`")
            .because("creating the pod's namespaces")
            .because("clone3(): No space left on device (ENOSPC)");
        let plain = anstream::adapter::strip_str(&render(&report, Some("a kernel limit\nnot disk space"))).to_string();
        assert_eq!(
            plain,
            "error: could not start pod `web`\n  creating the pod's namespaces\n  \
             clone3(): No space left on device (ENOSPC)\nhint: a kernel limit\n      not disk space\n"
        );
    }

    #[test]
    fn json_steers_no_terminal_and_stays_the_same_value() {
        let value = serde_json::json!({ "name": "a\u{9b}2J\u{1b}[2J\u{7f}\u{202e}é\n" });
        let text = without_controls(&serde_json::to_string_pretty(&value).expect("JSON"));
        assert_eq!(text, "{\n  \"name\": \"a\\u009b2J\\u001b[2J\\u007f\\u202eé\\n\"\n}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        assert_eq!(escape("a\u{1b}[2Jb\u{7}\r\u{202e}é\u{9b}"), "a\\u{1b}[2Jb\\u{7}\\r\\u{202e}é\\u{9b}");
    }
}
