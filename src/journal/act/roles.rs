//! Roles that somebody else has moved since: from another host, or by hand. What a journal says that has
//! lain for hours mustn't open a second server.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{ActError, Means, Reach, server};
use crate::server::gtid::GtidSet;
use crate::server::session::{READ_LIMIT, Session, SessionError};

/// How long what a former source was given may take to come.
const COMES_WITHIN: Duration = Duration::from_secs(5);
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const CLOSE_LIMIT: Duration = Duration::from_secs(60);

/// Opens a server, unless one of `beside` takes writes by now. One that can't be asked doesn't tell.
pub fn open(
    means: &Means<'_>,
    on: &Reach,
    statements: &[String],
    beside: &[Reach],
) -> Result<(), ActError> {
    for other in beside {
        if writable(means, other).is_some() {
            return Err(moved(other, on, "takes writes by now"));
        }
    }
    server::run(means, on, statements)
}

/// Nobody else is the source by now. The former one may have been restarted, or opened by hand, and take
/// writes: with `closes` it is closed, and what it was given since has to come to the new one; else it is
/// opened again.
pub fn unmoved(
    means: &Means<'_>,
    from: Option<&Reach>,
    to: &Reach,
    others: &[Reach],
    closes: bool,
) -> Result<(), ActError> {
    for other in others {
        if writable(means, other).is_some() {
            return Err(moved(other, to, "takes writes by now"));
        }
    }
    let Some((from, session)) = from.and_then(|from| Some((from, writable(means, from)?))) else {
        return Ok(());
    };
    if !closes {
        return Err(moved(from, to, "answers again, and takes writes"));
    }
    let flavour = session.flavour().clone();
    let mut session = session.execute(flavour.close(), CLOSE_LIMIT)?;
    let until = Instant::now() + COMES_WITHIN;
    // Its link is still there, and brings what it was given meanwhile.
    loop {
        let (back, more) = has_more(means, session, to)?;
        session = back;
        if !more {
            return Ok(());
        }
        if Instant::now() >= until {
            break;
        }
        sleep(LOOK_EVERY);
    }
    for statement in flavour.open() {
        session = session.execute(&statement, CLOSE_LIMIT)?;
    }
    let what = format!("has been written to since, and {} hasn't that", to.server);
    Err(moved(from, to, &what))
}

fn moved(other: &Reach, to: &Reach, what: &str) -> ActError {
    ActError::Moved(format!(
        "{} {what}: {} isn't opened, and what was begun is over; `understudy status` shows the pair",
        other.server, to.server
    ))
}

/// A session with the server, if it takes writes.
fn writable(means: &Means<'_>, on: &Reach) -> Option<Session> {
    let target = server::target(means, on).ok()?;
    // Writers wait meanwhile.
    let session = Session::connect_within(&target, ANSWERS_WITHIN).ok()?;
    if *session.identity() != on.identity {
        return None;
    }
    let (session, closed) = session
        .value("SELECT @@GLOBAL.read_only", READ_LIMIT)
        .ok()?;
    (closed.as_deref() == Some("0")).then_some(session)
}

/// Whether a server has transactions that the other one hasn't.
fn has_more(means: &Means<'_>, session: Session, to: &Reach) -> Result<(Session, bool), ActError> {
    let target = server::target(means, to)?;
    let (_, has) = written(Session::connect_to(&target, &to.identity)?)?;
    let (session, own) = written(session)?;
    let more = match (own, has) {
        (Some(GtidSet::Mysql(own)), Some(GtidSet::Mysql(has))) => !own.is_subset_of(&has),
        (Some(GtidSet::Mariadb(own)), Some(GtidSet::Mariadb(has))) => !own
            .entries()
            .all(|entry| has.has(None, entry) == Some(true)),
        // What can't be told may have been.
        _ => true,
    };
    Ok((session, more))
}

fn written(session: Session) -> Result<(Session, Option<GtidSet>), SessionError> {
    let flavour = session.flavour().clone();
    let statement = match flavour.is_mariadb() {
        true => "SELECT @@GLOBAL.gtid_binlog_state",
        false => "SELECT @@GLOBAL.gtid_executed",
    };
    let (session, value) = session.value(statement, READ_LIMIT)?;
    let text = value.unwrap_or_default().replace(['\n', ' '], "");
    Ok((session, flavour.parse_gtid(&text).ok()))
}
