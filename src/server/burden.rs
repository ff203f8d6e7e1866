//! What is open on a server and would be in the way of a change of roles, and what its account may do
//! there. Each is asked for by itself: what can't be read is unknown, with the server's reason.

use std::time::Duration;

use super::flavour::{Family, Flavour};
use super::held::Held;
use super::replication;
use super::row::Row;
use super::session::{Session, SessionError};
use crate::sys::Fact;

/// Observed on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burden {
    pub privileges: Fact<Held>,
    /// XA transactions that are prepared, by their ids.
    pub prepared: Fact<Vec<String>>,
    /// Replicated temporary tables that its applier holds open.
    pub temp_tables: Fact<u64>,
    /// Those of InnoDB, longest first.
    pub transactions: Fact<Vec<Transaction>>,
    /// Locks that sessions hold for as long as they like: LOCK TABLES, a global or a backup lock.
    pub locks: Fact<Vec<HeldLock>>,
}

/// An open transaction of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub connection: u64,
    pub user: String,
    /// The server's own name for it.
    pub id: String,
    /// By the server's own clock.
    pub age: Duration,
    pub rows_written: u64,
}

impl Transaction {
    pub fn words(&self) -> String {
        let wrote = match self.rows_written {
            0 => "has written nothing".to_owned(),
            1 => "has written 1 row".to_owned(),
            rows => format!("has written {rows} rows"),
        };
        format!(
            "connection {} of {} has a transaction open for {}, which {wrote}",
            self.connection,
            self.user,
            humantime::format_duration(self.age)
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLock {
    pub connection: u64,
    pub user: String,
    /// Such as `the table lab.w`.
    pub what: String,
}

impl HeldLock {
    pub fn words(&self) -> String {
        format!(
            "connection {} of {} holds a lock on {}",
            self.connection, self.user, self.what
        )
    }
}

/// More isn't listed.
const LISTED_MAX: usize = 50;

impl Flavour {
    /// What was done to a session's roles, as `Held::parse` reads it; `None` where there are no roles.
    fn roles_query(&self) -> Option<&'static str> {
        let has_roles = self.family == Family::Mariadb || self.version >= (8, 0, 0);
        has_roles.then_some("SELECT CURRENT_ROLE()")
    }

    /// id of connection, user, id, seconds and rows written of each open transaction of a client.
    fn transactions_query(&self) -> String {
        format!(
            "SELECT p.ID, p.USER, t.trx_id, TIMESTAMPDIFF(SECOND, t.trx_started, NOW()), \
             t.trx_rows_modified FROM information_schema.INNODB_TRX t \
             JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id \
             WHERE p.ID <> CONNECTION_ID() AND p.COMMAND NOT IN ('Binlog Dump', 'Binlog Dump GTID', \
             'Daemon', 'Slave_IO', 'Slave_SQL', 'Slave_worker', 'Connect') \
             AND p.USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user') \
             ORDER BY t.trx_started LIMIT {LISTED_MAX}"
        )
    }

    /// id of connection, user, kind, schema and name of each lock that outlives its statement. `None`
    /// where nothing tells; MariaDB tells with the plugin metadata_lock_info only. It calls what FLUSH
    /// TABLES WITH READ LOCK and BACKUP STAGE hold "Backup lock" alike, and tells them by the mode
    /// (MariaDB 10.11.19).
    fn locks_query(&self) -> Option<String> {
        match self.family {
            Family::Mysql => (self.version >= (5, 7, 3)).then(|| {
                format!(
                    "SELECT t.PROCESSLIST_ID, t.PROCESSLIST_USER, m.OBJECT_TYPE, m.OBJECT_SCHEMA, \
                     m.OBJECT_NAME FROM performance_schema.metadata_locks m \
                     JOIN performance_schema.threads t ON t.THREAD_ID = m.OWNER_THREAD_ID \
                     WHERE m.LOCK_STATUS = 'GRANTED' AND t.PROCESSLIST_ID IS NOT NULL \
                     AND t.PROCESSLIST_ID <> CONNECTION_ID() AND (m.OBJECT_TYPE = 'TABLE' \
                     AND m.LOCK_TYPE IN ('SHARED_NO_READ_WRITE', 'SHARED_READ_ONLY') \
                     OR m.OBJECT_TYPE IN ('GLOBAL', 'BACKUP LOCK') AND m.LOCK_TYPE = 'SHARED') \
                     ORDER BY 1 LIMIT {LISTED_MAX}"
                )
            }),
            Family::Mariadb => Some(format!(
                "SELECT m.THREAD_ID, p.USER, CASE WHEN m.LOCK_TYPE LIKE 'Table%' THEN 'TABLE' \
                 WHEN m.LOCK_MODE LIKE 'MDL_BACKUP_FTWRL%' THEN 'GLOBAL' ELSE 'BACKUP STAGE' END, \
                 m.TABLE_SCHEMA, m.TABLE_NAME FROM information_schema.METADATA_LOCK_INFO m \
                 JOIN information_schema.PROCESSLIST p ON p.ID = m.THREAD_ID \
                 WHERE m.THREAD_ID <> CONNECTION_ID() \
                 AND m.LOCK_MODE IN ('MDL_SHARED_NO_READ_WRITE', 'MDL_SHARED_READ_ONLY', \
                 'MDL_BACKUP_FTWRL1', 'MDL_BACKUP_FTWRL2', 'MDL_BACKUP_START', \
                 'MDL_BACKUP_BLOCK_DDL', 'MDL_BACKUP_WAIT_COMMIT') ORDER BY 1 LIMIT {LISTED_MAX}"
            )),
        }
    }
}

/// Asks for all of it; `limit` for each question.
pub fn observe(session: Session, limit: Duration) -> Result<(Session, Burden), SessionError> {
    let (session, privileges) = observe_privileges(session, limit)?;
    let (session, prepared) = rows(session, "XA RECOVER", limit)?;
    let (session, temp_tables) = replication::observe_open_temp_tables(session)?;
    let (session, transactions) = observe_transactions(session, limit)?;
    let (session, locks) = match session.flavour().locks_query() {
        None => (session, Fact::unknown("this version doesn't tell")),
        Some(statement) => rows(session, &statement, limit)?,
    };
    let burden = Burden {
        privileges,
        prepared: prepared.map(|rows| {
            let ids = rows.iter().filter_map(|row| row.get("data"));
            ids.map(printable).collect()
        }),
        temp_tables: Fact::Known(temp_tables),
        transactions,
        locks: locks.map(|rows| rows.iter().filter_map(held_lock).collect()),
    };
    Ok((session, burden))
}

/// The open transactions alone.
pub fn observe_transactions(
    session: Session,
    limit: Duration,
) -> Result<(Session, Fact<Vec<Transaction>>), SessionError> {
    let statement = session.flavour().transactions_query();
    let (session, rows) = rows(session, &statement, limit)?;
    let transactions = rows.map(|rows| rows.iter().filter_map(transaction).collect());
    Ok((session, transactions))
}

/// The locks alone; none where nothing tells of them.
pub fn observe_locks(
    session: Session,
    limit: Duration,
) -> Result<(Session, Vec<HeldLock>), SessionError> {
    let Some(statement) = session.flavour().locks_query() else {
        return Ok((session, Vec::new()));
    };
    let (session, rows) = rows(session, &statement, limit)?;
    let rows = rows.known().cloned().unwrap_or_default();
    Ok((session, rows.iter().filter_map(held_lock).collect()))
}

fn rows(
    session: Session,
    statement: &str,
    limit: Duration,
) -> Result<(Session, Fact<Vec<Row>>), SessionError> {
    let (session, answer) = session.attempt(statement, limit)?;
    let fact = match answer {
        Ok(rows) => Fact::Known(rows),
        Err(error) => Fact::unknown(error),
    };
    Ok((session, fact))
}

/// What the session's account may do.
pub fn observe_privileges(
    session: Session,
    limit: Duration,
) -> Result<(Session, Fact<Held>), SessionError> {
    let (session, active) = match session.flavour().roles_query() {
        None => (session, Fact::Known(Vec::new())),
        Some(statement) => rows(session, statement, limit)?,
    };
    let active = active.known().and_then(|rows| rows.first()?.at(0));
    let active = active.unwrap_or_default().to_owned();
    let (session, lines) = rows(session, "SHOW GRANTS", limit)?;
    let flavour = session.flavour().clone();
    let held = lines.map(|rows| {
        let lines = rows.iter().filter_map(|row| row.at(0));
        Held::parse(&flavour, lines, &active)
    });
    Ok((session, held))
}

fn transaction(row: &Row) -> Option<Transaction> {
    let number = |index| row.at(index).and_then(|text| text.parse::<u64>().ok());
    Some(Transaction {
        connection: number(0)?,
        user: row.at(1)?.to_owned(),
        id: row.at(2)?.to_owned(),
        age: Duration::from_secs(number(3).unwrap_or(0)),
        rows_written: number(4).unwrap_or(0),
    })
}

fn held_lock(row: &Row) -> Option<HeldLock> {
    let text = |index| row.at(index).unwrap_or_default();
    let what = match text(2) {
        "TABLE" => format!("the table {}.{}", text(3), text(4)),
        "GLOBAL" => "all tables (FLUSH TABLES WITH READ LOCK)".to_owned(),
        "BACKUP LOCK" => "the instance (LOCK INSTANCE FOR BACKUP)".to_owned(),
        "BACKUP STAGE" => "the server (BACKUP STAGE)".to_owned(),
        other => other.to_lowercase(),
    };
    Some(HeldLock {
        connection: row.at(0)?.parse().ok()?,
        user: text(1).to_owned(),
        what,
    })
}

/// Ids of transactions are bytes.
fn printable(id: &str) -> String {
    let visible = |character: char| match character.is_control() || character == '\u{fffd}' {
        true => '?',
        false => character,
    };
    id.chars().map(visible).collect()
}
