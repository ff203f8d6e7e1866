//! `archive.json`: what a dump holds, and what each of its streams must be.

use serde::{Deserialize, Serialize};

use super::split::TableName;
use crate::server::pair::Account;
use crate::server::private::BootFacts;
use crate::server::replication::Position;

/// Of the index and of the files beside it.
pub const FORMAT: u32 = 1;

/// The whole of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    pub format: u32,
    pub id: String,
    pub server: String,
    pub position: Option<Position>,
    /// With what its server was started, as far as that matters to who loads it.
    pub boot: BootFacts,
    /// The program that wrote it.
    pub program: String,
    pub schemas: Vec<Schema>,
    pub tables: Vec<Table>,
    /// Accounts with their hashes and rights, as JSON.
    pub accounts: Stream,
    /// Who these are.
    pub account_names: Vec<Account>,
    /// Views that referred to what wasn't there, and aren't in it.
    pub views_left_out: Vec<TableName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub name: String,
    /// The statement that makes it where it is missing.
    pub create: String,
    /// All its views.
    pub views: Option<Stream>,
    /// Its routines and events.
    pub routines: Option<Stream>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub schema: String,
    pub name: String,
    pub engine: String,
    /// Dumped within the transaction of all others; else while nothing wrote to it.
    pub is_transactional: bool,
    pub stream: Stream,
    pub triggers: Option<Stream>,
    /// As of the dump's moment; `None` where its engine can't tell.
    pub rows: Option<u64>,
    pub checksum: Option<String>,
    pub checksum_by: Method,
}

/// How a table's checksum was made, and is to be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// CHECKSUM TABLE
    Server,
    /// The sums of its rows' hashes.
    Rows,
    /// The same, of values as a dump writes them: FLOAT has fewer digits there than it holds.
    Texts,
}

/// A file of SQL, compressed by zstd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Beside the index.
    pub file: String,
    pub bytes: u64,
    pub raw_bytes: u64,
    /// Of the file as it is.
    pub sha256: String,
}

/// What the manifest tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
    pub directory: std::path::PathBuf,
    pub bytes: u64,
    pub raw_bytes: u64,
    pub tables: u64,
    /// Of the index and of the files beside it.
    pub version: u32,
}

impl Table {
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

impl Index {
    /// All streams of SQL, in the order in which they are loaded.
    pub fn streams(&self) -> impl Iterator<Item = &Stream> {
        let tables = self.tables.iter().map(|table| &table.stream);
        tables.chain(self.objects())
    }

    /// Views, routines and events, triggers.
    pub fn objects(&self) -> impl Iterator<Item = &Stream> {
        let schemas = self.schemas.iter();
        let views = schemas.clone().filter_map(|schema| schema.views.as_ref());
        let routines = schemas.filter_map(|schema| schema.routines.as_ref());
        let tables = self.tables.iter();
        let triggers = tables.filter_map(|table| table.triggers.as_ref());
        views.chain(routines).chain(triggers)
    }

    /// Every file of it but the index.
    pub fn files(&self) -> impl Iterator<Item = &Stream> {
        self.streams().chain([&self.accounts])
    }

    pub fn summary(&self, directory: std::path::PathBuf) -> Summary {
        Summary {
            directory,
            bytes: self.files().map(|stream| stream.bytes).sum(),
            raw_bytes: self.files().map(|stream| stream.raw_bytes).sum(),
            tables: self.tables.len() as u64,
            version: self.format,
        }
    }

    /// The table of that name; one with several dots may be read in several ways.
    pub fn table(&self, full_name: &str) -> Option<&Table> {
        self.tables
            .iter()
            .find(|table| table.full_name() == full_name)
    }
}
