//! What ran: a line per run and server, appended to a file of the state directory.
//!
//! A torn line costs itself and no other. The file is bounded: its older half goes when it is full.

use super::record::{Record, VERSION};
use crate::config::values::check_name;
use crate::journal::StateDir;
use crate::journal::state::StateError;
use crate::sys::files;

/// About a thousand runs; a year of nights has 365.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The runs of one server, the oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    pub records: Vec<Record>,
    /// Lines that are none, such as one that a power cut tore.
    pub unreadable: usize,
    /// Lines of a version that came after this one.
    pub newer: usize,
}

impl History {
    /// Whether the last run that tried anything failed.
    pub fn last_failed(&self) -> bool {
        let tried = self.records.iter().rev().find(|record| !record.is_busy());
        tried.is_some_and(|record| !record.is_done())
    }
}

/// Adds one run.
///
/// # Errors
/// When the file can't be written, or somebody else has been writing it for too long.
pub fn append(state: &StateDir, record: &Record) -> Result<(), StateError> {
    let line = serde_json::to_string(record).expect("a record holds only plain data");
    let path = state.history(&record.server);
    let _lock = state.lock_history()?;
    let mut file = files::open_append(&path)?;
    files::append_line(&mut file, &path, &line)?;
    drop(file);
    if files::length(&path).is_some_and(|length| length > FILE_BYTES_MAX) {
        let text = files::read_lossy(&path)?.unwrap_or_default();
        files::replace(&path, newer_half(&text).as_bytes())?;
    }
    Ok(())
}

/// Whole lines, of about half the bound.
fn newer_half(text: &str) -> &str {
    let half = usize::try_from(FILE_BYTES_MAX / 2).unwrap_or(usize::MAX);
    let mut start = text.len().saturating_sub(half);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    match text[start..].find('\n') {
        Some(end) => &text[start + end + 1..],
        None => "",
    }
}

/// Whether there is a history of a server of this name.
pub fn exists(state: &StateDir, server: &str) -> bool {
    check_name(server).is_ok() && files::length(&state.history(server)).is_some()
}

/// Reads what there is of a server; nothing of one that never ran.
pub fn read(state: &StateDir, server: &str) -> Result<History, StateError> {
    let text = files::read_lossy(&state.history(server))?;
    Ok(parse(&text.unwrap_or_default()))
}

fn parse(text: &str) -> History {
    let mut history = History::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
        let version = value.as_ref().and_then(|value| value["version"].as_u64());
        match (version, value) {
            (Some(version), Some(value)) if version <= u64::from(VERSION) => {
                match serde_json::from_value(value) {
                    Ok(record) => history.records.push(record),
                    Err(_) => history.unreadable += 1,
                }
            }
            (Some(_), _) => history.newer += 1,
            (None, _) => history.unreadable += 1,
        }
    }
    history
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn record(began: &str) -> Record {
        Record {
            version: VERSION,
            server: "db2".to_owned(),
            began: began.to_owned(),
            ..Record::default()
        }
    }

    fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(&dir.path().join("state"));
        state.create().unwrap();
        (dir, state)
    }

    #[test]
    fn a_torn_line_costs_no_other_and_newer_ones_are_counted() {
        let (_dir, state) = state();
        append(&state, &record("1")).unwrap();
        let path = state.history("db2");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"version\": 2, \"what\": []}\n{\"version\": 1, \"serv");
        std::fs::write(&path, text).unwrap();
        append(&state, &record("2")).unwrap();
        let history = read(&state, "db2").unwrap();
        let began: Vec<&str> = history.records.iter().map(|r| r.began.as_str()).collect();
        assert_eq!(began, ["1", "2"]);
        assert_eq!((history.unreadable, history.newer), (1, 1));
        assert_eq!(read(&state, "db3").unwrap(), History::default());
    }

    #[test]
    fn it_is_for_its_owner_only_and_never_outgrows_its_bound() {
        let (_dir, state) = state();
        let mut big = record("x");
        big.warnings = vec!["w".repeat(1000); 50];
        for number in 0..60 {
            big.began = number.to_string();
            append(&state, &big).unwrap();
            let length = files::length(&state.history("db2")).unwrap();
            assert!(length <= FILE_BYTES_MAX, "{length}");
        }
        let history = read(&state, "db2").unwrap();
        assert_eq!(history.unreadable, 0);
        assert_eq!(history.records.last().unwrap().began, "59");
        assert!(history.records.len() >= 9, "{}", history.records.len());
        let mode = std::fs::metadata(state.history("db2"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
