//! Dumps that are kept: SQL in one stream per table, of one moment, taken by connections to the server
//! alone, so that the server may be anywhere.
//!
//! `look` finds beforehand what a dump would stumble over; `take` is the moment and the writing, with
//! the same pause as every other snapshot; `split` and `statements` (pure) cut what the dump program
//! writes; `prove` reads a kept one through, or loads it into a private server and compares every table;
//! `give` gives its tables back, or a data directory.

pub mod index;
pub mod load;
pub mod look;
pub mod obstacle;
pub mod prove;
pub mod refit;
pub mod split;
pub mod statements;
pub mod stream;
pub mod stumbles;
pub mod sums;
pub mod take;
pub mod writing;

use std::path::PathBuf;

use super::error::SnapshotError;
use super::manifest::Manifest;
use crate::sys::files;
use crate::volume::BackendKind;
use crate::volume::archive::INDEX;
use index::{Index, Summary};

/// Where a dump lies; `None` of a snapshot that isn't one.
pub fn directory_of(manifest: &Manifest) -> Option<PathBuf> {
    let volume = manifest.volumes.first()?;
    (manifest.backend_kind == BackendKind::Dump).then(|| PathBuf::from(&volume.name))
}

/// What it holds. That it is the one that was written is told by its checksum, which the catalogue
/// holds against the manifest.
pub fn index_of(manifest: &Manifest) -> Result<Option<(PathBuf, Index)>, SnapshotError> {
    let Some(directory) = directory_of(manifest) else {
        return Ok(None);
    };
    let path = directory.join(INDEX);
    let failed = |reason: String| SnapshotError::Failed {
        step: "read what the dump holds",
        reason: format!("{}: {reason}", path.display()),
        hint: Some("Choose another snapshot.".to_owned()),
    };
    let text = files::read_text(&path)?.ok_or_else(|| failed("it is gone".to_owned()))?;
    let index: Index = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    if index.format != index::FORMAT {
        return Err(failed(format!(
            "it is of format {}, which this version doesn't know",
            index.format
        )));
    }
    Ok(Some((directory, index)))
}

/// What its manifest tells of it.
pub fn summary(manifest: &Manifest) -> Result<Option<Summary>, SnapshotError> {
    let found = index_of(manifest)?;
    Ok(found.map(|(directory, index)| index.summary(directory)))
}
