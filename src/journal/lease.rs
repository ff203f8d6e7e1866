//! The lease on a paused replica: what must be put back, by when, and by whom.
//!
//! Written and fsynced before the first STOP; removed when everything was seen to be back.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::StateDir;
use crate::config::ServiceControl;
use crate::server::Identity;
use crate::server::globals::GlobalBefore;
use crate::server::replication::{Channel, ChannelName, ThreadState};
use crate::sys::clock;
use crate::sys::files::{self, FileError};
use crate::sys::process::ProcessRef;

/// Why the replica is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    Snapshot,
    /// `understudy pause`: stays until `resume` or the deadline, without a process of ours but the
    /// watchdog.
    Manual,
}

/// One channel as it was before the pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelBefore {
    pub name: ChannelName,
    pub sql_running: bool,
    pub io_running: bool,
}

impl From<&Channel> for ChannelBefore {
    fn from(channel: &Channel) -> Self {
        Self {
            name: channel.name.clone(),
            sql_running: channel.sql == ThreadState::Running,
            io_running: matches!(channel.io, ThreadState::Running | ThreadState::Connecting),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub operation: String,
    pub purpose: Purpose,
    pub server: String,
    pub identity: Identity,
    pub channels: Vec<ChannelBefore>,
    /// In the order in which they must be set back.
    pub globals: Vec<GlobalBefore>,
    /// Mount points that we may have frozen.
    pub freezes: Vec<PathBuf>,
    /// The server's ids of our connections, which may hold a lock or a stop in progress.
    pub connections: Vec<u64>,
    /// How to start the server, when the operation stops it.
    pub service: Option<ServiceControl>,
    pub taken: Timestamp,
    pub deadline: Timestamp,
    /// The same two on the clock that nobody can set, in ms after boot.
    pub taken_boot_ms: u64,
    pub deadline_boot_ms: u64,
    pub owner: ProcessRef,
    pub watchdog: Option<ProcessRef>,
    /// A keeper has put things back while the operation was still at it.
    pub broken: bool,
}

impl Lease {
    /// True when the deadline is past, or this is another boot of the machine.
    pub fn is_expired(&self) -> bool {
        self.owner.boot_id != clock::boot_id() || self.time_left().is_zero()
    }

    /// Zero once the deadline is past.
    pub fn time_left(&self) -> Duration {
        Duration::from_millis(self.deadline_boot_ms).saturating_sub(clock::since_boot())
    }

    /// How long ago it was taken; unknown after a reboot.
    pub fn age(&self) -> Option<Duration> {
        (self.owner.boot_id == clock::boot_id())
            .then(|| clock::since_boot().saturating_sub(Duration::from_millis(self.taken_boot_ms)))
    }
}

/// Writes the lease durably.
pub fn write(state: &StateDir, lease: &Lease) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(lease).expect("a lease holds only plain data");
    files::replace(&state.lease(&lease.server), &text)
}

/// What is known of a server's lease.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    None,
    Lease(Box<Lease>),
    /// A file that isn't a lease of ours; the reason.
    Unreadable(String),
}

pub fn read(state: &StateDir, server: &str) -> Result<Found, FileError> {
    let Some(text) = files::read_text(&state.lease(server))? else {
        return Ok(Found::None);
    };
    Ok(match serde_json::from_str(&text) {
        Ok(lease) => Found::Lease(Box::new(lease)),
        Err(error) => Found::Unreadable(error.to_string()),
    })
}

/// Removes the lease, if it is still this operation's.
pub fn remove(state: &StateDir, lease: &Lease) -> Result<bool, FileError> {
    match read(state, &lease.server)? {
        Found::Lease(found) if found.operation == lease.operation => {
            files::remove(&state.lease(&lease.server))
        }
        Found::Lease(_) | Found::None | Found::Unreadable(_) => Ok(false),
    }
}
