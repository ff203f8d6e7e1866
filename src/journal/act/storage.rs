//! Acts on storage: kept volumes put in place, clones and snapshots removed.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{ActError, Means};
use crate::journal::service::ServiceError;
use crate::journal::state::StateDir;
use crate::sys::{failpoint, files, process};
use crate::volume::{self, Backend, BackendKind, PlannedVolume, PutRequest, Renamed, VolumeError};

/// A server with much memory takes some seconds to go.
const STILL_DYING_FOR: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The tag of an undo snapshot, with the operation that took it.
pub const UNDO_TAG: &str = "undo-of";

/// Puts all volumes in place. May be called again after it was interrupted anywhere.
pub fn put(
    means: &mut Means<'_>,
    data_dir: &Path,
    backend: BackendKind,
    requests: &[PutRequest],
) -> Result<String, ActError> {
    if process::runs_in(data_dir) {
        return Err(ServiceError::StillUp(data_dir.to_owned()).into());
    }
    let backend = volume::open(backend)?;
    for request in requests {
        let renamed = backend.put(request, means.progress)?;
        rename_records(means.state, &renamed)?;
        failpoint::hit("put-one");
    }
    Ok("put the snapshot in place to the end".to_owned())
}

/// What the storage calls a kept volume now goes into its manifest.
fn rename_records(state: &StateDir, renamed: &[Renamed]) -> Result<(), ActError> {
    for Renamed { id, record } in renamed {
        let path = state.manifest(id);
        let Some(text) = files::read_text(&path)? else {
            continue;
        };
        let Ok(mut manifest) = serde_json::from_str::<serde_json::Value>(&text) else {
            continue;
        };
        let volumes = manifest["volumes"].as_array_mut();
        for volume in volumes.into_iter().flatten() {
            if volume["uuid"] == record.uuid.as_str() {
                for (name, value) in [
                    ("name", record.name.clone()),
                    ("origin", record.origin.clone()),
                    ("path", record.path.display().to_string()),
                ] {
                    volume[name] = value.into();
                }
            }
        }
        let text = serde_json::to_vec_pretty(&manifest).unwrap_or(text.into_bytes());
        files::replace(&path, &text)?;
    }
    Ok(())
}

/// The undo snapshot of an operation, as its manifest says it.
fn undo_of(
    state: &StateDir,
    operation: &str,
) -> Result<Option<(PathBuf, serde_json::Value)>, ActError> {
    for path in files::list(&state.manifests())? {
        let text = files::read_text(&path).ok().flatten().unwrap_or_default();
        let Ok(manifest) = serde_json::from_str::<serde_json::Value>(&text) else {
            continue;
        };
        if manifest["tags"][UNDO_TAG] == operation {
            return Ok(Some((path, manifest)));
        }
    }
    Ok(None)
}

/// The id of the undo snapshot of an operation.
pub fn undo_id(state: &StateDir, operation: &str) -> Option<String> {
    let (_, manifest) = undo_of(state, operation).ok()??;
    manifest["id"].as_str().map(str::to_owned)
}

/// Removes the undo snapshot of an operation that changed nothing; what was done.
pub fn drop_undo(state: &StateDir, operation: &str) -> Result<Option<String>, ActError> {
    let Some((path, manifest)) = undo_of(state, operation)? else {
        return Ok(None);
    };
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let id = word(&manifest["id"]);
    let Ok(kind) = serde_json::from_value::<BackendKind>(manifest["backend_kind"].clone()) else {
        return Ok(None);
    };
    let volumes = manifest["volumes"].as_array().into_iter().flatten();
    let planned: Vec<PlannedVolume> = volumes
        .map(|volume| PlannedVolume {
            origin: word(&volume["origin"]),
            name: word(&volume["name"]),
        })
        .collect();
    volume::open(kind)?.sweep(&id, &planned)?;
    files::remove(&path)?;
    Ok(Some(format!(
        "removed the undo snapshot {id}, which wasn't needed"
    )))
}

/// Removes the clones of a use. Its private server may have been killed a moment ago: until the
/// kernel has taken it apart, the mounts of its room are there.
pub fn drop_clones(
    backend: &dyn Backend,
    use_id: &str,
    planned: &[PlannedVolume],
) -> Result<Vec<String>, VolumeError> {
    let until = Instant::now() + STILL_DYING_FOR;
    loop {
        match backend.drop_clones(use_id, planned) {
            Err(VolumeError::Busy { .. }) if Instant::now() < until => {
                sleep(LOOK_AGAIN);
            }
            ended => return ended,
        }
    }
}
