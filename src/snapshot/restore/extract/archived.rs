//! Out of a dump: the streams that are wanted, and no others. No server is started.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::Extracted;
use super::sink::{self, Sink};
use super::wanted::{Destination, Options, TableRows};
use crate::journal::OperationKind;
use crate::server::client::Existing;
use crate::snapshot::archive::index::{Index, Schema, Stream, Table};
use crate::snapshot::archive::refit::{self, Refit};
use crate::snapshot::archive::stream::{self, StreamError};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::manifest::Manifest;
use crate::snapshot::prove::clone_session::CloneSession;
use crate::sys::failpoint;

/// What is wanted of a dump.
struct Parts<'a> {
    tables: Vec<&'a Table>,
    /// Each, and whether it is a table's.
    streams: Vec<(&'a Stream, bool)>,
}

pub fn extract(
    ctx: &Context,
    manifest: &Manifest,
    (directory, index): (&Path, &Index),
    options: &Options,
) -> Result<Extracted, SnapshotError> {
    if options.lineage.is_some() {
        return Err(SnapshotError::refused(
            format!(
                "{} is a dump, of which only whole tables are given",
                manifest.id
            ),
            "Restore it with `snapshot restore --to DIR`, start a server there, and choose the rows in it.",
        ));
    }
    let parts = wanted_of(index, options)?;
    if let Destination::File(path) = &options.destination {
        sink::refuse_present(path)?;
    }
    let is_dry = options.destination == Destination::Nowhere;
    let rows = |table: &&Table| TableRows {
        table: table.full_name(),
        rows: table.rows.unwrap_or_default(),
        bytes_estimated: table.stream.raw_bytes,
    };
    let mut extracted = Extracted {
        snapshot: manifest.id.clone(),
        tables: options.tables.clone(),
        schemas: options.schemas.clone(),
        rows: is_dry.then(|| parts.tables.iter().map(rows).collect()),
        there_already: None,
        triggers: Vec::new(),
        bytes: 0,
        to: match &options.destination {
            Destination::File(path) => Some(path.clone()),
            Destination::Output | Destination::Server(_) | Destination::Nowhere => None,
        },
        into: match &options.destination {
            Destination::Server(name) => Some(name.clone()),
            Destination::Output | Destination::File(_) | Destination::Nowhere => None,
        },
    };
    if is_dry {
        return Ok(extracted);
    }
    let mut using = CloneSession::begin(ctx, manifest, OperationKind::Extract, "extract")?;
    let since = Instant::now();
    // All of them before the first byte goes on: half a table is worse than none.
    for (part, _) in &parts.streams {
        ctx.cancel.check("reading the dump")?;
        stream::check(directory, part, &mut |_| Ok(())).map_err(broken)?;
    }
    let mut sink = Sink::open(ctx, &mut using, options)?;
    let mut streams = parts.streams.into_iter();
    let given =
        streams.try_for_each(|part| give(ctx, directory, part, options.existing, &mut sink));
    extracted.bytes = sink.bytes;
    let words = format!("{} bytes of SQL", sink.bytes);
    ctx.progress.step("extract", words, since);
    let done = ctx
        .cancel
        .check("extracting")
        .map_err(SnapshotError::from)
        .and(given)
        .map(|()| extracted);
    let done = sink.close(done)?;
    using.end("done")?;
    Ok(done)
}

fn broken(error: StreamError) -> SnapshotError {
    SnapshotError::Failed {
        step: "read the dump",
        reason: error.to_string(),
        hint: Some("Choose another snapshot.".to_owned()),
    }
}

fn give(
    ctx: &Context,
    directory: &Path,
    (part, is_table): (&Stream, bool),
    existing: Existing,
    sink: &mut Sink,
) -> Result<(), SnapshotError> {
    let mut refit = Refit::new(existing);
    let mut state = refit::State::default();
    stream::unpack(directory, part, &mut |piece| {
        if ctx.cancel.is_set() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match is_table {
            true => sink.take(&refit.pass(piece, &mut state).map_err(io::Error::other)?),
            false => sink.take(piece),
        }
    })
    .map_err(broken)?;
    failpoint::hit("dumped");
    Ok(())
}

fn wanted_of<'a>(index: &'a Index, options: &Options) -> Result<Parts<'a>, SnapshotError> {
    let mut unknown = Vec::new();
    let mut schemas: Vec<&Schema> = Vec::new();
    for name in &options.schemas {
        match index.schemas.iter().find(|schema| schema.name == *name) {
            Some(schema) => schemas.push(schema),
            None => unknown.push(name.clone()),
        }
    }
    let is_of_one = |table: &&Table| schemas.iter().any(|schema| schema.name == table.schema);
    let mut tables: Vec<&Table> = index.tables.iter().filter(is_of_one).collect();
    for name in &options.tables {
        match index.table(name) {
            Some(table) if tables.contains(&table) => {}
            Some(table) => tables.push(table),
            None => unknown.push(name.clone()),
        }
    }
    if !unknown.is_empty() {
        return Err(SnapshotError::refused(
            format!("the snapshot has no {}", unknown.join(", ")),
            "Name tables as SCHEMA.TABLE and schemas as they were called then.",
        ));
    }
    let mut streams: Vec<(&Stream, bool)> =
        tables.iter().map(|table| (&table.stream, true)).collect();
    if options.existing != Existing::AddRows {
        let views = schemas.iter().filter_map(|schema| schema.views.as_ref());
        let routines = schemas.iter().filter_map(|schema| schema.routines.as_ref());
        let triggers = tables.iter().filter_map(|table| table.triggers.as_ref());
        let others = views.chain(routines).chain(triggers);
        streams.extend(others.map(|part| (part, false)));
    }
    Ok(Parts { tables, streams })
}
