//! Before the fence: what clients have begun may end by itself, and the candidate comes near. Nothing is
//! changed yet, but that sessions are ended where a grace was given for them.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::look::{self, Change, LONG};
use super::moment::{Moment, position, wait, with};
use super::rest::Cast;
use crate::journal::Party;
use crate::journal::operation::Outcome;
use crate::server::burden::{self, Transaction};
use crate::server::replication::observe_open_temp_tables;
use crate::server::session::{READ_LIMIT, Session, SessionError};
use crate::snapshot::{Context, SnapshotError};

/// Closer than this, waiting costs nothing that anybody sees.
const NEAR_ENOUGH: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// InnoDB tells of its transactions what it told the last time, unless nobody has asked for 0.1 s (both
/// flavours; seen on MariaDB 10.11). Asking costs the source more, too.
const GRACE_LOOK_EVERY: Duration = Duration::from_millis(150);

/// Until what clients have begun has ended, or `limit` is over: statements that run for long, locks that
/// are held, transactions that have written and were open at first or are open for long.
pub fn grace(
    ctx: &Context,
    moment: &mut Moment,
    own: &[u64],
    limit: Duration,
) -> Result<Outcome, SnapshotError> {
    let until = Instant::now() + limit;
    let mut first: Option<BTreeSet<String>> = None;
    loop {
        ctx.cancel.check("waiting for clients")?;
        sleep(GRACE_LOOK_EVERY);
        let mut left = with(&mut moment.source, |session| long_statements(session, own))?;
        let (transactions, locks) = with(&mut moment.source, |session| {
            let (session, transactions) = transactions(session, own)?;
            let (session, locks) = burden::observe_locks(session, READ_LIMIT)?;
            Ok((session, (transactions, locks)))
        })?;
        let writing = transactions.iter().filter(|one| one.rows_written > 0);
        let seen = first.get_or_insert_with(|| writing.clone().map(|one| one.id.clone()).collect());
        let waited_for = writing.filter(|one| one.age > LONG || seen.contains(&one.id));
        left.extend(waited_for.map(Transaction::words));
        let locks = locks.iter().filter(|lock| !own.contains(&lock.connection));
        left.extend(locks.map(|lock| lock.words()));
        if left.is_empty() {
            return Ok(Outcome::Verified(
                "nothing that clients have begun is open".to_owned(),
            ));
        }
        if Instant::now() >= until {
            return Ok(Outcome::Verified(format!(
                "ended with the fence: {}",
                left.join("; ")
            )));
        }
    }
}

fn transactions(
    session: Session,
    own: &[u64],
) -> Result<(Session, Vec<Transaction>), SessionError> {
    let (session, transactions) = burden::observe_transactions(session, READ_LIMIT)?;
    let mut transactions = transactions.known().cloned().unwrap_or_default();
    transactions.retain(|one| !own.contains(&one.connection));
    Ok((session, transactions))
}

/// Until the candidate is near, nothing runs that would hold up the fence, and no replicated temporary
/// table is open. With `ends_clients` sessions are ended instead of waited for.
pub fn approach(
    ctx: &Context,
    (source, cast): (&Party, &Cast),
    moment: &mut Moment,
    (own, ends_clients): (&[u64], bool),
    until: Instant,
) -> Result<Outcome, SnapshotError> {
    let mut have_ended = !ends_clients;
    loop {
        ctx.cancel.check("approaching")?;
        let busy = match ends_clients {
            true => Vec::new(),
            false => with(&mut moment.source, |session| long_statements(session, own))?,
        };
        let position = with(&mut moment.source, |session| position(session, source))?;
        let since = Instant::now();
        let left = until.saturating_duration_since(since);
        let waited = wait(&mut moment.candidate, &cast.candidate, &position, left);
        let took = since.elapsed();
        // A wait that failed may have lost its connection.
        let tables = match waited {
            Ok(()) => with(&mut moment.candidate, observe_open_temp_tables)?,
            Err(_) => 0,
        };
        if waited.is_ok() && busy.is_empty() && tables == 0 && took < NEAR_ENOUGH {
            return Ok(Outcome::Verified(format!(
                "{} is {} ms behind",
                cast.candidate.name,
                took.as_millis()
            )));
        }
        if tables > 0 && !have_ended {
            moment.end_clients(own)?;
            have_ended = true;
        }
        if Instant::now() >= until {
            return Err(refused(&cast.candidate.name, waited.is_ok(), &busy, tables));
        }
        sleep(LOOK_EVERY);
    }
}

fn refused(candidate: &str, is_near: bool, busy: &[String], tables: u64) -> SnapshotError {
    if let (true, Some(busy)) = (is_near, busy.first()) {
        return SnapshotError::refused(
            format!("it would hold up all writers: {busy}"),
            "Wait until it ends, end it with KILL, or give it a --grace and have it ended then.",
        );
    }
    if let Some(open) = look::open_tables(candidate, tables, Change::Switchover) {
        return SnapshotError::refused(open.reason, open.hint);
    }
    SnapshotError::refused(
        format!(
            "{candidate} doesn't come within {} ms of its source in time: more is written than it applies",
            NEAR_ENOUGH.as_millis()
        ),
        "Try when less is written, or with a longer --timeout.",
    )
}

/// Statements of clients that run for long, in words; table locks of sessions that do nothing don't
/// show here, and end the fence at its limit.
fn long_statements(session: Session, own: &[u64]) -> Result<(Session, Vec<String>), SessionError> {
    let statement = session.flavour().client_sessions_query(own);
    let (session, rows) = session.query(&statement, READ_LIMIT)?;
    let is_long = |row: &&crate::server::row::Row| {
        let seconds: u64 = row.at(3).and_then(|text| text.parse().ok()).unwrap_or(0);
        row.at(5).is_some_and(|statement| !statement.is_empty()) && seconds > LONG.as_secs()
    };
    let words = rows.iter().filter(is_long).map(|row| {
        let text: String = row.at(5).unwrap_or_default().chars().take(60).collect();
        format!(
            "connection {} of {} runs for {} s: {text}",
            row.at(0).unwrap_or_default(),
            row.at(1).unwrap_or_default(),
            row.at(3).unwrap_or_default()
        )
    });
    let words = words.collect();
    Ok((session, words))
}
