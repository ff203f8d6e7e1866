//! The proof that the pair works: a random value written on the source is read on the replica.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::error::SetupError;
use super::work::{Who, Work};
use crate::journal::act::Act;
use crate::journal::operation::Outcome;
use crate::journal::{InHand, Party};
use crate::server::flavour::quote_text;
use crate::server::session::{READ_LIMIT, Session, SessionError};
use crate::snapshot::SnapshotError;
use crate::snapshot::id::random_hex;
use crate::sys::{clock, failpoint};

/// How long it may take once the replica has caught up.
const LIMIT: Duration = Duration::from_secs(60);
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A marker so old is nobody's any more.
const LEFT_AFTER: Duration = Duration::from_secs(24 * 3600);

pub const TABLE: &str = "CREATE TABLE understudy.marker (id VARCHAR(64) NOT NULL PRIMARY KEY, \
     written VARCHAR(40) NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=ascii";

fn count(session: Session, from: &str) -> Result<(Session, bool), SessionError> {
    let (session, count) = session.value(&format!("SELECT COUNT(*) FROM {from}"), READ_LIMIT)?;
    Ok((session, count.as_deref() != Some("0")))
}

/// Whether its schema and its table are on a server.
pub fn observe(session: Session) -> Result<(Session, bool, bool), SessionError> {
    let (session, schema) = count(
        session,
        "information_schema.SCHEMATA WHERE SCHEMA_NAME = 'understudy'",
    )?;
    let (session, table) = count(
        session,
        "information_schema.TABLES WHERE TABLE_SCHEMA = 'understudy' AND TABLE_NAME = 'marker'",
    )?;
    Ok((session, schema, table))
}

/// Makes the table on the source, in a schema of our own; it reaches replicas like any other.
pub fn ensure_table(in_hand: &mut impl InHand, source: &Party) -> Result<Outcome, SnapshotError> {
    let (session, schema, table) = observe(source.session()?)?;
    if table {
        return Ok(Outcome::AlreadySo("understudy.marker is there".to_owned()));
    }
    let mut session = session;
    let undo = match schema {
        true => "DROP TABLE IF EXISTS understudy.marker",
        false => "DROP DATABASE IF EXISTS understudy",
    };
    in_hand.note(Act::Statements {
        on: source.reach(),
        words: "drop the table understudy.marker".to_owned(),
        statements: vec![undo.to_owned()],
    })?;
    if !schema {
        session = session.execute("CREATE DATABASE understudy", STATEMENT_LIMIT)?;
    }
    session.execute(TABLE, STATEMENT_LIMIT)?;
    Ok(Outcome::Changed(format!(
        "made understudy.marker on {}",
        source.name
    )))
}

/// Writes a value on the source, reads it on the replica, and removes it.
pub fn verify(work: &mut Work<'_>) -> Result<Outcome, SetupError> {
    let value = random_hex(16);
    let id = quote_text(&value);
    let mut source = work.session(Who::Source)?;
    let mut replica = work.session(Who::Replica)?;
    let written = clock::rfc3339(clock::now());
    let since = Instant::now();
    source = source.execute(
        &format!(
            "INSERT INTO understudy.marker VALUES ({id}, {})",
            quote_text(&written)
        ),
        STATEMENT_LIMIT,
    )?;
    let look = format!(
        "understudy.marker WHERE id = {id} AND written = {}",
        quote_text(&written)
    );
    let arrived = loop {
        let (back, is_there) = count(replica, &look)?;
        replica = back;
        if is_there {
            break Some(since.elapsed());
        }
        if since.elapsed() > LIMIT || work.ctx.cancel.is_set() {
            break None;
        }
        sleep(LOOK_EVERY);
    };
    // And those that a killed set-up left, perhaps one on another host.
    let long_ago = clock::now() - LEFT_AFTER;
    let remove = format!(
        "DELETE FROM understudy.marker WHERE id = {id} OR written < {}",
        quote_text(&clock::rfc3339(long_ago))
    );
    source.execute(&remove, STATEMENT_LIMIT)?;
    failpoint::hit("setup-marked");
    match arrived {
        Some(took) => Ok(Outcome::Verified(format!(
            "a value written on {} was on {} after {} ms",
            work.source.name,
            work.replica.name,
            took.as_millis()
        ))),
        None => {
            work.ctx.cancel.check("waiting for the marker")?;
            Err(SetupError::failed(
                "verify",
                format!(
                    "a value written on {} didn't come to {} within {} s",
                    work.source.name,
                    work.replica.name,
                    LIMIT.as_secs()
                ),
            ))
        }
    }
}
