//! How much a dry run of whole tables and schemas would extract.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::server::Session;
use crate::server::flavour::quote_text;
use crate::server::foreign_keys::TableName;
use crate::snapshot::context::Context;
use crate::snapshot::prove::private_server::Failure;

use super::wanted::TableRows;

const CATALOGUE_LIMIT: Duration = Duration::from_secs(600);
const ROWS_LIMIT: Duration = Duration::from_secs(48 * 3600);

/// Of all tables in `wanted` that have rows of their own; `None` is a whole schema.
pub fn rows(
    ctx: &Context,
    session: Session,
    wanted: &BTreeMap<String, Option<Vec<String>>>,
) -> Result<(Session, Vec<TableRows>), Failure> {
    let mut session = session;
    let mut counted = Vec::new();
    for (schema, tables) in wanted {
        let statement = format!(
            "SELECT TABLE_NAME, COALESCE(DATA_LENGTH, 0) FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = {name} AND CAST(TABLE_SCHEMA AS BINARY) = CAST({name} AS BINARY) \
             AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY TABLE_NAME",
            name = quote_text(schema)
        );
        let (back, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
        session = back;
        for row in &rows {
            let name = row.at(0).unwrap_or_default();
            let is_wanted = |tables: &Vec<String>| tables.iter().any(|table| table == name);
            if !tables.as_ref().is_none_or(is_wanted) {
                continue;
            }
            ctx.cancel.check("counting rows")?;
            let table = TableName::new(schema.clone(), name);
            let statement = format!("SELECT COUNT(*) FROM {}", table.quoted());
            let (back, count) = session.value(&statement, ROWS_LIMIT)?;
            session = back;
            let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
            counted.push(TableRows {
                table: table.to_string(),
                rows: number(count.as_deref()).unwrap_or_default(),
                bytes_estimated: number(row.at(1)).unwrap_or_default(),
            });
        }
    }
    Ok((session, counted))
}
