//! Walking one TOML table: typed values with their place, and every key accounted for.
//!
//! The invariants: what isn't taken before `finish` is an unknown key, so nothing is ignored; and only
//! what `reference` describes can be taken, so nothing is known that stands in no manual.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::issue::{Complaint, Issues};
use super::reference::{Key, Kind, Page, ROOT};
use super::values::{DURATION_HINT, closest, parse_absolute_path};

/// A value and the place it stands at.
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// A key of a table, and the value as the parser left it.
pub(super) type Entry<'t, 'i> = (At<&'t str>, &'t Spanned<DeValue<'i>>);

/// A table being read.
pub(super) struct Table<'t, 'i> {
    /// As a person writes it: `[server.db2.snapshot]`; empty for the whole file.
    pub(super) title: String,
    /// What is blamed for missing keys.
    pub(super) span: Range<usize>,
    entries: &'t DeTable<'i>,
    known: Vec<&'static str>,
    /// Its keys; `None` where they are names of the user's choice.
    page: Option<&'static Page>,
    /// And those of its way.
    of_way: &'static [Key],
}

impl<'t, 'i> Table<'t, 'i> {
    /// The whole file.
    pub(super) fn root(entries: &'t DeTable<'i>) -> Self {
        Self {
            title: String::new(),
            span: 0..0,
            entries,
            known: Vec::new(),
            page: Some(&ROOT),
            of_way: &[],
        }
    }

    /// The table that a value is, or a complaint and nothing.
    pub(super) fn of(
        title: String,
        key: Range<usize>,
        value: &'t Spanned<DeValue<'i>>,
        page: Option<&'static Page>,
        issues: &mut Issues<'_>,
    ) -> Option<Self> {
        let Some(entries) = value.as_ref().as_table() else {
            let message = format!("expected the table {title}, found {}", kind(value.as_ref()));
            issues.report(key, Complaint::new(message));
            return None;
        };
        Some(Self {
            title,
            span: key,
            entries,
            known: Vec::new(),
            page,
            of_way: &[],
        })
    }

    /// From here on the keys of this way belong to it, too.
    pub(super) fn goes(&mut self, way: &str) {
        self.of_way = self.page.map_or(&[], |page| page.way(way));
    }

    fn described(&self, name: &str) -> Option<&'static Key> {
        let of_way = self.of_way.iter().find(|key| key.name == name);
        of_way.or_else(|| self.page?.key(name))
    }

    /// Whether the key stands there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether the key stands there and is a table.
    pub(super) fn has_table(&self, key: &str) -> bool {
        let value = self.entries.get(key);
        value.is_some_and(|value| value.as_ref().is_table())
    }

    /// Where the key stands.
    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        self.entries
            .get_key_value(key)
            .map_or(self.span.clone(), |(key, _)| key.span())
    }

    /// The value of a key, which becomes a known one; none of a key that `reference` hasn't.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        let is_described = self.described(key).is_some();
        debug_assert!(
            is_described,
            "config/reference lacks {key} of {:?}",
            self.title
        );
        if !is_described {
            return None;
        }
        self.known.push(key);
        self.entries.get(key)
    }

    /// The table under a key.
    pub(super) fn table(&mut self, key: &'static str, issues: &mut Issues<'_>) -> Option<Self> {
        let value = self.take(key)?;
        let path = self.title.trim_start_matches('[').trim_end_matches(']');
        let title = match path {
            "" => format!("[{key}]"),
            path => format!("[{path}.{key}]"),
        };
        let page = match self.described(key).map(|key| &key.kind) {
            Some(Kind::Table(page)) => Some(*page),
            _ => None,
        };
        Self::of(title, self.key_span(key), value, page, issues)
    }

    /// Every entry, for tables whose keys are names; there are no unknown ones then.
    pub(super) fn entries(&self) -> Vec<Entry<'t, 'i>> {
        let entry = |(key, value): (&'t Spanned<_>, _)| {
            let key_text: &'t toml::de::DeString<'i> = key.as_ref();
            let at = At {
                value: key_text.as_ref(),
                span: key.span(),
            };
            (at, value)
        };
        self.entries.iter().map(entry).collect()
    }

    /// A string.
    pub(super) fn string(
        &mut self,
        key: &'static str,
        issues: &mut Issues<'_>,
    ) -> Option<At<&'t str>> {
        let value = self.take(key)?;
        string_of(key, value, None, issues)
    }

    /// A string that `parse` makes something of.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        issues: &mut Issues<'_>,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<At<T>> {
        let text = self.string(key, issues)?;
        parse_at(key, text, issues, parse)
    }

    /// A duration; the commonest mistake is a number without a unit.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        issues: &mut Issues<'_>,
    ) -> Option<At<std::time::Duration>> {
        let value = self.take(key)?;
        let text = string_of(key, value, Some(DURATION_HINT), issues)?;
        parse_at(key, text, issues, super::values::parse_duration)
    }

    /// A whole number from 0 to `max`.
    pub(super) fn count(
        &mut self,
        key: &'static str,
        max: u32,
        issues: &mut Issues<'_>,
    ) -> Option<u32> {
        let value = self.take(key)?;
        let number = value.as_ref().as_integer();
        let Some(number) = number else {
            let found = kind(value.as_ref());
            let message = format!("{key}: expected a whole number, found {found}");
            issues.report(value.span(), Complaint::new(message));
            return None;
        };
        let digits = number.as_str().replace('_', "");
        match i128::from_str_radix(&digits, number.radix()).map(u32::try_from) {
            Ok(Ok(count)) if count <= max => Some(count),
            Ok(_) | Err(_) => {
                let message = format!("{key}: {number} isn't between 0 and {max}");
                issues.report(value.span(), Complaint::new(message));
                None
            }
        }
    }

    /// A list of strings.
    pub(super) fn strings(
        &mut self,
        key: &'static str,
        issues: &mut Issues<'_>,
    ) -> Option<At<Vec<At<&'t str>>>> {
        let value = self.take(key)?;
        strings_in(key, value, issues)
    }

    /// The tables of a list of tables (`[[pair.lab.reroute]]`).
    pub(super) fn tables(&mut self, key: &'static str, issues: &mut Issues<'_>) -> Vec<Self> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let path = self.title.trim_start_matches('[').trim_end_matches(']');
        let title = format!("[[{path}.{key}]]");
        let Some(array) = value.as_ref().as_array() else {
            let found = kind(value.as_ref());
            let message = format!("expected tables {title}, found {found}");
            issues.report(self.key_span(key), Complaint::new(message));
            return Vec::new();
        };
        let page = match self.described(key).map(|key| &key.kind) {
            Some(Kind::Tables(page)) => Some(*page),
            _ => None,
        };
        array
            .iter()
            .filter_map(|one| Self::of(title.clone(), one.span(), one, page, issues))
            .collect()
    }

    /// A string under a name that is no key of ours, parsed.
    pub(super) fn parsed_of<T>(
        &self,
        name: &str,
        issues: &mut Issues<'_>,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<At<T>> {
        let text = string_of(name, self.entries.get(name)?, None, issues)?;
        parse_at(name, text, issues, parse)
    }

    /// A list of strings under a name that is no key of ours.
    pub(super) fn strings_of(
        &self,
        name: &str,
        issues: &mut Issues<'_>,
    ) -> Option<At<Vec<At<&'t str>>>> {
        strings_in(name, self.entries.get(name)?, issues)
    }

    /// Complains of every key that nobody took.
    pub(super) fn finish(self, issues: &mut Issues<'_>) {
        for (key, _) in self.entries() {
            if self.known.contains(&key.value) {
                continue;
            }
            let place = match self.title.as_str() {
                "" => String::new(),
                title => format!(" in {title}"),
            };
            let hint = match closest(key.value, &self.known) {
                Some(known) => format!("Did you mean {known:?}?"),
                None => format!("Known here: {}.", self.known.join(", ")),
            };
            let message = format!("unknown key {:?}{place}", key.value);
            issues.report(key.span, Complaint::new(message).hint(hint));
        }
    }
}

fn strings_in<'t>(
    key: &str,
    value: &'t Spanned<DeValue<'_>>,
    issues: &mut Issues<'_>,
) -> Option<At<Vec<At<&'t str>>>> {
    let Some(array) = value.as_ref().as_array() else {
        let found = kind(value.as_ref());
        let message = format!("{key}: expected a list of strings, found {found}");
        issues.report(
            value.span(),
            Complaint::new(message).hint(format!("Write it like {key} = [\"…\"].")),
        );
        return None;
    };
    let strings: Vec<_> = array
        .iter()
        .filter_map(|element| string_of(key, element, None, issues))
        .collect();
    (strings.len() == array.len()).then(|| At {
        value: strings,
        span: value.span(),
    })
}

/// A program, by its absolute path, and its arguments: no PATH and no shell decides what runs.
pub(super) fn argv_of(
    key: &str,
    argv: &At<Vec<At<&str>>>,
    issues: &mut Issues<'_>,
) -> Option<Vec<String>> {
    let Some(program) = argv.value.first() else {
        let complaint = Complaint::new(format!("{key}: the command is empty"));
        issues.report(
            argv.span.clone(),
            complaint.hint("Write the program, then its arguments."),
        );
        return None;
    };
    if let Err(mut complaint) = parse_absolute_path(program.value) {
        complaint.message = format!("{key}: {}", complaint.message);
        issues.report(program.span.clone(), complaint);
        return None;
    }
    if let Some(argument) = argv.value.iter().find(|one| one.value.contains('\0')) {
        let complaint = Complaint::new(format!("{key}: an argument has a NUL in it"));
        issues.report(argument.span.clone(), complaint);
        return None;
    }
    Some(argv.value.iter().map(|one| one.value.to_owned()).collect())
}

fn string_of<'t>(
    key: &str,
    value: &'t Spanned<DeValue<'_>>,
    hint: Option<&str>,
    issues: &mut Issues<'_>,
) -> Option<At<&'t str>> {
    let span = value.span();
    match value.as_ref().as_str() {
        Some(text) => Some(At { value: text, span }),
        None => {
            let found = kind(value.as_ref());
            let mut complaint = Complaint::new(format!("{key}: expected a string, found {found}"));
            complaint.hint = hint.map(str::to_owned);
            issues.report(span, complaint);
            None
        }
    }
}

/// Parses a string in its place; a complaint names the key and stays there.
pub(super) fn parse_at<T>(
    key: &str,
    text: At<&str>,
    issues: &mut Issues<'_>,
    parse: impl FnOnce(&str) -> Result<T, Complaint>,
) -> Option<At<T>> {
    match parse(text.value) {
        Ok(value) => Some(At {
            value,
            span: text.span,
        }),
        Err(mut complaint) => {
            complaint.message = format!("{key}: {}", complaint.message);
            issues.report(text.span, complaint);
            None
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
