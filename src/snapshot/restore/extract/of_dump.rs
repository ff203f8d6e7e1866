//! Out of a dump: the streams that are wanted, and no others. No server is started.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::Extracted;
use super::sink::{self, Sink};
use super::wanted::{Destination, Options, TableRows};
use crate::journal::OperationKind;
use crate::server::client::Existing;
use crate::snapshot::archive;
use crate::snapshot::archive::index::{Index, Schema, Stream, Table};
use crate::snapshot::archive::refit::{self, Refit};
use crate::snapshot::archive::stream::StreamError;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::manifest::Manifest;
use crate::snapshot::prove::clone_session::CloneSession;
use crate::sys::failpoint;

/// Checks them all, then unpacks them one by one.
pub fn extract(
    ctx: &Context,
    manifest: &Manifest,
    (directory, index): (&Path, &Index),
    options: &Options,
) -> Result<Extracted, SnapshotError> {
    if options.lineage.is_some() {
        return Err(SnapshotError::refused(
            format!(
                "{} is a dump, and rows that hang on each other are chosen by a server on a clone",
                manifest.id
            ),
            "Extract whole tables of it, or choose a snapshot of another back-end.",
        ));
    }
    let parts = wanted_of(index, options)?;
    if options.destination == Destination::Nowhere {
        return Ok(extracted(
            manifest,
            options,
            0,
            Some(rows_of(index, options)),
        ));
    }
    if let Destination::File(path) = &options.destination {
        sink::refuse_present(path)?;
    }
    let mut using = CloneSession::begin(ctx, manifest, OperationKind::Extract, "extract")?;
    let broken = |error: StreamError| SnapshotError::Failed {
        step: "read the dump",
        reason: error.to_string(),
        hint: Some("Choose another snapshot.".to_owned()),
    };
    let since = Instant::now();
    // All of them before the first byte goes on: half a table is worse than none.
    for (stream, _) in &parts {
        ctx.cancel.check("reading the dump")?;
        archive::stream::check(directory, stream, &mut |_| Ok(())).map_err(broken)?;
    }
    let mut sink = Sink::open(ctx, &mut using, options)?;
    let mut done = Ok(());
    for (stream, is_table) in parts {
        let mut refit = Refit::new(match is_table {
            true => options.existing,
            false => Existing::Replace,
        });
        let mut state = refit::State::default();
        done = archive::stream::unpack(directory, stream, &mut |piece| {
            if ctx.cancel.is_set() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match is_table {
                true => sink.take(&refit.pass(piece, &mut state).map_err(io::Error::other)?),
                false => sink.take(piece),
            }
        })
        .map_err(broken);
        failpoint::hit("dumped");
        if done.is_err() {
            break;
        }
    }
    let words = format!("{} bytes of SQL", sink.bytes);
    ctx.progress.step("extract", words, since);
    let done = ctx
        .cancel
        .check("extracting")
        .map_err(SnapshotError::from)
        .and(done)
        .map(|()| extracted(manifest, options, sink.bytes, None));
    let done = sink.close(done)?;
    using.end("done")?;
    Ok(done)
}

/// Streams, and whether each is a table's.
fn wanted_of<'a>(
    index: &'a Index,
    options: &Options,
) -> Result<Vec<(&'a Stream, bool)>, SnapshotError> {
    let mut unknown = Vec::new();
    let mut tables: Vec<&Table> = Vec::new();
    let mut schemas: Vec<&Schema> = Vec::new();
    for name in &options.schemas {
        match index.schemas.iter().find(|schema| schema.name == *name) {
            Some(schema) => schemas.push(schema),
            None => unknown.push(name.clone()),
        }
    }
    tables.extend(
        index
            .tables
            .iter()
            .filter(|table| schemas.iter().any(|schema| schema.name == table.schema)),
    );
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
    let rows_only = options.existing == Existing::AddRows;
    let mut parts: Vec<(&Stream, bool)> =
        tables.iter().map(|table| (&table.stream, true)).collect();
    if !rows_only {
        let views = schemas.iter().filter_map(|schema| schema.views.as_ref());
        let routines = schemas.iter().filter_map(|schema| schema.routines.as_ref());
        let triggers = tables.iter().filter_map(|table| table.triggers.as_ref());
        parts.extend(
            views
                .chain(routines)
                .chain(triggers)
                .map(|part| (part, false)),
        );
    }
    Ok(parts)
}

fn extracted(
    manifest: &Manifest,
    options: &Options,
    bytes: u64,
    rows: Option<Vec<TableRows>>,
) -> Extracted {
    Extracted {
        snapshot: manifest.id.clone(),
        tables: options.tables.clone(),
        schemas: options.schemas.clone(),
        rows,
        there_already: None,
        triggers: Vec::new(),
        bytes,
        to: options.destination.path(),
        into: options.destination.server(),
    }
}

/// As they were counted when it was taken.
fn rows_of(index: &Index, options: &Options) -> Vec<TableRows> {
    let is_wanted = |table: &&Table| {
        options.schemas.contains(&table.schema)
            || options
                .tables
                .iter()
                .any(|name| index.table(name) == Some(*table))
    };
    let tables = index.tables.iter().filter(is_wanted);
    tables
        .map(|table| TableRows {
            table: format!("{}.{}", table.schema, table.name),
            rows: table.rows.unwrap_or_default(),
            bytes_estimated: table.stream.raw_bytes,
        })
        .collect()
}
