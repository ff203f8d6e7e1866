//! One call of the dump program, and the streams that come of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::index::Stream;
use super::split::{Part, SplitError, Splitter, TableName};
use super::stream::Writer;
use crate::server::SessionError;
use crate::sys::cancel::Cancel;
use crate::sys::exec::Program;
use crate::sys::stream::{self as program, StreamError};
use crate::volume::VolumeError;

/// Streams that are written, by table.
pub type Kept = Vec<(TableName, Stream)>;

/// How far it has come.
#[derive(Default)]
pub struct Moved {
    pub has_begun: AtomicBool,
    /// To be ended.
    pub stop: AtomicBool,
    pub raw_bytes: AtomicU64,
    /// About how many bytes of tables are done, by the sizes that the server gave.
    pub weight: AtomicU64,
}

/// What one call of the dump program brings.
pub struct Job {
    pub program: Program,
    pub args: Vec<OsString>,
    pub schema: Option<String>,
    pub directory: PathBuf,
    /// File, what it begins with behind the program's own beginning, and size.
    pub tables: BTreeMap<TableName, (String, String, u64)>,
    pub moved: Arc<Moved>,
    pub cancel: Cancel,
    pub until: Option<Instant>,
}

/// What a dump that was asked to end says.
pub const STOPPED: &str = "the dump was stopped";

/// The cure where tables changed.
pub const ALTERED: &str = "Take it again, at a time when nobody alters, truncates or drops tables (ALTER, TRUNCATE, DROP).";

/// Runs the dump program to its end, and keeps a stream of each table.
pub fn keep_tables(job: &Job) -> Result<Kept, VolumeError> {
    let kept = run(job);
    if kept.is_err() {
        // Whoever works beside it needn't go on.
        job.moved.stop.store(true, Ordering::SeqCst);
    }
    kept
}

fn run(job: &Job) -> Result<Kept, VolumeError> {
    let names = job.tables.keys().cloned();
    let mut splitter = Splitter::new(job.schema.as_deref(), names);
    let mut keeper = Keeper {
        job,
        open: None,
        kept: Kept::new(),
        broken: None,
    };
    let is_stopped = || {
        let is_over = job.until.is_some_and(|until| Instant::now() >= until);
        is_over || job.cancel.is_set() || job.moved.stop.load(Ordering::SeqCst)
    };
    let mut split_failed = None;
    let read = program::read(&job.program, &job.args, &is_stopped, &mut |piece| {
        job.moved
            .raw_bytes
            .fetch_add(piece.len() as u64, Ordering::Relaxed);
        let fed = splitter.feed(piece, &mut |part| keeper.take(part));
        job.moved
            .has_begun
            .store(splitter.has_begun(), Ordering::SeqCst);
        fed.map_err(|error| {
            split_failed = Some(error);
            std::io::Error::other("its output can't be kept")
        })
    });
    let finished = match (read, split_failed) {
        (_, Some(error)) => Err(error),
        (Ok(()), None) => splitter.finish(&mut |part| keeper.take(part)),
        (Err(StreamError::Stopped), None) if is_past(job.until) => {
            return Err(failed(
                "tables without transactions weren't dumped within max_pause",
                Some("Raise max_pause, or convert them to InnoDB (ALTER TABLE … ENGINE = InnoDB)."),
            ));
        }
        (Err(error), None) => return Err(ran(&job.directory, error)),
    };
    if let Some(error) = keeper.broken {
        return Err(wrote(&job.directory, &error));
    }
    job.moved.has_begun.store(true, Ordering::SeqCst);
    match finished {
        Ok(()) => Ok(keeper.kept),
        Err(error @ (SplitError::Unexpected(_) | SplitError::Missing(_))) => {
            Err(failed(&format!("the dump: {error}"), Some(ALTERED)))
        }
        Err(error) => Err(failed(&format!("the dump: {error}"), None)),
    }
}

fn is_past(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() >= until)
}

/// Writes what the splitter hands on.
struct Keeper<'a> {
    job: &'a Job,
    open: Option<(TableName, Writer, u64)>,
    kept: Kept,
    broken: Option<std::io::Error>,
}

impl Keeper<'_> {
    fn take(&mut self, part: Part<'_>) -> Result<(), SplitError> {
        self.try_take(part).map_err(|error| {
            self.broken = Some(error);
            SplitError::Gone
        })
    }

    fn try_take(&mut self, part: Part<'_>) -> std::io::Result<()> {
        match part {
            Part::Open { table, before } => {
                let Some((file, preamble, size)) = self.job.tables.get(&table) else {
                    return Err(std::io::Error::other("a table that nobody wants"));
                };
                let mut writer = Writer::create(&self.job.directory, file)?;
                writer.write(before.as_bytes())?;
                writer.write(preamble.as_bytes())?;
                self.open = Some((table, writer, *size));
                Ok(())
            }
            Part::Bytes(bytes) => match &mut self.open {
                Some((_, writer, _)) => writer.write(bytes),
                None => Ok(()),
            },
            Part::Close { after } => {
                let Some((table, mut writer, size)) = self.open.take() else {
                    return Ok(());
                };
                writer.write(after.as_bytes())?;
                self.kept.push((table, writer.finish()?));
                self.job.moved.weight.fetch_add(size, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// A dump that can't be kept.
pub fn failed(reason: &str, hint: Option<&str>) -> VolumeError {
    VolumeError::Dump {
        reason: reason.to_owned(),
        hint: hint.map(str::to_owned),
    }
}

/// The server's word against it.
pub fn asked(error: SessionError) -> VolumeError {
    failed(&error.to_string(), None)
}

/// The disk's.
pub fn wrote(directory: &Path, error: &std::io::Error) -> VolumeError {
    let hint = match error.kind() {
        std::io::ErrorKind::StorageFull => {
            Some("Free space there, or remove snapshots with `understudy snapshot prune`.")
        }
        _ => None,
    };
    failed(&format!("write to {}: {error}", directory.display()), hint)
}

/// The dump program's.
pub fn ran(directory: &Path, error: StreamError) -> VolumeError {
    match error {
        StreamError::Sink(error) => wrote(directory, &error),
        StreamError::Stopped => failed(STOPPED, None),
        StreamError::Exec(error) => {
            let words = error.to_string();
            // MySQL's words for a table that isn't as it was when the transaction began.
            let is_altered = ["1412", "1146", "definition has changed"]
                .iter()
                .any(|sign| words.contains(sign));
            failed(&words, is_altered.then_some(ALTERED))
        }
    }
}
