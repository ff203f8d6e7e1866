//! How clients are led to a pair's new source: the model of `[[pair.NAME.reroute]]`.
//!
//! Plain data, so that a journal can carry it. Secrets stay in their files.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::Address;

/// One `[[pair.NAME.reroute]]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RerouteConfig {
    pub way: Reroute,
    /// What clients connect to: through it the new source must be reached.
    pub through: Option<Address>,
    /// Each of check, do, see and undo has this long.
    pub timeout: Duration,
}

/// A way, and what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "way")]
pub enum Reroute {
    /// An address that moves from host to host.
    Vip {
        address: IpAddr,
        prefix: u8,
        interface: String,
        /// For each server of the pair what runs a program on its host; empty: this host.
        hosts: BTreeMap<String, Vec<String>>,
    },
    /// HAProxy, by its runtime socket.
    Haproxy {
        socket: Address,
        backend: String,
        entries: HaproxyEntries,
    },
    /// A name, changed by a signed update.
    Dns {
        server: String,
        port: u16,
        zone: String,
        name: String,
        ttl_s: u32,
        key_file: PathBuf,
        addresses: BTreeMap<String, IpAddr>,
    },
    /// One key of a configuration file.
    File {
        path: PathBuf,
        format: FileFormat,
        key: String,
        port_key: Option<String>,
        addresses: BTreeMap<String, (String, u16)>,
    },
    /// A program of the user's.
    Exec { argv: Vec<String> },
}

/// How a back-end of HAProxy names the pair's servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HaproxyEntries {
    /// One entry, whose address is changed.
    One {
        entry: String,
        addresses: BTreeMap<String, (IpAddr, u16)>,
    },
    /// One for each server: the source's is ready, the others are in maintenance.
    Each(BTreeMap<String, String>),
}

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    Json,
    Toml,
    Ini,
}

impl Reroute {
    /// What messages call it: the way, and what of it there is only one.
    pub fn name(&self) -> String {
        match self {
            Self::Vip { address, .. } => format!("vip {address}"),
            Self::Haproxy {
                backend, entries, ..
            } => match entries {
                HaproxyEntries::One { entry, .. } => format!("haproxy {backend}/{entry}"),
                HaproxyEntries::Each(_) => format!("haproxy {backend}"),
            },
            Self::Dns { name, .. } => format!("dns {name}"),
            Self::File { path, key, .. } => format!("file {} {key}", path.display()),
            Self::Exec { argv } => format!("exec {}", argv.first().map_or("", String::as_str)),
        }
    }
}
