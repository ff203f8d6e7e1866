//! What is mounted of which snapshot, as the state directory records it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::journal::StateDir;
use crate::snapshot::error::SnapshotError;
use crate::sys::files;
use crate::volume::{BackendKind, PlannedVolume, mount};

/// One mount of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MountRecord {
    pub use_id: String,
    pub snapshot: String,
    pub server: String,
    /// RFC 3339.
    pub at: String,
    pub directory: PathBuf,
    pub writable: bool,
    /// Of each volume: the directory itself, or one in it for each of several.
    pub mount_points: Vec<PathBuf>,
    /// The server's data directory as it is seen there.
    pub data_dir: Option<PathBuf>,
    pub made: Vec<PathBuf>,
    pub backend: BackendKind,
    pub clones: Vec<PlannedVolume>,
}

/// All mounts that are recorded.
pub fn recorded(state: &StateDir) -> Result<Vec<MountRecord>, SnapshotError> {
    let mut records = Vec::new();
    for path in files::list(&state.mounts())? {
        let text = files::read_text(&path)?.unwrap_or_default();
        match serde_json::from_str(&text) {
            Ok(record) => records.push(record),
            Err(error) => tracing::warn!(path = %path.display(), %error, "no record of a mount"),
        }
    }
    Ok(records)
}

/// What is mounted of one snapshot.
pub fn of_snapshot(state: &StateDir, id: &str) -> Result<Vec<MountRecord>, SnapshotError> {
    let mut records = recorded(state)?;
    records.retain(|record| record.snapshot == id);
    Ok(records)
}

/// Whether it is still mounted: a reboot ends mounts, not clones.
pub fn is_mounted(record: &MountRecord) -> bool {
    record
        .mount_points
        .iter()
        .all(|path| mount::is_ours_at(path, &[&record.use_id, &record.snapshot]).unwrap_or(false))
}

impl MountRecord {
    /// As a fragment: `/mnt/x (read-only)`.
    pub fn words(&self) -> String {
        let how = if self.writable {
            "writable clone"
        } else {
            "read-only"
        };
        let now = if is_mounted(self) {
            ""
        } else {
            ", not mounted any more"
        };
        format!("{} ({how}{now})", self.directory.display())
    }
}
