//! Whether what was committed is in the files: InnoDB's redo log, and what makes it go there.
//!
//! A storage snapshot holds what the server has handed to the kernel. With
//! `innodb_flush_log_at_trx_commit = 0` a commit stays in the server's own log buffer for up to
//! `innodb_flush_log_at_timeout` seconds, and a snapshot of that moment comes up without it: MariaDB
//! 10.11 at an earlier position, MySQL 9.7 at the recorded one with rows missing, since its binary
//! log was written (both seen). With 2 it is in the kernel, and so in the snapshot.
//!
//! Why raising the setting and then reaching the redo log's end is enough: a commit takes its place
//! in the log first and reads the setting afterwards. One that read the old setting has therefore its
//! place before the end that is read after the SET; every later one writes its own part of the log.

use super::flavour::{Family, Flavour};
use super::session::{READ_LIMIT, Session, SessionError};

/// 0: commits stay in the log buffer. 1: flushed. 2: written, but not synced. 3 (MariaDB): as 1.
pub const COMMIT_FLUSH: &str = "innodb_flush_log_at_trx_commit";

/// Seconds after which the log buffer is flushed at the latest, when nobody commits.
pub const FLUSH_TIMEOUT: &str = "innodb_flush_log_at_timeout";

/// How far InnoDB's redo log has come, as log sequence numbers (bytes since the data was made).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redo {
    pub current: u64,
    /// Synced to disk up to here.
    pub flushed: u64,
}

impl Flavour {
    /// Flushes the redo log of every engine, out of the binary log. MariaDB has the statement too,
    /// but it leaves the flushed LSN where it was (seen on 10.11.14).
    pub fn flush_engine_logs(&self) -> Option<&'static str> {
        match self.family {
            Family::Mysql => Some("FLUSH LOCAL ENGINE LOGS"),
            Family::Mariadb => None,
        }
    }
}

impl Flavour {
    /// What brings everything that is committed from the binary log into the engines, in order:
    /// afterwards a server comes up without the binary log, at the same position. MySQL keeps its
    /// executed set in a table since 5.7.5, up to date when a log ends; `None` before. MariaDB keeps a
    /// replica's position in a table always.
    pub fn leave_binary_log(&self) -> Option<&'static [&'static str]> {
        match self.family {
            Family::Mysql if self.version >= (5, 7, 5) => {
                Some(&["FLUSH LOCAL BINARY LOGS", "FLUSH LOCAL ENGINE LOGS"])
            }
            Family::Mysql => None,
            Family::Mariadb => Some(&[]),
        }
    }

    /// What makes a server that has no statement for it flush its redo log at once instead of within a
    /// second: MariaDB's export of a table does, on the way (seen on 10.11.14). It may be refused.
    pub fn flush_redo_early(&self) -> &'static [&'static str] {
        match self.family {
            Family::Mysql => &[],
            Family::Mariadb => &[
                "FLUSH LOCAL TABLES mysql.gtid_slave_pos FOR EXPORT",
                "UNLOCK TABLES",
            ],
        }
    }
}

/// Reads both ends of the redo log; an answer without them is an error, never "all flushed".
pub fn observe_redo(session: Session) -> Result<(Session, Redo), SessionError> {
    const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_lsn_current', \
         'Innodb_lsn_flushed', 'Innodb_redo_log_current_lsn', \
         'Innodb_redo_log_flushed_to_disk_lsn')";
    let (session, rows) = session.query(STATUS, READ_LIMIT)?;
    let value = |ending: &str| {
        rows.iter()
            .find(|row| row.at(0).is_some_and(|name| name.ends_with(ending)))
            .and_then(|row| row.at(1)?.parse().ok())
    };
    let current = value("lsn_current").or_else(|| value("current_lsn"));
    let flushed = value("lsn_flushed").or_else(|| value("flushed_to_disk_lsn"));
    if let (Some(current), Some(flushed)) = (current, flushed) {
        return Ok((session, Redo { current, flushed }));
    }
    // MySQL before 8.0.30.
    const ENGINE: &str = "SHOW ENGINE INNODB STATUS";
    let (session, rows) = session.query(ENGINE, READ_LIMIT)?;
    let text = rows.first().and_then(|row| row.at(2)).unwrap_or_default();
    match parse_engine_status(text) {
        Some(redo) => Ok((session, redo)),
        None => Err(session.unexpected(ENGINE, "no log sequence number".to_owned())),
    }
}

/// From the LOG section of `SHOW ENGINE INNODB STATUS`.
fn parse_engine_status(text: &str) -> Option<Redo> {
    let number = |beginning: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(beginning)?.trim().parse().ok())
    };
    Some(Redo {
        current: number("Log sequence number")?,
        flushed: number("Log flushed up to")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_engine_status_of_old_servers() {
        // MySQL 5.6.24, shortened.
        let text = "---\nLOG\n---\nLog sequence number 1626198\nLog flushed up to   1626190\n\
                    Pages flushed up to 1626198\nLast checkpoint at  1626198\n";
        assert_eq!(
            parse_engine_status(text),
            Some(Redo {
                current: 1_626_198,
                flushed: 1_626_190
            })
        );
        assert_eq!(parse_engine_status("LOG\nnothing"), None);
    }
}
