//! What a dump of a server would stumble over, after hours, or would lose: as it is told. Pure.

/// Of the source, looked for where a dump was decided on. Names are `schema.name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stumbles {
    /// Views that refer to what isn't there: (schema, name), and the server's words.
    pub views: Vec<((String, String), String)>,
    /// Tables that the server can't open, and its words.
    pub tables: Vec<(String, String)>,
    /// `view s.v`, and the account that it runs as, which doesn't exist.
    pub definers: Vec<(String, String)>,
    /// What can't be dumped, loaded, or be the same afterwards; a fragment for each thing.
    pub obstacles: Vec<(Obstacle, Vec<String>)>,
}

/// Why something of the source can't come by a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    SchemaName,
    ForeignKeyName,
    EndlessEvent,
    EventDefiner,
    Text,
    History,
    Tablespace,
    TimeZone,
}

impl Obstacle {
    /// What is said before the names, and the cure.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::SchemaName => (
                "are schemas that the dump program can't select: MariaDB's none with quotes, backslashes or \
                 line ends in their names, no server's one that is called mysql in other letters",
                "Use clone or snapshot:ID; or move their tables to schemas of other names (RENAME TABLE).",
            ),
            Self::ForeignKeyName => (
                "are foreign keys with back-ticks in their names, which MariaDB writes down without \
                 quoting them",
                "Drop each and add it again under another name (ALTER TABLE); or use clone or \
                 snapshot:ID.",
            ),
            Self::EndlessEvent => (
                "are events with two semicolons in a row in their names, texts, comments or definers, at \
                 which a dump program never ends",
                "Make them anew without `;;` (RENAME TO for a name, ALTER EVENT … DO for a text).",
            ),
            Self::EventDefiner => (
                "are events whose definers have an @ in the user's name, which MariaDB writes down wrongly",
                "Give them another definer (ALTER DEFINER = … EVENT …); or use clone or snapshot:ID.",
            ),
            Self::Text => (
                "would be misread by the client that loads them (/*! behind or within a comment; or a character of sjis, cp932, big5, gbk or gb18030 that ends in a \
                 backslash)",
                "Make them anew without comments, or by a client with SET NAMES utf8mb4; or use clone or \
                 snapshot:ID.",
            ),
            Self::History => (
                "are system-versioned tables whose history a dump doesn't bring",
                "Use clone or snapshot:ID. Since MariaDB 10.11 a dump brings the history of \
                 tables that are versioned by time.",
            ),
            Self::Tablespace => (
                "lie in general tablespaces that the replica doesn't have, and no dump makes",
                "Run the source's CREATE TABLESPACE on the replica too, or ALTER TABLE … TABLESPACE \
                 innodb_file_per_table on the source; or use clone.",
            ),
            Self::TimeZone => (
                "are events in time zones that the replica doesn't know",
                "Load the time zones there (mariadb-tzinfo-to-sql or mysql_tzinfo_to_sql /usr/share/zoneinfo, \
                 into its schema mysql).",
            ),
        }
    }
}

/// How the dump program writes a text down, and the mode that it was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written<'a> {
    /// Triggers and events: within a version's comment.
    pub is_wrapped: bool,
    pub sql_mode: &'a str,
}

/// Whether the client that loads a dump takes this text, in the bytes in which it comes, for something
/// else: a copy of how the clients of both flavours walk through a statement (`add_line` in their
/// client/mysql.cc). They know no character set but their own, so that a second byte that is a
/// backslash escapes what comes after it; and the end of any comment within a version's comment ends
/// that one for them, while they stay in the inner one.
pub fn is_misread(text: &[u8], written: Written<'_>) -> bool {
    let has = |mode: &str| written.sql_mode.contains(mode);
    let (is_ansi, keeps_backslashes) = (has("ANSI_QUOTES"), has("NO_BACKSLASH_ESCAPES"));
    let end: &[u8] = if written.is_wrapped { b" */" } else { b"" };
    let text = [text, end].concat();
    let mut in_version = written.is_wrapped;
    let (mut in_comment, mut in_hint, mut quote) = (false, false, None);
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let byte = rest[0];
        let is_free = !in_comment && quote.is_none() && !in_hint;
        let escapes = match quote {
            None => !in_comment,
            Some(b'`') => false,
            Some(b'"') if is_ansi => false,
            Some(_) => !keeps_backslashes,
        };
        at += 1;
        if byte == b'\\' && escapes {
            if quote.is_none() && rest.get(1) != Some(&b'N') {
                return true;
            }
            at += 1;
        } else if is_free && rest.starts_with(b";;") {
            return true;
        } else if is_free && (byte == b'#' || rest.starts_with(b"-- ")) {
            at += rest.iter().position(|&c| c == b'\n').unwrap_or(rest.len()) - 1;
        } else if is_free
            && rest.starts_with(b"/*")
            && ![&b"/*!"[..], b"/*+", b"/*M!"]
                .iter()
                .any(|begin| rest.starts_with(begin))
        {
            in_comment = true;
            at += 1;
        } else if in_comment && !in_version && !in_hint && rest.starts_with(b"*/") {
            in_comment = false;
            at += 1;
        } else if quote == Some(byte) {
            quote = None;
        } else if quote.is_none() {
            if rest.starts_with(b"/*!") {
                in_version = true;
            } else if rest.starts_with(b"/*+") {
                in_hint = true;
            } else if (in_version || in_hint) && rest.starts_with(b"*/") {
                (in_version, in_hint) = (false, false);
                at += 1;
            } else if is_free && matches!(byte, b'\'' | b'"' | b'`') {
                quote = Some(byte);
            }
        }
    }
    in_comment || quote.is_some()
}

/// So many are named; the rest is counted.
const NAMED_MAX: usize = 10;

/// The first of them, and how many more there are.
pub fn some_of(things: &[String]) -> String {
    let named = things[..things.len().min(NAMED_MAX)].join(", ");
    match things.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each was dumped and loaded, on MariaDB 10.11.14 and MySQL 9.7.4.
    #[test]
    fn a_client_misreads_these_texts_and_no_others() {
        const ROUTINE: bool = false;
        const TRIGGER: bool = true;
        for (text, is_wrapped, misread) in [
            (&b"BEGIN /* a /*! b */ SELECT 1; END"[..], ROUTINE, true),
            (b"BEGIN /* a /*!99999 b */ SELECT 1; END", ROUTINE, true),
            (b"BEGIN /* a /*! b */ SELECT 1; END", TRIGGER, false),
            (b"BEGIN /* a /*M! b */ SELECT 1; END", ROUTINE, false),
            (b"BEGIN /* a /* b */ SELECT 1; END", ROUTINE, false),
            (
                b"BEGIN /*! SELECT 1 */; SELECT '/* /*!99999 */'; END",
                ROUTINE,
                false,
            ),
            (b"BEGIN SELECT 1; /*! /* x */ */ END", ROUTINE, false),
            (b"BEGIN SELECT '/*!'; /* x */ END", ROUTINE, false),
            (b"BEGIN -- a /*! b\n SELECT 1; END", ROUTINE, false),
            (b"BEGIN # it's /* /*! b\n SELECT 1; END", ROUTINE, false),
            (
                b"BEGIN /* it's */ SELECT 1, \\N, 'it''s \\' \"'; END",
                ROUTINE,
                false,
            ),
            (b"BEGIN /* x */ SET @a = '/*!9 a'; END", TRIGGER, true),
            (b"BEGIN SET @a = '/*!9 a'; /* x */ END", TRIGGER, false),
            (
                b"BEGIN /* x */ /* y */ SET @a = 1; /* z */ END",
                TRIGGER,
                false,
            ),
            // sjis: at a text's end, within a text, a variable, in a comment, a name.
            (b"SELECT '\x83\x5c'", ROUTINE, true),
            (b"SELECT '\x83\x5ca'", ROUTINE, false),
            (b"SET \x83\x5c = 1", ROUTINE, true),
            (b"BEGIN /* \x83\x5c */ SELECT 1; END", ROUTINE, false),
            (b"BEGIN /* \x83\x5c */ SET @a=1; END", TRIGGER, false),
            (b"select 1 AS `\x83\x5c`", ROUTINE, false),
        ] {
            let shown = String::from_utf8_lossy(text);
            let written = |sql_mode| Written {
                is_wrapped,
                sql_mode,
            };
            assert_eq!(is_misread(text, written("STRICT")), misread, "{shown}");
        }
        let mode = |sql_mode| Written {
            is_wrapped: false,
            sql_mode,
        };
        assert!(!is_misread(b"SELECT 'a\\'", mode("NO_BACKSLASH_ESCAPES")));
        assert!(is_misread(b"SELECT 'a\\'", mode("")));
    }
}
