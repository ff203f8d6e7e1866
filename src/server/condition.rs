//! How a server is: all that a look at its health asks, in few and cheap questions.
//!
//! Each question names the variables that this version has, since SHOW GLOBAL VARIABLES makes the
//! server write down all of its hundreds. What can't be read is unknown, with the server's reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::flavour::{Family, Flavour};
use super::gtid::GtidSet;
use super::identity::Identity;
use super::promotion::Event;
use super::replication::{self, Channel};
use super::row::Row;
use super::semi_sync;
use super::session::{Session, SessionError};
use crate::sys::Fact;

/// Observed on one connection.
#[derive(Debug, Clone)]
pub struct Condition {
    pub flavour: Flavour,
    pub identity: Identity,
    /// Under their present MySQL names, whatever this version calls them.
    pub variables: BTreeMap<String, String>,
    pub channels: Fact<Vec<Channel>>,
    /// What it has executed. MariaDB, a replica: what it has applied.
    pub executed: Fact<GtidSet>,
    /// MariaDB: the last transaction that each server wrote in each domain, as its binary log
    /// knows; empty for MySQL, whose `executed` tells the same.
    pub written: Fact<Option<GtidSet>>,
    /// Newest first; those that the heartbeat tables hold.
    pub beats: Vec<Beat>,
    /// MySQL 8, a replica: when what it applies was committed on its source.
    pub applied: Option<AppliedTimes>,
    /// The workers of its applier can leave gaps when they are stopped.
    pub can_leave_gaps: bool,
    /// The enabled ones of a server that follows nobody; empty where they can't be seen.
    pub events: Vec<Event>,
    /// Semi-synchronous replication, as its source.
    pub semi_sync: Option<SemiSync>,
    /// The server's clock, µs since 1970.
    pub clock_us: Option<u64>,
    /// When that was read.
    pub at: Instant,
}

/// One row of a heartbeat table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Of pt-heartbeat, not ours.
    pub foreign: bool,
    /// Of the server that wrote it.
    pub server_id: u32,
    /// On that server's clock, µs since 1970.
    pub at_us: u64,
    pub every: Duration,
}

/// µs since 1970, on the source's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppliedTimes {
    /// Of the oldest transaction that is being applied.
    pub applying_us: Option<u64>,
    /// Of the newest that was applied.
    pub last_us: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemiSync {
    /// Commits do wait now; false once it fell back to asynchronous.
    pub is_active: bool,
    pub clients: u64,
    /// Commits that wait for an acknowledgement now.
    pub waiting: u64,
    /// How many have to acknowledge each.
    pub wanted: u64,
    /// Whether writers go on soon where nobody does.
    pub is_patient: bool,
}

impl Condition {
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.variable(name)?.parse::<f64>().ok().map(|n| n as u64)
    }

    pub fn is_on(&self, name: &str) -> Option<bool> {
        self.variable(name).map(is_on)
    }

    /// Where it writes its binary logs.
    pub fn binary_log_directory(&self) -> Option<PathBuf> {
        let base = self.variable("log_bin_basename")?;
        Some(Path::new(base).parent()?.to_owned())
    }

    /// Ordinary accounts can't write. Unknown counts as writable nowhere.
    pub fn is_read_only(&self) -> Option<bool> {
        self.is_on("read_only")
    }

    /// How long its binary logs stay; `None` when for ever, or unknown.
    pub fn binary_log_life(&self) -> Option<Duration> {
        let seconds = match self.number("binlog_expire_logs_seconds") {
            Some(seconds) => seconds,
            None => self.number("expire_logs_days")? * 86_400,
        };
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    pub fn channel_list(&self) -> &[Channel] {
        self.channels.known().map_or(&[], Vec::as_slice)
    }
}

fn is_on(value: &str) -> bool {
    !matches!(value, "0" | "OFF" | "" | "NO" | "no" | "off")
}

/// The question's own name for the clock.
const CLOCK: &str = "clock_us";

impl Flavour {
    /// One row: the variables, each under its present name.
    fn condition_query(&self) -> String {
        let mut columns: Vec<(&str, &str)> = [
            "read_only",
            "log_bin",
            "log_bin_basename",
            "binlog_format",
            "binlog_row_image",
            "max_allowed_packet",
            "character_set_server",
            "collation_server",
            "lower_case_table_names",
            "sync_binlog",
            "innodb_flush_log_at_trx_commit",
            "ssl_cert",
            "event_scheduler",
        ]
        .map(|name| (name, name))
        .to_vec();
        let at_least = |version| self.version >= version;
        match self.family {
            Family::Mariadb => {
                columns.extend(
                    [
                        "gtid_slave_pos",
                        "gtid_current_pos",
                        "gtid_binlog_pos",
                        "gtid_binlog_state",
                        "gtid_strict_mode",
                        "gtid_ignore_duplicates",
                        "expire_logs_days",
                    ]
                    .map(|name| (name, name)),
                );
                columns.extend([
                    ("log_slave_updates", "log_replica_updates"),
                    ("slave_max_allowed_packet", "replica_max_allowed_packet"),
                    ("rpl_semi_sync_master_enabled", "semi_sync_source_enabled"),
                ]);
                if at_least((10, 6, 0)) {
                    columns.push(("binlog_expire_logs_seconds", "binlog_expire_logs_seconds"));
                }
            }
            Family::Mysql => {
                columns.extend(
                    [
                        "gtid_mode",
                        "enforce_gtid_consistency",
                        "gtid_executed",
                        "gtid_purged",
                    ]
                    .map(|name| (name, name)),
                );
                if at_least((5, 7, 8)) {
                    columns.push(("super_read_only", "super_read_only"));
                }
                columns.push(match at_least((8, 0, 1)) {
                    true => ("binlog_expire_logs_seconds", "binlog_expire_logs_seconds"),
                    false => ("expire_logs_days", "expire_logs_days"),
                });
                columns.extend(match at_least((8, 0, 26)) {
                    true => [
                        ("log_replica_updates", "log_replica_updates"),
                        ("replica_max_allowed_packet", "replica_max_allowed_packet"),
                    ],
                    false => [
                        ("log_slave_updates", "log_replica_updates"),
                        ("slave_max_allowed_packet", "replica_max_allowed_packet"),
                    ],
                });
                if at_least((8, 0, 27)) {
                    columns.push(("authentication_policy", "authentication"));
                } else if at_least((5, 7, 0)) {
                    columns.push(("default_authentication_plugin", "authentication"));
                }
            }
        }
        let columns: Vec<String> = columns
            .iter()
            .map(|(own, present)| format!("@@GLOBAL.{own} AS {present}"))
            .collect();
        format!(
            "SELECT {}, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED) AS {CLOCK}",
            columns.join(", ")
        )
    }

    /// Whether a source waits for its replicas, asked so that its absence is the server's error.
    fn semi_sync_queries(&self) -> &'static [&'static str] {
        match self.family {
            // Built in, and among the variables.
            Family::Mariadb => &[],
            Family::Mysql if self.version >= (8, 0, 26) => &[
                "SELECT @@GLOBAL.rpl_semi_sync_source_enabled",
                "SELECT @@GLOBAL.rpl_semi_sync_master_enabled",
            ],
            Family::Mysql => &["SELECT @@GLOBAL.rpl_semi_sync_master_enabled"],
        }
    }

    /// One row per heartbeat table that there may be: server_id, at_us, every_ms.
    fn beat_queries(&self) -> [(bool, &'static str); 3] {
        [
            (
                false,
                "SELECT server_id, at_us, every_ms FROM understudy.heartbeat ORDER BY at_us DESC LIMIT 20",
            ),
            (
                true,
                "SELECT server_id, CAST(UNIX_TIMESTAMP(CAST(REPLACE(ts, 'T', ' ') AS DATETIME(6))) * 1000000 AS UNSIGNED) AS at_us, \
                 1000 AS every_ms FROM percona.heartbeat ORDER BY ts DESC LIMIT 20",
            ),
            (
                true,
                "SELECT server_id, CAST(UNIX_TIMESTAMP(CAST(REPLACE(ts, 'T', ' ') AS DATETIME(6))) * 1000000 AS UNSIGNED) AS at_us, \
                 1000 AS every_ms FROM heartbeat.heartbeat ORDER BY ts DESC LIMIT 20",
            ),
        ]
    }

    /// When what is applied was committed on the source, µs; MySQL 8 knows.
    fn applied_times_query(&self) -> Option<&'static str> {
        (self.family == Family::Mysql && self.version >= (8, 0, 1)).then_some(
            "SELECT CAST(MIN(NULLIF(UNIX_TIMESTAMP(APPLYING_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP), 0)) * 1000000 AS UNSIGNED) AS applying_us, \
             CAST(MAX(NULLIF(UNIX_TIMESTAMP(LAST_APPLIED_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP), 0)) * 1000000 AS UNSIGNED) AS last_us \
             FROM performance_schema.replication_applier_status_by_worker",
        )
    }

    /// As `parse_gtid`, as a fact.
    pub fn known_gtid(&self, text: &str) -> Fact<GtidSet> {
        match self.parse_gtid(text) {
            Ok(set) => Fact::Known(set),
            Err(error) => Fact::unknown(error),
        }
    }
}

/// Asks for all of it; `limit` for each question.
pub fn observe(session: Session, limit: Duration) -> Result<(Session, Condition), SessionError> {
    let flavour = session.flavour().clone();
    let (session, rows) = session.query(&flavour.condition_query(), limit)?;
    let at = Instant::now();
    let mut variables: BTreeMap<String, String> = rows
        .first()
        .map(|row| row.entries().map(own).collect())
        .unwrap_or_default();
    let clock_us = variables.remove(CLOCK).and_then(|us| us.parse().ok());
    let (session, channels) = observe_channels(session, limit)?;
    let is_replica = channels.known().is_some_and(|known| !known.is_empty());
    let (session, semi_sync) = observe_semi_sync(session, &mut variables, limit)?;
    let (session, beats) = observe_beats(session, limit)?;
    let (session, applied) = match flavour.applied_times_query().filter(|_| is_replica) {
        Some(statement) => {
            let (session, rows) = session.attempt(statement, limit)?;
            let rows = rows.unwrap_or_default();
            (session, rows.first().map(applied_times))
        }
        None => (session, None),
    };
    let (session, can_leave_gaps) = match is_replica {
        true => replication::observe_can_leave_gaps(session)?,
        false => (session, false),
    };
    let (session, events) = match is_replica {
        true => (session, Vec::new()),
        false => {
            let (session, rows) = session.attempt(flavour.events_query(), limit)?;
            let rows = rows.unwrap_or_default();
            (session, rows.iter().filter_map(Event::of).collect())
        }
    };
    let executed = executed(&flavour, &variables, is_replica);
    let written = match flavour.family {
        Family::Mysql => Fact::Known(None),
        Family::Mariadb => gtid_variable(&flavour, &variables, "gtid_binlog_state").map(Some),
    };
    let identity = session.identity().clone();
    let condition = Condition {
        flavour,
        identity,
        variables,
        channels,
        executed,
        written,
        beats,
        applied,
        can_leave_gaps,
        events,
        semi_sync,
        clock_us,
        at,
    };
    Ok((session, condition))
}

fn own((name, value): (&str, Option<&str>)) -> (String, String) {
    (name.to_owned(), value.unwrap_or_default().to_owned())
}

fn gtid_variable(
    flavour: &Flavour,
    variables: &BTreeMap<String, String>,
    name: &str,
) -> Fact<GtidSet> {
    match variables.get(name) {
        Some(text) => flavour.known_gtid(text),
        None => Fact::unknown(format!("the server has no {name}")),
    }
}

fn executed(
    flavour: &Flavour,
    variables: &BTreeMap<String, String>,
    is_replica: bool,
) -> Fact<GtidSet> {
    let name = match (flavour.family, is_replica) {
        (Family::Mysql, _) => "gtid_executed",
        (Family::Mariadb, true) => "gtid_slave_pos",
        (Family::Mariadb, false) => "gtid_current_pos",
    };
    gtid_variable(flavour, variables, name)
}

/// Without the privilege nothing is known of the threads; that is no error of the look.
fn observe_channels(
    session: Session,
    limit: Duration,
) -> Result<(Session, Fact<Vec<Channel>>), SessionError> {
    let statement = session.flavour().replica_status();
    let (session, rows) = session.attempt(statement, limit)?;
    let channels = match rows {
        Ok(rows) => Fact::Known(replication::parse_channels(&rows)),
        Err(error) => Fact::unknown(error),
    };
    Ok((session, channels))
}

fn observe_semi_sync(
    mut session: Session,
    variables: &mut BTreeMap<String, String>,
    limit: Duration,
) -> Result<(Session, Option<SemiSync>), SessionError> {
    let mut enabled = variables.remove("semi_sync_source_enabled");
    for statement in session.flavour().semi_sync_queries() {
        if enabled.is_none() {
            let (back, rows) = session.attempt(statement, limit)?;
            session = back;
            enabled = rows
                .ok()
                .and_then(|rows| rows.first()?.at(0).map(str::to_owned));
        }
    }
    if !enabled.is_some_and(|value| is_on(&value)) {
        return Ok((session, None));
    }
    let (session, sides) = semi_sync::observe(session)?;
    let statement = "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%'";
    let (session, rows) = session.query(statement, limit)?;
    let value = |ending: &str| {
        rows.iter()
            .find(|row| {
                row.at(0)
                    .is_some_and(|name| name.to_ascii_lowercase().ends_with(ending))
            })
            .and_then(|row| row.at(1))
    };
    let active = value("source_status").or_else(|| value("master_status"));
    let clients = value("source_clients").or_else(|| value("master_clients"));
    let number = |text: Option<&str>| text.and_then(|n| n.parse().ok()).unwrap_or(0);
    let semi_sync = SemiSync {
        is_active: active.is_some_and(is_on),
        clients: number(clients),
        waiting: number(value("_wait_sessions")),
        wanted: sides.wanted(),
        is_patient: sides.is_patient(),
    };
    Ok((session, Some(semi_sync)))
}

/// Of the first table that has some. One that isn't there, or that we may not read, holds none.
fn observe_beats(
    mut session: Session,
    limit: Duration,
) -> Result<(Session, Vec<Beat>), SessionError> {
    let mut beats = Vec::new();
    for (foreign, statement) in session.flavour().beat_queries() {
        let (back, rows) = session.attempt(statement, limit)?;
        session = back;
        let rows = rows.unwrap_or_default();
        beats.extend(rows.iter().filter_map(|row| beat(row, foreign)));
        if !beats.is_empty() {
            break;
        }
    }
    Ok((session, beats))
}

fn beat(row: &Row, foreign: bool) -> Option<Beat> {
    Some(Beat {
        foreign,
        server_id: row.get("server_id")?.parse().ok()?,
        at_us: row.get("at_us")?.parse().ok()?,
        every: Duration::from_millis(row.get("every_ms")?.parse().ok()?),
    })
}

fn applied_times(row: &Row) -> AppliedTimes {
    let time = |name: &str| row.get(name).and_then(|us| us.parse().ok());
    AppliedTimes {
        applying_us: time("applying_us"),
        last_us: time("last_us"),
    }
}

/// What this server's binary logs don't hold any more, as a set.
pub fn observe_purged(session: Session) -> Result<(Session, Fact<GtidSet>), SessionError> {
    let flavour = session.flavour().clone();
    let (session, text) = replication::observe_purged(session)?;
    Ok((session, flavour.known_gtid(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_asked_for_what_it_has() {
        let asked = |version: &str| Flavour::of_version(version).condition_query();
        assert!(asked("5.6.24 x").contains("@@GLOBAL.expire_logs_days"));
        assert!(!asked("5.6.24 x").contains("super_read_only"));
        let new = asked("9.7.4 x");
        assert!(new.contains("@@GLOBAL.log_replica_updates AS log_replica_updates"));
        assert!(!new.contains("default_authentication_plugin"));
        let old = asked("8.0.20 x");
        assert!(old.contains("@@GLOBAL.log_slave_updates AS log_replica_updates"));
        let mariadb = asked("10.5.9-MariaDB x");
        assert!(mariadb.contains("gtid_binlog_state"));
        assert!(!mariadb.contains("binlog_expire_logs_seconds"));
    }
}
