//! What a replica shows of its channels, and where a server is in the stream: the facts alone.
//!
//! Reads columns by name under the names of every version; an absent or unreadable one is unknown,
//! never zero.

use serde::{Deserialize, Serialize};

use super::channel::ChannelName;
use super::identity::Identity;
use super::row::Row;

/// What a replication thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThreadState {
    Running,
    /// The IO thread only: trying to reach its source.
    Connecting,
    Stopped,
    /// The server said a word that we don't know.
    Unknown,
}

impl ThreadState {
    pub(super) fn of(word: Option<&str>) -> Self {
        match word {
            Some("Yes") => Self::Running,
            Some("No") => Self::Stopped,
            Some("Connecting" | "Preparing") => Self::Connecting,
            _ => Self::Unknown,
        }
    }
}

/// One channel of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    pub name: ChannelName,
    pub source_host: String,
    pub source_port: u16,
    /// The account that it logs in with.
    pub user: String,
    pub io: ThreadState,
    pub sql: ThreadState,
    /// 0: none.
    pub io_errno: u32,
    pub io_error: String,
    pub sql_error: String,
    /// Where the applier is in the *source's* binary log.
    pub source_log_file: String,
    pub source_log_pos: u64,
    /// Seconds behind as the server reckons; `None` while it can't tell.
    pub lag_s: Option<u64>,
    /// Bytes of relay logs on disk.
    pub relay_log_bytes: Option<u64>,
    /// It asks its source by GTID, not by file and position.
    pub uses_gtid: Option<bool>,
    /// MySQL: the source's uuid, once it has been reached.
    pub source_uuid: Option<String>,
    /// The source's `server_id`, once it has been reached.
    pub source_server_id: Option<u32>,
    /// What it has received. MySQL: since the last RESET; MariaDB: the position in each domain.
    pub received: String,
    /// The connection to the source is to be encrypted.
    pub uses_tls: Option<bool>,
    /// It is kept behind on purpose, by this many seconds.
    pub delay_s: u64,
    /// What it leaves out or applies under another name, as the server words it: `Replicate_Do_DB lab`.
    pub filters: Vec<String>,
}

/// Columns that are empty where all of the source is applied as it is.
const FILTERS: [&str; 10] = [
    "Replicate_Do_DB",
    "Replicate_Ignore_DB",
    "Replicate_Do_Table",
    "Replicate_Ignore_Table",
    "Replicate_Wild_Do_Table",
    "Replicate_Wild_Ignore_Table",
    "Replicate_Rewrite_DB",
    "Replicate_Ignore_Server_Ids",
    "Replicate_Do_Domain_Ids",
    "Replicate_Ignore_Domain_Ids",
];

impl Channel {
    fn of(row: &Row) -> Self {
        let text = |names: &[&str]| row.get_any(names).unwrap_or_default().to_owned();
        let number = |names: &[&str]| row.get_any(names).and_then(|v| v.parse::<u64>().ok());
        Self {
            name: ChannelName::from(text(&["Channel_Name", "Connection_name"]).as_str()),
            source_host: text(&["Source_Host", "Master_Host"]),
            source_port: number(&["Source_Port", "Master_Port"])
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(0),
            io: ThreadState::of(row.get_any(&["Replica_IO_Running", "Slave_IO_Running"])),
            sql: ThreadState::of(row.get_any(&["Replica_SQL_Running", "Slave_SQL_Running"])),
            user: text(&["Source_User", "Master_User"]),
            io_errno: number(&["Last_IO_Errno"])
                .and_then(|code| u32::try_from(code).ok())
                .unwrap_or(0),
            io_error: text(&["Last_IO_Error"]),
            sql_error: text(&["Last_SQL_Error"]),
            source_log_file: text(&["Relay_Source_Log_File", "Relay_Master_Log_File"]),
            source_log_pos: number(&["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"]).unwrap_or(0),
            lag_s: number(&["Seconds_Behind_Source", "Seconds_Behind_Master"]),
            relay_log_bytes: number(&["Relay_Log_Space"]),
            uses_gtid: row
                .get_any(&["Using_Gtid", "Auto_Position"])
                .map(|value| !matches!(value, "No" | "0" | "")),
            source_uuid: row
                .get_any(&["Source_UUID", "Master_UUID"])
                .filter(|uuid| !uuid.is_empty())
                .map(str::to_ascii_lowercase),
            source_server_id: number(&["Source_Server_Id", "Master_Server_Id"])
                .and_then(|id| u32::try_from(id).ok())
                .filter(|id| *id != 0),
            received: text(&["Retrieved_Gtid_Set", "Gtid_IO_Pos"]),
            uses_tls: row
                .get_any(&["Source_SSL_Allowed", "Master_SSL_Allowed"])
                .map(|value| value == "Yes"),
            delay_s: number(&["SQL_Delay"]).unwrap_or(0),
            filters: FILTERS
                .iter()
                .filter_map(|name| Some((name, row.get(name)?.trim())))
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| format!("{name} {value}"))
                .collect(),
        }
    }

    pub fn runs(&self) -> bool {
        self.io == ThreadState::Running && self.sql == ThreadState::Running
    }

    /// Whether the server that it reached is this one; `None` before it has told.
    pub fn leads_to(&self, source: &Identity) -> Option<bool> {
        match &source.server_uuid {
            Some(uuid) => self.source_uuid.as_ref().map(|met| met == uuid),
            None => self.source_server_id.map(|met| met == source.server_id),
        }
    }

    /// Group replication's own channels can't be stopped by hand and aren't ours to touch.
    pub fn is_internal(&self) -> bool {
        self.name.as_str().starts_with("group_replication_")
    }
}

/// The channels from the rows of `Flavour::replica_status`.
pub fn parse_channels(rows: &[Row]) -> Vec<Channel> {
    rows.iter()
        .map(Channel::of)
        .filter(|channel| !channel.is_internal())
        .collect()
}

/// Where a server is in the stream, as the manifest keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Position {
    /// MySQL: the executed set. MariaDB: the applied position of each domain.
    pub gtid: String,
    pub channels: Vec<ChannelPosition>,
    /// The server's own binary log, when it writes one.
    pub own_log_file: Option<String>,
    pub own_log_pos: Option<u64>,
    /// MariaDB: the last transaction of each server that its binary log holds. What was written to a
    /// replica is only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
}

/// Where one channel's applier is in its source's binary log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChannelPosition {
    pub name: String,
    pub source_host: String,
    pub source_port: u16,
    pub source_log_file: String,
    pub source_log_pos: u64,
}

impl From<&Channel> for ChannelPosition {
    fn from(channel: &Channel) -> Self {
        Self {
            name: channel.name.as_str().to_owned(),
            source_host: channel.source_host.clone(),
            source_port: channel.source_port,
            source_log_file: channel.source_log_file.clone(),
            source_log_pos: channel.source_log_pos,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_vocabularies() {
        let new = Row::of([
            ("Source_Host", Some("db1")),
            ("Source_Port", Some("3306")),
            ("Replica_IO_Running", Some("Connecting")),
            ("Replica_SQL_Running", Some("Yes")),
            ("Relay_Source_Log_File", Some("binlog.000003")),
            ("Exec_Source_Log_Pos", Some("1234")),
            ("Seconds_Behind_Source", None),
            ("Channel_Name", Some("east")),
        ]);
        let channel = Channel::of(&new);
        assert_eq!(channel.io, ThreadState::Connecting);
        assert_eq!(channel.sql, ThreadState::Running);
        assert_eq!((channel.source_log_pos, channel.lag_s), (1234, None));

        let old = Row::of([
            ("Connection_name", Some("")),
            ("Master_Host", Some("db1")),
            ("Slave_IO_Running", Some("Yes")),
            ("Slave_SQL_Running", Some("No")),
            ("Relay_Master_Log_File", Some("binlog.000001")),
            ("Exec_Master_Log_Pos", Some("4")),
            ("Seconds_Behind_Master", Some("7")),
        ]);
        let channel = Channel::of(&old);
        assert_eq!(channel.sql, ThreadState::Stopped);
        assert_eq!((channel.source_log_pos, channel.lag_s), (4, Some(7)));
    }

    #[test]
    fn group_replication_channels_are_left_alone() {
        let row = Row::of([("Channel_Name", Some("group_replication_applier"))]);
        assert!(parse_channels(&[row]).is_empty());
    }
}
