//! The proof of a dump: read through and held against its checksums; or loaded into a private server,
//! and every table there compared with what the dump's own transaction saw.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::index::{Index, Stream, Table};
use super::load::{self, Load, stream_flaw};
use super::obstacle::some_of;
use super::statements::{Garbled, Statements};
use super::stream::{self, StreamError};
use crate::server::{Flavour, Session};
use crate::snapshot::error::SnapshotError;
use crate::snapshot::prove::boot_log::Flaw;
use crate::snapshot::prove::checksums;
use crate::snapshot::prove::clone_session::CloneSession;
use crate::snapshot::prove::private_server::Failure;
use crate::snapshot::prove::program::ServerProgram;
use crate::snapshot::prove::tables::{self, Checked};
use crate::sys::{failpoint, parallel, room};
use crate::volume::kept;

/// What a good dump showed.
#[derive(Debug, Default)]
pub struct Shown {
    pub boot: Option<Duration>,
    pub version: Option<String>,
    pub checked: Option<Checked>,
    pub warnings: Vec<String>,
}

/// All of it is read, and is what was written.
pub fn read_through(
    using: &CloneSession<'_>,
    directory: &Path,
    index: &Index,
) -> Result<Shown, Failure> {
    let since = Instant::now();
    let total: u64 = index.files().map(|stream| stream.bytes).sum();
    let done = AtomicU64::new(0);
    // Only tables are cut into statements: bodies of routines may hold anything.
    let tables = index.tables.iter().map(|table| (&table.stream, true));
    let others = index.objects().chain([&index.accounts]);
    let files: Vec<(&Stream, bool)> = tables.chain(others.map(|stream| (stream, false))).collect();
    let read = parallel::pool(&files, 2, |(stream, is_table)| {
        let went = read_one(using, directory, (stream, *is_table));
        let bytes = done.fetch_add(stream.bytes, Ordering::Relaxed) + stream.bytes;
        using.ctx.progress.bytes(bytes.min(total), total);
        went
    });
    read.into_iter().collect::<Result<(), Failure>>()?;
    failpoint::hit("read-through");
    let words = format!("{} files, {} MiB", files.len(), total >> 20);
    using.ctx.progress.step("read", words, since);
    Ok(Shown::default())
}

fn read_one(
    using: &CloneSession<'_>,
    directory: &Path,
    (stream, is_table): (&Stream, bool),
) -> Result<(), Failure> {
    let cancel = &using.ctx.cancel;
    cancel
        .check("reading the dump")
        .map_err(SnapshotError::from)?;
    let mut statements = Statements::default();
    let mut garbled = None;
    let read = stream::read(directory, stream, &mut |piece| {
        if cancel.is_set() {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        if is_table && garbled.is_none() {
            let fed = statements.feed::<Garbled>(piece, &mut |_| Ok(()));
            garbled = fed.err();
        }
        Ok(())
    });
    cancel
        .check("reading the dump")
        .map_err(SnapshotError::from)?;
    match read {
        Ok(()) => {}
        Err(error @ StreamError::Read { .. }) => {
            return Err(Failure::Other(SnapshotError::Failed {
                step: "read the dump",
                reason: error.to_string(),
                hint: None,
            }));
        }
        Err(error) => return Err(stream_flaw(&error)),
    }
    let ended = match garbled {
        Some(garbled) => Err(garbled),
        None if is_table => statements.finish(),
        None => Ok(()),
    };
    ended.map_err(|garbled| Failure::Flaw {
        flaw: Flaw::BrokenStream,
        detail: format!("{}: {garbled}", stream.file),
    })
}

/// Loads it, checks every table, and compares it.
pub fn load_and_compare(
    using: &mut CloneSession<'_>,
    directory: &Path,
    index: &Index,
    binary: &ServerProgram,
) -> Result<Shown, Failure> {
    let data = scratch(using, directory)?;
    let raw: u64 = index.streams().map(|stream| stream.raw_bytes).sum();
    kept::check_free_space(&data, raw)?;
    let using = &*using;
    room::within(|| {
        let (mut booted, session) = load::load(&Load {
            using,
            index,
            directory,
            data: &data,
            binary,
            is_throwaway: true,
        })?;
        let target = booted.target().clone();
        let since = Instant::now();
        let mut shown = Shown {
            boot: Some(booted.boot),
            version: Some(session.flavour().text.clone()),
            ..Shown::default()
        };
        let is_same = is_same_release(session.flavour(), &index.boot.version);
        if !is_same {
            shown.warnings.push(format!(
                "rows were counted, not compared: checksums of {} aren't those of {}",
                session.flavour().text,
                index.boot.version
            ));
        }
        let differing = booted.answer(using.ctx, "comparing tables", || {
            let of = |table: &Table| compare(Session::connect(&target)?, table, is_same);
            let found = parallel::pool(&index.tables, 2, of);
            let found: Result<Vec<Option<String>>, Failure> = found.into_iter().collect();
            Ok(found?.into_iter().flatten().collect::<Vec<String>>())
        })?;
        if !differing.is_empty() {
            return Err(Failure::Flaw {
                flaw: Flaw::LoadedDiffers,
                detail: some_of(&differing),
            });
        }
        let words = format!(
            "{} tables are what the dump's transaction saw",
            index.tables.len()
        );
        using.ctx.progress.step("compare", words, since);
        failpoint::hit("compared");
        let (session, checked) = booted
            .answer(using.ctx, "checking tables", || {
                tables::check_tables(using.ctx, &target, session)
            })
            .map_err(|failure| booted.sharpen(failure))?;
        drop(session);
        shown.warnings.extend(checked.warnings.clone());
        let unknown = index.tables.iter().filter(|table| table.checksum.is_none());
        let unknown: Vec<String> = unknown.map(Table::full_name).collect();
        if !unknown.is_empty() {
            shown.warnings.push(format!(
                "these have no checksum to be compared by: {}",
                some_of(&unknown)
            ));
        }
        shown.checked = Some(checked);
        booted.finish()?;
        Ok(shown)
    })
    .map_err(SnapshotError::from)?
}

/// A directory for the private server's data, on the disk of the dumps.
fn scratch(using: &mut CloneSession<'_>, directory: &Path) -> Result<PathBuf, Failure> {
    let place = directory.ancestors().nth(2).unwrap_or(directory);
    let data = place.join(format!(".use-{}", using.id));
    using.make_tree(&data)?;
    Ok(data)
}

/// Checksums of two releases needn't be the same of the same rows.
fn is_same_release(flavour: &Flavour, version: &str) -> bool {
    let own = Flavour::of_version(version);
    let release = |of: &Flavour| (of.is_mariadb(), of.version.0, of.version.1);
    release(flavour) == release(&own)
}

/// What differs, with its name.
fn compare(session: Session, table: &Table, is_same: bool) -> Result<Option<String>, Failure> {
    let name = (table.schema.clone(), table.name.clone());
    let Some(recorded) = table.rows else {
        return Ok(None);
    };
    let (session, rows) = checksums::count(session, &name)?;
    if rows != recorded {
        return Ok(Some(format!(
            "{} has {rows} rows instead of {recorded}",
            table.full_name()
        )));
    }
    let (_, sum) = checksums::sum(session, &name, table.checksum_by)?;
    let is_equal = !is_same || sum == table.checksum;
    Ok((!is_equal).then(|| format!("{} holds other values", table.full_name())))
}
