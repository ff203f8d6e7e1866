//! MySQL's GTID sets: source UUID, optional tag (8.3+), intervals of transaction numbers.
//!
//! Reads everything that a server prints, and less than it accepts: a UUID without numbers and an
//! interval that runs backwards, which it takes for the empty set, are errors here, since a
//! truncated set must not pass for an empty one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::intervals::{self, Interval};
use super::{Cursor, GtidError};

/// The highest transaction number, 2^63 - 2 (sql/rpl_gtid.h, GNO_END - 1) [run on 9.7.4].
const NUMBER_MAX: u64 = i64::MAX as u64 - 1;
const TAG_CHARS_MAX: usize = 32;

/// The `server_uuid` of the server on which a transaction was first committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceUuid(u128);

impl SourceUuid {
    /// Reads the form with dashes, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let dashes = [8, 13, 18, 23];
        let is_well_formed = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match byte {
                b'-' => dashes.contains(&at),
                byte => byte.is_ascii_hexdigit() && !dashes.contains(&at),
            });
        let digits = is_well_formed.then(|| text.replace('-', ""))?;
        u128::from_str_radix(&digits, 16).ok().map(Self)
    }
}

impl fmt::Display for SourceUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let (a, b, c) = (&hex[..8], &hex[8..12], &hex[12..16]);
        write!(f, "{a}-{b}-{c}-{}-{}", &hex[16..20], &hex[20..])
    }
}

/// A set of transactions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MysqlGtidSet {
    /// By source and tag; the empty tag is none. No list is empty.
    numbers: BTreeMap<(SourceUuid, String), Vec<Interval>>,
}

impl MysqlGtidSet {
    /// Reads what a server prints: `UUID:1-5:7:tag:1-3,…`, with any white space between.
    pub fn parse(text: &str) -> Result<Self, GtidError> {
        let mut cursor = Cursor::new(text)?;
        let mut numbers = BTreeMap::new();
        loop {
            cursor.skip_space();
            if cursor.is_at_end() {
                break;
            }
            // The server itself skips commas with nothing between them.
            if cursor.take(',') {
                continue;
            }
            parse_source(&mut cursor, &mut numbers)?;
            if !cursor.is_at_end() && !cursor.rest().starts_with(',') {
                return Err(cursor.expected("a comma or colon"));
            }
        }
        for list in numbers.values_mut() {
            *list = intervals::normalise(std::mem::take(list));
        }
        Ok(Self { numbers })
    }

    /// Has no transaction.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// How many transactions.
    pub fn count(&self) -> u128 {
        self.numbers.values().flatten().map(Interval::count).sum()
    }

    /// Whether this set has everything of `other`.
    pub fn contains(&self, other: &Self) -> bool {
        other.is_subset_of(self)
    }

    /// Whether `other` has everything of this set: `GTID_SUBSET(self, other)`.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.numbers
            .iter()
            .all(|(key, list)| intervals::is_subset(list, other.list(key)))
    }

    /// Everything that either has.
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        for (key, list) in &other.numbers {
            let joined = intervals::union(union.list(key), list);
            union.numbers.insert(key.clone(), joined);
        }
        union
    }

    /// What this set has and `other` hasn't: `GTID_SUBTRACT(self, other)`.
    pub fn subtract(&self, other: &Self) -> Self {
        self.map_lists(|key, list| intervals::subtract(list, other.list(key)))
    }

    /// What both have.
    pub fn intersect(&self, other: &Self) -> Self {
        self.map_lists(|key, list| intervals::intersect(list, other.list(key)))
    }

    /// The transactions that were first committed on this server, of any tag.
    pub fn of_source(&self, source: SourceUuid) -> Self {
        self.map_lists(|(of, _), list| match *of == source {
            true => list.to_vec(),
            false => Vec::new(),
        })
    }

    /// All but the transactions that were first committed on these servers.
    pub fn without_sources(&self, sources: &[SourceUuid]) -> Self {
        self.map_lists(|(of, _), list| match sources.contains(of) {
            true => Vec::new(),
            false => list.to_vec(),
        })
    }

    /// The servers that the transactions come from, ascending.
    pub fn sources(&self) -> Vec<SourceUuid> {
        let mut sources: Vec<_> = self.numbers.keys().map(|(source, _)| *source).collect();
        sources.dedup();
        sources
    }

    /// Source, tag (empty for none) and the intervals, in the order in which they are printed.
    pub fn iter(&self) -> impl Iterator<Item = (SourceUuid, &str, &[Interval])> {
        self.numbers
            .iter()
            .map(|((source, tag), list)| (*source, tag.as_str(), list.as_slice()))
    }

    /// The set in one line; a server reads it too.
    pub fn to_line(&self) -> String {
        self.to_string().replace('\n', "")
    }

    fn list(&self, key: &(SourceUuid, String)) -> &[Interval] {
        self.numbers.get(key).map_or(&[], Vec::as_slice)
    }

    /// The same keys with other lists; the keys whose lists come out empty are gone.
    fn map_lists(&self, map: impl Fn(&(SourceUuid, String), &[Interval]) -> Vec<Interval>) -> Self {
        let lists = self
            .numbers
            .iter()
            .map(|(key, list)| (key.clone(), map(key, list)));
        Self {
            numbers: lists.filter(|(_, list)| !list.is_empty()).collect(),
        }
    }
}

impl FromStr for MysqlGtidSet {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        Self::parse(text)
    }
}

/// As the server prints it: sources ascending, a comma and a line end between them, the untagged
/// numbers first, then the tags ascending [run on 9.7.4].
impl fmt::Display for MysqlGtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = None;
        for (source, tag, list) in self.iter() {
            match before {
                Some(before) if before == source => {}
                Some(_) => write!(f, ",\n{source}")?,
                None => write!(f, "{source}")?,
            }
            before = Some(source);
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for Interval { first, last } in list {
                match first == last {
                    true => write!(f, ":{first}")?,
                    false => write!(f, ":{first}-{last}")?,
                }
            }
        }
        Ok(())
    }
}

type Lists = BTreeMap<(SourceUuid, String), Vec<Interval>>;

/// `UUID`, then at least one `:NUMBER`, `:FIRST-LAST` or `:TAG` with such behind it.
fn parse_source(cursor: &mut Cursor<'_>, lists: &mut Lists) -> Result<(), GtidError> {
    let start = cursor.at;
    let uuid = cursor.take_while(|c| c.is_ascii_hexdigit() || c == '-');
    let Some(source) = SourceUuid::parse(uuid) else {
        cursor.at = start;
        return Err(cursor.expected("a UUID"));
    };
    let mut tag = String::new();
    let mut has_number = false;
    loop {
        cursor.skip_space();
        if !cursor.take(':') {
            break;
        }
        cursor.skip_space();
        if cursor
            .rest()
            .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        {
            // A tag without numbers, "UUID:a:b:1", is nothing that a server prints.
            if !tag.is_empty() && !has_number {
                return Err(cursor.expected("a number"));
            }
            tag = parse_tag(cursor)?;
            has_number = false;
        } else {
            let interval = parse_interval(cursor)?;
            lists
                .entry((source, tag.clone()))
                .or_default()
                .push(interval);
            has_number = true;
        }
    }
    match has_number {
        true => Ok(()),
        false => Err(cursor.expected("a colon and a number")),
    }
}

/// Tags are lower case, whatever was written.
fn parse_tag(cursor: &mut Cursor<'_>) -> Result<String, GtidError> {
    let start = cursor.at;
    let tag = cursor.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
    if tag.len() > TAG_CHARS_MAX {
        cursor.at = start;
        return Err(cursor.expected("a tag of at most 32 characters"));
    }
    Ok(tag.to_ascii_lowercase())
}

fn parse_interval(cursor: &mut Cursor<'_>) -> Result<Interval, GtidError> {
    let first = cursor.number(1, NUMBER_MAX, "a number from 1 to 2^63 - 2")?;
    cursor.skip_space();
    if !cursor.take('-') {
        return Ok(Interval { first, last: first });
    }
    cursor.skip_space();
    let last = cursor.number(
        first,
        NUMBER_MAX,
        "a number from the interval's first to 2^63 - 2",
    )?;
    Ok(Interval { first, last })
}

#[cfg(test)]
mod tests;
