//! A table's stream made to fit where it is loaded: what becomes of a table that is there already. Pure.

use super::statements::{Garbled, Kind, Piece, Statements};
use crate::server::client::Existing;

/// Changes statements as they pass.
pub struct Refit {
    statements: Statements,
    existing: Existing,
}

impl Refit {
    pub fn new(existing: Existing) -> Self {
        Self {
            statements: Statements::default(),
            existing,
        }
    }

    /// What goes on of this piece and those before it.
    pub fn pass(&mut self, bytes: &[u8], state: &mut State) -> Result<Vec<u8>, Garbled> {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let existing = self.existing;
        self.statements.feed::<Garbled>(bytes, &mut |piece| {
            match piece {
                Piece::Begin(kind) => *state = State::of(&kind, existing),
                Piece::Bytes(_) if *state == State::LeftOut => {}
                Piece::Bytes(bytes) if *state == State::Ignoring => {
                    let rest = bytes.trim_ascii_start();
                    let rest = rest.strip_prefix(b"INSERT ").unwrap_or(rest);
                    out.extend_from_slice(b"\nINSERT IGNORE ");
                    out.extend_from_slice(rest);
                    *state = State::AsItIs;
                }
                Piece::Bytes(bytes) => out.extend_from_slice(bytes),
                Piece::End => {}
            }
            Ok(())
        })?;
        Ok(out)
    }

    pub fn finish(&self) -> Result<(), Garbled> {
        self.statements.finish()
    }
}

/// What becomes of the statement in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    AsItIs,
    LeftOut,
    /// Its first words are changed.
    Ignoring,
}

impl State {
    fn of(kind: &Kind, existing: Existing) -> Self {
        match (existing, kind) {
            (Existing::Replace, _) => Self::AsItIs,
            (Existing::Fail | Existing::AddRows, Kind::Drop(_)) => Self::LeftOut,
            (Existing::AddRows, Kind::CreateTable) => Self::LeftOut,
            (Existing::AddRows, Kind::Insert) => Self::Ignoring,
            (
                Existing::Fail | Existing::AddRows,
                Kind::Use(_) | Kind::CreateTable | Kind::Insert | Kind::Restore | Kind::Other,
            ) => Self::AsItIs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "SET a;\nUSE `s`;\nDROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (`i` int);\n\
        INSERT INTO `t` VALUES ('INSERT INTO `t`;'),\n(2);\nUNLOCK TABLES;\n";

    fn refit(existing: Existing, length: usize) -> String {
        let mut refit = Refit::new(existing);
        let mut state = State::default();
        let mut out = Vec::new();
        for piece in STREAM.as_bytes().chunks(length) {
            out.extend(refit.pass(piece, &mut state).unwrap());
        }
        refit.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_what_would_touch_a_present_table_is_changed() {
        for length in [1, 7, 64, 1000] {
            assert_eq!(refit(Existing::Replace, length).trim(), STREAM.trim());
            let fail = refit(Existing::Fail, length);
            assert!(
                !fail.contains("DROP") && fail.contains("CREATE TABLE"),
                "{fail}"
            );
            assert!(fail.contains("\nINSERT INTO `t` VALUES ('INSERT INTO `t`;'),\n(2);"));
            let add = refit(Existing::AddRows, length);
            assert!(!add.contains("DROP") && !add.contains("CREATE"), "{add}");
            assert!(
                add.contains("\nINSERT IGNORE INTO `t` VALUES ('INSERT INTO `t`;'),\n(2);"),
                "{add}"
            );
        }
    }
}
