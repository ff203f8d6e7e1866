//! What a set-up was asked for, and what it found out before it changes anything.

use std::path::PathBuf;
use std::time::Duration;

use super::account::Seen;
use super::plan::{Plan, Side, Wish};
use super::provision::tools::Tools;
use crate::config::ServerConfig;
use crate::server::pair::Account;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub pair: String,
    /// Only this replica of the pair.
    pub replica: Option<String>,
    /// Instead of the configured source: the one that roles have moved to.
    pub source: Option<String>,
    pub wish: Wish,
    /// The host part of the replication account.
    pub account_host: Option<String>,
    /// How long the replica may take to catch up.
    pub catch_up: Duration,
    /// Commits wait until a replica has them.
    pub semi_sync: bool,
    /// Where the lines go that the replica needs to come up closed, and isn't able to keep.
    pub option_file: Option<PathBuf>,
}

/// A replica that was looked at, with what would be done to it.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub pair: String,
    pub source: ServerConfig,
    pub replica: ServerConfig,
    pub source_side: Side,
    pub replica_side: Side,
    pub endpoint: (String, u16),
    pub account: Account,
    pub account_seen: Seen,
    /// The same for the source's own address: once roles have moved, it is a replica itself.
    pub source_account: Option<(Account, Seen)>,
    pub marker_seen: bool,
    pub plan: Plan,
    /// Views (schema, name) that a dump passes over.
    pub left_out: Vec<(String, String)>,
    pub tools: Tools,
    pub semi_sync: bool,
    pub option_file: Option<PathBuf>,
}
