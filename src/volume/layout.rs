//! Where the data is: which paths of the server must be inside one snapshot, and which volumes
//! hold them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a path holds, as the server names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Data,
    InnodbData,
    Redo,
    Undo,
    AriaLog,
    Tables,
    BinaryLog,
    RelayLog,
    KeyRing,
}

/// One path that must be inside the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub role: Role,
    /// As this host sees it, symlinks resolved.
    pub path: PathBuf,
}

/// One line of /proc/self/mountinfo, as far as we need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub mount_point: PathBuf,
    /// The root of the mount within its filesystem (a btrfs subvolume's path, a bind's source).
    pub root: PathBuf,
    pub device: (u32, u32),
    pub fs_type: String,
    /// `/dev/mapper/vg0-mysql`, `tank/mysql`, …
    pub source: String,
    pub options: Vec<String>,
}

/// A filesystem with all the places on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub mount: Mount,
    pub places: Vec<Place>,
}

/// All that one snapshot must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub data_dir: PathBuf,
    /// One entry per filesystem (for btrfs: per subvolume), the data directory's first.
    pub volumes: Vec<Volume>,
    /// What may be missing without harm, said to the user (a key ring kept elsewhere, tmpdir).
    pub warnings: Vec<String>,
}
