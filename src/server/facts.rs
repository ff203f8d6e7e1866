//! What a snapshot must know of a server before it pauses anything.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::durability::{COMMIT_FLUSH, FLUSH_TIMEOUT};
use super::globals::FORGOTTEN;
use super::replication::{self, Channel};
use super::session::{READ_LIMIT, Session, SessionError};

/// Enough time for the queries on information_schema of a server with very many tables.
const CATALOGUE_LIMIT: Duration = Duration::from_secs(300);

/// Observed on one connection, before the pause.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    pub version: String,
    pub channels: Vec<Channel>,
    /// A stop of the applier can leave gaps.
    pub can_leave_gaps: bool,
    pub open_temp_tables: u64,
    /// (schema, table) of user tables whose engine forgets a crash.
    pub non_transactional: Vec<(String, String)>,
    pub variables: BTreeMap<String, String>,
    /// InnoDB files that the server names by absolute path.
    pub outside_files: Vec<PathBuf>,
    /// Other transactional engines than InnoDB that hold user tables: how they make a commit
    /// durable isn't known here.
    pub other_engines: Vec<String>,
    /// InnoDB writes no redo log (MySQL 8.0.21: ALTER INSTANCE DISABLE INNODB REDO_LOG).
    pub redo_is_off: bool,
}

impl ServerFacts {
    pub fn is_replica(&self) -> bool {
        !self.channels.is_empty()
    }

    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(PathBuf::from)
    }
}

/// The variables that say where files are and how they are written.
const VARIABLES: [&str; 23] = [
    "datadir",
    "innodb_data_home_dir",
    "innodb_data_file_path",
    "innodb_doublewrite_dir",
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
    "aria_log_dir_path",
    "log_bin",
    "log_bin_basename",
    "relay_log",
    "relay_log_basename",
    "relay_log_index",
    "keyring_file_data",
    "file_key_management_filename",
    "pid_file",
    "tmpdir",
    "hostname",
    "innodb_max_dirty_pages_pct",
    "innodb_max_dirty_pages_pct_lwm",
    "innodb_io_capacity",
    "innodb_io_capacity_max",
    COMMIT_FLUSH,
    FLUSH_TIMEOUT,
];

pub fn observe_server(session: Session) -> Result<(Session, ServerFacts), SessionError> {
    let (session, channels) = replication::observe_channels(session)?;
    let (session, can_leave_gaps) = if channels.is_empty() {
        (session, false)
    } else {
        replication::observe_can_leave_gaps(session)?
    };
    let (session, open_temp_tables) = replication::observe_open_temp_tables(session)?;
    let (session, variables) = observe_variables(session)?;
    let (session, non_transactional) = observe_non_transactional(session)?;
    let (session, outside_files) = observe_outside_files(session)?;
    let (session, other_engines) = observe_other_engines(session)?;
    let (session, redo_is_off) = observe_redo_is_off(session)?;
    let version = session.flavour().text.clone();
    Ok((
        session,
        ServerFacts {
            version,
            channels,
            can_leave_gaps,
            open_temp_tables,
            non_transactional,
            variables,
            outside_files,
            other_engines,
            redo_is_off,
        },
    ))
}

fn observe_other_engines(session: Session) -> Result<(Session, Vec<String>), SessionError> {
    let statement = session.flavour().other_engines_query();
    let (session, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
    let engines = rows.iter().filter_map(|row| row.at(0)).map(str::to_owned);
    Ok((session, engines.collect()))
}

fn observe_redo_is_off(session: Session) -> Result<(Session, bool), SessionError> {
    let statement = "SHOW GLOBAL STATUS LIKE 'Innodb_redo_log_enabled'";
    let (session, rows) = session.query(statement, READ_LIMIT)?;
    let is_off = rows.first().and_then(|row| row.at(1)) == Some("OFF");
    Ok((session, is_off))
}

fn observe_variables(
    session: Session,
) -> Result<(Session, BTreeMap<String, String>), SessionError> {
    let names: Vec<String> = VARIABLES
        .iter()
        .chain(&FORGOTTEN)
        .map(|name| format!("'{name}'"))
        .collect();
    let statement = format!(
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})",
        names.join(", ")
    );
    let (session, rows) = session.query(&statement, READ_LIMIT)?;
    let variables = rows
        .iter()
        .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())))
        .collect();
    Ok((session, variables))
}

fn observe_non_transactional(
    session: Session,
) -> Result<(Session, Vec<(String, String)>), SessionError> {
    let statement = session.flavour().non_transactional_tables_query();
    let (session, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
    let tables = rows
        .iter()
        .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())))
        .collect();
    Ok((session, tables))
}

fn observe_outside_files(session: Session) -> Result<(Session, Vec<PathBuf>), SessionError> {
    let statement = session.flavour().outside_files_query();
    let (session, rows) = session.query(statement, CATALOGUE_LIMIT)?;
    let files = rows
        .iter()
        .filter_map(|row| row.at(0))
        .map(PathBuf::from)
        .collect();
    Ok((session, files))
}
