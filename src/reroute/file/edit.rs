//! One value of a JSON, TOML or option file: found by its place, and everything else left to the
//! letter. Pure.

use std::ops::Range;

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use crate::config::FileFormat;

/// Where a value stands in a text.
pub type Span = Range<usize>;

/// The only place of the key's value: each "." of the key either separates tables or belongs to a
/// name. The error is a fragment.
pub fn find(text: &str, format: FileFormat, key: &str) -> Result<Span, String> {
    let places = match format {
        FileFormat::Json => json_places(text, key)?,
        FileFormat::Toml => toml_places(text, key)?,
        FileFormat::Ini => ini_places(text, key),
    };
    match &places[..] {
        [one] => Ok(one.clone()),
        [] => Err(format!("there is no key {key}")),
        several => Err(format!(
            "the key {key} stands there {} times",
            several.len()
        )),
    }
}

/// The text with other values in those places, which don't overlap.
pub fn put(text: &str, mut values: Vec<(Span, String)>) -> String {
    values.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, value) in values {
        text.replace_range(span, &value);
    }
    text
}

/// How `value` is written where `old` stands.
pub fn written(old: &str, value: &str) -> String {
    match old.chars().next() {
        // A host or a port has nothing that needs an escape.
        Some(quote @ ('"' | '\'')) => format!("{quote}{value}{quote}"),
        Some(_) | None => value.to_owned(),
    }
}

/// What stands there, without its quotes.
pub fn plain(written: &str) -> &str {
    written.trim_matches(['"', '\''])
}

/// The ways to read a key: its first name, and what is left of it.
fn splits(key: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let inner = key
        .match_indices('.')
        .map(|(at, _)| (&key[..at], Some(&key[at + 1..])));
    inner.chain([(key, None)])
}

fn toml_places(text: &str, key: &str) -> Result<Vec<Span>, String> {
    fn walk(table: &DeTable<'_>, key: &str, places: &mut Vec<Span>) {
        for (name, rest) in splits(key) {
            let Some(value) = table.get(name) else {
                continue;
            };
            match (rest, value.as_ref()) {
                (Some(rest), DeValue::Table(inner)) => walk(inner, rest, places),
                (None, DeValue::String(_) | DeValue::Integer(_)) => places.push(value.span()),
                (_, _) => {}
            }
        }
    }
    let document =
        DeTable::parse(text).map_err(|error| format!("it is no TOML: {}", error.message()))?;
    let mut places = Vec::new();
    walk(document.as_ref(), key, &mut places);
    Ok(places)
}

/// The last section's name and key; comments begin with '#' or ';', also behind a value.
fn ini_places(text: &str, key: &str) -> Vec<Span> {
    let mut places = Vec::new();
    let (mut section, mut at) = (None, 0);
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[') {
            section = name.split(']').next().map(str::trim);
        } else if !trimmed.starts_with(['#', ';'])
            && let Some(sign) = line.find(['=', ':'])
        {
            let name = line[..sign].trim();
            let matches = match section {
                None => name == key,
                Some(section) => key
                    .strip_suffix(name)
                    .and_then(|rest| rest.strip_suffix('.'))
                    .is_some_and(|rest| rest == section),
            };
            if matches && !name.is_empty() {
                let value = ini_value(&line[sign + 1..]);
                places.push(at + sign + 1 + value.start..at + sign + 1 + value.end);
            }
        }
        at += line.len();
    }
    places
}

fn ini_value(rest: &str) -> Span {
    let start = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    let value = &rest[start..];
    let quoted = value
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''))
        .and_then(|quote| value[1..].find(quote));
    let length = match quoted {
        Some(end) => end + 2,
        None => {
            let comment = [" #", " ;", "\t#", "\t;"];
            let end = comment.iter().filter_map(|mark| value.find(mark)).min();
            value[..end.unwrap_or(value.len())].trim_end().len()
        }
    };
    start..start + length
}

fn json_places(text: &str, key: &str) -> Result<Vec<Span>, String> {
    // What the scanner below goes through is JSON, so that it needs to know little.
    serde_json::from_str::<Value>(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let mut places = Vec::new();
    let mut scanner = Scanner { text, at: 0 };
    scanner.value(Some(key), &mut places);
    Ok(places)
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl Scanner<'_> {
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes past one value; in objects it looks for the key.
    fn value(&mut self, key: Option<&str>, places: &mut Vec<Span>) {
        match self.peek() {
            Some(b'{') => self.object(key, places),
            Some(b'[') => {
                self.at += 1;
                while !matches!(self.peek(), Some(b']') | None) {
                    self.value(None, places);
                    self.comma();
                }
                self.at += 1;
            }
            Some(b'"') => drop(self.string()),
            Some(_) => {
                let rest = &self.text[self.at..];
                let end = rest.find(|c: char| ",]}".contains(c) || c.is_whitespace());
                self.at += end.unwrap_or(rest.len());
            }
            None => {}
        }
    }

    fn object(&mut self, key: Option<&str>, places: &mut Vec<Span>) {
        self.at += 1;
        while self.peek() == Some(b'"') {
            let name = self.string();
            self.peek();
            self.at += 1;
            self.peek();
            let start = self.at;
            let is_scalar = !matches!(self.text.as_bytes().get(start), Some(b'{' | b'['));
            let rest = key.and_then(|key| match key.strip_prefix(&*name)? {
                "" => Some(None),
                rest => rest.strip_prefix('.').map(Some),
            });
            match rest {
                Some(Some(rest)) => self.value(Some(rest), places),
                Some(None) | None => self.value(None, places),
            }
            if rest == Some(None) && is_scalar {
                places.push(start..self.at);
            }
            self.comma();
        }
        self.at += 1;
    }

    fn comma(&mut self) {
        if self.peek() == Some(b',') {
            self.at += 1;
        }
    }

    /// A name as it is meant, its escapes resolved.
    fn string(&mut self) -> String {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while bytes.get(self.at).is_some_and(|byte| *byte != b'"') {
            self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        serde_json::from_str(&self.text[start..self.at]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
