//! What was observed of a pair: the input of every rule. Plain data; each fact is known or has the
//! reason why it isn't.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Address;
use crate::journal::OperationKind;
use crate::journal::lease::Purpose;
use crate::journal::receipt::Receipts;
use crate::server::Identity;
use crate::server::condition::Condition;
use crate::server::gtid::GtidSet;
use crate::server::promotion::Event;
use crate::sys::Fact;
use crate::volume::Filling;

/// A pair, or a server that is in none.
#[derive(Debug, Clone)]
pub struct PairView {
    /// `None` for a server that is in no pair.
    pub name: Option<String>,
    pub servers: Vec<ServerView>,
    /// Failovers of this pair whose old source hasn't rejoined.
    pub receipts: Receipts,
    pub now: Timestamp,
}

#[derive(Debug, Clone)]
pub struct ServerView {
    pub name: String,
    pub address: Address,
    pub answer: Answer,
    /// MariaDB asks for it only when something is amiss.
    pub purged: Option<Fact<GtidSet>>,
    pub pause: Fact<Option<Pause>>,
    /// Operations without an end: what and of which process.
    pub unfinished: Fact<Vec<Unfinished>>,
    pub snapshots: Fact<Snapshots>,
    /// `None` when the server is on another host.
    pub disks: Vec<Disk>,
    pub known: Option<Known>,
}

impl ServerView {
    pub fn condition(&self) -> Option<&Condition> {
        match &self.answer {
            Answer::Answered(condition) => Some(condition),
            Answer::Silent { .. } | Answer::Refused { .. } => None,
        }
    }
}

/// What came back from a server.
#[derive(Debug, Clone)]
pub enum Answer {
    Answered(Box<Condition>),
    /// Nothing that a server would say.
    Silent {
        reason: String,
    },
    /// A server is there and doesn't let us look.
    Refused {
        reason: String,
        hint: String,
    },
}

/// An intentional pause of the SQL threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub purpose: Purpose,
    /// Unknown after a reboot.
    pub age: Option<Duration>,
    /// Zero once its deadline is past.
    pub left: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub operation: String,
    pub kind: OperationKind,
    /// It is past its point of no return, and can only be carried through.
    pub is_committed: bool,
    /// Its process still runs.
    pub is_alive: bool,
}

/// What the catalogue has of one server.
#[derive(Debug, Clone, Default)]
pub struct Snapshots {
    /// Snapshots are configured for it, or it has some.
    pub are_wanted: bool,
    /// `id` and time of the newest that is good.
    pub newest: Option<(String, Timestamp)>,
    pub oldest: Option<Timestamp>,
    /// And of the newest proof.
    pub newest_proof: Option<(String, Timestamp)>,
    /// Those whose newest proof failed, or whose volumes are damaged: id and reason.
    pub bad: Vec<(String, String)>,
    pub orphans: Vec<String>,
    pub fillings: Vec<Filling>,
}

/// A filesystem that the server writes to, on this host.
#[derive(Debug, Clone)]
pub struct Disk {
    pub path: PathBuf,
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// Days until it is full, from the growth that was seen; `None` while it doesn't grow or too
    /// little was seen.
    pub days_left: Option<f64>,
}

/// What earlier looks at a server have left in the state directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    pub identity: Identity,
    pub first_seen: Timestamp,
    /// Where its binary logs lie.
    #[serde(default)]
    pub binary_logs: Option<PathBuf>,
    /// Those that ran on it, when it was seen last.
    #[serde(default)]
    pub events: Vec<Event>,
    /// Oldest first.
    #[serde(default)]
    pub disk: Vec<Sample>,
}

/// How much of the data directory's filesystem was in use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub at: Timestamp,
    pub used_bytes: u64,
}

/// From where a finding counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub warning_lag: Duration,
    pub critical_lag: Duration,
    pub warning_snapshot_age: Duration,
    pub critical_snapshot_age: Duration,
    pub warning_proof_age: Duration,
    pub critical_proof_age: Duration,
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

impl Default for Limits {
    fn default() -> Self {
        Self {
            warning_lag: Duration::from_secs(60),
            critical_lag: Duration::from_secs(300),
            warning_snapshot_age: Duration::from_secs(26 * HOUR),
            critical_snapshot_age: Duration::from_secs(50 * HOUR),
            warning_proof_age: Duration::from_secs(8 * DAY),
            critical_proof_age: Duration::from_secs(15 * DAY),
        }
    }
}
