//! A TOML table that is read key by key: each key once, the wrong type is an error with its line, and what no one has
//! asked for is a warning.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::files::{Unreadable, line_at};

/// Where a text comes from, for errors.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl Origin<'_> {
    pub(super) fn line(&self, offset: usize) -> usize {
        line_at(self.text.as_bytes(), offset)
    }

    pub(super) fn error(&self, offset: usize, why: impl Into<String>) -> Unreadable {
        Unreadable { file: self.file.to_owned(), line: Some(self.line(offset)), why: why.into() }
    }
}

pub(super) struct TomlTable<'a> {
    origin: Origin<'a>,
    /// `registry[0].`, what its keys are called in messages.
    path: String,
    pub(super) offset: usize,
    entries: DeTable<'a>,
}

impl<'a> TomlTable<'a> {
    /// # Errors
    /// What is not TOML.
    pub(super) fn parse(origin: Origin<'a>) -> Result<TomlTable<'a>, Unreadable> {
        let table = DeTable::parse(origin.text).map_err(|error| {
            origin.error(error.span().map_or(0, |span| span.start), format!("is not TOML: {}", error.message()))
        })?;
        Ok(TomlTable { origin, path: String::new(), offset: 0, entries: table.into_inner() })
    }

    pub(super) fn error(&self, offset: usize, key: &str, why: &str) -> Unreadable {
        self.origin.error(offset, format!("`{}{key}` {why}", self.path))
    }

    /// Takes an entry out, whatever it is.
    pub(super) fn take(&mut self, key: &str) -> Option<(usize, DeValue<'a>)> {
        let value = self.entries.remove(key)?;
        Some((value.span().start, value.into_inner()))
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<(usize, String)>, Unreadable> {
        match self.take(key) {
            None => Ok(None),
            Some((offset, DeValue::String(text))) => Ok(Some((offset, text.into_owned()))),
            Some((offset, _)) => Err(self.error(offset, key, "is not a string")),
        }
    }

    pub(super) fn truth(&mut self, key: &str) -> Result<bool, Unreadable> {
        match self.take(key) {
            None => Ok(false),
            Some((_, DeValue::Boolean(value))) => Ok(value),
            Some((offset, _)) => Err(self.error(offset, key, "is neither true nor false")),
        }
    }

    pub(super) fn texts(&mut self, key: &str) -> Result<Option<Vec<(usize, String)>>, Unreadable> {
        let Some((offset, value)) = self.take(key) else { return Ok(None) };
        let DeValue::Array(values) = value else { return Err(self.error(offset, key, "is not a list")) };
        let mut texts = Vec::new();
        for value in values.into_iter() {
            let offset = value.span().start;
            let DeValue::String(text) = value.into_inner() else {
                return Err(self.error(offset, key, "is not a list of strings"));
            };
            texts.push((offset, text.into_owned()));
        }
        Ok(Some(texts))
    }

    /// `[[key]]`
    pub(super) fn tables(&mut self, key: &str) -> Result<Vec<TomlTable<'a>>, Unreadable> {
        let Some((offset, value)) = self.take(key) else { return Ok(Vec::new()) };
        let not_tables = format!("is not a list of tables: write [[{}{key}]]", self.path);
        let DeValue::Array(values) = value else { return Err(self.error(offset, key, &not_tables)) };
        let mut tables = Vec::new();
        for (number, value) in values.into_iter().enumerate() {
            let offset = value.span().start;
            let DeValue::Table(entries) = value.into_inner() else {
                return Err(self.error(offset, key, &not_tables));
            };
            tables.push(TomlTable {
                origin: self.origin,
                path: format!("{}{key}[{number}].", self.path),
                offset,
                entries,
            });
        }
        Ok(tables)
    }

    /// `[key]` with strings.
    pub(super) fn text_entries(&mut self, key: &str) -> Result<Vec<(usize, String, String)>, Unreadable> {
        let Some((offset, value)) = self.take(key) else { return Ok(Vec::new()) };
        let DeValue::Table(entries) = value else { return Err(self.error(offset, key, "is not a table")) };
        let text = |(name, value): (Spanned<std::borrow::Cow<'a, str>>, Spanned<DeValue<'a>>)| {
            let (offset, name) = (name.span().start, name.into_inner().into_owned());
            match value.into_inner() {
                DeValue::String(value) => Ok((offset, name, value.into_owned())),
                _ => Err(self.error(offset, &format!("{key}.{name}"), "is not a string")),
            }
        };
        entries.into_iter().map(text).collect()
    }

    /// What has not been taken: `FILE:LINE: unknown key …`.
    pub(super) fn warn_of_the_rest(self, warnings: &mut Vec<String>) {
        for (key, _) in &self.entries {
            let (file, line) = (self.origin.file.display(), self.origin.line(key.span().start));
            warnings.push(format!("{file}:{line}: unknown key `{}{}` is ignored", self.path, key.get_ref()));
        }
    }
}
