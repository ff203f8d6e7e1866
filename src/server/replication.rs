//! Replication as a replica shows it: channels, their threads, their positions.
//!
//! Reads columns by name under the names of every version; an absent or unreadable one is unknown,
//! never zero.

use super::gtid::MariadbGtidPos;
use super::session::{READ_LIMIT, Session, SessionError};

pub use super::channel::ChannelName;
pub use super::position::{Channel, ChannelPosition, Position, ThreadState, parse_channels};

/// Asks for all channels; none when the server is no replica.
pub fn observe_channels(session: Session) -> Result<(Session, Vec<Channel>), SessionError> {
    let statement = session.flavour().replica_status();
    let (session, rows) = session.query(statement, READ_LIMIT)?;
    Ok((session, parse_channels(&rows)))
}

/// Reads the whole position; true only while nothing is applied and nothing commits.
pub fn observe_position(session: Session) -> Result<(Session, Position), SessionError> {
    let (session, channels) = observe_channels(session)?;
    let (session, gtid) = observe_gtid(session, !channels.is_empty())?;
    // Without binary log MySQL gives no row, or an error where it never had one.
    let statement = session.flavour().own_position();
    let (session, own) = session.attempt(statement, READ_LIMIT)?;
    let own = own.unwrap_or_default();
    let own = own.first();
    let (session, written) = match session.flavour().is_mariadb() && own.is_some() {
        true => session.value("SELECT @@GLOBAL.gtid_binlog_state", READ_LIMIT)?,
        false => (session, None),
    };
    Ok((
        session,
        Position {
            gtid,
            channels: channels.iter().map(ChannelPosition::from).collect(),
            own_log_file: own.and_then(|row| row.get("File")).map(str::to_owned),
            own_log_pos: own.and_then(|row| row.get("Position")?.parse().ok()),
            written,
        },
    ))
}

/// What the server has applied, in one value.
pub fn observe_gtid(session: Session, is_replica: bool) -> Result<(Session, String), SessionError> {
    let statement = session.flavour().gtid_query(is_replica);
    let (session, rows) = session.query(statement, READ_LIMIT)?;
    let row = rows.first().cloned().unwrap_or_default();
    let one = row.at(0).unwrap_or_default().replace(['\n', ' '], "");
    let Some(other) = row.at(1) else {
        return Ok((session, one));
    };
    let both = MariadbGtidPos::parse(&one)
        .and_then(|one| Ok(one.union(&MariadbGtidPos::parse(other)?).to_string()));
    match both {
        Ok(both) => Ok((session, both)),
        Err(error) => Err(session.unexpected(statement, error.to_string())),
    }
}

/// What a source can't send any more, since its binary logs of it are purged.
pub fn observe_purged(session: Session) -> Result<(Session, String), SessionError> {
    let (session, first) = match session.flavour().first_log_query() {
        None => (session, String::new()),
        Some(statement) => {
            let (session, rows) = session.query(statement, READ_LIMIT)?;
            let name = rows.first().and_then(|row| row.at(0)).map(str::to_owned);
            (session, name.unwrap_or_default())
        }
    };
    let statement = session.flavour().purged_query(&first);
    let (session, purged) = session.value(&statement, READ_LIMIT)?;
    Ok((session, purged.unwrap_or_default().replace(['\n', ' '], "")))
}

/// Whether a stop of the applier can leave gaps on this server.
pub fn observe_can_leave_gaps(session: Session) -> Result<(Session, bool), SessionError> {
    let Some(statement) = session.flavour().parallel_applier_query() else {
        return Ok((session, false));
    };
    let (session, rows) = session.query(statement, READ_LIMIT)?;
    let row = rows.first().cloned().unwrap_or_default();
    let workers: u64 = row.get("workers").and_then(|v| v.parse().ok()).unwrap_or(0);
    let ordered = matches!(row.get("ordered"), Some("1" | "ON"));
    Ok((session, workers > 1 && !ordered))
}

/// How many replicated temporary tables are open; they live in no snapshot.
pub fn observe_open_temp_tables(session: Session) -> Result<(Session, u64), SessionError> {
    let statement = session.flavour().open_temp_tables_query();
    let (session, rows) = session.query(statement, READ_LIMIT)?;
    let count = rows.first().and_then(|row| row.at(1)?.parse().ok());
    match count {
        Some(count) => Ok((session, count)),
        None => Err(session.unexpected(statement, "no count")),
    }
}
