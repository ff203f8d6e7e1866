//! Everything that touches storage: where the data is, and one back-end per way to keep it.
//!
//! Knows nothing of servers beyond the paths it is handed. A back-end is one file behind
//! [`Backend`]; building argv and parsing output are pure functions beside the call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::BackendChoice;
use crate::sys::Fact;

/// The ways to keep a copy. `auto` in the configuration becomes one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    Zfs,
    LvmThick,
    LvmThin,
    Btrfs,
    Reflink,
    Copy,
    /// A dump: SQL, taken by connections to the server alone.
    Dump,
}

impl BackendKind {
    pub const ALL: [Self; 7] = [
        Self::Zfs,
        Self::LvmThick,
        Self::LvmThin,
        Self::Btrfs,
        Self::Reflink,
        Self::Copy,
        Self::Dump,
    ];

    /// The word that the configuration uses for it.
    pub fn choice(self) -> BackendChoice {
        match self {
            Self::Zfs => BackendChoice::Zfs,
            Self::LvmThick | Self::LvmThin => BackendChoice::Lvm,
            Self::Btrfs => BackendChoice::Btrfs,
            Self::Reflink => BackendChoice::Reflink,
            Self::Copy => BackendChoice::Copy,
            Self::Dump => BackendChoice::Dump,
        }
    }

    /// File by file: holds only what was proven quiet for the whole walk.
    pub fn is_file_by_file(self) -> bool {
        match self {
            Self::Reflink | Self::Copy => true,
            Self::Zfs | Self::LvmThick | Self::LvmThin | Self::Btrfs | Self::Dump => false,
        }
    }

    /// Whether what it keeps shares blocks with the origin, so that a file's size tells nothing.
    pub fn shares_blocks(self) -> bool {
        match self {
            Self::Zfs | Self::LvmThick | Self::LvmThin | Self::Btrfs | Self::Reflink => true,
            Self::Copy | Self::Dump => false,
        }
    }
}

/// One kept volume as the manifest records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct VolumeRecord {
    /// What it was taken of: `tank/mysql`, `vg0/mysql`, a subvolume's or directory's path.
    pub origin: String,
    /// The kept thing: `tank/mysql@understudy-ID`, `vg0/understudy-ID`, a path.
    pub name: String,
    /// Where the origin was mounted (for copies: the origin directory) when it was taken.
    pub path: PathBuf,
    /// What it holds of its own now, as far as the storage can tell.
    pub bytes_used: Option<u64>,
    /// The storage's own identity (zfs guid, lv_uuid, btrfs uuid, inode): a namesake isn't ours.
    pub uuid: String,
}

/// What is asked of a back-end for one snapshot.
#[derive(Debug, Clone)]
pub struct TakeRequest {
    /// The snapshot's id, which every name made for it carries.
    pub id: String,
    pub server: String,
    /// Every place that must be in the one snapshot, resolved by `layout`.
    pub layout: layout::Layout,
    /// Where reflink, copy and btrfs snapshots go, when configured.
    pub directory: Option<PathBuf>,
    pub cow_size: crate::config::CowSize,
    /// What holds the volumes still around `take`, for a back-end without an atomic call.
    pub stillness: Stillness,
    /// How long one storage command may run.
    pub limit: Duration,
}

/// Whether anything writes to the volumes while they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stillness {
    /// The server runs: several volumes need one atomic call.
    Live,
    /// The server is stopped for the whole of `take`.
    Stopped,
    /// The caller has frozen every filesystem of the layout (FIFREEZE) around `take`.
    Frozen,
}

/// What travels with the volume, so that a lost manifest can be told from the volume alone.
/// Values are short; a back-end that can't hold one leaves it out.
pub type Tags = BTreeMap<String, String>;

/// A back-end: one way to keep a copy.
pub trait Backend: Send + Sync {
    fn kind(&self) -> BackendKind;

    /// All that can be done before the pause: resolves names, checks free space and pool fill,
    /// opens descriptors, starts helper programs. Changes nothing that outlives a crash.
    fn prepare(&self, request: &TakeRequest) -> Result<Box<dyn Prepared>, VolumeError>;

    /// All volumes of ours that this back-end can see, each with what the volume itself knows.
    /// `places` are directories that may hold btrfs, reflink and copy snapshots.
    fn discover(&self, places: &[PathBuf]) -> Result<Vec<FoundVolume>, VolumeError> {
        self.discover_in(&Scan::of(places))
    }

    /// As `discover`, with the places read for several back-ends at once.
    fn discover_in(&self, scan: &Scan) -> Result<Vec<FoundVolume>, VolumeError>;

    /// How full that is what these kept volumes live on, one entry each for an area or a pool.
    /// What lies on an ordinary filesystem has none.
    fn fillings(&self, _volumes: &[VolumeRecord]) -> Result<Vec<Filling>, VolumeError> {
        Ok(Vec::new())
    }

    /// Whether the kept volume is still good: present, the same one, not overflowed.
    fn probe(&self, volume: &VolumeRecord) -> Fact<VolumeState>;

    /// Removes one kept volume after checking that it is the recorded one.
    /// `Ok(false)` when it was gone already.
    fn delete(&self, id: &str, volume: &VolumeRecord) -> Result<bool, VolumeError>;

    /// Removes whatever an interrupted operation may have left under these planned names, and only
    /// what bears `id` in its own metadata. Returns a line for each thing removed.
    fn sweep(&self, id: &str, planned: &[PlannedVolume]) -> Result<Vec<String>, VolumeError>;

    /// The name of the clone that `make_clone` will make, for the journal. Refuses beforehand what
    /// can't work, such as a lack of room. Changes nothing.
    fn plan_clone(&self, request: &CloneRequest) -> Result<PlannedVolume, VolumeError>;

    /// A writable copy of a kept volume, sharing its blocks where the storage can. The kept one
    /// stays as it is, whatever is written to the clone.
    fn make_clone(
        &self,
        request: &CloneRequest,
        planned: &PlannedVolume,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Mountable, VolumeError>;

    /// How the kept volume itself can be read without any change to it; `None` where only a clone
    /// shows it whole (a block device whose filesystem has a journal to replay).
    fn readable(&self, volume: &VolumeRecord) -> Result<Option<Mountable>, VolumeError>;

    /// Whether a clone still holds what was written to it: an area that filled up spoils the clone,
    /// which tells nothing of the kept volume.
    fn probe_clone(&self, planned: &PlannedVolume) -> Fact<VolumeState>;

    /// Removes the clones of this use, and only what bears `use_id` in its own name or metadata.
    /// Idempotent; a line for each thing removed.
    fn drop_clones(
        &self,
        use_id: &str,
        planned: &[PlannedVolume],
    ) -> Result<Vec<String>, VolumeError>;

    /// The names that `put` will make, for the journal; `drop_clones` removes those of a put that
    /// isn't gone on with. Refuses beforehand, with the cure, what can't work. Changes nothing.
    fn plan_put(&self, request: &PutRequest) -> Result<Vec<PlannedVolume>, VolumeError>;

    /// Makes the origin's content, at the recorded path, equal to the kept volume's, which stays
    /// kept. The server is stopped, and a newer snapshot of ours holds the present content, which
    /// goes; every other snapshot stays good, though its volume may be called otherwise then.
    ///
    /// Killed at any point, it is completed by being called again; or undone by a call for that
    /// newer snapshot. Until then the content may be half the old and half the new, or not mounted.
    /// Called again after its end it tells the same names.
    fn put(
        &self,
        request: &PutRequest,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<Renamed>, VolumeError>;
}

/// A snapshot that is ready to be taken. The steps come in this order: `plan` (journalled),
/// `warm_up` (before the pause), `take` (in the pause), `seal` (after it); or `discard`.
pub trait Prepared: Send {
    /// The names that `take` will make, for the journal: what `sweep` may remove after a crash.
    fn plan(&self) -> Vec<PlannedVolume>;

    /// Work that makes `take` shorter and may take long: pre-copies, syncfs. Reports progress as
    /// (bytes done, bytes in all).
    fn warm_up(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError>;

    /// The moment. May be called again after it failed or was found torn (file by file only).
    fn take(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError>;

    /// Makes it lasting and self-describing: read-only, tagged, synced. Returns the records.
    fn seal(&mut self, tags: &Tags) -> Result<Vec<VolumeRecord>, VolumeError>;

    /// Removes all that was made; idempotent.
    fn discard(&mut self) -> Result<(), VolumeError>;
}

/// A volume that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedVolume {
    pub origin: String,
    pub name: String,
}

/// What is asked of a back-end for one clone.
#[derive(Debug, Clone)]
pub struct CloneRequest {
    /// The use that the clone is for (`verify-db2-20261122T020000Z-7f3a-x1y2`), which every name and
    /// mark made for it carries.
    pub use_id: String,
    /// The snapshot's id.
    pub id: String,
    pub volume: VolumeRecord,
    /// From 1, among the snapshot's volumes.
    pub number: usize,
    /// How long one storage command may run.
    pub limit: Duration,
}

/// What is asked of a back-end for putting one kept volume in place of its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutRequest {
    /// The use that it is for (`restore-db2-20261122T020000Z-7f3a-x1y2`), as for a clone.
    pub use_id: String,
    /// The snapshot's id.
    pub id: String,
    pub volume: VolumeRecord,
    /// From 1, among the snapshot's volumes.
    pub number: usize,
    /// How long one storage command may run.
    pub limit: Duration,
}

/// What a kept volume is called after a `put`. The record's uuid tells which volume of the snapshot
/// it is; its name may be the one that is recorded already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    pub id: String,
    pub record: VolumeRecord,
}

/// Something that can be mounted; see [`mount::mount`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mountable {
    /// A tree on a filesystem that is mounted already.
    Directory(PathBuf),
    /// A block device with a filesystem.
    Device { path: PathBuf, fs_type: String },
    /// A ZFS dataset or snapshot.
    Dataset(String),
}

/// A volume of ours as found on the storage, perhaps without a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVolume {
    pub id: String,
    pub record: VolumeRecord,
    pub tags: Tags,
    pub state: VolumeState,
}

/// How full the storage is that kept volumes live on.
#[derive(Debug, Clone, PartialEq)]
pub struct Filling {
    /// `vg0/understudy-…`, `vg0/pool`, `tank`.
    pub name: String,
    /// What that is: `snapshot area`, `thin pool`, `pool`.
    pub what: &'static str,
    pub percent: f64,
    /// A sentence.
    pub cure: String,
}

/// What became of a kept volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeState {
    Good {
        bytes_used: Option<u64>,
    },
    /// Overflowed, damaged or replaced by another: the reason as a fragment.
    Invalid(String),
    Missing,
}

/// Why storage work failed, with the cases lifted out that a caller can do something about.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A safety rule says no; nothing was changed. `hint` is the cure, a sentence.
    #[error("{reason}")]
    Refused { reason: String, hint: String },
    #[error("{name} is busy: {reason}")]
    Busy { name: String, reason: String },
    #[error("{name} isn't there")]
    NotFound { name: String },
    #[error("{name} isn't the one that was recorded: {reason}")]
    NotOurs { name: String, reason: String },
    #[error(transparent)]
    Exec(#[from] crate::sys::exec::ExecError),
    #[error(transparent)]
    File(#[from] crate::sys::files::FileError),
    #[error("{action} {}: {source}", path.display())]
    Call {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// File by file only: the copy isn't of one moment; `take` may be called again.
    #[error("{} changed while it was copied: {detail}", path.display())]
    Torn { path: PathBuf, detail: String },
    /// A program that stays running, and so has no exit status, told of failure.
    #[error("{program} said: {said}")]
    Said { program: &'static str, said: String },
    /// A dump that can't be kept. `hint` is a sentence.
    #[error("{reason}")]
    Dump {
        reason: String,
        hint: Option<String>,
    },
    /// Output of a program that we couldn't read.
    #[error("{program} said what we can't read: {detail}")]
    Parse {
        program: &'static str,
        detail: String,
    },
}

impl VolumeError {
    pub fn refused(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            reason: reason.into(),
            hint: hint.into(),
        }
    }

    pub fn call(action: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::Call {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// The part of every name we make that says whose it is.
pub const NAME_PREFIX: &str = "understudy-";

/// Begins the name of what a put sets aside.
const ASIDE_PREFIX: &str = "understudy-before-";

/// The name of what is made for snapshot `id`. An id that storage names can't hold is refused.
pub fn snapshot_name(id: &str) -> Result<String, VolumeError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if id.is_empty() || !id.chars().all(is_plain) {
        return Err(VolumeError::refused(
            format!("the id {id:?} has characters that a volume's name can't hold"),
            "Name the server with letters, digits, `_`, `.` and `-` only.",
        ));
    }
    Ok(format!("{NAME_PREFIX}{id}"))
}

/// The name of the clone of a snapshot's volume for a use: `understudy-USE-N`.
fn clone_name(use_id: &str, number: usize) -> Result<String, VolumeError> {
    Ok(format!("{}-{number}", snapshot_name(use_id)?))
}

/// The name of what a put sets aside: `understudy-before-USE-N`.
fn aside_name(use_id: &str, number: usize) -> Result<String, VolumeError> {
    clone_name(use_id, number)?;
    Ok(format!("{ASIDE_PREFIX}{use_id}-{number}"))
}

/// Whether a name (without its group or pool) is one that `clone_name` gives for this use.
fn is_clone_name(use_id: &str, name: &str) -> bool {
    let number = snapshot_name(use_id)
        .ok()
        .and_then(|start| name.strip_prefix(&start)?.strip_prefix('-'));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

pub mod archive;
pub mod btrfs;
pub mod choose;
pub mod clone;
pub mod copy;
pub mod freeze;
pub mod kept;
pub mod layout;
pub mod lvm;
pub mod mirror;
pub mod mount;
mod put;
pub mod reflink;
mod remount;
pub mod view;
pub mod walk;
pub mod zfs;
mod zfs_core;

pub use kept::Scan;

pub use choose::{Chosen, choose, freeze_problem, is_in_use, needs_freeze, open};
pub use put::foreign_entry;
