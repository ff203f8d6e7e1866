//! A reroute as data, so that an operation's journal can carry it and a later process can run it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Address, RerouteConfig, TlsMode};
use crate::server::Identity;

/// One way, from where to where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RerouteAct {
    pub pair: String,
    pub reroute: RerouteConfig,
    /// The old source.
    pub from: Origin,
    /// The new source.
    pub to: Destination,
    /// What `check` saw; `None` before it.
    pub before: Option<Before>,
}

/// The server that clients used so far; it may be dead, so that nothing else is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub server: String,
    pub address: Address,
}

/// The server that clients shall reach, and how to see that they do. The credentials stay in their
/// file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    pub server: String,
    pub address: Address,
    pub credentials: Option<PathBuf>,
    pub tls: TlsMode,
    pub tls_ca: Option<PathBuf>,
    pub identity: Identity,
}

/// How it was before anything was changed: what `undo` goes back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "way")]
pub enum Before {
    /// Whether each server's host had the address; those that couldn't be asked are missing.
    Vip {
        had: BTreeMap<String, bool>,
    },
    Haproxy {
        entries: Vec<Entry>,
    },
    /// The records of the name, of that kind; none is possible.
    Dns {
        records: Vec<Record>,
    },
    /// The values as they stood there, to the letter.
    File {
        host: String,
        port: Option<String>,
    },
    Exec,
}

/// A server's line in a back-end of HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub address: IpAddr,
    pub port: u16,
    pub admin: Admin,
}

/// What HAProxy was told to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admin {
    Ready,
    /// No new sessions.
    Drain,
    Maint,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub address: IpAddr,
    pub ttl_s: u32,
}

/// What `check` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub before: Before,
    /// What would be done, as a fragment.
    pub will: String,
    pub warnings: Vec<String>,
}

/// What `perform` or `undo` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub outcome: Outcome,
    /// What couldn't be done and doesn't stop clients from reaching the new source.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Changed(String),
    AlreadySo,
}

impl Done {
    pub(super) fn already() -> Self {
        Self {
            outcome: Outcome::AlreadySo,
            warnings: Vec::new(),
        }
    }

    pub(super) fn changed(words: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Changed(words.into()),
            warnings: Vec::new(),
        }
    }
}

/// Whether clients reach the new source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A connection through this address reached it.
    Reached { through: Address },
    /// The way itself was asked, and says so; no connection was made.
    Asked(String),
    /// There is no address to connect through, and nobody to ask.
    Unseen,
}

/// Why a way didn't work, or must not be tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct RerouteError {
    /// The way's name.
    pub name: String,
    pub message: String,
    /// A sentence.
    pub hint: String,
}

/// The same without the way's name, as the ways themselves make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub message: String,
    pub hint: String,
}

impl Fault {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }
}
