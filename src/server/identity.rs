//! Which server is this? Asked before every change.

use serde::{Deserialize, Serialize};

use super::row::Row;

/// What makes a server itself. MariaDB has no uuid of its own, so its id, host and port serve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// MySQL's `server_uuid`, in lower case.
    pub server_uuid: Option<String>,
    pub server_id: u32,
    pub hostname: String,
    pub port: u16,
    /// Its data directory as it names it: two servers never share one.
    pub data_dir: String,
}

impl Identity {
    /// From the row of `Flavour::identity_query`.
    pub fn from_row(row: &Row) -> Self {
        Self {
            server_uuid: row.get("server_uuid").map(str::to_ascii_lowercase),
            server_id: row
                .get("server_id")
                .and_then(|v| v.parse().ok())
                .unwrap_or(0),
            hostname: row.get("hostname").unwrap_or_default().to_owned(),
            port: row.get("port").and_then(|v| v.parse().ok()).unwrap_or(0),
            data_dir: row.get("datadir").unwrap_or_default().to_owned(),
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.server_uuid {
            Some(uuid) => f.write_str(uuid),
            None => write!(f, "{}@{}:{}", self.server_id, self.hostname, self.port),
        }
    }
}
