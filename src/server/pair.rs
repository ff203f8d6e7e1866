//! What setting up a pair says to servers: variables, links, the replication account, positions.
//!
//! Statements that carry a password or its hash are made here and run only by
//! `Session::execute_secret`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::channel::ChannelName;
use super::flavour::{Family, Flavour, is_of_users, quote_name, quote_text};
use super::gtid::{GtidError, GtidSet};
use super::session::{Session, SessionError};
use crate::config::{Secret, TlsMode};

/// Our own schema, on every server of a pair.
pub const OWN_SCHEMA: &str = "understudy";

/// How often a source that has nothing to send tells its replicas that it lives: what they heard of it
/// is so old at most. The servers' default is 30 seconds and more.
pub const HEARTBEAT_S: u64 = 1;

/// Removing binary logs of terabytes takes its time.
const RESET_LIMIT: Duration = Duration::from_secs(900);

/// Where a replica is to go, and as whom.
#[derive(Debug, Clone)]
pub struct LinkWish {
    pub channel: ChannelName,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Secret,
    pub tls: TlsMode,
    /// As the replica's own host names the file.
    pub tls_ca: Option<String>,
}

/// An account's user and host part.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Account {
    pub user: String,
    pub host: String,
    /// A role of MariaDB, which has no host.
    #[serde(default)]
    pub is_role: bool,
}

impl Account {
    /// As statements name it.
    pub fn quoted(&self) -> String {
        match self.is_role {
            true => quote_text(&self.user),
            false => format!("{}@{}", quote_text(&self.user), quote_text(&self.host)),
        }
    }

    /// Of CURRENT_USER(): `user@host`, of which the user may have an `@` too.
    pub fn of_current_user(text: &str) -> Self {
        let (user, host) = text.rsplit_once('@').unwrap_or((text, "%"));
        Self {
            user: user.to_owned(),
            host: host.to_owned(),
            is_role: false,
        }
    }
}

/// No grant for an account: there is none.
pub const NO_SUCH_GRANT: u16 = 1141;

/// What may be done everywhere, from the lines of SHOW GRANTS.
pub fn global_privileges<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let mut privileges = BTreeSet::new();
    for line in lines {
        let Some((list, rest)) = line
            .strip_prefix("GRANT ")
            .and_then(|line| line.split_once(" ON *.* TO "))
        else {
            continue;
        };
        privileges.extend(list.split(',').map(|one| one.trim().to_owned()));
        if rest.ends_with(" WITH GRANT OPTION") {
            privileges.insert("GRANT OPTION".to_owned());
        }
    }
    privileges
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.is_role {
            true => write!(f, "role {}", self.user),
            false => write!(f, "{}@{}", self.user, self.host),
        }
    }
}

/// A user schema with how much is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub name: String,
    pub tables: u64,
    pub bytes: u64,
}

impl Flavour {
    pub fn parse_gtid(&self, text: &str) -> Result<GtidSet, GtidError> {
        match self.family {
            Family::Mysql => GtidSet::parse_mysql(text),
            Family::Mariadb => GtidSet::parse_mariadb(text),
        }
    }

    /// What this session does from now on isn't written to the binary log.
    pub fn without_binary_log(&self) -> &'static str {
        "SET SESSION sql_log_bin = 0"
    }

    /// One value: all that this server's binary log has ever held.
    pub fn written_query(&self) -> &'static str {
        match self.family {
            Family::Mysql => "SELECT @@GLOBAL.gtid_executed",
            Family::Mariadb => "SELECT @@GLOBAL.gtid_binlog_pos",
        }
    }

    /// One value: per origin, what this server's binary log holds the last of. MariaDB's position
    /// doesn't tell whose the transactions are.
    pub fn written_by_origin_query(&self) -> &'static str {
        match self.family {
            Family::Mysql => "SELECT @@GLOBAL.gtid_executed",
            Family::Mariadb => "SELECT @@GLOBAL.gtid_binlog_state",
        }
    }

    /// One value: what a replica goes on from.
    pub fn applied_query(&self) -> &'static str {
        match self.family {
            Family::Mysql => "SELECT @@GLOBAL.gtid_executed",
            Family::Mariadb => "SELECT @@GLOBAL.gtid_slave_pos",
        }
    }

    /// name, tables and bytes of each schema that isn't the server's own.
    pub fn schemas_query(&self) -> String {
        format!(
            "SELECT MIN(s.SCHEMA_NAME), COUNT(t.TABLE_NAME), \
             COALESCE(SUM(COALESCE(t.DATA_LENGTH, 0) + COALESCE(t.INDEX_LENGTH, 0)), 0) \
             FROM information_schema.SCHEMATA s LEFT JOIN information_schema.TABLES t \
             ON t.TABLE_SCHEMA = s.SCHEMA_NAME \
             AND CAST(t.TABLE_SCHEMA AS BINARY) = CAST(s.SCHEMA_NAME AS BINARY) \
             WHERE {} GROUP BY CAST(s.SCHEMA_NAME AS BINARY) ORDER BY 1",
            is_of_users("s.SCHEMA_NAME")
        )
    }

    /// One value: bytes of all tables and indexes of users, as the server counts them.
    pub fn data_bytes_query(&self) -> String {
        format!(
            "SELECT COALESCE(SUM(COALESCE(DATA_LENGTH, 0) + COALESCE(INDEX_LENGTH, 0)), 0) \
             FROM information_schema.TABLES WHERE {}",
            is_of_users("TABLE_SCHEMA")
        )
    }

    /// schema and name of each view of users; definers aren't looked at.
    pub fn views_query(&self) -> String {
        format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
             WHERE TABLE_TYPE = 'VIEW' AND {} ORDER BY 1, 2",
            is_of_users("TABLE_SCHEMA")
        )
    }

    /// schema, name and the server's words of each table that it can't open: crashed, or without its
    /// files.
    pub fn broken_tables_query(&self) -> String {
        format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(TABLE_COMMENT, '') \
             FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE IS NULL \
             AND {} ORDER BY 1, 2",
            is_of_users("TABLE_SCHEMA")
        )
    }

    /// kind, schema, name and definer of what runs as an account that doesn't exist.
    pub fn lost_definers_query(&self) -> String {
        let of = |kind: &str, table: &str, schema: &str, name: &str| {
            format!(
                "SELECT '{kind}', {schema}, {name}, DEFINER FROM information_schema.{table} \
                 WHERE {} AND DEFINER NOT IN (SELECT * FROM \
                 (SELECT CONCAT(User, '@', Host) FROM mysql.user) AS accounts)",
                is_of_users(schema)
            )
        };
        [
            of("view", "VIEWS", "TABLE_SCHEMA", "TABLE_NAME"),
            of("routine", "ROUTINES", "ROUTINE_SCHEMA", "ROUTINE_NAME"),
            of("trigger", "TRIGGERS", "TRIGGER_SCHEMA", "TRIGGER_NAME"),
            of("event", "EVENTS", "EVENT_SCHEMA", "EVENT_NAME"),
        ]
        .join(" UNION ALL ")
    }

    /// User, host and whether it is a role, of all accounts but those of the server itself.
    pub fn accounts_query(&self) -> &'static str {
        match self.family {
            Family::Mysql => {
                "SELECT User, Host, 'N' FROM mysql.user \
                 WHERE User NOT LIKE 'mysql.%' ORDER BY 1, 2"
            }
            Family::Mariadb => {
                "SELECT User, Host, is_role FROM mysql.user \
                 WHERE User <> 'mariadb.sys' AND User <> 'PUBLIC' ORDER BY 3 DESC, 1, 2"
            }
        }
    }

    /// How an account is made, as the source shows it; its one column holds a hash.
    pub fn show_account(&self, account: &Account) -> Option<String> {
        match (self.family, account.is_role) {
            (Family::Mariadb, true) => None,
            (Family::Mysql, _) if self.version < (5, 7, 6) => None,
            (Family::Mysql | Family::Mariadb, _) => {
                Some(format!("SHOW CREATE USER {}", account.quoted()))
            }
        }
    }

    pub fn show_grants(&self, account: &Account) -> String {
        format!("SHOW GRANTS FOR {}", account.quoted())
    }

    pub fn create_role(&self, account: &Account) -> String {
        format!("CREATE ROLE IF NOT EXISTS {}", account.quoted())
    }

    /// Hashes may hold bytes that no text has; MySQL 8 shows them in hex when told so.
    pub fn show_hashes_as_hex(&self) -> Option<&'static str> {
        (self.family == Family::Mysql && self.version >= (8, 0, 17))
            .then_some("SET SESSION print_identified_with_as_hex = ON")
    }

    pub fn drop_account(&self, account: &Account) -> String {
        match (self.family, account.is_role) {
            (Family::Mariadb, true) => format!("DROP ROLE IF EXISTS {}", account.quoted()),
            (Family::Mysql, _) if self.version < (5, 7, 8) => {
                format!("DROP USER {}", account.quoted())
            }
            (Family::Mysql | Family::Mariadb, _) => {
                format!("DROP USER IF EXISTS {}", account.quoted())
            }
        }
    }

    /// The replication account: made, and allowed nothing but to read the binary log.
    pub fn create_replication_account(
        &self,
        account: &Account,
        password: &Secret,
        tls: bool,
    ) -> Vec<String> {
        let name = account.quoted();
        let password = quote_text(password.reveal());
        let old = self.family == Family::Mysql && self.version < (5, 7, 6);
        match (tls, old) {
            (true, true) => vec![
                format!("CREATE USER {name} IDENTIFIED BY {password}"),
                format!("GRANT REPLICATION SLAVE ON *.* TO {name} REQUIRE SSL"),
            ],
            (_, _) => {
                let require = if tls { " REQUIRE SSL" } else { "" };
                vec![
                    format!("CREATE USER {name} IDENTIFIED BY {password}{require}"),
                    format!("GRANT REPLICATION SLAVE ON *.* TO {name}"),
                ]
            }
        }
    }

    pub fn set_password(&self, account: &Account, password: &Secret) -> String {
        let (name, password) = (account.quoted(), quote_text(password.reveal()));
        match self.family {
            Family::Mysql if self.version < (5, 7, 6) => {
                format!("SET PASSWORD FOR {name} = PASSWORD({password})")
            }
            Family::Mysql | Family::Mariadb => {
                format!("ALTER USER {name} IDENTIFIED BY {password}")
            }
        }
    }

    pub fn require_tls(&self, account: &Account) -> String {
        match self.family {
            Family::Mysql if self.version < (5, 7, 6) => {
                format!("GRANT USAGE ON *.* TO {} REQUIRE SSL", account.quoted())
            }
            Family::Mysql | Family::Mariadb => {
                format!("ALTER USER {} REQUIRE SSL", account.quoted())
            }
        }
    }

    /// What stands before the settings of a link, what each of them begins with, what comes after.
    pub(super) fn change_words(&self, channel: &ChannelName) -> (String, &'static str, String) {
        match self.family {
            Family::Mariadb => {
                let channel = match channel.as_str() {
                    "" => String::new(),
                    name => format!("{} ", quote_text(name)),
                };
                (
                    format!("CHANGE MASTER {channel}TO"),
                    "MASTER",
                    String::new(),
                )
            }
            Family::Mysql => {
                let behind = match channel.as_str() {
                    "" => String::new(),
                    name => format!(" FOR CHANNEL {}", quote_text(name)),
                };
                match self.version >= (8, 0, 23) {
                    true => ("CHANGE REPLICATION SOURCE TO".to_owned(), "SOURCE", behind),
                    false => ("CHANGE MASTER TO".to_owned(), "MASTER", behind),
                }
            }
        }
    }

    /// Points a channel by GTID. It carries the password.
    pub fn point_at(&self, wish: &LinkWish) -> String {
        let (head, word, behind) = self.change_words(&wish.channel);
        let mut parts = vec![
            format!("{word}_HOST = {}", quote_text(&wish.host)),
            format!("{word}_PORT = {}", wish.port),
            format!("{word}_USER = {}", quote_text(&wish.user)),
            format!("{word}_PASSWORD = {}", quote_text(wish.password.reveal())),
            format!("{word}_CONNECT_RETRY = 10"),
            format!("{word}_HEARTBEAT_PERIOD = {HEARTBEAT_S}"),
        ];
        parts.push(match self.family {
            Family::Mariadb => "MASTER_USE_GTID = slave_pos".to_owned(),
            Family::Mysql => format!("{word}_AUTO_POSITION = 1"),
        });
        if self.family == Family::Mysql {
            // The default of 8.4 and later gives up for good after ten tries.
            parts.push(format!("{word}_RETRY_COUNT = 86400"));
        }
        let encrypts = wish.tls != TlsMode::Disabled;
        parts.push(format!("{word}_SSL = {}", u8::from(encrypts)));
        if encrypts {
            let ca = match wish.tls {
                TlsMode::VerifyCa | TlsMode::VerifyFull => wish.tls_ca.as_deref(),
                TlsMode::Disabled | TlsMode::Required => None,
            };
            if let Some(ca) = ca {
                parts.push(format!("{word}_SSL_CA = {}", quote_text(ca)));
            }
            let verifies = u8::from(wish.tls == TlsMode::VerifyFull);
            parts.push(format!("{word}_SSL_VERIFY_SERVER_CERT = {verifies}"));
        } else if self.family == Family::Mysql && self.version >= (8, 0, 0) {
            parts.push(match word {
                "SOURCE" => "GET_SOURCE_PUBLIC_KEY = 1".to_owned(),
                _ => "GET_MASTER_PUBLIC_KEY = 1".to_owned(),
            });
        }
        format!("{head} {}{behind}", parts.join(", "))
    }

    /// Tells a link that stays its new password: what stops first, the statement, which carries the
    /// password. MySQL keeps received events while the applier runs; MariaDB wants both threads
    /// stopped and fetches again, and makes the heartbeat the default again where it isn't said (seen
    /// on 10.11).
    pub fn renew_password(
        &self,
        channel: &ChannelName,
        password: &Secret,
        heartbeat_s: Option<f64>,
    ) -> (Vec<String>, String) {
        let password = quote_text(password.reveal());
        let name = quote_text(channel.as_str());
        match self.family {
            Family::Mariadb => {
                let beats = heartbeat_s
                    .map(|seconds| format!(", MASTER_HEARTBEAT_PERIOD = {seconds}"))
                    .unwrap_or_default();
                (
                    self.stop_channel(channel),
                    format!("CHANGE MASTER {name} TO MASTER_PASSWORD = {password}{beats}"),
                )
            }
            Family::Mysql => {
                let (change, word) = match self.version >= (8, 0, 23) {
                    true => ("CHANGE REPLICATION SOURCE TO", "SOURCE"),
                    false => ("CHANGE MASTER TO", "MASTER"),
                };
                let behind = match channel.as_str() {
                    "" => String::new(),
                    _ => format!(" FOR CHANNEL {name}"),
                };
                (
                    vec![self.stop_io_thread(channel)],
                    format!("{change} {word}_PASSWORD = {password}{behind}"),
                )
            }
        }
    }

    pub fn start_channel(&self, channel: &ChannelName) -> Vec<String> {
        vec![
            self.start_io_thread(channel),
            self.start_sql_thread(channel),
        ]
    }

    /// Stops a channel and forgets its source.
    pub fn forget_channel(&self, channel: &ChannelName) -> Vec<String> {
        vec![
            self.stop_io_thread(channel),
            self.stop_sql_thread(channel),
            self.forget_sources(channel),
        ]
    }

    pub fn stop_channel(&self, channel: &ChannelName) -> Vec<String> {
        vec![self.stop_io_thread(channel), self.stop_sql_thread(channel)]
    }

    /// Forgets all that was executed, so that `position` is all that a replica has.
    pub fn set_applied(&self, position: &str) -> Vec<String> {
        let reset = match self.family {
            Family::Mysql if self.version >= (8, 2, 0) => "RESET BINARY LOGS AND GTIDS",
            Family::Mysql | Family::Mariadb => "RESET MASTER",
        };
        let mut statements = vec![reset.to_owned()];
        match self.family {
            Family::Mariadb => statements.push(format!(
                "SET GLOBAL gtid_slave_pos = {}",
                quote_text(position)
            )),
            Family::Mysql if !position.is_empty() => {
                statements.push(format!("SET GLOBAL gtid_purged = {}", quote_text(position)));
            }
            Family::Mysql => {}
        }
        statements
    }

    /// One value: the GTIDs before a place in this server's binary log.
    pub fn gtid_at_query(&self, file: &str, offset: u64) -> String {
        format!("SELECT BINLOG_GTID_POS({}, {offset})", quote_text(file))
    }

    /// What keeps everybody but replication from writing, now.
    pub fn close(&self) -> &'static str {
        match self.has_super_read_only() {
            true => "SET GLOBAL super_read_only = ON",
            false => "SET GLOBAL read_only = ON",
        }
    }

    pub fn has_super_read_only(&self) -> bool {
        self.family == Family::Mysql && self.version >= (5, 7, 8)
    }

    /// The same also after a restart, where a server can keep it itself.
    pub fn close_for_good(&self) -> Option<&'static [&'static str]> {
        (self.family == Family::Mysql && self.version >= (8, 0, 11)).then_some(&[
            "SET PERSIST super_read_only = ON",
            "SET PERSIST read_only = ON",
        ])
    }

    /// One value per row: names of the two that are persisted or come from an option file.
    pub fn closed_at_boot_query(&self) -> Option<&'static str> {
        match self.family {
            Family::Mysql if self.version >= (8, 0, 11) => Some(
                "SELECT VARIABLE_NAME FROM performance_schema.persisted_variables \
                 WHERE VARIABLE_NAME IN ('read_only', 'super_read_only') \
                 AND VARIABLE_VALUE = 'ON' UNION \
                 SELECT VARIABLE_NAME FROM performance_schema.variables_info \
                 WHERE VARIABLE_NAME IN ('read_only', 'super_read_only') AND VARIABLE_SOURCE \
                 IN ('GLOBAL', 'SERVER', 'EXPLICIT', 'EXTRA', 'COMMAND_LINE', 'PERSISTED')",
            ),
            Family::Mysql => None,
            Family::Mariadb => Some(
                "SELECT VARIABLE_NAME FROM information_schema.SYSTEM_VARIABLES \
                 WHERE VARIABLE_NAME = 'READ_ONLY' AND GLOBAL_VALUE_ORIGIN = 'CONFIG' \
                 AND GLOBAL_VALUE IN ('ON', '1')",
            ),
        }
    }

    /// The lines of an option file that keep a replica closed after its restart.
    pub fn closed_lines(&self) -> &'static str {
        match self.has_super_read_only() {
            true => "[mysqld]\nread_only=ON\nsuper_read_only=ON",
            false => "[mysqld]\nread_only=ON",
        }
    }

    pub fn forget_persisted(&self, name: &str) -> String {
        format!("RESET PERSIST IF EXISTS {name}")
    }

    /// Schema, name, definer and sql_mode of events that would run on a replica too.
    pub fn active_events_query(&self) -> &'static str {
        "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER, SQL_MODE FROM information_schema.EVENTS \
         WHERE STATUS = 'ENABLED'"
    }

    /// One value: where event_scheduler has its value from, which tells whether a restart keeps it.
    pub fn event_scheduler_origin_query(&self) -> Option<&'static str> {
        match self.family {
            Family::Mariadb => Some(
                "SELECT GLOBAL_VALUE_ORIGIN FROM information_schema.SYSTEM_VARIABLES \
                 WHERE VARIABLE_NAME = 'EVENT_SCHEDULER'",
            ),
            Family::Mysql if self.version >= (8, 0, 0) => Some(
                "SELECT VARIABLE_SOURCE FROM performance_schema.variables_info \
                 WHERE VARIABLE_NAME = 'event_scheduler'",
            ),
            Family::Mysql => None,
        }
    }

    /// Makes an event one that its replica keeps but doesn't run.
    pub fn park_event(&self, schema: &str, name: &str, definer: &str) -> String {
        let (user, host) = definer.rsplit_once('@').unwrap_or((definer, "%"));
        let word = match self.family {
            Family::Mysql if self.version >= (8, 4, 0) => "REPLICA",
            Family::Mysql | Family::Mariadb => "SLAVE",
        };
        format!(
            "ALTER DEFINER = {}@{} EVENT {}.{} DISABLE ON {word}",
            quote_text(user),
            quote_text(host),
            quote_name(schema),
            quote_name(name)
        )
    }

    /// Whether `CLONE` is there: the plugin's state, or no row.
    pub fn clone_plugin_query(&self) -> &'static str {
        "SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'"
    }

    pub fn has_clone(&self) -> bool {
        self.family == Family::Mysql && self.version >= (8, 0, 17)
    }

    /// A clone needs both of one series; before 8.0.37 of one version.
    pub fn can_clone_from(&self, donor: &Self) -> bool {
        let series = |flavour: &Self| (flavour.version.0, flavour.version.1);
        self.has_clone()
            && donor.has_clone()
            && series(self) == series(donor)
            && (self.version == donor.version
                || (self.version >= (8, 0, 37) && donor.version >= (8, 0, 37)))
    }

    /// bytes that were copied and that are estimated in all.
    pub fn clone_progress_query(&self) -> &'static str {
        "SELECT COALESCE(SUM(DATA), 0), COALESCE(SUM(ESTIMATE), 0) \
         FROM performance_schema.clone_progress"
    }

    pub fn clone_state_query(&self) -> &'static str {
        "SELECT STATE, ERROR_NO, ERROR_MESSAGE FROM performance_schema.clone_status"
    }

    /// It carries the password.
    pub fn clone_from(
        &self,
        account: &Account,
        password: &Secret,
        endpoint: (&str, u16),
        tls: bool,
    ) -> String {
        let require = if tls { " REQUIRE SSL" } else { "" };
        format!(
            "CLONE INSTANCE FROM {}@{}:{} IDENTIFIED BY {}{require}",
            quote_text(&account.user),
            quote_text(endpoint.0),
            endpoint.1,
            quote_text(password.reveal())
        )
    }
}

/// RESET MASTER of MariaDB where there is none.
const NO_BINARY_LOG: u16 = 1186;

/// Makes `position` all that a server has applied.
pub fn set_applied(session: Session, position: &str) -> Result<Session, SessionError> {
    let mut session = session;
    for statement in session.flavour().set_applied(position) {
        let (back, answer) = session.attempt(&statement, RESET_LIMIT)?;
        session = back;
        match answer {
            Ok(_) => {}
            Err(error) if error.code == NO_BINARY_LOG => {}
            Err(error) => {
                return Err(SessionError::Server {
                    server: session.target().server.clone(),
                    statement,
                    error,
                });
            }
        }
    }
    Ok(session)
}

/// A plugin that a thread still runs in can't be uninstalled yet.
pub const PLUGIN_IN_USE: u16 = 1883;

/// Codes of statements that undo what isn't there (any more): no replica, no such channel, plugin or
/// variable of one, account, schema.
pub fn is_undone_already(code: u16) -> bool {
    matches!(
        code,
        1008 | NO_BINARY_LOG | 1193 | 1198 | 1200 | 1305 | 1396 | 1617 | 3074
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(channel: &str, tls: TlsMode) -> LinkWish {
        LinkWish {
            channel: ChannelName::from(channel),
            host: "db1".to_owned(),
            port: 3306,
            user: "r".to_owned(),
            password: Secret::new("p'w"),
            tls,
            tls_ca: Some("/ca.pem".to_owned()),
        }
    }

    #[test]
    fn privileges_are_those_that_hold_everywhere() {
        let own = |lines: &[&str]| -> Vec<String> {
            global_privileges(lines.iter().copied())
                .into_iter()
                .collect()
        };
        assert_eq!(
            own(&[
                "GRANT SELECT, RELOAD ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*00'",
                "GRANT CLONE_ADMIN ON *.* TO `u`@`%` WITH GRANT OPTION",
                "GRANT INSERT ON `lab`.* TO `u`@`%`",
                "GRANT `role`@`%` TO `u`@`%`",
            ]),
            ["CLONE_ADMIN", "GRANT OPTION", "RELOAD", "SELECT"]
        );
        let all = own(&["GRANT ALL PRIVILEGES ON *.* TO 'u'@'%' WITH GRANT OPTION"]);
        assert_eq!(all, ["ALL PRIVILEGES", "GRANT OPTION"]);
        let account = Account::of_current_user("a@b@10.0.0.%");
        assert_eq!(account.quoted(), "'a@b'@'10.0.0.%'");
    }

    #[test]
    fn links_are_pointed_in_each_versions_words() {
        let at = |version: &str, wish: &LinkWish| Flavour::of_version(version).point_at(wish);
        assert_eq!(
            at("10.11.19-MariaDB x", &wish("", TlsMode::Disabled)),
            "CHANGE MASTER TO MASTER_HOST = 'db1', MASTER_PORT = 3306, MASTER_USER = 'r', \
             MASTER_PASSWORD = 'p''w', MASTER_CONNECT_RETRY = 10, MASTER_HEARTBEAT_PERIOD = 1, \
             MASTER_USE_GTID = slave_pos, \
             MASTER_SSL = 0"
        );
        assert_eq!(
            at("9.7.1 x", &wish("east", TlsMode::VerifyFull)),
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'db1', SOURCE_PORT = 3306, \
             SOURCE_USER = 'r', SOURCE_PASSWORD = 'p''w', SOURCE_CONNECT_RETRY = 10, \
             SOURCE_HEARTBEAT_PERIOD = 1, SOURCE_AUTO_POSITION = 1, SOURCE_RETRY_COUNT = 86400, SOURCE_SSL = 1, \
             SOURCE_SSL_CA = '/ca.pem', SOURCE_SSL_VERIFY_SERVER_CERT = 1 FOR CHANNEL 'east'"
        );
        let plain = at("8.0.20 x", &wish("", TlsMode::Disabled));
        assert!(plain.starts_with("CHANGE MASTER TO"), "{plain}");
        assert!(plain.ends_with("GET_MASTER_PUBLIC_KEY = 1"), "{plain}");
        let required = at("9.7.1 x", &wish("", TlsMode::Required));
        assert!(!required.contains("SSL_CA"), "{required}");
    }

    #[test]
    fn only_servers_of_one_series_can_be_cloned() {
        let can = |to: &str, from: &str| {
            Flavour::of_version(to).can_clone_from(&Flavour::of_version(from))
        };
        assert!(can("9.7.1 x", "9.7.4 x"));
        assert!(can("8.0.36 x", "8.0.36 x"));
        assert!(!can("8.0.36 x", "8.0.37 x"));
        assert!(!can("9.7.1 x", "8.4.1 x"));
        assert!(!can("10.11.1-MariaDB x", "10.11.1-MariaDB x"));
    }
}
