//! GTID sets of both flavours: parsing, printing and set algebra.
//!
//! Pure. `tests/server/gtid_live.rs` proves the MySQL half against a live server's `GTID_SUBSET()` and
//! `GTID_SUBTRACT()`. MySQL's sets are sets of transactions; MariaDB's are positions, one number
//! per replication domain, so that they can be compared but not subtracted.

mod intervals;
mod mariadb;
mod mysql;

use std::fmt;

pub use intervals::Interval;
pub use mariadb::{DomainLag, MariadbGtidPos};
pub use mysql::{MysqlGtidSet, SourceUuid};

/// The longest text that is read; far above what a server keeps.
pub const GTID_TEXT_BYTES_MAX: usize = 16 << 20;

/// What a server has executed, received or lacks, in its flavour's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GtidSet {
    Mysql(MysqlGtidSet),
    Mariadb(MariadbGtidPos),
}

/// Why a text isn't a GTID set, or two sets can't be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GtidError {
    /// `column` counts characters from 1.
    #[error("malformed GTID set: expected {expected} at character {column}")]
    Malformed {
        column: usize,
        expected: &'static str,
    },
    #[error("the GTID set is longer than {GTID_TEXT_BYTES_MAX} bytes ({bytes})")]
    TooLong { bytes: usize },
    #[error("a GTID set of MySQL and one of MariaDB can't be compared")]
    FlavoursDiffer,
}

impl GtidSet {
    /// Reads what a MySQL server prints.
    pub fn parse_mysql(text: &str) -> Result<Self, GtidError> {
        MysqlGtidSet::parse(text).map(Self::Mysql)
    }

    /// Reads what a MariaDB server prints.
    pub fn parse_mariadb(text: &str) -> Result<Self, GtidError> {
        MariadbGtidPos::parse(text).map(Self::Mariadb)
    }

    /// Nothing has ever been executed.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Mysql(set) => set.is_empty(),
            Self::Mariadb(position) => position.is_empty(),
        }
    }

    /// Whether `other` has everything of this one.
    pub fn is_subset_of(&self, other: &Self) -> Result<bool, GtidError> {
        match (self, other) {
            (Self::Mysql(a), Self::Mysql(b)) => Ok(a.is_subset_of(b)),
            (Self::Mariadb(a), Self::Mariadb(b)) => Ok(a.is_subset_of(b)),
            (Self::Mysql(_), Self::Mariadb(_)) | (Self::Mariadb(_), Self::Mysql(_)) => {
                Err(GtidError::FlavoursDiffer)
            }
        }
    }

    /// Everything that either has.
    pub fn union(&self, other: &Self) -> Result<Self, GtidError> {
        match (self, other) {
            (Self::Mysql(a), Self::Mysql(b)) => Ok(Self::Mysql(a.union(b))),
            (Self::Mariadb(a), Self::Mariadb(b)) => Ok(Self::Mariadb(a.union(b))),
            (Self::Mysql(_), Self::Mariadb(_)) | (Self::Mariadb(_), Self::Mysql(_)) => {
                Err(GtidError::FlavoursDiffer)
            }
        }
    }

    /// How many transactions of this one `other` lacks. For MariaDB that is the distance of the
    /// sequence numbers, which is exact only where they have no gaps.
    pub fn count_missing_from(&self, other: &Self) -> Result<u128, GtidError> {
        match (self, other) {
            (Self::Mysql(a), Self::Mysql(b)) => Ok(a.subtract(b).count()),
            (Self::Mariadb(a), Self::Mariadb(b)) => Ok(a
                .missing_from(b)
                .iter()
                .map(|lag| u128::from(lag.missing()))
                .sum()),
            (Self::Mysql(_), Self::Mariadb(_)) | (Self::Mariadb(_), Self::Mysql(_)) => {
                Err(GtidError::FlavoursDiffer)
            }
        }
    }

    /// The set in one line, for tables and logs; a server reads it too.
    pub fn to_line(&self) -> String {
        match self {
            Self::Mysql(set) => set.to_line(),
            Self::Mariadb(position) => position.to_string(),
        }
    }
}

/// As the server itself prints it; MySQL puts a line end after each comma.
impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql(set) => set.fmt(f),
            Self::Mariadb(position) => position.fmt(f),
        }
    }
}

/// Reads a text from the left; knows where it is.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn new(text: &'t str) -> Result<Self, GtidError> {
        if text.len() > GTID_TEXT_BYTES_MAX {
            return Err(GtidError::TooLong { bytes: text.len() });
        }
        Ok(Self { text, at: 0 })
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        let space = |c: char| c.is_ascii_whitespace() || c == '\x0b';
        self.at = self.text.len() - self.rest().trim_start_matches(space).len();
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Takes one character if it is this one.
    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.rest().starts_with(wanted);
        if is_there {
            self.at += wanted.len_utf8();
        }
        is_there
    }

    /// Takes the longest run of such characters.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !wanted(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    /// Takes a number from `least` to `most`; `expected` describes it.
    fn number(&mut self, least: u64, most: u64, expected: &'static str) -> Result<u64, GtidError> {
        let start = self.at;
        let digits = self.take_while(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            Ok(_) | Err(_) => {
                self.at = start;
                Err(self.expected(expected))
            }
        }
    }

    fn expected(&self, expected: &'static str) -> GtidError {
        GtidError::Malformed {
            column: self.text[..self.at].chars().count() + 1,
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const U: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn flavours_dont_mix() {
        let mysql = GtidSet::parse_mysql(&format!("{U}:1-5")).unwrap();
        let mariadb = GtidSet::parse_mariadb("0-1-5").unwrap();
        assert_eq!(mysql.is_subset_of(&mariadb), Err(GtidError::FlavoursDiffer));
        assert_eq!(mariadb.union(&mysql), Err(GtidError::FlavoursDiffer));
        assert!(mysql.count_missing_from(&mariadb).is_err());
    }

    #[test]
    fn what_is_missing_is_counted_in_both_flavours() {
        let mysql = |set: &str| GtidSet::parse_mysql(&format!("{U}:{set}")).unwrap();
        assert_eq!(mysql("1-10").count_missing_from(&mysql("3-4")), Ok(8));
        let mariadb = |position| GtidSet::parse_mariadb(position).unwrap();
        let (ahead, behind) = (mariadb("0-1-10,1-1-5"), mariadb("0-2-7"));
        assert_eq!(ahead.count_missing_from(&behind), Ok(8));
    }

    #[test]
    fn texts_that_are_too_long_are_refused_unread() {
        let text = " ".repeat(GTID_TEXT_BYTES_MAX + 1);
        assert!(matches!(
            GtidSet::parse_mysql(&text),
            Err(GtidError::TooLong { .. })
        ));
        assert!(matches!(
            GtidSet::parse_mariadb(&text),
            Err(GtidError::TooLong { .. })
        ));
    }
}
