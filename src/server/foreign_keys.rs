//! Foreign keys, as a server's catalogue tells them.

use std::collections::BTreeMap;
use std::fmt;

use super::flavour::quote_name;
use super::row::Row;

/// A table's schema and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    pub schema: String,
    pub table: String,
}

impl TableName {
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            table: table.into(),
        }
    }

    /// As SQL takes it.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_name(&self.schema), quote_name(&self.table))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.schema, self.table)
    }
}

/// Rows of the child refer to rows of the parent. A NULL in any column refers to nothing (MATCH SIMPLE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    pub name: String,
    pub child: TableName,
    pub parent: TableName,
    /// (child's, parent's)
    pub columns: Vec<(String, String)>,
}

/// From the rows of `Flavour::foreign_keys_query`.
pub fn group(rows: &[Row]) -> Vec<ForeignKey> {
    let mut keys: BTreeMap<(String, String, String), ForeignKey> = BTreeMap::new();
    for row in rows {
        let at = |index| row.at(index).unwrap_or_default().to_owned();
        let key = keys
            .entry((at(0), at(2), at(1)))
            .or_insert_with(|| ForeignKey {
                name: at(1),
                child: TableName::new(at(0), at(2)),
                parent: TableName::new(at(4), at(5)),
                columns: Vec::new(),
            });
        key.columns.push((at(3), at(6)));
    }
    keys.into_values().collect()
}

impl ForeignKey {
    /// Rows of the child whose parent is missing, a thousand at most: `SELECT 1 FROM …`.
    pub fn orphans_query(&self) -> String {
        let joins: Vec<String> = self
            .columns
            .iter()
            .map(|(child, parent)| format!("p.{} = c.{}", quote_name(parent), quote_name(child)))
            .collect();
        format!(
            "SELECT 1 FROM {} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {}) LIMIT 1000",
            self.child.quoted(),
            self.refers("c"),
            self.parent.quoted(),
            joins.join(" AND ")
        )
    }

    /// A condition: the child's row of that alias refers to something.
    pub fn refers(&self, child: &str) -> String {
        let set: Vec<String> = self
            .columns
            .iter()
            .map(|(column, _)| format!("{child}.{} IS NOT NULL", quote_name(column)))
            .collect();
        set.join(" AND ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_several_columns_are_one_question() {
        let part = |column: &str, parent: &str| {
            Row::of([
                ("a", Some("lab")),
                ("b", Some("fk")),
                ("c", Some("child`1")),
                ("d", Some(column)),
                ("e", Some("lab")),
                ("f", Some("parent")),
                ("g", Some(parent)),
            ])
        };
        let keys = group(&[part("x", "id"), part("y", "id2")]);
        assert_eq!(keys.len(), 1);
        assert_eq!(
            keys[0].orphans_query(),
            "SELECT 1 FROM `lab`.`child``1` c WHERE c.`x` IS NOT NULL AND \
             c.`y` IS NOT NULL AND NOT EXISTS (SELECT 1 FROM `lab`.`parent` p WHERE \
             p.`id` = c.`x` AND p.`id2` = c.`y`) LIMIT 1000"
        );
    }
}
