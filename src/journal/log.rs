//! The durable step log of one operation: a line per intent and outcome, fsynced.
//!
//! An operation without an end line is unfinished, and `recover` puts it back. Ended logs move to
//! `journal/done/`, where the last few hundred stay for people to read.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::in_place::{InPlaceRestore, PutStage};
use super::state::StateDir;
use super::undo::Undo;
use crate::sys::clock;
use crate::sys::files::{self, FileError};
use crate::sys::process::ProcessRef;
use crate::volume::{BackendKind, PlannedVolume};

/// A deletion's operation is named after the snapshot, behind this.
pub const DELETE_PREFIX: &str = "delete-";

/// Ended logs kept.
const DONE_MAX: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A replica is made to follow its source; undone by what it noted before each step.
    Setup,
}

impl OperationKind {
    /// It works on clones of a kept snapshot, beside whatever else goes on with its server.
    pub fn is_use(self) -> bool {
        match self {
            Self::Verify | Self::Extract | Self::Mount | Self::RestoreTo => true,
            Self::SnapshotCreate
            | Self::SnapshotDelete
            | Self::Pause
            | Self::RestoreInPlace
            | Self::Setup => false,
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
        server: String,
        owner: ProcessRef,
    },
    /// These volumes are about to be made.
    Volumes {
        at: String,
        backend: BackendKind,
        volumes: Vec<PlannedVolume>,
    },
    /// The server is about to be stopped, to put a snapshot in place of its data.
    Stopping {
        at: String,
        putting: Box<InPlaceRestore>,
    },
    /// From now on it is carried through.
    Putting {
        at: String,
    },
    /// Something of ours is about to be mounted here, for everybody to see.
    MountPoint {
        at: String,
        path: PathBuf,
    },
    /// This file is about to be made, under a name that only this operation gives.
    File {
        at: String,
        path: PathBuf,
    },
    /// This directory is about to be made; empty, it is removed.
    Directory {
        at: String,
        path: PathBuf,
    },
    /// How the step that is about to be done is undone.
    Undo {
        at: String,
        undo: Box<Undo>,
    },
    /// It is undone: the undo of this number, counted from 0.
    Undone {
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
}

/// The log of the operation in hand.
pub struct Log {
    state: StateDir,
    path: PathBuf,
    file: File,
}

impl Log {
    /// Starts the log of a new operation.
    pub fn begin(
        state: &StateDir,
        operation: &str,
        kind: OperationKind,
        server: &str,
    ) -> Result<Self, FileError> {
        let path = state.journal().join(format!("{operation}.jsonl"));
        let begin = Entry::Begin {
            at: now(),
            operation: operation.to_owned(),
            kind,
            server: server.to_owned(),
            owner: ProcessRef::current(),
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

    /// Says which volumes are about to be made.
    pub fn volumes(
        &mut self,
        backend: BackendKind,
        volumes: Vec<PlannedVolume>,
    ) -> Result<(), FileError> {
        self.append(&Entry::Volumes {
            at: now(),
            backend,
            volumes,
        })
    }

    /// Says, before the server is stopped, what will be put in place.
    pub fn stopping(&mut self, putting: &InPlaceRestore) -> Result<(), FileError> {
        self.append(&Entry::Stopping {
            at: now(),
            putting: Box::new(putting.clone()),
        })
    }

    /// Says that the storage is about to be touched.
    pub fn putting(&mut self) -> Result<(), FileError> {
        self.append(&Entry::Putting { at: now() })
    }

    /// Says that all volumes are in place: nothing more is done to the storage.
    pub fn put(&mut self) -> Result<(), FileError> {
        self.outcome(PUT_STEP, "done")
    }

    /// Says where something is about to be mounted.
    pub fn mount_point(&mut self, path: &Path) -> Result<(), FileError> {
        self.append(&Entry::MountPoint {
            at: now(),
            path: path.to_owned(),
        })
    }

    /// Says which file is about to be made.
    pub fn file(&mut self, path: &Path) -> Result<(), FileError> {
        self.append(&Entry::File {
            at: now(),
            path: path.to_owned(),
        })
    }

    /// Says which directory is about to be made.
    pub fn directory(&mut self, path: &Path) -> Result<(), FileError> {
        self.append(&Entry::Directory {
            at: now(),
            path: path.to_owned(),
        })
    }

    /// Says, before a step, how it is undone.
    pub fn undo(&mut self, undo: &Undo) -> Result<(), FileError> {
        self.append(&Entry::Undo {
            at: now(),
            undo: Box::new(undo.clone()),
        })
    }

    pub fn undone(&mut self, number: usize) -> Result<(), FileError> {
        self.append(&Entry::Undone { at: now(), number })
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

/// The snapshot that a use is of: `verify-SNAPSHOT-1a2b`.
pub fn snapshot_of_use(use_id: &str) -> &str {
    let rest = use_id.split_once('-').map_or(use_id, |(_, rest)| rest);
    rest.rsplit_once('-').map_or(rest, |(id, _)| id)
}

/// An operation that has no end line.
#[derive(Debug, Clone)]
pub struct Unfinished {
    pub path: PathBuf,
    pub operation: String,
    pub kind: OperationKind,
    pub server: String,
    pub owner: ProcessRef,
    /// What it was about to make, per back-end.
    pub volumes: Vec<(BackendKind, Vec<PlannedVolume>)>,
    pub directories: Vec<PathBuf>,
    pub files: Vec<PathBuf>,
    pub mount_points: Vec<PathBuf>,
    /// What was to be put in place, and how far that had come.
    pub putting: Option<(Box<InPlaceRestore>, PutStage)>,
    /// In the order of the steps.
    pub undos: Vec<Undo>,
    /// Those of them, by number, that are undone already.
    pub undone: BTreeSet<usize>,
    /// A set-up that is done; only what it moved aside is still there.
    pub is_set_up: bool,
}

/// The step whose outcome says that a set-up stays.
pub const SET_UP_STEP: &str = "set-up";

/// The step whose outcome says that all volumes are in place.
const PUT_STEP: &str = "put";

/// All unfinished operations, of one server or of all. A torn last line is passed over: what it
/// announced was never begun, since the append hadn't returned.
pub fn unfinished(state: &StateDir, server: Option<&str>) -> Result<Vec<Unfinished>, FileError> {
    let mut found = Vec::new();
    for path in open_logs(state)? {
        let text = files::read_lossy(&path)?.unwrap_or_default();
        if let Some(operation) = parse_unfinished(&path, &text)
            && server.is_none_or(|server| server == operation.server)
        {
            found.push(operation);
        }
    }
    Ok(found)
}

fn parse_unfinished(path: &Path, text: &str) -> Option<Unfinished> {
    let mut unfinished: Option<Unfinished> = None;
    for entry in text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
    {
        match (&mut unfinished, entry) {
            (_, Entry::End { .. }) => return None,
            (Some(operation), entry) => operation.take(entry),
            (slot @ None, entry) => *slot = Unfinished::begun(path, entry),
        }
    }
    unfinished
}

impl Unfinished {
    /// From its first line.
    fn begun(path: &Path, entry: Entry) -> Option<Self> {
        let Entry::Begin {
            operation,
            kind,
            server,
            owner,
            ..
        } = entry
        else {
            return None;
        };
        Some(Self {
            path: path.to_owned(),
            operation,
            kind,
            server,
            owner,
            volumes: Vec::new(),
            directories: Vec::new(),
            files: Vec::new(),
            mount_points: Vec::new(),
            putting: None,
            undos: Vec::new(),
            undone: BTreeSet::new(),
            is_set_up: false,
        })
    }

    /// What each later line adds.
    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Volumes {
                backend, volumes, ..
            } => self.volumes.push((backend, volumes)),
            Entry::Directory { path, .. } => self.directories.push(path),
            Entry::File { path, .. } => self.files.push(path),
            Entry::MountPoint { path, .. } => self.mount_points.push(path),
            Entry::Undo { undo, .. } => self.undos.push(*undo),
            Entry::Undone { number, .. } => {
                self.undone.insert(number);
            }
            Entry::Stopping { putting, .. } => {
                self.putting = Some((putting, PutStage::Stopping));
            }
            Entry::Putting { .. } => self.reach(PutStage::Putting),
            Entry::Outcome { step, .. } if step == PUT_STEP => self.reach(PutStage::Put),
            Entry::Outcome { step, .. } if step == SET_UP_STEP => self.is_set_up = true,
            Entry::Begin { .. }
            | Entry::Intent { .. }
            | Entry::Outcome { .. }
            | Entry::End { .. } => {}
        }
    }

    fn reach(&mut self, stage: PutStage) {
        if let Some((_, now)) = &mut self.putting {
            *now = stage;
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

    #[test]
    fn operation_without_an_end_is_unfinished_with_its_volumes() {
        let (_dir, state) = state();
        let mut log = Log::begin(&state, "db2-1", OperationKind::SnapshotCreate, "db2").unwrap();
        let volume = PlannedVolume {
            origin: "tank/a".into(),
            name: "tank/a@x".into(),
        };
        log.volumes(BackendKind::Zfs, vec![volume.clone()]).unwrap();
        let found = unfinished(&state, Some("db2")).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].volumes, vec![(BackendKind::Zfs, vec![volume])]);
        assert!(unfinished(&state, Some("db3")).unwrap().is_empty());

        log.end("done").unwrap();
        assert!(unfinished(&state, None).unwrap().is_empty());
        assert_eq!(files::list(&state.journal_done()).unwrap().len(), 1);
    }

    /// A full disk or a power cut can end a line anywhere, in the middle of a letter too.
    #[test]
    fn a_torn_line_costs_itself_alone() {
        let (_dir, state) = state();
        let mut log = Log::begin(&state, "db2-1", OperationKind::Setup, "db2").unwrap();
        let path = log.path.clone();
        log.file("/ä".as_ref()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let line = whole.split(|byte| *byte == b'\n').nth(1).unwrap();
        let letter = line.iter().position(|byte| !byte.is_ascii()).unwrap();
        let torn = [&whole[..], &line[..=letter]].concat();
        std::fs::write(&path, torn).unwrap();
        assert_eq!(unfinished(&state, None).unwrap()[0].files.len(), 1);

        let mut log = Log::reopen(&state, &path).unwrap();
        log.file("/b".as_ref()).unwrap();
        assert_eq!(unfinished(&state, None).unwrap()[0].files.len(), 2);
        log.end("done").unwrap();
        assert!(unfinished(&state, None).unwrap().is_empty());
    }

    #[test]
    fn a_use_names_its_snapshot() {
        let id = "db2-20261122T020000Z-7f3a";
        assert_eq!(snapshot_of_use(&format!("restore-{id}-1a2b")), id);
    }

    #[test]
    fn what_is_undone_is_known_by_its_number() {
        let (_dir, state) = state();
        let mut log = Log::begin(&state, "db2-1", OperationKind::Setup, "db2").unwrap();
        for name in ["a", "b"] {
            let path = name.into();
            log.undo(&Undo::File { path }).unwrap();
        }
        log.undone(1).unwrap();
        let found = unfinished(&state, None).unwrap().remove(0);
        assert_eq!(found.undone, BTreeSet::from([1]));
        let words = super::super::undo::words(&found.undos, &found.undone);
        assert_eq!(words, ["remove a"]);
    }

    #[test]
    fn torn_last_line_is_passed_over() {
        let (_dir, state) = state();
        Log::begin(&state, "db2-1", OperationKind::Pause, "db2").unwrap();
        let path = state.journal().join("db2-1.jsonl");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"event\":\"end\",\"at");
        std::fs::write(&path, text).unwrap();
        assert_eq!(unfinished(&state, None).unwrap().len(), 1);
    }
}
