//! The manifest: what a snapshot is, as the JSON of the command line shows it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{BackendChoice, Consistency};
use crate::server::private::BootFacts;
use crate::server::replication::Position;
use crate::snapshot::archive::index::Summary;
use crate::snapshot::prove::boot_log::Flaw;
use crate::volume::{BackendKind, VolumeRecord};

/// How far a snapshot was proven; it climbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// A verification failed; see `state_reason`.
    Failed,
    Taken,
    /// Of a dump: all of it was read, and is what was written.
    Read,
    /// A server came up on a clone, at the recorded position.
    Booted,
    /// Its tables were checked too.
    Checked,
    /// And hold what the previous snapshot and the binary logs since give.
    Rows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Complete,
    /// Overflowed, damaged, or a volume is missing.
    Invalid,
    /// A volume of ours without a manifest.
    Orphan,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Manifest {
    pub id: String,
    pub server: String,
    pub pair: Option<String>,
    #[serde(with = "millisecond_time")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub created: Timestamp,
    /// `zfs`, `lvm`, `btrfs`, `reflink`, `copy` or `dump`.
    pub backend: BackendChoice,
    /// As `backend`, with LVM told apart: `lvm-thick`, `lvm-thin`.
    pub backend_kind: BackendKind,
    pub consistency: Option<Consistency>,
    pub label: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub held: bool,
    pub proof: Proof,
    pub proof_time: Option<String>,
    pub state: State,
    pub state_reason: Option<String>,
    /// `None` for an orphan whose volume doesn't carry it.
    pub position: Option<Position>,
    pub server_version: Option<String>,
    pub server_identity: Option<String>,
    pub volumes: Vec<VolumeRecord>,
    /// Of a dump: what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Summary>,
    pub timing: Option<Timing>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How a server is started on it.
    #[serde(default)]
    pub boot: Option<BootFacts>,
    /// The last proof that was tried, whatever came of it.
    #[serde(default)]
    pub verification: Option<Verification>,
    /// The one that made `proof` fail, until one that looks where its flaw was finds nothing.
    #[serde(default)]
    pub failure: Option<Verification>,
    /// Where it is mounted now; not kept in the file.
    #[serde(default)]
    pub mounts: Vec<Mounted>,
}

/// A directory where a snapshot can be looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Mounted {
    pub directory: PathBuf,
    pub writable: bool,
    /// False after a reboot, until `unmount`.
    pub mounted: bool,
}

/// How far a verification looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Of a dump, in the place of `boot`: all of it is read, and is what was written.
    Read,
    /// A server comes up, all files are there, the position is the recorded one.
    Boot,
    /// And CHECK TABLE of every table.
    Tables,
    /// And the rows of every table are those that the previous snapshot and the binary logs give.
    Rows,
}

/// Which look found a flaw: the same one has to be taken again to say that it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// Reading a dump through.
    Read,
    Boot,
    Tables,
    ForeignKeys,
    Rows,
}

/// One try to prove a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Verification {
    /// RFC 3339.
    pub at: String,
    pub level: Level,
    /// Every foreign key was looked at too.
    #[serde(default)]
    pub foreign_keys: bool,
    /// Why it failed; `None` when the snapshot is good.
    pub flaw: Option<Flaw>,
    pub detail: Option<String>,
    #[serde(default)]
    pub found_by: Option<Look>,
    /// What the private server said, kept when it failed.
    #[serde(default)]
    pub log: Option<PathBuf>,
    pub clone_ms: u64,
    /// From the server's start to its first answer: with `clone_ms`, how long getting the data back
    /// takes.
    pub boot_ms: Option<u64>,
    pub total_ms: u64,
    pub tables: Option<u64>,
    /// Their engine can't check them.
    pub unchecked_tables: Option<u64>,
    /// The snapshot with which, brought forward, the rows were compared.
    #[serde(default)]
    pub compared_with: Option<String>,
    pub server_binary: PathBuf,
    pub server_version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Verification {
    /// What to do about it, when it failed.
    pub fn hints(&self) -> Vec<String> {
        let cure = self.flaw.map(|flaw| flaw.hint().to_owned());
        let log = self
            .log
            .as_ref()
            .map(|log| format!("What the private server said is in {}.", log.display()));
        cure.into_iter().chain(log).collect()
    }

    /// Whether it looked where the other one found a flaw.
    pub fn looks_where(&self, other: &Self) -> bool {
        match other.found_by {
            None | Some(Look::Boot | Look::Read) => true,
            Some(Look::Tables) => matches!(self.level, Level::Tables | Level::Rows),
            Some(Look::Rows) => self.compared_with.is_some(),
            Some(Look::ForeignKeys) => self.foreign_keys,
        }
    }
}

/// Durations of the steps, in ms; the pause runs from the first STOP sent to the last applier seen
/// running again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timing {
    pub pause_ms: u64,
    /// The same in µs, for measurements.
    #[serde(default)]
    pub pause_us: u64,
    pub stop_ms: u64,
    /// Lock, gaps, waiting for InnoDB to be at rest, and reading the position.
    #[serde(default)]
    pub settle_ms: u64,
    pub snapshot_ms: u64,
    pub start_ms: u64,
    pub total_ms: u64,
}

impl Manifest {
    /// The directory of the server's data inside this snapshot needs no mount for these.
    pub fn is_whole(&self) -> bool {
        self.state == State::Complete
    }

    /// What the last proof has found wrong; `None` when nothing.
    pub fn verdict(&self) -> Option<String> {
        let record = self.verification.as_ref()?;
        let detail = record.detail.as_deref().unwrap_or_default();
        Some(format!(
            "{} isn't good: {}: {detail}",
            self.id,
            record.flaw?.words()
        ))
    }

    /// RFC 3339, UTC.
    pub fn created_at(&self) -> String {
        crate::sys::clock::rfc3339(self.created)
    }
}

/// RFC 3339, UTC, three digits.
mod millisecond_time {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::sys::clock::rfc3339(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
