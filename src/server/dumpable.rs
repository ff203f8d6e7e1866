//! What a dump program of either flavour, or the client that loads what it wrote, stumbles over: the
//! questions that find it.
//!
//! Seen by dumping an object of each kind under each of 73 names and texts, on MariaDB 10.11.14 and
//! MySQL 9.7.4 with their own programs.

use super::flavour::{Family, Flavour, is_of_users, quote_text};

/// Where a byte of a multi-byte character can be a backslash.
const WITH_BACKSLASHES: [&str; 5] = ["big5", "cp932", "gb18030", "gbk", "sjis"];

impl Flavour {
    /// Schema, name, type, engine, whether that has transactions (YES), and about how many bytes, of each
    /// table that a dump brings.
    pub fn dumped_tables_query(&self) -> String {
        format!(
            "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.TABLE_TYPE, t.ENGINE, \
             COALESCE(e.TRANSACTIONS, 'NO'), COALESCE(t.DATA_LENGTH, 0) \
             FROM information_schema.TABLES t \
             LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
             WHERE t.TABLE_TYPE IN ('BASE TABLE', 'SEQUENCE', 'SYSTEM VERSIONED') \
             AND t.ENGINE IS NOT NULL AND {} ORDER BY 1, 2",
            is_of_users("t.TABLE_SCHEMA")
        )
    }

    /// Schemas of users.
    pub fn dumped_schemas_query(&self) -> String {
        format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE {} ORDER BY 1",
            is_of_users("SCHEMA_NAME")
        )
    }

    /// Tables with FLOAT columns, whose values a dump writes with six digits.
    pub fn rounded_tables_query(&self) -> String {
        format!(
            "SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME FROM information_schema.COLUMNS \
             WHERE DATA_TYPE = 'float' AND {} ORDER BY 1, 2",
            is_of_users("TABLE_SCHEMA")
        )
    }

    /// Kind, schema, name, the table of a trigger, and what differs when it is changed, of everything
    /// that isn't a table: it has no transaction.
    pub fn definitions_query(&self) -> String {
        let of = |kind: &str, table: &str, place: &str, name: &str, of: &str, text: &str| {
            format!(
                "SELECT '{kind}', {place}, {name}, {of}, SHA2(CONCAT_WS('\\n', {text}, DEFINER), 256) \
                 FROM information_schema.{table} WHERE {}",
                is_of_users(place)
            )
        };
        [
            of(
                "view",
                "VIEWS",
                "TABLE_SCHEMA",
                "TABLE_NAME",
                "''",
                "VIEW_DEFINITION, CHECK_OPTION, SECURITY_TYPE",
            ),
            of(
                "routine",
                "ROUTINES",
                "ROUTINE_SCHEMA",
                "CONCAT(ROUTINE_TYPE, ' ', ROUTINE_NAME)",
                "''",
                "LAST_ALTERED, ROUTINE_DEFINITION, SECURITY_TYPE, ROUTINE_COMMENT",
            ),
            of(
                "trigger",
                "TRIGGERS",
                "TRIGGER_SCHEMA",
                "TRIGGER_NAME",
                "EVENT_OBJECT_TABLE",
                "ACTION_TIMING, EVENT_MANIPULATION, ACTION_STATEMENT, ACTION_ORDER",
            ),
            of(
                "event",
                "EVENTS",
                "EVENT_SCHEMA",
                "EVENT_NAME",
                "''",
                "LAST_ALTERED, EVENT_DEFINITION, STATUS",
            ),
        ]
        .join(" UNION ALL ")
    }

    /// Schemas that the dump program can't select: MariaDB's (10.11.14) escapes these as in a text. And
    /// `Mysql`, beside the server's own: MariaDB's looks for the server's logs in it and ends, MySQL's
    /// takes its routines and events for the server's.
    pub fn unselectable_schemas_query(&self) -> String {
        let has = |code: u8| format!("INSTR(SCHEMA_NAME, CHAR({code} USING utf8)) > 0");
        let escaped = b"'\"\\\n\r\x1a".iter().map(|&code| has(code));
        let mysql = "(LOWER(SCHEMA_NAME) = 'mysql' AND CAST(SCHEMA_NAME AS BINARY) <> 'mysql')";
        let any: Vec<String> = escaped
            .filter(|_| self.family == Family::Mariadb)
            .chain([mysql.to_owned()])
            .collect();
        format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE {} ORDER BY 1",
            any.join(" OR ")
        )
    }

    /// Schema, table and name of foreign keys that SHOW CREATE TABLE doesn't quote: MariaDB's with a
    /// back-tick.
    pub fn unquoted_keys_query(&self) -> Option<&'static str> {
        (self.family == Family::Mariadb).then_some(
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME \
             FROM information_schema.REFERENTIAL_CONSTRAINTS \
             WHERE CONSTRAINT_NAME LIKE '%`%' ORDER BY 1, 2, 3",
        )
    }

    /// Schema and name of events at which the dump program never ends: it looks for a delimiter that
    /// isn't in what SHOW CREATE EVENT says, and finds none where `;;` is in it.
    pub fn endless_events_query(&self) -> &'static str {
        "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS \
         WHERE CONCAT(EVENT_SCHEMA, '\\n', EVENT_NAME, '\\n', EVENT_DEFINITION, '\\n', EVENT_COMMENT, \
         '\\n', DEFINER) LIKE '%;;%' ORDER BY 1, 2"
    }

    /// Schema, name and definer of events whose definer MariaDB writes in two wrong halves: one with an
    /// `@` in the user's name.
    pub fn halved_definers_query(&self) -> Option<&'static str> {
        (self.family == Family::Mariadb).then_some(
            "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER FROM information_schema.EVENTS \
             WHERE DEFINER LIKE '%@%@%' ORDER BY 1, 2",
        )
    }

    /// Schema and name of tables whose history no dump brings: before 10.11 any that is system-versioned,
    /// since then those versioned by transactions.
    pub fn lost_history_query(&self) -> Option<&'static str> {
        match self.family {
            Family::Mysql => None,
            Family::Mariadb if self.dumps_history() => Some(
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.COLUMNS \
                 WHERE GENERATION_EXPRESSION = 'ROW START' AND DATA_TYPE = 'bigint' ORDER BY 1, 2",
            ),
            Family::Mariadb => Some(
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
                 WHERE TABLE_TYPE = 'SYSTEM VERSIONED' ORDER BY 1, 2",
            ),
        }
    }

    /// Whether its dump program knows `--dump-history`.
    pub fn dumps_history(&self) -> bool {
        self.family == Family::Mariadb && self.version >= (10, 11, 0)
    }

    /// Tables, and the general tablespace that each lies in, which no dump makes.
    pub fn shared_tablespaces_query(&self) -> Option<String> {
        let (tables, spaces) = match self.family {
            Family::Mysql if self.version >= (8, 0, 0) => ("INNODB_TABLES", "INNODB_TABLESPACES"),
            Family::Mysql if self.version >= (5, 7, 6) => {
                ("INNODB_SYS_TABLES", "INNODB_SYS_TABLESPACES")
            }
            Family::Mysql | Family::Mariadb => return None,
        };
        Some(format!(
            "SELECT REPLACE(t.NAME, '/', '.'), s.NAME FROM information_schema.{tables} t \
             JOIN information_schema.{spaces} s ON s.SPACE = t.SPACE WHERE s.SPACE_TYPE = 'General' \
             AND s.NAME <> 'mysql' AND t.NAME NOT LIKE 'mysql/%' ORDER BY 1"
        ))
    }

    /// A row where this server has that general tablespace.
    pub fn has_tablespace_query(&self, name: &str) -> String {
        let spaces = match self.version >= (8, 0, 0) {
            true => "INNODB_TABLESPACES",
            false => "INNODB_SYS_TABLESPACES",
        };
        format!(
            "SELECT NAME FROM information_schema.{spaces} WHERE NAME = {}",
            quote_text(name)
        )
    }

    /// Schema, name and zone of events in a named time zone, which the other server must know as well.
    pub fn zoned_events_query(&self) -> &'static str {
        "SELECT EVENT_SCHEMA, EVENT_NAME, TIME_ZONE FROM information_schema.EVENTS \
         WHERE TIME_ZONE <> 'SYSTEM' AND TIME_ZONE NOT LIKE '+%' AND TIME_ZONE NOT LIKE '-%' \
         ORDER BY 1, 2"
    }

    /// NULL where this server doesn't know that time zone.
    pub fn knows_zone_query(&self, zone: &str) -> String {
        format!(
            "SELECT CONVERT_TZ('2001-01-01 00:00:00', '+00:00', {})",
            quote_text(zone)
        )
    }

    /// Kind, schema, name, SQL mode and character set of what a client could misread: texts with comments,
    /// and those written in a character set with backslashes in it. (The catalogue's own texts aren't
    /// those of SHOW CREATE: escapes are undone in them.)
    pub fn delicate_texts_query(&self) -> String {
        let sets: Vec<String> = WITH_BACKSLASHES.iter().map(|set| quote_text(set)).collect();
        let sets = sets.join(", ");
        let of = |kind: &str, table: &str, place: &str, name: &str, text: &str| {
            format!(
                "SELECT {kind}, {place}, {name}, SQL_MODE, CHARACTER_SET_CLIENT \
                 FROM information_schema.{table} WHERE {} AND \
                 (CHARACTER_SET_CLIENT IN ({sets}) OR {text} LIKE '%/*%')",
                is_of_users(place)
            )
        };
        [
            of(
                "ROUTINE_TYPE",
                "ROUTINES",
                "ROUTINE_SCHEMA",
                "ROUTINE_NAME",
                "ROUTINE_DEFINITION",
            ),
            of(
                "'TRIGGER'",
                "TRIGGERS",
                "TRIGGER_SCHEMA",
                "TRIGGER_NAME",
                "ACTION_STATEMENT",
            ),
            of(
                "'EVENT'",
                "EVENTS",
                "EVENT_SCHEMA",
                "EVENT_NAME",
                "EVENT_DEFINITION",
            ),
        ]
        .join(" UNION ALL ")
    }

    /// One value: a text in hexadecimal digits, in that character set where it isn't read as it stands.
    pub fn digits_query(&self, text: &str, set: &str) -> Option<String> {
        let set = WITH_BACKSLASHES.iter().find(|known| **known == set)?;
        Some(format!(
            "SELECT HEX(CONVERT({} USING {set}))",
            quote_text(text)
        ))
    }
}

/// SHOW CREATE of that kind has the statement in this column.
pub fn statement_column(kind: &str) -> usize {
    match kind {
        "EVENT" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flavour_is_asked_for_its_own_troubles() {
        let mariadb = Flavour::of_version("10.11.14-MariaDB x");
        let old = Flavour::of_version("10.6.20-MariaDB x");
        let mysql = Flavour::of_version("9.7.4 x");
        assert!(mariadb.unselectable_schemas_query().contains("INSTR"));
        assert!(!mysql.unselectable_schemas_query().contains("INSTR"));
        assert!(mariadb.dumps_history() && !old.dumps_history() && !mysql.dumps_history());
        assert!(
            old.lost_history_query()
                .unwrap()
                .contains("SYSTEM VERSIONED")
        );
        assert!(mariadb.shared_tablespaces_query().is_none());
        assert!(mysql.digits_query("x", "utf8mb4").is_none());
        assert!(
            mysql
                .digits_query("x", "sjis")
                .unwrap()
                .contains("USING sjis")
        );
    }
}
