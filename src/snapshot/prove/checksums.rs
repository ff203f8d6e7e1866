//! What the tables of a server hold, as a checksum for each: the same rows under the same definition give
//! the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::server::flavour::{is_of_users, quote_name, quote_text};
use crate::server::{Session, SessionError, Target};
use crate::snapshot::archive::index::Method;
use crate::snapshot::prove::private_server::Failure;

/// A table of terabytes may take hours to read.
const READ_LIMIT: Duration = Duration::from_secs(48 * 3600);
const CATALOGUE_LIMIT: Duration = Duration::from_secs(600);

/// Engines that keep nothing, or can't tell what.
pub const ENGINES_WITHOUT: [&str; 5] = ["MEMORY", "BLACKHOLE", "FEDERATED", "CONNECT", "SPIDER"];

/// What a table holds; by `schema.table`.
pub type Checksums = BTreeMap<String, String>;

/// Schema and name.
pub type Table = (String, String);

/// What all tables of users hold. Those of engines that keep nothing, or that can't tell, are left out.
pub fn checksums(session: Session, target: &Target) -> Result<(Session, Checksums), Failure> {
    let statement = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
         WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') \
         AND ENGINE NOT IN ({}) AND {}",
        ENGINES_WITHOUT.map(quote_text).join(", "),
        is_of_users("TABLE_SCHEMA")
    );
    let (session, tables) = pairs(session, &statement)?;
    let (session, by_rows) = match session.flavour().computed_keys_query() {
        Some(statement) => pairs(session, statement)?,
        None => (session, Vec::new()),
    };
    let by_rows: BTreeSet<Table> = by_rows.into_iter().collect();
    let of = |table: &Table| -> Result<_, Failure> {
        let session = Session::connect(target)?;
        let method = match by_rows.contains(table) {
            true => Method::Rows,
            false => Method::Server,
        };
        let (_, sum) = sum(session, table, method)?;
        Ok(sum.map(|sum| (format!("{}.{}", table.0, table.1), sum)))
    };
    let found = crate::sys::parallel::map(&tables, of);
    let mut sums = Checksums::new();
    for sum in found {
        sums.extend(sum?);
    }
    Ok((session, sums))
}

fn pairs(session: Session, statement: &str) -> Result<(Session, Vec<(String, String)>), Failure> {
    let (session, rows) = session.query(statement, CATALOGUE_LIMIT)?;
    let found = rows
        .iter()
        .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())))
        .collect();
    Ok((session, found))
}

/// What one table holds, as this session sees it.
pub fn sum(
    session: Session,
    table: &Table,
    method: Method,
) -> Result<(Session, Option<String>), SessionError> {
    let (schema, name) = table;
    if method == Method::Server {
        let name = format!("{}.{}", quote_name(schema), quote_name(name));
        let (session, rows) = session.query(&format!("CHECKSUM TABLE {name}"), READ_LIMIT)?;
        let sum = rows.first().and_then(|row| row.at(1)).map(str::to_owned);
        return Ok((session, sum));
    }
    let statement = session.flavour().columns_query(schema, name);
    let (session, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
    let column = |row: &crate::server::row::Row| {
        let (name, kind) = (row.at(0)?.to_owned(), row.at(1)?);
        // As a dump writes it.
        let is_text = method == Method::Texts && kind == "float";
        Some((name, if is_text { "text" } else { kind }.to_owned()))
    };
    let columns: Vec<(String, String)> = rows.iter().filter_map(column).collect();
    session.value(&rows_query(table, &columns), READ_LIMIT)
}

/// How many rows it has, as this session sees it.
pub fn count(session: Session, (schema, name): &Table) -> Result<(Session, u64), SessionError> {
    let statement = format!(
        "SELECT COUNT(*) FROM {}.{}",
        quote_name(schema),
        quote_name(name)
    );
    let (session, count) = session.value(&statement, READ_LIMIT)?;
    match count.as_deref().and_then(|count| count.parse().ok()) {
        Some(count) => Ok((session, count)),
        None => Err(session.unexpected(&statement, "no count")),
    }
}

/// Number of the rows, and the sums of two parts of their hashes: in any order, and so that rows that
/// are there twice don't cancel each other out. `columns` are names and types.
fn rows_query((schema, table): &Table, columns: &[(String, String)]) -> String {
    let part = |from: u8| {
        format!("COALESCE(SUM(CAST(CONV(SUBSTRING(h, {from}, 15), 16, 10) AS UNSIGNED)), 0)")
    };
    format!(
        "SELECT CONCAT_WS('-', COUNT(*), {}, {}) FROM \
         (SELECT {} AS h FROM {}.{}) AS r",
        part(1),
        part(16),
        row_hash(columns, ""),
        quote_name(schema),
        quote_name(table),
    )
}

/// An expression: a hash of all that is in a row. `columns` are names and types, `of` what stands before
/// the names, with its dot.
pub fn row_hash(columns: &[(String, String)], of: &str) -> String {
    let value = |(name, kind): &(String, String)| {
        let name = format!("{of}{}", quote_name(name));
        // As a text it has fewer digits than it holds.
        let value = match kind.as_str() {
            "float" => format!("{name} + 0e0"),
            _ => name,
        };
        format!("COALESCE(SHA2(CAST({value} AS BINARY), 256), '-')")
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    format!("SHA2(CONCAT({}), 256)", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_in_the_sum_of_rows() {
        let column = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
        let table = ("a`b".to_owned(), "t".to_owned());
        let query = rows_query(&table, &[column("i`d", "int"), column("f", "float")]);
        for part in [
            "SHA2(CAST(`i``d` AS BINARY), 256)",
            "SHA2(CAST(`f` + 0e0 AS BINARY), 256)",
            "FROM `a``b`.`t`",
        ] {
            assert!(query.contains(part), "{part}: {query}");
        }
    }
}
