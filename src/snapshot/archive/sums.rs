//! What every table holds, in a transaction of the dump's own moment.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::look::Table;
use super::split::TableName;
use super::writing::{ALTERED, Moved, asked, failed};
use crate::server::session::READ_LIMIT;
use crate::server::{Session, SessionError};
use crate::snapshot::prove::checksums;
use crate::volume::VolumeError;

/// Rows and checksum; `None` where an engine can't tell.
pub type Sum = (Option<u64>, Option<String>);
pub type Sums = BTreeMap<TableName, Sum>;

/// In the moment: from here on this session sees what is there now, and nothing else.
pub fn begin(session: Session) -> Result<Session, SessionError> {
    let mut session = session;
    // Those of one flavour each.
    for statement in [
        "SET SESSION max_statement_time = 0",
        "SET SESSION max_execution_time = 0",
    ] {
        (session, _) = session.attempt(statement, READ_LIMIT)?;
    }
    for statement in [
        "SET SESSION wait_timeout = 86400",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        // To go back to after each table, which lets go of its definition (MySQL; MariaDB 10.11 holds
        // on to it until the end, and so does its dump program).
        "SAVEPOINT understudy",
    ] {
        session = session.execute(statement, READ_LIMIT)?;
    }
    Ok(session)
}

/// Of one table.
pub fn sum(session: Session, table: &Table) -> Result<(Session, Sum), VolumeError> {
    let Some(method) = table.method else {
        return Ok((session, (None, None)));
    };
    let (session, found) = checksums::sum(session, &table.name, method).map_err(asked)?;
    let Some(found) = found else {
        let (schema, name) = &table.name;
        return Err(failed(
            &format!("{schema}.{name} can't be read as it was: it was altered meanwhile"),
            Some(ALTERED),
        ));
    };
    let (session, rows) = checksums::count(session, &table.name).map_err(asked)?;
    Ok((session, (Some(rows), Some(found))))
}

/// In the transaction of the moment. Asks the dump to end where it can't go on.
pub fn sum_all(within: Session, tables: &[Table], moved: &Moved) -> Result<Sums, VolumeError> {
    let mut session = within;
    let mut sums = Sums::new();
    for table in tables {
        if moved.stop.load(Ordering::SeqCst) {
            return Err(failed("interrupted", None));
        }
        let summed = sum(session, table).and_then(|(session, sum)| {
            let back = session.execute("ROLLBACK TO SAVEPOINT understudy", READ_LIMIT);
            Ok((back.map_err(asked)?, sum))
        });
        let (back, sum) = summed.inspect_err(|_| moved.stop.store(true, Ordering::SeqCst))?;
        session = back;
        sums.insert(table.name.clone(), sum);
    }
    Ok(sums)
}
