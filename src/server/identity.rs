//! Which server is this? Asked before every change.

use serde::{Deserialize, Serialize};

use super::row::Row;

/// What makes a server itself. MariaDB has no uuid of its own, so its id, host and port serve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

impl Identity {
    /// In words that differ from the other's wherever the two do.
    pub fn apart_from(&self, other: &Self) -> String {
        let (own, others) = (self.to_string(), other.to_string());
        if own != others {
            return own;
        }
        let (host, port, data) = (&self.hostname, self.port, &self.data_dir);
        format!("{own} (host {host}, port {port}, data in {data})")
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

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn two_that_differ_are_told_apart() {
        let own = Identity {
            server_id: 2,
            hostname: "db2".to_owned(),
            port: 3306,
            data_dir: "/srv/a/".to_owned(),
            ..Identity::default()
        };
        let elsewhere = Identity {
            port: 3307,
            ..own.clone()
        };
        assert_eq!(own.apart_from(&elsewhere), "2@db2:3306");
        // In a container now: the same name, another directory.
        let moved = Identity {
            data_dir: "/var/lib/mysql/".to_owned(),
            ..own.clone()
        };
        assert_eq!(
            own.apart_from(&moved),
            "2@db2:3306 (host db2, port 3306, data in /srv/a/)"
        );
        let recreated = Identity {
            server_uuid: Some("u".to_owned()),
            ..own
        };
        let other = Identity {
            hostname: "4f2a".to_owned(),
            ..recreated.clone()
        };
        assert_ne!(recreated.apart_from(&other), other.apart_from(&recreated));
    }
}
