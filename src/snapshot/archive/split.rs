//! A dump of many tables, cut into a stream for each. Pure.
//!
//! Every table that is wanted must come once, and no other may: a table that was made or dropped while
//! the dump went on makes it fail.

use std::collections::BTreeSet;

use super::statements::{Garbled, Kind, Piece, Statements};
use crate::server::client::DUMP_MODE;

/// Schema and name.
pub type TableName = (String, String);

/// Why a dump can't be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error(transparent)]
    Garbled(#[from] Garbled),
    #[error("{}.{} wasn't there when it began, or comes twice", .0.0, .0.1)]
    Unexpected(TableName),
    #[error("{0} are missing in it, though they were there when it began")]
    Missing(String),
    #[error("it holds a statement that belongs to no table: {0}")]
    Stray(String),
    /// Whoever takes the pieces has gone.
    #[error("its pieces can't be kept")]
    Gone,
}

/// What comes of it, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A table begins; `before` is what its stream begins with.
    Open {
        table: TableName,
        before: String,
    },
    Bytes(&'a [u8]),
    /// It ends; `after` is what its stream ends with.
    Close {
        after: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    /// Behind USE, or a table's end.
    Between,
    Table,
    Footer,
}

pub struct Splitter {
    statements: Statements,
    at: At,
}

struct At {
    place: Place,
    schema: Option<String>,
    header: Vec<u8>,
    expected: BTreeSet<TableName>,
    /// The kind of the statement in hand is one that is left out.
    is_left_out: bool,
}

impl Splitter {
    /// `schema` is the one that the program was called for, where it writes no USE.
    pub fn new(schema: Option<&str>, expected: impl IntoIterator<Item = TableName>) -> Self {
        Self {
            statements: Statements::default(),
            at: At {
                place: Place::Header,
                schema: schema.map(str::to_owned),
                header: Vec::new(),
                expected: expected.into_iter().collect(),
                is_left_out: false,
            },
        }
    }

    /// The program has come to the first schema or table: whatever it does before is done.
    pub fn has_begun(&self) -> bool {
        self.at.place != Place::Header
    }

    pub fn feed(
        &mut self,
        bytes: &[u8],
        out: &mut dyn FnMut(Part<'_>) -> Result<(), SplitError>,
    ) -> Result<(), SplitError> {
        let at = &mut self.at;
        self.statements.feed(bytes, &mut |piece| match piece {
            Piece::Begin(kind) => at.begin(kind, out),
            Piece::Bytes(bytes) => at.pass(bytes, out),
            Piece::End => Ok(()),
        })
    }

    /// The program has ended well.
    pub fn finish(
        mut self,
        out: &mut dyn FnMut(Part<'_>) -> Result<(), SplitError>,
    ) -> Result<(), SplitError> {
        self.statements.finish()?;
        self.at.close(out)?;
        if self.at.place != Place::Footer {
            return Err(Garbled::CutOff.into());
        }
        if self.at.expected.is_empty() {
            return Ok(());
        }
        let missing: Vec<String> = self
            .at
            .expected
            .iter()
            .map(|(schema, name)| format!("{schema}.{name}"))
            .collect();
        Err(SplitError::Missing(super::obstacle::some_of(&missing)))
    }
}

impl At {
    fn begin(
        &mut self,
        kind: Kind,
        out: &mut dyn FnMut(Part<'_>) -> Result<(), SplitError>,
    ) -> Result<(), SplitError> {
        self.is_left_out = false;
        match kind {
            Kind::Use(schema) => {
                self.close(out)?;
                self.schema = Some(schema);
                self.place = Place::Between;
                self.is_left_out = true;
            }
            Kind::Drop(name) => {
                self.close(out)?;
                let Some(schema) = self.schema.clone() else {
                    return Err(SplitError::Stray(format!("DROP … {name}")));
                };
                let table = (schema, name);
                if !self.expected.remove(&table) {
                    return Err(SplitError::Unexpected(table));
                }
                let before = String::from_utf8_lossy(&self.header);
                let before = before.replacen(DUMP_MODE.find, DUMP_MODE.put, 1);
                self.place = Place::Table;
                out(Part::Open { table, before })?;
            }
            Kind::Restore if self.place != Place::Header => {
                self.close(out)?;
                self.place = Place::Footer;
            }
            Kind::Restore | Kind::CreateTable | Kind::Insert | Kind::Other => {}
        }
        Ok(())
    }

    fn pass(
        &mut self,
        bytes: &[u8],
        out: &mut dyn FnMut(Part<'_>) -> Result<(), SplitError>,
    ) -> Result<(), SplitError> {
        match self.place {
            _ if self.is_left_out => Ok(()),
            Place::Header => {
                self.header.extend_from_slice(bytes);
                Ok(())
            }
            Place::Table => out(Part::Bytes(bytes)),
            Place::Footer => Ok(()),
            Place::Between => {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
                Err(SplitError::Stray(text.escape_debug().to_string()))
            }
        }
    }

    fn close(
        &mut self,
        out: &mut dyn FnMut(Part<'_>) -> Result<(), SplitError>,
    ) -> Result<(), SplitError> {
        if self.place == Place::Table {
            self.place = Place::Between;
            let after = footer(&String::from_utf8_lossy(&self.header));
            out(Part::Close { after })?;
        }
        Ok(())
    }
}

/// Sets back what a header sets: `@OLD_X=@@X`, the last one first.
fn footer(header: &str) -> String {
    let names = header.split("@OLD_").skip(1).filter_map(|rest| {
        let (name, value) = rest.split_once("=@@")?;
        value.starts_with(name).then_some(name)
    });
    let lines: Vec<String> = names
        .map(|name| format!("/*!40101 SET {name}=@OLD_{name} */;\n"))
        .collect();
    let lines: String = lines.into_iter().rev().collect();
    format!("\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\n/*!40101 SET @OLD_SQL_NOTES=@@SQL_NOTES, SQL_NOTES=0 */;\n\
        /*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;\n\nUSE `a`;\n\
        DROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (`i` int);\nINSERT INTO `t` VALUES (1);\n\
        DROP TABLE IF EXISTS `u`;\nCREATE TABLE `u` (`i` int);\n\nUSE `b`;\n\
        DROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (`i` int);\nUNLOCK TABLES;\n\
        /*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n/*!40101 SET SQL_NOTES=@OLD_SQL_NOTES */;\n\n";

    fn split(dump: &str, expected: &[(&str, &str)]) -> Result<Vec<String>, SplitError> {
        let expected = expected.iter().map(|(s, t)| (s.to_string(), t.to_string()));
        let mut splitter = Splitter::new(None, expected);
        let mut tables = Vec::new();
        let mut out = |part: Part<'_>| {
            match part {
                Part::Open { table, before } => {
                    tables.push(format!("{}.{}|{before}|", table.0, table.1));
                }
                Part::Bytes(bytes) => {
                    let text = String::from_utf8_lossy(bytes);
                    tables.last_mut().unwrap().push_str(&text);
                }
                Part::Close { after } => tables.last_mut().unwrap().push_str(&format!("|{after}")),
            }
            Ok(())
        };
        for piece in dump.as_bytes().chunks(11) {
            splitter.feed(piece, &mut out)?;
        }
        assert!(splitter.has_begun());
        splitter.finish(&mut out)?;
        Ok(tables)
    }

    #[test]
    fn each_table_has_a_stream_that_stands_alone() {
        let all = [("a", "t"), ("a", "u"), ("b", "t")];
        let tables = split(DUMP, &all).unwrap();
        let header = DUMP.split("\n\nUSE").next().unwrap();
        assert_eq!(tables.len(), 3);
        assert_eq!(
            tables[2],
            format!(
                "b.t|{header}|\nDROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (`i` int);\nUNLOCK \
                 TABLES;|\n/*!40101 SET TIME_ZONE=@OLD_TIME_ZONE */;\n\
                 /*!40101 SET SQL_NOTES=@OLD_SQL_NOTES */;\n"
            )
        );
        assert!(tables[0].starts_with("a.t|") && tables[0].contains("VALUES (1);|"));
    }

    #[test]
    fn tables_that_came_or_went_meanwhile_make_it_fail() {
        let error = split(DUMP, &[("a", "t"), ("b", "t")]).unwrap_err();
        assert_eq!(error, SplitError::Unexpected(("a".into(), "u".into())));
        let all = [("a", "t"), ("a", "u"), ("b", "t"), ("b", "gone")];
        let error = split(DUMP, &all).unwrap_err();
        assert_eq!(error, SplitError::Missing("b.gone".into()));
        let twice = format!("{DUMP}USE `a`;DROP TABLE IF EXISTS `t`;");
        assert!(split(&twice, &all[..3]).is_err());
        let stray = DUMP.replace("USE `b`;", "USE `b`; SELECT 1;");
        assert!(matches!(
            split(&stray, &all[..3]),
            Err(SplitError::Stray(_))
        ));
        let cut = &DUMP[..DUMP.len() - 100];
        assert!(split(cut, &all[..3]).is_err());
    }
}
