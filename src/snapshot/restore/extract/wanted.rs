//! What `snapshot extract` is asked for, and what it counts.

use std::path::PathBuf;

use crate::server::client::Existing;

/// Where the SQL goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A new file, 0600.
    File(PathBuf),
    /// Standard output.
    Output,
    /// A server of the configuration, by its client program.
    Server(String),
    /// A dry run: rows are counted, nothing is dumped.
    Nowhere,
}

/// Rows of the one table in `Options::tables`, and what hangs on them by foreign keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// As it stands after WHERE; all rows without it. `expression::check` has passed it.
    pub condition: Option<String>,
    /// What the chosen rows refer to, and so on.
    pub with_parents: bool,
    /// What refers to the chosen rows, and so on.
    pub with_children: bool,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    /// `SCHEMA.TABLE`; the schema ends at the first dot that gives a table of the snapshot.
    pub tables: Vec<String>,
    /// Whole schemas, with routines and events.
    pub schemas: Vec<String>,
    /// Whole tables without it.
    pub lineage: Option<Lineage>,
    pub destination: Destination,
    pub existing: Existing,
}

/// Of a table, how much is extracted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TableRows {
    pub table: String,
    pub rows: u64,
    /// By the mean row of the table, as the server believes it to be.
    pub bytes_estimated: u64,
}
