//! Every table and key of the configuration, described once: the parser takes no key that isn't here,
//! docs/CONFIGURATION.md and the schema for editors are made from it.
//!
//! Pure data. That a key which is described is parsed, that its default is the one which is written here,
//! and that its words are all there are, is held by the tests below.

mod markdown;
mod pair;
mod schema;
mod server;
mod whole;

pub use markdown::markdown;
pub use schema::schema;

pub(super) use pair::PAIR;
pub(super) use server::SERVER;
pub(super) use whole::ROOT;

/// A table of the file.
#[derive(Debug)]
pub(super) struct Page {
    /// As a person writes its header.
    pub(super) title: &'static str,
    pub(super) text: &'static str,
    pub(super) keys: &'static [Key],
    /// Exactly one of these stands in it; empty: no such rule.
    pub(super) one_of: &'static [&'static str],
    /// The first needs the second.
    pub(super) needs: &'static [(&'static str, &'static str)],
    /// Further keys, by the word that stands in `way`.
    pub(super) ways: &'static [Way],
    /// What a file may look like.
    pub(super) example: &'static str,
}

/// One way to lead clients, with the keys that only it has.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) word: &'static str,
    pub(super) text: &'static str,
    pub(super) keys: &'static [Key],
    pub(super) one_of: &'static [&'static str],
    pub(super) example: &'static str,
}

/// A key of a table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) absent: Absent,
    pub(super) text: &'static str,
    /// A value, as TOML; empty for tables, which have an example of their own.
    pub(super) example: &'static str,
}

/// What a key without a value stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent {
    /// That is an error.
    Required,
    /// This value, as TOML.
    Is(&'static str),
    /// What can't be written as a value.
    Means(&'static str),
}

/// A word and what it means.
pub(super) type Word = (&'static str, &'static str);

/// What stands behind a key.
#[derive(Debug)]
pub(super) enum Kind {
    /// From the root, without `..`.
    Path,
    /// A program by its path, and its arguments.
    Program,
    /// The same; an empty list is this host itself.
    Runner,
    Duration,
    /// A share of the origin, or a size.
    Share,
    /// A whole number from 0 to this.
    Count(u32),
    Word(&'static [Word]),
    Words(&'static [Word]),
    /// `host:port`, `host`, `[v6]:port`.
    Address,
    /// Text of a certain look: what it is, and a regular expression that holds it roughly.
    Text(&'static str, &'static str),
    /// A server of the configuration.
    Server,
    Servers,
    /// A value for each server of the pair.
    PerServer(&'static Kind),
    /// Paths of the server to paths of this host.
    PathMap,
    Table(&'static Page),
    /// Tables by names of the user's choice.
    Named(&'static Page),
    /// A list of tables.
    Tables(&'static Page),
}

const fn key(
    name: &'static str,
    kind: Kind,
    absent: Absent,
    text: &'static str,
    example: &'static str,
) -> Key {
    Key {
        name,
        kind,
        absent,
        text,
        example,
    }
}

impl Page {
    /// A key that stands in it whatever its way.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The keys that only this way has.
    pub(super) fn way(&self, word: &str) -> &'static [Key] {
        let way = self.ways.iter().find(|way| way.word == word);
        way.map_or(&[], |way| way.keys)
    }
}

#[cfg(test)]
pub(super) mod tests;
