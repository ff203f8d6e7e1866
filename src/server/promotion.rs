//! What moving roles says to servers: closing one for all writers, opening another, waiting for a
//! position, events, links that are turned to another source.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::channel::ChannelName;
use super::flavour::{Flavour, quote_name, quote_text};
use super::row::Row;

/// An event, with all of the session that ALTER EVENT would otherwise take over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub schema: String,
    pub name: String,
    pub definer: String,
    sql_mode: String,
    time_zone: String,
    charset: String,
    collation: String,
}

impl Event {
    /// Of a row of `Flavour::events_query`.
    pub fn of(row: &Row) -> Option<Self> {
        let text = |index| row.at(index).map(str::to_owned);
        Some(Self {
            schema: text(0)?,
            name: text(1)?,
            definer: text(2)?,
            sql_mode: text(3)?,
            time_zone: text(4)?,
            charset: text(5)?,
            collation: text(6)?,
        })
    }

    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn session(&self) -> String {
        format!(
            "SET SESSION sql_mode = {}, time_zone = {}, character_set_client = {}, \
             collation_connection = {}",
            quote_text(&self.sql_mode),
            quote_text(&self.time_zone),
            quote_text(&self.charset),
            quote_text(&self.collation)
        )
    }
}

impl Flavour {
    /// Each enabled event, for [`Event::of`].
    pub fn events_query(&self) -> &'static str {
        "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER, SQL_MODE, TIME_ZONE, CHARACTER_SET_CLIENT, \
         COLLATION_CONNECTION FROM information_schema.EVENTS WHERE STATUS = 'ENABLED' ORDER BY 1, 2"
    }

    /// Schema and name of each event that runs on this server's source, or did: a replica doesn't tell
    /// apart which of them are disabled there.
    pub fn asleep_events_query(&self) -> &'static str {
        "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS \
         WHERE STATUS IN ('SLAVESIDE_DISABLED', 'REPLICA_SIDE_DISABLED') ORDER BY 1, 2"
    }

    /// One connection's statements that make an event one that its server keeps but doesn't run.
    pub fn park(&self, event: &Event) -> Vec<String> {
        vec![
            self.without_binary_log().to_owned(),
            event.session(),
            self.park_event(&event.schema, &event.name, &event.definer),
        ]
    }

    /// One connection's statements that make it run again.
    pub fn wake(&self, event: &Event) -> Vec<String> {
        let (user, host) = event
            .definer
            .rsplit_once('@')
            .unwrap_or((&event.definer, "%"));
        vec![
            self.without_binary_log().to_owned(),
            event.session(),
            format!(
                "ALTER DEFINER = {}@{} EVENT {}.{} ENABLE",
                quote_text(user),
                quote_text(host),
                quote_name(&event.schema),
                quote_name(&event.name)
            ),
        ]
    }

    /// A session whose statements wait at most so long for what holds them up: the fence waits for
    /// whoever writes now, and everybody else behind it.
    pub fn bounded_session(&self, wait: Duration) -> String {
        format!("SET SESSION lock_wait_timeout = {}", wait.as_secs().max(1))
    }

    /// What `read_only` doesn't hold (SUPER, READ_ONLY ADMIN) is held by a lock, for as long as its
    /// connection lives.
    pub fn fence_lock(&self) -> Option<&'static str> {
        (!self.has_super_read_only()).then_some("FLUSH TABLES WITH READ LOCK")
    }

    /// Opens a server for writers.
    pub fn open(&self) -> Vec<String> {
        let mut statements = Vec::new();
        if self.has_super_read_only() {
            statements.push("SET GLOBAL super_read_only = OFF".to_owned());
        }
        statements.push("SET GLOBAL read_only = OFF".to_owned());
        statements
    }

    /// Lets in whoever `read_only` doesn't hold, and nobody else.
    pub fn lift_super_read_only(&self) -> Option<&'static str> {
        self.has_super_read_only()
            .then_some("SET GLOBAL super_read_only = OFF")
    }

    /// One value, 0 once `position` is applied; waits for it on the server at most so long.
    pub fn wait_for_query(&self, position: &str, limit: Duration) -> String {
        let (position, limit) = (quote_text(position), limit.as_secs_f64());
        if self.is_mariadb() {
            return format!("SELECT MASTER_GTID_WAIT({position}, {limit:.3})");
        }
        match self.version >= (5, 7, 5) {
            true => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({position}, {limit:.3})"),
            // Whole seconds, and the number of events: anything but -1 and NULL has it.
            false => format!(
                "SELECT IF(WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS({position}, {}) >= 0, 0, 1)",
                limit.ceil().max(1.0)
            ),
        }
    }

    /// id, user, host, seconds, state and statement of every session of clients; those of
    /// replication, of the server itself and ours (`own`) aside.
    pub fn client_sessions_query(&self, own: &[u64]) -> String {
        let own: Vec<String> = own.iter().map(u64::to_string).collect();
        format!(
            "SELECT ID, USER, HOST, TIME, COALESCE(STATE, ''), COALESCE(INFO, '') \
             FROM information_schema.PROCESSLIST WHERE ID NOT IN ({}) \
             AND COMMAND NOT IN ('Binlog Dump', 'Binlog Dump GTID', 'Daemon', 'Slave_IO', \
             'Slave_SQL', 'Slave_worker', 'Connect') \
             AND USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user')",
            own.join(", ")
        )
    }

    /// Turns a channel to another source; all else of it stays as it is.
    pub fn turn_to(
        &self,
        channel: &ChannelName,
        host: &str,
        port: u16,
        heartbeat_s: Option<f64>,
    ) -> String {
        let (head, word, behind) = self.change_words(channel);
        let mut parts = vec![
            format!("{word}_HOST = {}", quote_text(host)),
            format!("{word}_PORT = {port}"),
            match self.is_mariadb() {
                true => "MASTER_USE_GTID = slave_pos".to_owned(),
                false => format!("{word}_AUTO_POSITION = 1"),
            },
        ];
        // Unsaid, it becomes the default again.
        if let Some(heartbeat_s) = heartbeat_s {
            parts.push(format!("{word}_HEARTBEAT_PERIOD = {heartbeat_s}"));
        }
        format!("{head} {}{behind}", parts.join(", "))
    }

    /// One value: the period of a channel's heartbeats in seconds.
    pub fn heartbeat_period_query(&self, channel: &ChannelName) -> Option<String> {
        match (self.is_mariadb(), channel.as_str()) {
            (true, "") => Some(
                "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
                 WHERE VARIABLE_NAME = 'SLAVE_HEARTBEAT_PERIOD'"
                    .to_owned(),
            ),
            (true, _) => None,
            (false, name) => (self.version >= (5, 7, 3)).then(|| {
                format!(
                    "SELECT HEARTBEAT_INTERVAL FROM \
                     performance_schema.replication_connection_configuration \
                     WHERE CHANNEL_NAME = {}",
                    quote_text(name)
                )
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_in_each_versions_words() {
        let query = |version: &str| {
            Flavour::of_version(version).wait_for_query("0-1-5", Duration::from_millis(1500))
        };
        assert_eq!(
            query("10.11.19-MariaDB x"),
            "SELECT MASTER_GTID_WAIT('0-1-5', 1.500)"
        );
        assert_eq!(
            query("9.7.1 x"),
            "SELECT WAIT_FOR_EXECUTED_GTID_SET('0-1-5', 1.500)"
        );
        assert!(query("5.6.24 x").contains("AFTER_GTIDS('0-1-5', 2)"));
    }

    #[test]
    fn a_turned_channel_keeps_its_heartbeat() {
        let turned = |version: &str| {
            let channel = ChannelName::from("east");
            Flavour::of_version(version).turn_to(&channel, "db'2", 3307, Some(1.5))
        };
        assert_eq!(
            turned("9.7.1 x"),
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'db''2', SOURCE_PORT = 3307, \
             SOURCE_AUTO_POSITION = 1, SOURCE_HEARTBEAT_PERIOD = 1.5 FOR CHANNEL 'east'"
        );
        assert_eq!(
            turned("10.11.19-MariaDB x"),
            "CHANGE MASTER 'east' TO MASTER_HOST = 'db''2', MASTER_PORT = 3307, \
             MASTER_USE_GTID = slave_pos, MASTER_HEARTBEAT_PERIOD = 1.5"
        );
    }
}
