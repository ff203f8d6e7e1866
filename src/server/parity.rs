//! What a server must have in common with the one that it may have to replace, and how it comes up
//! after a restart: asked by `doctor` only, since it takes longer than a look at health.

use std::time::Duration;

use super::flavour::{Family, Flavour, is_of_users, quote_name};
use super::session::{Session, SessionError};
use crate::sys::Fact;

/// Enough time for the queries on information_schema of a server with very many tables.
const CATALOGUE_LIMIT: Duration = Duration::from_secs(60);
/// For the length of all values of one column.
const SCAN_LIMIT: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
pub struct Parity {
    /// name@host and authentication plug-in of every account, sorted.
    pub accounts: Fact<Vec<(String, String)>>,
    /// read_only comes from where a restart reads it again; `None` when it is off.
    pub read_only_stays: Fact<Option<bool>>,
    pub large: Fact<Vec<LargeTable>>,
}

/// A user table with LONGBLOB or LONGTEXT columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeTable {
    pub schema: String,
    pub name: String,
    pub columns: Vec<String>,
    /// By the server's estimate.
    pub average_row_bytes: u64,
}

impl LargeTable {
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

impl Flavour {
    fn log_ins_query(&self) -> &'static str {
        "SELECT CONCAT(User, '@', Host), COALESCE(plugin, '') FROM mysql.user WHERE User NOT IN \
         ('mysql.sys', 'mysql.session', 'mysql.infoschema', 'mariadb.sys', 'PUBLIC') ORDER BY 1"
    }

    /// One value: where read_only has its value from. Before 8.0 MySQL doesn't tell.
    fn read_only_origin_query(&self) -> Option<&'static str> {
        match self.family {
            Family::Mariadb => Some(
                "SELECT GLOBAL_VALUE_ORIGIN FROM information_schema.SYSTEM_VARIABLES \
                 WHERE VARIABLE_NAME = 'READ_ONLY'",
            ),
            Family::Mysql if self.version >= (8, 0, 0) => Some(
                "SELECT VARIABLE_SOURCE FROM performance_schema.variables_info \
                 WHERE VARIABLE_NAME = 'read_only'",
            ),
            Family::Mysql => None,
        }
    }

    /// MySQL: what SET PERSIST has written down, which the origin doesn't tell until a restart.
    fn persisted_read_only_query(&self) -> Option<&'static str> {
        (self.family == Family::Mysql && self.version >= (8, 0, 0)).then_some(
            "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables \
             WHERE VARIABLE_NAME IN ('read_only', 'super_read_only') AND VARIABLE_VALUE IN ('ON', '1') LIMIT 1",
        )
    }

    fn large_tables_query(&self) -> String {
        format!(
            "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME, COALESCE(t.AVG_ROW_LENGTH, 0) \
         FROM information_schema.COLUMNS c JOIN information_schema.TABLES t \
         ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME \
         WHERE c.DATA_TYPE IN ('longblob', 'longtext', 'json') AND t.TABLE_TYPE = 'BASE TABLE' \
         AND {} ORDER BY 1, 2, 3 LIMIT 100000",
            is_of_users("c.TABLE_SCHEMA")
        )
    }
}

pub fn observe(session: Session, is_read_only: bool) -> Result<(Session, Parity), SessionError> {
    let statement = session.flavour().log_ins_query();
    let (session, accounts) = session.attempt(statement, CATALOGUE_LIMIT)?;
    let accounts = match accounts {
        Ok(rows) => Fact::Known(
            rows.iter()
                .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())))
                .collect(),
        ),
        Err(error) => Fact::unknown(error),
    };
    let (session, read_only_stays) = match is_read_only {
        true => observe_origin(session)?,
        false => (session, Fact::Known(None)),
    };
    let statement = session.flavour().large_tables_query();
    let (session, large) = session.attempt(&statement, CATALOGUE_LIMIT)?;
    let large = match large {
        Ok(rows) => Fact::Known(large_tables(&rows)),
        Err(error) => Fact::unknown(error),
    };
    Ok((
        session,
        Parity {
            accounts,
            read_only_stays,
            large,
        },
    ))
}

fn observe_origin(session: Session) -> Result<(Session, Fact<Option<bool>>), SessionError> {
    let Some(statement) = session.flavour().read_only_origin_query() else {
        return Ok((session, Fact::unknown("this version doesn't tell")));
    };
    let (session, rows) = session.attempt(statement, CATALOGUE_LIMIT)?;
    let origin = match rows {
        Ok(rows) => rows.first().and_then(|row| row.at(0).map(str::to_owned)),
        Err(error) => return Ok((session, Fact::unknown(error))),
    };
    let stays = match origin.as_deref() {
        Some("SQL" | "DYNAMIC" | "COMPILE-TIME" | "COMPILED") => false,
        Some(_) => true,
        None => return Ok((session, Fact::unknown("the server doesn't tell"))),
    };
    let Some(persisted) = session
        .flavour()
        .persisted_read_only_query()
        .filter(|_| !stays)
    else {
        return Ok((session, Fact::Known(Some(stays))));
    };
    let (session, rows) = session.attempt(persisted, CATALOGUE_LIMIT)?;
    let is_persisted = rows.is_ok_and(|rows| !rows.is_empty());
    Ok((session, Fact::Known(Some(is_persisted))))
}

fn large_tables(rows: &[super::row::Row]) -> Vec<LargeTable> {
    let mut tables: Vec<LargeTable> = Vec::new();
    for row in rows {
        let (Some(schema), Some(name), Some(column)) = (row.at(0), row.at(1), row.at(2)) else {
            continue;
        };
        match tables.last_mut() {
            Some(last) if last.schema == schema && last.name == name => {
                last.columns.push(column.to_owned());
            }
            _ => tables.push(LargeTable {
                schema: schema.to_owned(),
                name: name.to_owned(),
                columns: vec![column.to_owned()],
                average_row_bytes: row.at(3).and_then(|n| n.parse().ok()).unwrap_or(0),
            }),
        }
    }
    tables
}

/// The longest row of a table as far as its large columns go; reads all of them.
pub fn longest_row(
    session: Session,
    table: &LargeTable,
) -> Result<(Session, Fact<u64>), SessionError> {
    let lengths: Vec<String> = table
        .columns
        .iter()
        .map(|column| format!("COALESCE(LENGTH({}), 0)", quote_name(column)))
        .collect();
    let statement = format!(
        "SELECT MAX({}) FROM {}.{}",
        lengths.join(" + "),
        quote_name(&table.schema),
        quote_name(&table.name)
    );
    let (session, rows) = session.attempt(&statement, SCAN_LIMIT)?;
    Ok(match rows {
        Ok(rows) => {
            let longest = rows.first().and_then(|row| row.at(0)?.parse().ok());
            (session, Fact::Known(longest.unwrap_or(0)))
        }
        Err(error) => (session, Fact::unknown(error)),
    })
}
