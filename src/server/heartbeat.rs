//! The heartbeat table: when the source last said that it lives, on its own clock.

use std::time::Duration;

use super::session::{ServerError, Session, SessionError};

/// Asked before every beat: the clock in µs since 1970, and whether this may be written to.
const LOOK: &str = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED) AS at_us, \
                    @@GLOBAL.read_only AS read_only";

const TABLES: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS understudy",
    "CREATE TABLE IF NOT EXISTS understudy.heartbeat (server_id INT UNSIGNED NOT NULL PRIMARY KEY, \
     at_us BIGINT UNSIGNED NOT NULL COMMENT 'microseconds since 1970, on the writer''s clock', \
     every_ms INT UNSIGNED NOT NULL COMMENT 'the next beat is due after this') ENGINE = InnoDB \
     COMMENT = 'written by understudy heartbeat, on the source only'",
];

/// What came of one beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beaten {
    Written,
    /// The server is read-only: it isn't the source.
    ReadOnly,
}

/// Writes one beat, unless the server is read-only or replicates. The values are literals, so that
/// every binary log format carries the same.
pub fn beat(
    session: Session,
    every: Duration,
    limit: Duration,
) -> Result<(Session, Beaten), SessionError> {
    let (session, channels) = super::replication::observe_channels(session)?;
    let (session, rows) = session.query(LOOK, limit)?;
    let row = rows.first().cloned().unwrap_or_default();
    let is_writable = matches!(row.get("read_only"), Some("0" | "OFF"));
    if !is_writable || !channels.is_empty() {
        return Ok((session, Beaten::ReadOnly));
    }
    let Some(at_us) = row.get("at_us").and_then(|us| us.parse::<u64>().ok()) else {
        return Err(session.unexpected(LOOK, "no clock"));
    };
    let statement = format!(
        "REPLACE INTO understudy.heartbeat (server_id, at_us, every_ms) VALUES ({}, {at_us}, {})",
        session.identity().server_id,
        every.as_millis()
    );
    let (session, written) = session.attempt(&statement, limit)?;
    let session = match written {
        Ok(_) => session,
        Err(error) if is_missing(&error) => {
            let mut session = session;
            for statement in TABLES {
                session = session.execute(statement, limit)?;
            }
            session.execute(&statement, limit)?
        }
        // Made read-only since it was asked.
        Err(error) if matches!(error.code, 1290 | 1836) => {
            return Ok((session, Beaten::ReadOnly));
        }
        Err(error) => {
            return Err(SessionError::Server {
                server: session.target().server.clone(),
                statement,
                error,
            });
        }
    };
    Ok((session, Beaten::Written))
}

/// No such database or table; without the right to see it, MySQL says 1142.
fn is_missing(error: &ServerError) -> bool {
    matches!(error.code, 1049 | 1146)
}
