//! A dump program's output, cut into statements as it passes. Pure.
//!
//! Nothing in it can be taken for the end or the beginning of a statement that isn't one: every quoted
//! text and name is walked through as the server would read it. The program is told to write no comments,
//! in which older ones copy names without care. What passes is triggers', routines', events' and views'
//! text never: those are written by calls of their own, and not cut.

use memchr::{memchr, memchr2};

/// So much of a statement tells what it is.
const PREFIX_BYTES: usize = 64;

/// A statement that is held back until it is whole has a name in it, and little else.
const HELD_BYTES_MAX: usize = 16 * 1024;

/// What a statement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `USE`, and the schema.
    Use(String),
    /// `DROP TABLE` or `DROP SEQUENCE`, with which each begins, and its name.
    Drop(String),
    CreateTable,
    Insert,
    /// Sets a variable back, at the end of a dump.
    Restore,
    Other,
}

/// What `Statements` tells of.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Begin(Kind),
    Bytes(&'a [u8]),
    End,
}

/// Why it isn't what a dump program writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    #[error("it ends before its end")]
    CutOff,
    #[error("it has a statement that can't be read: {0}")]
    Unreadable(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    /// Within quotes of that kind.
    Quoted(u8),
    /// The next byte is escaped.
    Escaped(u8),
}

/// Takes pieces of any length.
#[derive(Debug)]
pub struct Statements {
    state: State,
    /// The beginning of a statement, until it is known what it is.
    held: Option<Vec<u8>>,
}

impl Default for Statements {
    fn default() -> Self {
        Self {
            state: State::Plain,
            held: Some(Vec::new()),
        }
    }
}

impl Statements {
    pub fn feed<E: From<Garbled>>(
        &mut self,
        bytes: &[u8],
        out: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() {
            match self.state {
                State::Plain => {
                    let special = |byte: &u8| matches!(byte, b';' | b'\'' | b'`' | b'"');
                    let Some(found) = bytes[at..].iter().position(special) else {
                        break;
                    };
                    at += found + 1;
                    match bytes[at - 1] {
                        b';' => {
                            self.pass(&bytes[from..at], true, out)?;
                            out(Piece::End)?;
                            self.held = Some(Vec::new());
                            from = at;
                        }
                        quote => self.state = State::Quoted(quote),
                    }
                }
                State::Quoted(quote) => {
                    let found = match quote {
                        b'`' => memchr(quote, &bytes[at..]),
                        _ => memchr2(quote, b'\\', &bytes[at..]),
                    };
                    let Some(found) = found else { break };
                    at += found + 1;
                    self.state = match bytes[at - 1] {
                        b'\\' if quote != b'`' => State::Escaped(quote),
                        // A doubled one begins the next text at once, which comes to the same.
                        _ => State::Plain,
                    };
                }
                State::Escaped(quote) => {
                    at += 1;
                    self.state = State::Quoted(quote);
                }
            }
        }
        self.pass(&bytes[from..], false, out)
    }

    /// That was all.
    pub fn finish(&self) -> Result<(), Garbled> {
        match &self.held {
            Some(held) if held.iter().all(u8::is_ascii_whitespace) => Ok(()),
            Some(_) | None => Err(Garbled::CutOff),
        }
    }

    fn pass<E: From<Garbled>>(
        &mut self,
        bytes: &[u8],
        is_whole: bool,
        out: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(held) = &mut self.held else {
            return out(Piece::Bytes(bytes));
        };
        held.extend_from_slice(bytes);
        let Some(kind) = kind_of(held, is_whole)? else {
            return Ok(());
        };
        let held = self.held.take().unwrap_or_default();
        out(Piece::Begin(kind))?;
        out(Piece::Bytes(&held))
    }
}

/// What a statement with this beginning is; `None` while that can't be told.
fn kind_of(beginning: &[u8], is_whole: bool) -> Result<Option<Kind>, Garbled> {
    let text = beginning.trim_ascii_start();
    if text.len() < PREFIX_BYTES && !is_whole {
        return Ok(None);
    }
    let named = [
        (&b"USE `"[..], Kind::Use as fn(String) -> Kind),
        (b"DROP TABLE IF EXISTS `", Kind::Drop),
        (b"DROP SEQUENCE IF EXISTS `", Kind::Drop),
    ];
    for (words, kind) in named {
        let Some(rest) = text.strip_prefix(words) else {
            continue;
        };
        return match name_of(rest) {
            Some(name) if is_whole => Ok(Some(kind(name))),
            _ if !is_whole && text.len() < HELD_BYTES_MAX => Ok(None),
            _ => Err(Garbled::Unreadable(beginning_of(text))),
        };
    }
    let begins = |words: &str| text.starts_with(words.as_bytes());
    let prefix = &text[..text.len().min(PREFIX_BYTES)];
    let restores = prefix
        .windows(6)
        .any(|part| part == b"=@OLD_" || part == b"=@old_");
    Ok(Some(if begins("CREATE TABLE ") {
        Kind::CreateTable
    } else if begins("INSERT ") || begins("REPLACE ") {
        Kind::Insert
    } else if begins("/*") && restores {
        Kind::Restore
    } else {
        Kind::Other
    }))
}

/// A name behind its first back-tick, of a statement that ends behind it.
fn name_of(rest: &[u8]) -> Option<String> {
    let mut name = Vec::new();
    let mut at = 0;
    loop {
        let found = at + memchr(b'`', &rest[at..])?;
        name.extend_from_slice(&rest[at..found]);
        if rest.get(found + 1) != Some(&b'`') {
            let is_last = rest[found + 1..].trim_ascii() == b";";
            return is_last.then(|| String::from_utf8(name).ok()).flatten();
        }
        name.push(b'`');
        at = found + 2;
    }
}

fn beginning_of(text: &[u8]) -> String {
    let text = &text[..text.len().min(PREFIX_BYTES)];
    String::from_utf8_lossy(text).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Kinds and texts, fed in pieces of that length.
    fn cut(text: &[u8], length: usize) -> Result<Vec<(Kind, Vec<u8>)>, Garbled> {
        let mut statements = Statements::default();
        let mut found: Vec<(Kind, Vec<u8>)> = Vec::new();
        for piece in text.chunks(length) {
            statements.feed::<Garbled>(piece, &mut |piece| {
                match piece {
                    Piece::Begin(kind) => found.push((kind, Vec::new())),
                    Piece::Bytes(bytes) => found.last_mut().unwrap().1.extend_from_slice(bytes),
                    Piece::End => {}
                }
                Ok(())
            })?;
        }
        statements.finish()?;
        Ok(found)
    }

    fn kinds(text: &str, length: usize) -> Vec<Kind> {
        let found = cut(text.as_bytes(), length).unwrap();
        let all: Vec<u8> = found.iter().flat_map(|(_, text)| text.clone()).collect();
        assert_eq!(String::from_utf8_lossy(&all).trim_end(), text.trim_end());
        found.into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn statements_are_told_apart_whatever_is_quoted_in_them() {
        let text = "/*M!999999\\- enable the sandbox mode */ \n\
            /*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='' */;\n\nUSE `a``;\nUSE ``b`;\n\
            DROP TABLE IF EXISTS `x\nDROP TABLE IF EXISTS ``y``;`;\n\
            CREATE TABLE `x` (`;` int COMMENT ';\\';\nUSE `c`;') /*!50100 PARTITION BY KEY (a) */;\n\
            INSERT INTO `x` VALUES\n(1,'a''b;\\\\'),\n(2,';\\'\\\\\\';\"');\n\
            DROP SEQUENCE IF EXISTS `s`;\n\
            /*!40101 SET SQL_MODE=@OLD_SQL_MODE */;\n";
        let wanted = vec![
            Kind::Other,
            Kind::Use("a`;\nUSE `b".to_owned()),
            Kind::Drop("x\nDROP TABLE IF EXISTS `y`;".to_owned()),
            Kind::CreateTable,
            Kind::Insert,
            Kind::Drop("s".to_owned()),
            Kind::Restore,
        ];
        for length in 1..text.len() {
            assert_eq!(kinds(text, length), wanted, "{length}");
        }
    }

    #[test]
    fn what_is_cut_off_is_no_dump() {
        for text in [
            "INSERT INTO `x` VALUES (1",
            "USE `a",
            "INSERT INTO x VALUES ('a);",
        ] {
            assert_eq!(cut(text.as_bytes(), 7), Err(Garbled::CutOff), "{text}");
        }
        assert!(matches!(cut(b"USE `a` x;", 7), Err(Garbled::Unreadable(_))));
        assert_eq!(cut(b" \n", 1), Ok(Vec::new()));
    }

    proptest! {
        /// As a dump program writes any name and any text.
        #[test]
        fn no_name_and_no_text_fools_it(name in "[a`;'\"\n\\\\/*-]{1,12}", text in "[a`;'\"\n\\\\/*-]{0,12}", length in 1usize..40) {
            let quoted = name.replace('`', "``");
            let escaped = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n");
            let all = format!(
                "DROP TABLE IF EXISTS `{quoted}`;\nCREATE TABLE `{quoted}` (`{quoted}` int COMMENT '{escaped}');\n\
                 INSERT INTO `{quoted}` VALUES ('{escaped}'),('{escaped}');\nUSE `{quoted}`;\n"
            );
            prop_assert_eq!(
                kinds(&all, length),
                vec![Kind::Drop(name.clone()), Kind::CreateTable, Kind::Insert, Kind::Use(name)]
            );
        }
    }
}
