//! The statements that choose rows: their keys stand in tables of ours in the private server, one for
//! each table, so that millions of them need no memory of this process.
//!
//! Each of these has the columns `k1`, `k2`, … and `r`, the round in which a row was chosen.

use crate::server::flavour::quote_name;
use crate::server::foreign_keys::{ForeignKey, TableName};
use crate::server::row::Row;
use crate::snapshot::prove::checksums::row_hash;

use super::graph::Step;

/// What tells a table's rows apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A key without NULL, the primary one at best.
    Key(Vec<String>),
    /// All that is in it, as a hash; names and types. Rows that are the same in all columns hang on the
    /// same others, so they are chosen together.
    All(Vec<(String, String)>),
}

impl Identity {
    /// The best key of the rows of `keys_query`.
    pub fn key_of(rows: &[Row]) -> Option<Self> {
        let names: Vec<&str> = rows.iter().filter_map(|row| row.at(0)).collect();
        let is_whole = |name: &&&str| {
            let mut parts = rows.iter().filter(|row| row.at(0) == Some(**name));
            parts.all(|row| row.at(1).is_some() && row.at(2) == Some("1"))
        };
        let best = names
            .iter()
            .filter(is_whole)
            .min_by_key(|name| !name.eq_ignore_ascii_case("PRIMARY"))?;
        let parts = rows.iter().filter(|row| row.at(0) == Some(*best));
        Some(Self::Key(
            parts
                .filter_map(|row| row.at(1))
                .map(str::to_owned)
                .collect(),
        ))
    }

    /// Expressions, in the order of `k1`, `k2`, …; `of` stands before the columns, with its dot.
    fn values(&self, of: &str) -> Vec<String> {
        match self {
            Self::Key(columns) => columns
                .iter()
                .map(|column| format!("{of}{}", quote_name(column)))
                .collect(),
            Self::All(columns) => vec![format!("UNHEX({})", row_hash(columns, of))],
        }
    }
}

/// Unique keys: name, column (NULL: an expression), and whether it is whole and never NULL, in order.
pub fn keys_query(table: &TableName) -> String {
    format!(
        "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART IS NULL AND COALESCE(NULLABLE, '') <> 'YES' \
         FROM information_schema.STATISTICS WHERE NON_UNIQUE = 0 AND {} \
         ORDER BY INDEX_NAME, SEQ_IN_INDEX",
        of_table(table, "TABLE_SCHEMA", "TABLE_NAME")
    )
}

/// A condition on the catalogue. MariaDB compares its names without case.
pub fn of_table(table: &TableName, schema: &str, name: &str) -> String {
    let is = |column: &str, value: &str| {
        let value = crate::server::flavour::quote_text(value);
        format!("{column} = {value} AND CAST({column} AS BINARY) = CAST({value} AS BINARY)")
    };
    format!(
        "{} AND {}",
        is(schema, &table.schema),
        is(name, &table.table)
    )
}

/// A table of whose rows some may be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub table: TableName,
    pub identity: Identity,
    /// Our table of its chosen rows, quoted.
    pub chosen: String,
}

impl Held {
    fn columns(&self) -> String {
        let keys = 1..=self.identity.values("").len();
        let keys: Vec<String> = keys.map(|number| format!("k{number}")).collect();
        keys.join(", ")
    }

    /// Makes our table, empty; its columns are of the same types, and compare in the same way.
    pub fn create(&self) -> String {
        let ours = format!(
            "r INT UNSIGNED NOT NULL DEFAULT 0, PRIMARY KEY ({}), KEY (r)",
            self.columns()
        );
        match &self.identity {
            Identity::All(_) => format!(
                "CREATE TABLE {} (k1 BINARY(32) NOT NULL, {ours}) ENGINE=InnoDB",
                self.chosen
            ),
            Identity::Key(columns) => {
                let named = columns.iter().enumerate();
                let named = named
                    .map(|(index, column)| format!("{} AS k{}", quote_name(column), index + 1));
                format!(
                    "CREATE TABLE {} ({ours}) ENGINE=InnoDB SELECT {} FROM {} WHERE FALSE",
                    self.chosen,
                    named.collect::<Vec<_>>().join(", "),
                    self.table.quoted()
                )
            }
        }
    }

    /// Chooses rows by a condition of the user's. Without IGNORE, which would make a warning of an error in
    /// it; nothing stands behind it but what can't be swallowed by it.
    pub fn begin(&self, condition: Option<&str>) -> String {
        format!(
            "INSERT INTO {} ({}, r) SELECT DISTINCT {}, 0 FROM {} WHERE ({}\n)",
            self.chosen,
            self.columns(),
            self.identity.values("").join(", "),
            self.table.quoted(),
            condition.unwrap_or("TRUE")
        )
    }

    /// The chosen rows as `d`, and the rows themselves as `c`: few at a time by their keys.
    fn chosen_rows(&self) -> String {
        let values = self.identity.values("c.");
        let equal = values.iter().enumerate();
        let equal: Vec<String> = equal
            .map(|(index, value)| format!("d.k{} = {value}", index + 1))
            .collect();
        let (chosen, table, equal) = (&self.chosen, self.table.quoted(), equal.join(" AND "));
        match &self.identity {
            Identity::Key(_) => format!("{chosen} d STRAIGHT_JOIN {table} c ON {equal}"),
            // No key leads to them: all rows are read once.
            Identity::All(_) => format!("{table} c STRAIGHT_JOIN {chosen} d ON {equal}"),
        }
    }

    /// Our column with the same value as that one of the table.
    fn copy_of(&self, column: &str) -> Option<String> {
        match &self.identity {
            Identity::Key(columns) => {
                let index = columns
                    .iter()
                    .position(|own| own.eq_ignore_ascii_case(column))?;
                Some(format!("d.k{}", index + 1))
            }
            Identity::All(_) => None,
        }
    }

    /// For `--where` of the dump program, which has the table as its only one.
    pub fn condition(&self) -> String {
        let values = self.identity.values("").join(", ");
        format!(
            "({values}) IN (SELECT {} FROM {})",
            self.columns(),
            self.chosen
        )
    }

    pub fn count(&self) -> String {
        match &self.identity {
            Identity::Key(_) => format!("SELECT COUNT(*) FROM {}", self.chosen),
            Identity::All(_) => format!(
                "SELECT COUNT(*) FROM {} WHERE {}",
                self.table.quoted(),
                self.condition()
            ),
        }
    }
}

/// Chooses the rows to which a step leads from rows chosen in the round `since` or later. The order of the
/// joins is given: a server can't know how few rows it begins with.
pub fn follow(step: &Step, from: &Held, to: &Held, since: u32, round: u32) -> String {
    let copies: Option<Vec<String>> = step
        .columns
        .iter()
        .map(|(own, _)| from.copy_of(own))
        .collect();
    let (rows, values) = match copies {
        Some(copies) => (format!("{} d", from.chosen), copies),
        None => {
            let own = step
                .columns
                .iter()
                .map(|(own, _)| format!("c.{}", quote_name(own)));
            (from.chosen_rows(), own.collect())
        }
    };
    let equal = step.columns.iter().zip(&values);
    let equal: Vec<String> = equal
        .map(|((_, other), value)| format!("p.{} = {value}", quote_name(other)))
        .collect();
    format!(
        "INSERT IGNORE INTO {} ({}, r) SELECT {}, {round} FROM {rows} STRAIGHT_JOIN {} p ON {} WHERE d.r >= {since}",
        to.chosen,
        to.columns(),
        to.identity.values("p.").join(", "),
        to.table.quoted(),
        equal.join(" AND "),
    )
}

/// Chosen rows of the child whose parent isn't chosen, or isn't there: as `SELECT 1 FROM …`.
pub fn dangling(key: &ForeignKey, child: &Held, parent: &Held) -> String {
    let values = parent.identity.values("p.");
    let chosen = values.iter().enumerate();
    let chosen: Vec<String> = chosen
        .map(|(index, value)| format!("k.k{} = {value}", index + 1))
        .collect();
    let equal: Vec<String> = key
        .columns
        .iter()
        .map(|(child, parent)| format!("p.{} = c.{}", quote_name(parent), quote_name(child)))
        .collect();
    format!(
        "SELECT 1 FROM {} WHERE {} AND NOT EXISTS \
         (SELECT 1 FROM {} p STRAIGHT_JOIN {} k ON {} WHERE {}) LIMIT 1000",
        child.chosen_rows(),
        key.refers("c"),
        parent.table.quoted(),
        parent.chosen,
        chosen.join(" AND "),
        equal.join(" AND ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(table: &str, identity: Identity) -> Held {
        Held {
            table: TableName::new("l", table),
            identity,
            chosen: format!("`s`.`{table}`"),
        }
    }

    fn key(columns: &[&str]) -> Identity {
        Identity::Key(columns.iter().map(|&column| column.to_owned()).collect())
    }

    fn step(columns: &[(&str, &str)]) -> Step {
        let pair = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        Step {
            from: TableName::new("l", "a"),
            to: TableName::new("l", "b"),
            columns: columns.iter().map(pair).collect(),
        }
    }

    #[test]
    fn the_primary_key_is_best_and_a_key_must_be_whole() {
        let row =
            |name, column, whole| Row::of([("n", Some(name)), ("c", column), ("w", Some(whole))]);
        let unique = [row("a", Some("x"), "1"), row("a", Some("y"), "1")];
        let primary = [row("PRIMARY", Some("id"), "1")];
        let both = [&unique[..], &primary].concat();
        assert_eq!(Identity::key_of(&both), Some(key(&["id"])));
        assert_eq!(Identity::key_of(&unique), Some(key(&["x", "y"])));
        for part in [row("a", None, "1"), row("a", Some("z"), "0")] {
            let rows = [unique[0].clone(), part];
            assert_eq!(
                Identity::key_of(&rows),
                None,
                "an expression, a beginning or a NULL"
            );
        }
    }

    #[test]
    fn rows_with_the_columns_at_hand_are_not_read() {
        let (a, b) = (held("a", key(&["i`d", "n"])), held("b", key(&["id"])));
        assert_eq!(
            follow(&step(&[("I`D", "a_id")]), &a, &b, 3, 4),
            "INSERT IGNORE INTO `s`.`b` (k1, r) SELECT p.`id`, 4 FROM `s`.`a` d \
             STRAIGHT_JOIN `l`.`b` p ON p.`a_id` = d.k1 WHERE d.r >= 3"
        );
        assert_eq!(
            follow(&step(&[("x", "id"), ("n", "m")]), &a, &b, 0, 1),
            "INSERT IGNORE INTO `s`.`b` (k1, r) SELECT p.`id`, 1 FROM `s`.`a` d \
             STRAIGHT_JOIN `l`.`a` c ON d.k1 = c.`i``d` AND d.k2 = c.`n` \
             STRAIGHT_JOIN `l`.`b` p ON p.`id` = c.`x` AND p.`m` = c.`n` WHERE d.r >= 0"
        );
    }

    #[test]
    fn a_table_without_a_key_is_told_by_all_that_is_in_it() {
        let all = held("a", Identity::All(vec![("v".to_owned(), "int".to_owned())]));
        assert!(all.create().contains("k1 BINARY(32) NOT NULL"));
        assert!(
            all.condition().starts_with("(UNHEX(SHA2(CONCAT("),
            "{}",
            all.condition()
        );
        let b = held("b", key(&["id"]));
        let statement = follow(&step(&[("v", "id")]), &all, &b, 0, 1);
        assert!(
            statement.contains("FROM `l`.`a` c STRAIGHT_JOIN `s`.`a` d ON d.k1 = UNHEX("),
            "{statement}"
        );
    }

    #[test]
    fn the_users_expression_stays_in_its_parentheses() {
        let a = held("a", key(&["id"]));
        assert_eq!(
            a.begin(Some("id = 5")),
            "INSERT INTO `s`.`a` (k1, r) SELECT DISTINCT `id`, 0 FROM `l`.`a` WHERE (id = 5\n)"
        );
        assert_eq!(a.condition(), "(`id`) IN (SELECT k1 FROM `s`.`a`)");
    }
}
