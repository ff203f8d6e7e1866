//! The moment in which roles change: the connections that it needs, the fence, the stillness, the wait,
//! and writes of our own that tell how long nobody could write.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::hold::Hold;
use super::rest::{Cast, step};
use super::steps;
use crate::journal::Party;
use crate::journal::operation::Step;
use crate::replication::marker;
use crate::server::flavour::quote_text;
use crate::server::session::{READ_LIMIT, ServerError, Session, SessionError};
use crate::snapshot::id::random_hex;
use crate::snapshot::{Context, SnapshotError};
use crate::sys::clock;

/// How long the fence waits for statements that write now: the outage has begun meanwhile.
pub const FENCE_WAIT: Duration = Duration::from_secs(2);

/// How long a marker may take to reach the replicas.
const PROOF_LIMIT: Duration = Duration::from_secs(20);
/// A server that should have answered by itself has so much longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Every connection that the moment needs, opened before it.
pub struct Moment {
    pub source: Option<Session>,
    /// Holds out whoever `read_only` doesn't (MariaDB).
    pub lock: Option<Session>,
    pub candidate: Option<Session>,
}

impl Moment {
    pub fn open(source: &Party, candidate: &Party) -> Result<Self, SessionError> {
        let bounded = source.flavour.bounded_session(FENCE_WAIT);
        let session = || source.session()?.execute(&bounded, READ_LIMIT);
        let lock = match source.flavour.fence_lock() {
            Some(_) => Some(session()?),
            None => None,
        };
        Ok(Self {
            source: Some(session()?),
            lock,
            candidate: Some(candidate.session()?),
        })
    }

    /// Those of ours on the source.
    pub fn own_connections(&self, hold: &Hold, source: &str) -> Vec<u64> {
        let mut own = hold.connection_ids(source);
        own.extend(self.source.iter().map(Session::connection_id));
        own.extend(self.lock.iter().map(Session::connection_id));
        own
    }

    /// Ends the sessions of clients on the source; they may come back.
    pub fn end_clients(&mut self, own: &[u64]) -> Result<(), SnapshotError> {
        with(&mut self.source, |session| {
            Ok((end_clients(session, own)?, ()))
        })
    }

    /// The lock goes, once clients that it held out are ended again.
    pub fn release(mut self, hold: &Hold, source: &Party) {
        let own = self.own_connections(hold, &source.name);
        if let Some(session) = self.source.take()
            && let Err(error) = end_clients(session, &own)
        {
            tracing::warn!(%error, server = %source.name, "clients may still be connected");
        }
    }
}

/// Runs `body` with a session that it gives back; a failure consumes it.
pub fn with<R>(
    slot: &mut Option<Session>,
    body: impl FnOnce(Session) -> Result<(Session, R), SessionError>,
) -> Result<R, SnapshotError> {
    let session = slot.take().ok_or(SnapshotError::Failed {
        step: "switchover",
        reason: "a connection that is needed was lost".to_owned(),
        hint: None,
    })?;
    let (session, result) = body(session)?;
    *slot = Some(session);
    Ok(result)
}

/// Nobody writes to the source from here on.
pub fn fence(moment: &mut Moment, source: &Party, own: &[u64]) -> Result<(), SnapshotError> {
    with(&mut moment.source, |session| {
        Ok((session.execute(source.flavour.close(), FENCE_WAIT * 2)?, ()))
    })?;
    with(&mut moment.source, |session| {
        Ok((end_clients(session, own)?, ()))
    })?;
    if let Some(lock) = source.flavour.fence_lock() {
        with(&mut moment.lock, |session| {
            Ok((session.execute(lock, FENCE_WAIT * 2)?, ()))
        })?;
    }
    Ok(())
}

/// A demoted server would answer idle ones with 1290 for ever.
fn end_clients(session: Session, own: &[u64]) -> Result<Session, SessionError> {
    let statement = session.flavour().client_sessions_query(own);
    let (mut session, rows) = session.query(&statement, READ_LIMIT)?;
    for id in rows.iter().filter_map(|row| row.at(0)) {
        let statement = format!("KILL {id}");
        let (back, answer) = session.attempt(&statement, READ_LIMIT)?;
        session = back;
        match answer {
            Err(error) if error.code != ServerError::NO_SUCH_THREAD => {
                return Err(SessionError::Server {
                    server: session.target().server.clone(),
                    statement,
                    error,
                });
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(session)
}

pub fn position(session: Session, source: &Party) -> Result<(Session, String), SessionError> {
    let statement = source.flavour.written_query();
    let (session, value) = session.value(statement, READ_LIMIT)?;
    Ok((session, value.unwrap_or_default().replace(['\n', ' '], "")))
}

/// Where the source is for good: read twice, and the same.
pub fn stillness(slot: &mut Option<Session>, source: &Party) -> Result<String, SnapshotError> {
    let mut before = with(slot, |session| position(session, source))?;
    for _ in 0..50 {
        let now = with(slot, |session| position(session, source))?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err(SnapshotError::Failed {
        step: "fence",
        reason: format!("{} goes on writing behind its fence", source.name),
        hint: Some("See who writes there: SHOW PROCESSLIST.".to_owned()),
    })
}

/// Until a server has applied a position.
pub fn wait(
    slot: &mut Option<Session>,
    party: &Party,
    position: &str,
    limit: Duration,
) -> Result<(), SnapshotError> {
    let statement = party.flavour.wait_for_query(position, limit);
    let came = with(slot, |session| {
        session.value(&statement, limit + ANSWER_LIMIT)
    })?;
    match came.as_deref() {
        Some("0") => Ok(()),
        Some(_) | None => Err(SnapshotError::Failed {
            step: "wait",
            reason: format!("{} doesn't have everything in time", party.name),
            hint: Some(
                "Try when less is written, or with a longer --timeout; `understudy status` shows how \
                 far it is behind."
                    .to_owned(),
            ),
        }),
    }
}

/// A write of ours, as any client's; its id.
pub fn write_marker(slot: &mut Option<Session>) -> Result<String, SnapshotError> {
    let id = random_hex(16);
    let statement = format!(
        "INSERT INTO understudy.marker VALUES ({}, {})",
        quote_text(&id),
        quote_text(&clock::rfc3339(clock::now()))
    );
    with(slot, |session| {
        Ok((session.execute(&statement, READ_LIMIT)?, ()))
    })?;
    Ok(id)
}

pub fn remove_marker(slot: &mut Option<Session>, id: &str) {
    let statement = format!(
        "DELETE FROM understudy.marker WHERE id = {}",
        quote_text(id)
    );
    // A later set-up removes old ones too.
    drop(with(slot, |session| {
        Ok((session.execute(&statement, READ_LIMIT)?, ()))
    }));
}

fn marker_table() -> String {
    marker::TABLE.replacen("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1)
}

/// A value written on the new source comes to everybody, and the old one is closed; what doesn't. No
/// step where there is nobody that it could come to.
pub fn prove(ctx: &Context, cast: &Cast) -> (Option<Step>, Vec<String>) {
    let followers = cast.old.iter().chain(&cast.others);
    let names: Vec<&str> = followers.map(|party| party.name.as_str()).collect();
    if names.is_empty() {
        return (None, Vec::new());
    }
    let since = Instant::now();
    let warnings = against(ctx, cast);
    let (result, detail) = match warnings.is_empty() {
        true => (
            "verified",
            format!(
                "what is written on {} comes to {}",
                cast.candidate.name,
                names.join(", ")
            ),
        ),
        false => ("failed", warnings.join("; ")),
    };
    let proof = step(steps::PROOF, result, detail, since.elapsed());
    (Some(proof), warnings)
}

/// What stands against it.
fn against(ctx: &Context, cast: &Cast) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut slot = cast.candidate.session().ok();
    for statement in ["CREATE DATABASE IF NOT EXISTS understudy", &marker_table()] {
        // A pair that `setup` didn't make has none; where this fails the write says so.
        drop(with(&mut slot, |session| {
            Ok((session.attempt(statement, READ_LIMIT)?.0, ()))
        }));
    }
    let id = match write_marker(&mut slot) {
        Ok(id) => id,
        Err(error) => return vec![format!("no proof: {error}")],
    };
    let until = Instant::now() + PROOF_LIMIT;
    let query = format!(
        "SELECT COUNT(*) FROM understudy.marker WHERE id = {}",
        quote_text(&id)
    );
    for party in cast.old.iter().chain(&cast.others) {
        let arrived = || -> Result<bool, SessionError> {
            let mut session = party.session()?;
            loop {
                let (back, value) = session.value(&query, READ_LIMIT)?;
                session = back;
                if value.as_deref() == Some("1") {
                    let (_, closed) = session.value("SELECT @@GLOBAL.read_only", READ_LIMIT)?;
                    return Ok(closed.as_deref() == Some("1"));
                }
                if Instant::now() >= until || ctx.cancel.is_set() {
                    return Ok(false);
                }
                sleep(LOOK_EVERY);
            }
        };
        match arrived() {
            Ok(true) => {}
            Ok(false) => warnings.push(format!(
                "what is written on {} doesn't come to {}, or that can be written to: see \
                 `understudy status`",
                cast.candidate.name, party.name
            )),
            Err(error) => warnings.push(format!("no proof of {}: {error}", party.name)),
        }
    }
    remove_marker(&mut slot, &id);
    warnings
}
