//! The durable log of one operation: a line per intent and outcome, fsynced.
//!
//! An operation without an end line is unfinished, and `recover` puts it back or carries it through.
//! Ended logs move to `journal/done/`, where the last few hundred stay for people to read.

mod former;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::act::{Act, Rest};
use super::state::StateDir;
use crate::sys::clock;
use crate::sys::files::{self, FileError};
use crate::sys::process::ProcessRef;
use crate::volume::{BackendKind, PlannedVolume};
use former::{Former, FormerRestore};

/// Ended logs kept.
const DONE_MAX: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    SnapshotCreate,
    SnapshotDelete,
    Pause,
    Verify,
    Extract,
    /// Made or unmade; what is mounted and stays so has a record of its own.
    Mount,
    RestoreTo,
    RestoreInPlace,
    Setup,
    Switchover,
    Failover,
    Repoint,
    Rejoin,
}

impl OperationKind {
    pub fn words(self) -> &'static str {
        match self {
            Self::SnapshotCreate => "a snapshot",
            Self::SnapshotDelete => "the removal of a snapshot",
            Self::Pause => "a pause",
            Self::Verify => "a snapshot's proof",
            Self::Extract => "an extraction",
            Self::Mount => "a mount",
            Self::RestoreTo | Self::RestoreInPlace => "a restore",
            Self::Setup => "the set-up of a pair",
            Self::Switchover => "a switchover",
            Self::Failover => "a failover",
            Self::Repoint => "a repoint",
            Self::Rejoin => "a rejoin",
        }
    }

    /// Two of them at once on one pair would do harm, also from two hosts.
    pub fn changes_a_pair(self) -> bool {
        match self {
            Self::Setup | Self::Switchover | Self::Failover | Self::Repoint | Self::Rejoin => true,
            Self::Verify
            | Self::Extract
            | Self::Mount
            | Self::RestoreTo
            | Self::SnapshotCreate
            | Self::SnapshotDelete
            | Self::Pause
            | Self::RestoreInPlace => false,
        }
    }

    /// Who follows whom is in motion while it goes on.
    pub fn moves_roles(self) -> bool {
        match self {
            Self::Switchover | Self::Failover | Self::Repoint | Self::Rejoin => true,
            Self::SnapshotCreate
            | Self::SnapshotDelete
            | Self::Pause
            | Self::Verify
            | Self::Extract
            | Self::Mount
            | Self::RestoreTo
            | Self::RestoreInPlace
            | Self::Setup => false,
        }
    }

    /// It works on clones of a kept snapshot, beside whatever else goes on with its server.
    pub fn is_use(self) -> bool {
        match self {
            Self::Verify | Self::Extract | Self::Mount | Self::RestoreTo => true,
            Self::SnapshotCreate
            | Self::SnapshotDelete
            | Self::Pause
            | Self::RestoreInPlace
            | Self::Setup
            | Self::Switchover
            | Self::Failover
            | Self::Repoint
            | Self::Rejoin => false,
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Entry {
    Begin {
        at: String,
        operation: String,
        kind: OperationKind,
        /// The one that it is named after.
        server: String,
        /// All that it changes; none in the journals of older versions.
        #[serde(default)]
        parties: Vec<String>,
        owner: ProcessRef,
        /// With this file there, the operation is whole; only its end line is missing.
        #[serde(default)]
        settled_by: Option<PathBuf>,
    },
    /// How the change that is about to be made is undone.
    Undo {
        at: String,
        undo: Box<Act>,
    },
    /// It is undone: the undo of this number, counted from 0.
    Undone {
        at: String,
        number: usize,
    },
    /// From now on nothing is undone; this is what remains to be done.
    Commit {
        at: String,
        rest: Vec<Rest>,
    },
    /// It is done: that of this number, counted from 0.
    Done {
        at: String,
        number: usize,
    },
    Intent {
        at: String,
        step: String,
    },
    Outcome {
        at: String,
        step: String,
        result: String,
    },
    End {
        at: String,
        result: String,
    },
    // What follows is read in the journals of older versions, and written no more.
    Volumes {
        backend: BackendKind,
        volumes: Vec<PlannedVolume>,
    },
    Stopping {
        putting: Box<FormerRestore>,
    },
    Putting {},
    MountPoint {
        path: PathBuf,
    },
    File {
        path: PathBuf,
    },
    Directory {
        path: PathBuf,
    },
}

/// What an operation says when it begins.
pub struct Beginning<'a> {
    pub operation: &'a str,
    pub kind: OperationKind,
    /// All servers that it changes, or whose snapshot it is about; the first gives it its name.
    pub parties: &'a [&'a str],
    pub settled_by: Option<PathBuf>,
}

/// The log of the operation in hand.
pub struct Log {
    state: StateDir,
    path: PathBuf,
    file: File,
}

impl Log {
    /// Starts the log of a new operation.
    pub fn begin(state: &StateDir, beginning: Beginning<'_>) -> Result<Self, FileError> {
        // Log entries from here on say so, where they have fields.
        let span = tracing::Span::current();
        span.record("operation", beginning.operation);
        for party in beginning.parties {
            span.record("server", *party);
        }
        let path = state
            .journal()
            .join(format!("{}.jsonl", beginning.operation));
        let begin = Entry::Begin {
            at: now(),
            operation: beginning.operation.to_owned(),
            kind: beginning.kind,
            server: beginning
                .parties
                .first()
                .copied()
                .unwrap_or_default()
                .to_owned(),
            parties: beginning
                .parties
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
            owner: ProcessRef::current(),
            settled_by: beginning.settled_by,
        };
        if path.exists() {
            // Of a deletion that was interrupted.
            let mut log = Self::reopen(state, &path)?;
            log.append(&begin)?;
            return Ok(log);
        }
        // Whole or not at all: a log without a first line would be nobody's, and stay for ever.
        files::replace(&path, format!("{}\n", begin.line()).as_bytes())?;
        Self::reopen(state, &path)
    }

    /// Goes on with the log of an operation that was interrupted.
    pub fn reopen(state: &StateDir, path: &Path) -> Result<Self, FileError> {
        Ok(Self {
            state: state.clone(),
            path: path.to_owned(),
            file: files::open_append(path)?,
        })
    }

    /// Says, before it is done, what is about to be done.
    pub fn intent(&mut self, step: &str) -> Result<(), FileError> {
        self.append(&Entry::Intent {
            at: now(),
            step: step.to_owned(),
        })
    }

    /// Says, before a change, how it is undone.
    pub fn undo(&mut self, undo: &Act) -> Result<(), FileError> {
        self.append(&Entry::Undo {
            at: now(),
            undo: Box::new(undo.clone()),
        })
    }

    pub fn undone(&mut self, number: usize) -> Result<(), FileError> {
        self.append(&Entry::Undone { at: now(), number })
    }

    /// Says that it will be carried through, and what remains for that.
    pub fn commit(&mut self, rest: &[Rest]) -> Result<(), FileError> {
        self.append(&Entry::Commit {
            at: now(),
            rest: rest.to_vec(),
        })
    }

    pub fn done(&mut self, number: usize) -> Result<(), FileError> {
        self.append(&Entry::Done { at: now(), number })
    }

    pub fn outcome(&mut self, step: &str, result: &str) -> Result<(), FileError> {
        self.append(&Entry::Outcome {
            at: now(),
            step: step.to_owned(),
            result: result.to_owned(),
        })
    }

    /// Ends the operation: nothing of it needs putting back any more.
    pub fn end(mut self, result: &str) -> Result<(), FileError> {
        self.close(result)
    }

    /// As `end`; where that can't be written, its owner still has it to write in.
    pub fn close(&mut self, result: &str) -> Result<(), FileError> {
        self.append(&Entry::End {
            at: now(),
            result: result.to_owned(),
        })?;
        put_away(&self.state, &self.path);
        Ok(())
    }

    fn append(&mut self, entry: &Entry) -> Result<(), FileError> {
        files::append_line(&mut self.file, &self.path, &entry.line())
    }
}

impl Entry {
    fn line(&self) -> String {
        serde_json::to_string(self).expect("an entry holds only plain data")
    }
}

fn now() -> String {
    clock::rfc3339(clock::now())
}

/// Those that weren't put away.
fn open_logs(state: &StateDir) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = files::list(&state.journal())?;
    paths.retain(|path| path.extension().is_some_and(|word| word == "jsonl"));
    Ok(paths)
}

/// An ended log goes to the others.
fn put_away(state: &StateDir, path: &Path) {
    let done = state.journal_done();
    if let Some(name) = path.file_name()
        && files::rename(path, &done.join(name)).is_ok()
    {
        forget_oldest(&done);
    }
}

/// What was killed between its last line and that.
pub fn put_away_ended(state: &StateDir) -> Result<(), FileError> {
    for path in open_logs(state)? {
        let text = files::read_lossy(&path)?.unwrap_or_default();
        let is_end = |line: &str| matches!(serde_json::from_str(line), Ok(Entry::End { .. }));
        if text.lines().any(is_end) {
            put_away(state, &path);
        }
    }
    Ok(())
}

fn forget_oldest(done: &Path) {
    let Ok(paths) = files::list(done) else { return };
    let age = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    let mut dated: Vec<_> = paths.into_iter().map(|p| (age(&p), p)).collect();
    dated.sort();
    let surplus = dated.len().saturating_sub(DONE_MAX);
    for (_, path) in dated.into_iter().take(surplus) {
        drop(files::remove(&path));
    }
}

/// An operation that has no end line.
#[derive(Debug, Clone)]
pub struct Unfinished {
    pub path: PathBuf,
    pub operation: String,
    pub kind: OperationKind,
    /// The one that it is named after.
    pub server: String,
    /// All that it changes.
    pub parties: Vec<String>,
    pub owner: ProcessRef,
    /// In the order of the changes.
    pub undos: Vec<Act>,
    /// Those of them, by number, that are undone already.
    pub undone: BTreeSet<usize>,
    /// What is carried through; `None` as long as it can be undone.
    pub rest: Option<Vec<Rest>>,
    /// Those of them, by number, that are done already.
    pub done: BTreeSet<usize>,
    settled_by: Option<PathBuf>,
}

/// All unfinished operations, of one server or of all. A torn last line is passed over: what it
/// announced was never begun, since the append hadn't returned.
pub fn unfinished(state: &StateDir, server: Option<&str>) -> Result<Vec<Unfinished>, FileError> {
    let mut found = Vec::new();
    for path in open_logs(state)? {
        let text = files::read_lossy(&path)?.unwrap_or_default();
        let concerns = |operation: &Unfinished| {
            server.is_none_or(|server| operation.parties.iter().any(|party| party == server))
        };
        found.extend(parse_unfinished(state, &path, &text).filter(concerns));
    }
    Ok(found)
}

/// Ends the log of an operation that another one takes the place of.
pub fn supersede(state: &StateDir, operation: &Unfinished, by: &str) -> Result<(), FileError> {
    Log::reopen(state, &operation.path)?.end(&format!("superseded by {by}"))
}

fn parse_unfinished(state: &StateDir, path: &Path, text: &str) -> Option<Unfinished> {
    let mut unfinished: Option<Unfinished> = None;
    let mut former = Former::default();
    for entry in text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
    {
        match (&mut unfinished, entry) {
            (_, Entry::End { .. }) => return None,
            (Some(operation), entry) => operation.take(state, entry, &mut former),
            (slot @ None, entry) => *slot = Unfinished::begun(state, path, entry),
        }
    }
    unfinished
}

impl Unfinished {
    /// The file is there that makes it whole.
    pub fn is_settled(&self) -> bool {
        self.settled_by.as_ref().is_some_and(|path| path.exists())
    }

    /// What `recover` would do, for --dry-run.
    pub fn words(&self) -> Vec<String> {
        match &self.rest {
            Some(rest) => {
                let open = rest.iter().enumerate();
                let open = open.filter(|(number, _)| !self.done.contains(number));
                open.filter_map(|(_, rest)| rest.act.words()).collect()
            }
            None if self.is_settled() => Vec::new(),
            None => {
                let open = self.undos.iter().enumerate().rev();
                let open = open.filter(|(number, _)| !self.undone.contains(number));
                open.filter_map(|(_, act)| act.words()).collect()
            }
        }
    }

    /// From its first line.
    fn begun(state: &StateDir, path: &Path, entry: Entry) -> Option<Self> {
        let Entry::Begin {
            operation,
            kind,
            server,
            parties,
            owner,
            settled_by,
            ..
        } = entry
        else {
            return None;
        };
        Some(Self {
            path: path.to_owned(),
            settled_by: settled_by.or_else(|| former::settled_by(state, kind, &operation)),
            parties: match parties.is_empty() {
                true => vec![server.clone()],
                false => parties,
            },
            operation,
            kind,
            server,
            owner,
            undos: Vec::new(),
            undone: BTreeSet::new(),
            rest: None,
            done: BTreeSet::new(),
        })
    }

    /// What each later line adds.
    fn take(&mut self, state: &StateDir, entry: Entry, former: &mut Former) {
        match entry {
            Entry::Undo { undo, .. } => self.undos.push(*undo),
            Entry::Undone { number, .. } => {
                self.undone.insert(number);
            }
            Entry::Commit { rest, .. } => {
                self.rest = Some(rest);
                self.done.clear();
            }
            Entry::Done { number, .. } => {
                self.done.insert(number);
            }
            entry @ (Entry::Volumes { .. }
            | Entry::Stopping { .. }
            | Entry::Putting { .. }
            | Entry::MountPoint { .. }
            | Entry::File { .. }
            | Entry::Directory { .. }
            | Entry::Outcome { .. }) => former.take(state, self, entry),
            Entry::Begin { .. } | Entry::Intent { .. } | Entry::End { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path());
        state.create().unwrap();
        (dir, state)
    }

    fn begin(state: &StateDir, parties: &[&str], settled_by: Option<PathBuf>) -> Log {
        let beginning = Beginning {
            operation: "db2-1",
            kind: OperationKind::Setup,
            parties,
            settled_by,
        };
        Log::begin(state, beginning).unwrap()
    }

    fn file(path: &str) -> Act {
        Act::File { path: path.into() }
    }

    #[test]
    fn operation_without_an_end_is_unfinished_for_all_its_parties() {
        let (_dir, state) = state();
        let log = begin(&state, &["db2", "db1"], None);
        for party in ["db1", "db2"] {
            assert_eq!(unfinished(&state, Some(party)).unwrap().len(), 1);
        }
        assert!(unfinished(&state, Some("db3")).unwrap().is_empty());

        log.end("done").unwrap();
        assert!(unfinished(&state, None).unwrap().is_empty());
        assert_eq!(files::list(&state.journal_done()).unwrap().len(), 1);
    }

    /// A full disk or a power cut can end a line anywhere, in the middle of a letter too.
    #[test]
    fn a_torn_line_costs_itself_alone() {
        let (_dir, state) = state();
        let mut log = begin(&state, &["db2"], None);
        let path = log.path.clone();
        log.undo(&file("/ä")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let line = whole.split(|byte| *byte == b'\n').nth(1).unwrap();
        let letter = line.iter().position(|byte| !byte.is_ascii()).unwrap();
        let torn = [&whole[..], &line[..=letter]].concat();
        std::fs::write(&path, torn).unwrap();
        assert_eq!(unfinished(&state, None).unwrap()[0].undos.len(), 1);

        let mut log = Log::reopen(&state, &path).unwrap();
        log.undo(&file("/b")).unwrap();
        assert_eq!(unfinished(&state, None).unwrap()[0].undos.len(), 2);
        log.end("done").unwrap();
        assert!(unfinished(&state, None).unwrap().is_empty());
    }

    #[test]
    fn what_is_undone_is_known_by_its_number() {
        let (_dir, state) = state();
        let mut log = begin(&state, &["db2"], None);
        for name in ["a", "b", "c"] {
            log.undo(&file(name)).unwrap();
        }
        log.undone(1).unwrap();
        let found = unfinished(&state, None).unwrap().remove(0);
        assert_eq!(found.undone, BTreeSet::from([1]));
        assert_eq!(found.words(), ["remove c", "remove a"]);
    }

    #[test]
    fn once_committed_only_the_rest_counts() {
        let (_dir, state) = state();
        let mut log = begin(&state, &["db2"], None);
        log.undo(&file("a")).unwrap();
        let rest = ["b", "c"].map(|name| Rest {
            act: file(name),
            gate: false,
        });
        log.commit(&rest).unwrap();
        log.done(0).unwrap();
        let found = unfinished(&state, None).unwrap().remove(0);
        assert_eq!(found.words(), ["remove c"]);
    }

    #[test]
    fn an_operation_is_whole_with_the_file_that_settles_it() {
        let (dir, state) = state();
        let settling = dir.path().join("manifest");
        begin(&state, &["db2"], Some(settling.clone()))
            .undo(&file("a"))
            .unwrap();
        assert_eq!(unfinished(&state, None).unwrap()[0].words(), ["remove a"]);
        std::fs::write(&settling, "").unwrap();
        let found = unfinished(&state, None).unwrap().remove(0);
        assert!(found.is_settled() && found.words().is_empty());
    }

    #[test]
    fn torn_last_line_is_passed_over() {
        let (_dir, state) = state();
        begin(&state, &["db2"], None);
        let path = state.journal().join("db2-1.jsonl");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"event\":\"end\",\"at");
        std::fs::write(&path, text).unwrap();
        assert_eq!(unfinished(&state, None).unwrap().len(), 1);
    }
}
