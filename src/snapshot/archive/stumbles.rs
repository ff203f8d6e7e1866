//! What a dump of a source, or its loading, would stumble over: looked for before anything is changed.

use std::time::Duration;

use super::obstacle::{Obstacle, Stumbles, Written, is_misread};
use crate::server::dumpable::statement_column;
use crate::server::flavour::quote_name;
use crate::server::row::Row;
use crate::server::session::{ServerError, Session, SessionError};

/// Enough for information_schema of a server with very many tables.
const CATALOGUE_LIMIT: Duration = Duration::from_secs(300);

/// A fragment: `schema.name`, and what more the row holds in brackets.
fn named(row: &Row) -> Option<String> {
    let name = match row.at(1) {
        Some(name) => format!("{}.{name}", row.at(0)?),
        None => row.at(0)?.to_owned(),
    };
    Some(match row.at(2) {
        Some(more) => format!("{name} ({more})"),
        None => name,
    })
}

/// Asks the source for all of it, and whoever will load it for what it must have; where that isn't known
/// yet, all of that is told.
pub fn observe(
    source: Session,
    replica: Option<Session>,
    non_transactional: &[(String, String)],
) -> Result<(Session, Stumbles), SessionError> {
    let flavour = source.flavour().clone();
    let pair = |row: &Row| Some(format!("{}.{}", row.at(0)?, row.at(1)?));
    let (source, rows) = source.query(&flavour.broken_tables_query(), CATALOGUE_LIMIT)?;
    let mut tables: Vec<(String, String)> = rows
        .iter()
        .filter_map(|row| Some((pair(row)?, row.at(2)?.to_owned())))
        .collect();
    let (source, rows) = source.query(&flavour.lost_definers_query(), CATALOGUE_LIMIT)?;
    let definers = rows
        .iter()
        .filter_map(|row| {
            let what = format!("{} {}.{}", row.at(0)?, row.at(1)?, row.at(2)?);
            Some((what, row.at(3)?.to_owned()))
        })
        .collect();
    let (source, unreadable) = unreadable(source, non_transactional)?;
    tables.extend(unreadable);
    let (source, views) = invalid_views(source)?;
    let (source, mut obstacles) = named_obstacles(source)?;
    let (source, misread) = misread_texts(source)?;
    obstacles.extend(misread);
    let (source, lacking) = lacking(source, replica)?;
    obstacles.extend(lacking);
    let found = Stumbles {
        views,
        tables,
        definers,
        obstacles,
    };
    Ok((source, found))
}

/// A crashed one keeps its engine's name in the catalogue; reading it tells.
fn unreadable(
    mut session: Session,
    tables: &[(String, String)],
) -> Result<(Session, Vec<(String, String)>), SessionError> {
    let mut found = Vec::new();
    for (schema, name) in tables {
        let ask = format!(
            "SELECT 1 FROM {}.{} LIMIT 1",
            quote_name(schema),
            quote_name(name)
        );
        let (back, answer) = session.attempt(&ask, CATALOGUE_LIMIT)?;
        session = back;
        if let Err(error) = answer {
            found.push((format!("{schema}.{name}"), error.to_string()));
        }
    }
    Ok((session, found))
}

type View = ((String, String), String);

fn invalid_views(session: Session) -> Result<(Session, Vec<View>), SessionError> {
    let statement = session.flavour().views_query();
    let (mut session, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
    let mut views = Vec::new();
    for row in &rows {
        let (Some(schema), Some(name)) = (row.at(0), row.at(1)) else {
            continue;
        };
        // What the dump programs ask first of a view. MySQL can't read every text that it wrote down itself.
        let ask = format!(
            "SHOW FIELDS FROM {}.{}",
            quote_name(schema),
            quote_name(name)
        );
        let (back, answer) = session.attempt(&ask, CATALOGUE_LIMIT)?;
        session = back;
        if let Err(error) = answer
            && matches!(error.code, ServerError::INVALID_VIEW | ServerError::SYNTAX)
        {
            views.push(((schema.to_owned(), name.to_owned()), error.to_string()));
        }
    }
    Ok((session, views))
}

type Found = Vec<(Obstacle, Vec<String>)>;

/// What its name, or its definition, alone tells.
fn named_obstacles(mut session: Session) -> Result<(Session, Found), SessionError> {
    let flavour = session.flavour().clone();
    let mut found = Found::new();
    for (obstacle, statement) in [
        (
            Obstacle::SchemaName,
            Some(flavour.unselectable_schemas_query()),
        ),
        (
            Obstacle::ForeignKeyName,
            flavour.unquoted_keys_query().map(str::to_owned),
        ),
        (
            Obstacle::EndlessEvent,
            Some(flavour.endless_events_query().to_owned()),
        ),
        (
            Obstacle::EventDefiner,
            flavour.halved_definers_query().map(str::to_owned),
        ),
        (
            Obstacle::History,
            flavour.lost_history_query().map(str::to_owned),
        ),
    ] {
        let Some(statement) = statement else { continue };
        let (back, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
        session = back;
        found.push((obstacle, rows.iter().filter_map(named).collect()));
    }
    Ok((session, found))
}

/// What the client would take for something else than it is.
fn misread_texts(session: Session) -> Result<(Session, Found), SessionError> {
    let flavour = session.flavour().clone();
    let statement = flavour.delicate_texts_query();
    let (mut session, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
    let mut misread = Vec::new();
    for row in &rows {
        let at = |index| row.at(index).unwrap_or_default();
        let (kind, schema, name) = (at(0), at(1), at(2));
        let show = format!(
            "SHOW CREATE {kind} {}.{}",
            quote_name(schema),
            quote_name(name)
        );
        let (back, answer) = session.attempt(&show, CATALOGUE_LIMIT)?;
        session = back;
        // Gone meanwhile.
        let Ok(shown) = answer else { continue };
        let text = shown
            .first()
            .and_then(|row| row.at(statement_column(kind)))
            .unwrap_or_default();
        let mut bytes = text.as_bytes().to_vec();
        if let Some(ask) = flavour.digits_query(text, at(4)) {
            let (back, digits) = session.value(&ask, CATALOGUE_LIMIT)?;
            session = back;
            bytes = digits.and_then(|digits| bytes_of(&digits)).unwrap_or(bytes);
        }
        let written = Written {
            is_wrapped: matches!(kind, "TRIGGER" | "EVENT"),
            sql_mode: at(3),
        };
        if is_misread(&bytes, written) {
            misread.push(format!("{} {schema}.{name}", kind.to_ascii_lowercase()));
        }
    }
    Ok((session, vec![(Obstacle::Text, misread)]))
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let nibble = |byte: u8| char::from(byte).to_digit(16);
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::try_from(nibble(pair[0])? * 16 + nibble(pair[1])?).ok())
        .collect()
}

/// What the replica must have, and lacks.
fn lacking(source: Session, replica: Option<Session>) -> Result<(Session, Found), SessionError> {
    let flavour = source.flavour().clone();
    let (mut source, mut replica) = (source, replica);
    let mut has = |ask: &dyn Fn(&Session) -> String| -> Result<bool, SessionError> {
        let Some(session) = replica.take() else {
            return Ok(false);
        };
        let statement = ask(&session);
        let (back, found) = session.value(&statement, CATALOGUE_LIMIT)?;
        replica = Some(back);
        Ok(found.is_some())
    };
    let mut spaces = Vec::new();
    if let Some(statement) = flavour.shared_tablespaces_query() {
        let (back, rows) = source.query(&statement, CATALOGUE_LIMIT)?;
        source = back;
        for row in &rows {
            let (Some(table), Some(space)) = (row.at(0), row.at(1)) else {
                continue;
            };
            if !has(&|replica| replica.flavour().has_tablespace_query(space))? {
                spaces.push(format!("{table} ({space})"));
            }
        }
    }
    let (source, rows) = source.query(flavour.zoned_events_query(), CATALOGUE_LIMIT)?;
    let mut zones = Vec::new();
    for row in &rows {
        let zone = row.at(2).unwrap_or_default();
        if !has(&|replica| replica.flavour().knows_zone_query(zone))? {
            zones.extend(named(row));
        }
    }
    let found = vec![(Obstacle::Tablespace, spaces), (Obstacle::TimeZone, zones)];
    Ok((source, found))
}
