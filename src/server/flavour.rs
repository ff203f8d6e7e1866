//! MySQL or MariaDB, and which version: the one place where their statements differ.
//!
//! Versions are compared as numbers. The names of status columns are
//! tried in turn by `replication`, since versions rename them.

use super::channel::ChannelName;
use super::position::Position;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Mysql,
    Mariadb,
}

/// A server's kind and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flavour {
    pub family: Family,
    /// major, minor, patch.
    pub version: (u16, u16, u16),
    /// As the server says it.
    pub text: String,
}

/// What keeps writers or DDL out while the volume is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockScope {
    /// DDL only: all user tables are transactional and the appliers are stopped.
    Ddl,
    /// DDL and writes to the non-transactional tables.
    NonTransactional,
    /// Every write: the server is no replica, or the user asked for it.
    Everything,
}

impl Flavour {
    /// Before the server was asked.
    pub fn unknown() -> Self {
        Self {
            family: Family::Mysql,
            version: (0, 0, 0),
            text: String::new(),
        }
    }

    /// From `@@version` and `@@version_comment`: `10.11.19-MariaDB-0+deb12u1 Debian 12`.
    pub fn of_version(text: &str) -> Self {
        let version_word = text.split_whitespace().next().unwrap_or_default();
        // Old MariaDB servers can put a replication hack in front: 5.5.5-10.2.3-MariaDB.
        let bare = version_word.strip_prefix("5.5.5-").unwrap_or(version_word);
        let numbers = bare.split('-').next().unwrap_or_default();
        let mut parts = numbers.split('.').map(|part| part.parse().unwrap_or(0));
        let version = (
            parts.next().unwrap_or(0),
            parts.next().unwrap_or(0),
            parts.next().unwrap_or(0),
        );
        let family = if text.to_ascii_lowercase().contains("mariadb") {
            Family::Mariadb
        } else {
            Family::Mysql
        };
        Self {
            family,
            version,
            text: version_word.to_owned(),
        }
    }

    /// Versions that the tool was built for: MySQL 5.6 to 9.x, MariaDB 10.5 to 11.x and later.
    pub fn is_supported(&self) -> bool {
        match self.family {
            Family::Mysql => self.version >= (5, 6, 0),
            Family::Mariadb => self.version >= (10, 5, 0),
        }
    }

    pub fn is_mariadb(&self) -> bool {
        self.family == Family::Mariadb
    }

    /// MySQL renamed slave to replica in 8.0.22.
    fn says_replica(&self) -> bool {
        self.family == Family::Mysql && self.version >= (8, 0, 22)
    }

    /// The columns of `Identity`.
    pub fn identity_query(&self) -> &'static str {
        match self.family {
            Family::Mysql => {
                "SELECT @@server_uuid AS server_uuid, @@server_id AS server_id, \
                 @@hostname AS hostname, @@port AS port, @@datadir AS datadir"
            }
            Family::Mariadb => {
                "SELECT NULL AS server_uuid, @@server_id AS server_id, \
                 @@hostname AS hostname, @@port AS port, @@datadir AS datadir"
            }
        }
    }

    /// One row per channel.
    pub fn replica_status(&self) -> &'static str {
        match self.family {
            Family::Mariadb => "SHOW ALL SLAVES STATUS",
            Family::Mysql if self.says_replica() => "SHOW REPLICA STATUS",
            Family::Mysql => "SHOW SLAVE STATUS",
        }
    }

    /// Several channels are known: MySQL 5.7, MariaDB always.
    fn has_channels(&self) -> bool {
        self.family == Family::Mariadb || self.version >= (5, 7, 6)
    }

    fn replica_statement(&self, verb: &str, tail: &str, channel: &ChannelName) -> String {
        let name = quote_text(channel.as_str());
        match self.family {
            Family::Mariadb => format!("{verb} SLAVE {name} {tail}"),
            Family::Mysql => {
                let noun = if self.says_replica() {
                    "REPLICA"
                } else {
                    "SLAVE"
                };
                if self.has_channels() {
                    format!("{verb} {noun} {tail} FOR CHANNEL {name}")
                } else {
                    format!("{verb} {noun} {tail}")
                }
            }
        }
    }

    pub fn stop_sql_thread(&self, channel: &ChannelName) -> String {
        self.replica_statement("STOP", "SQL_THREAD", channel)
    }

    pub fn start_sql_thread(&self, channel: &ChannelName) -> String {
        self.replica_statement("START", "SQL_THREAD", channel)
    }

    pub fn start_io_thread(&self, channel: &ChannelName) -> String {
        self.replica_statement("START", "IO_THREAD", channel)
    }

    pub fn stop_io_thread(&self, channel: &ChannelName) -> String {
        self.replica_statement("STOP", "IO_THREAD", channel)
    }

    /// Lets a multi-threaded applier fill its gaps and stop by itself; MariaDB commits in order
    /// within a domain and has no such statement.
    pub fn start_until_no_gaps(&self, channel: &ChannelName) -> Option<String> {
        match self.family {
            Family::Mariadb => None,
            Family::Mysql => Some(self.replica_statement(
                "START",
                "SQL_THREAD UNTIL SQL_AFTER_MTS_GAPS",
                channel,
            )),
        }
    }

    /// Workers and commit order: whether a stop can leave gaps.
    pub fn parallel_applier_query(&self) -> Option<&'static str> {
        match self.family {
            Family::Mariadb => None,
            Family::Mysql if self.version >= (8, 0, 26) => Some(
                "SELECT @@GLOBAL.replica_parallel_workers AS workers, \
                 @@GLOBAL.replica_preserve_commit_order AS ordered",
            ),
            Family::Mysql if self.version >= (5, 7, 5) => Some(
                "SELECT @@GLOBAL.slave_parallel_workers AS workers, \
                 @@GLOBAL.slave_preserve_commit_order AS ordered",
            ),
            Family::Mysql => {
                Some("SELECT @@GLOBAL.slave_parallel_workers AS workers, 0 AS ordered")
            }
        }
    }

    /// The server's own binary log position; no row when it has no binary log.
    pub fn own_position(&self) -> &'static str {
        match self.family {
            Family::Mariadb => "SHOW BINLOG STATUS",
            Family::Mysql if self.version >= (8, 2, 0) => "SHOW BINARY LOG STATUS",
            Family::Mysql => "SHOW MASTER STATUS",
        }
    }

    /// One row: what the server has applied. For MariaDB a replica's applied position; for one that is
    /// none what it once applied and what its binary log holds, which together are it. Its own
    /// `gtid_current_pos` would be empty on a clone, whose server_id is another one.
    pub fn gtid_query(&self, is_replica: bool) -> &'static str {
        match (self.family, is_replica) {
            (Family::Mysql, _) => "SELECT @@GLOBAL.gtid_executed",
            (Family::Mariadb, true) => "SELECT @@GLOBAL.gtid_slave_pos",
            (Family::Mariadb, false) => "SELECT @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_pos",
        }
    }

    /// The first row's first column: the oldest binary log, where that is needed to tell what is
    /// purged.
    pub fn first_log_query(&self) -> Option<&'static str> {
        match self.family {
            Family::Mariadb => Some("SHOW BINARY LOGS"),
            Family::Mysql => None,
        }
    }

    /// One value: what this server's binary logs don't hold any more.
    pub fn purged_query(&self, first_log: &str) -> String {
        match self.family {
            Family::Mariadb => format!("SELECT BINLOG_GTID_POS({}, 4)", quote_text(first_log)),
            Family::Mysql => "SELECT @@GLOBAL.gtid_purged".to_owned(),
        }
    }

    /// Makes a channel of a restored replica go on, by GTID. Both flavours miss relay logs that
    /// their metadata speaks of, and keep host and account through a RESET.
    pub fn go_on(&self, channel: &ChannelName, relay_logs_are_lost: bool) -> Vec<String> {
        let say = |verb: &str| self.replica_statement(verb, "", channel);
        match relay_logs_are_lost {
            true => vec![say("STOP"), say("RESET"), say("START")],
            false => vec![say("START")],
        }
    }

    /// The status variable that counts replicated temporary tables now open.
    pub fn open_temp_tables_query(&self) -> &'static str {
        if self.says_replica() && self.version >= (8, 0, 26) {
            "SHOW GLOBAL STATUS LIKE 'Replica_open_temp_tables'"
        } else {
            "SHOW GLOBAL STATUS LIKE 'Slave_open_temp_tables'"
        }
    }

    /// What a session does ahead of the lock, while the appliers still run. MariaDB's first stage
    /// blocks nothing but other backups; it syncs a file, so that it can take hundreds of ms on a
    /// busy disk. Seen on 10.11: 193 times START, STOP SLAVE, BLOCK_DDL under a load with DDL went
    /// through, unlike a STOP inside BLOCK_COMMIT.
    pub fn lock_preparation(&self) -> &'static [&'static str] {
        match self.family {
            Family::Mariadb => &["BACKUP STAGE START"],
            Family::Mysql => &[],
        }
    }

    /// The statements that take the lock, in order, on one session. `tables` are the
    /// non-transactional user tables as (schema, table).
    ///
    /// MariaDB: the stages of BACKUP STAGE; FLUSH is passed through by BLOCK_DDL. BLOCK_COMMIT
    /// also flushes and blocks the non-transactional tables. MySQL 8+: LOCK INSTANCE FOR BACKUP
    /// holds DDL only, so tables are locked besides. Before 8.0 only the global read lock does.
    pub fn lock_statements(&self, scope: LockScope, tables: &[(String, String)]) -> Vec<String> {
        match self.family {
            Family::Mariadb => {
                let mut statements = vec!["BACKUP STAGE BLOCK_DDL"];
                match scope {
                    LockScope::Ddl => {}
                    LockScope::NonTransactional | LockScope::Everything => {
                        statements.push("BACKUP STAGE BLOCK_COMMIT");
                    }
                }
                statements.into_iter().map(str::to_owned).collect()
            }
            Family::Mysql if self.version >= (8, 0, 0) => {
                let mut statements = vec!["LOCK INSTANCE FOR BACKUP".to_owned()];
                match scope {
                    LockScope::Ddl => {}
                    LockScope::NonTransactional => statements.push(flush_with_read_lock(tables)),
                    LockScope::Everything => {
                        statements.push("FLUSH TABLES WITH READ LOCK".to_owned());
                    }
                }
                statements
            }
            Family::Mysql => vec!["FLUSH TABLES WITH READ LOCK".to_owned()],
        }
    }

    /// What gives the lock back, in order.
    pub fn unlock_statements(&self) -> &'static [&'static str] {
        match self.family {
            Family::Mariadb => &["BACKUP STAGE END"],
            Family::Mysql if self.version >= (8, 0, 0) => &["UNLOCK TABLES", "UNLOCK INSTANCE"],
            Family::Mysql => &["UNLOCK TABLES"],
        }
    }

    /// Bounds, on the server itself, the statements of a session that may wait for locks.
    pub fn session_limits(&self, lock_wait_s: u64) -> String {
        format!("SET SESSION lock_wait_timeout = {}", lock_wait_s.max(1))
    }

    /// All user tables whose engine forgets a crash.
    pub fn non_transactional_tables_query(&self) -> String {
        format!(
            "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.ENGINE FROM information_schema.TABLES t \
             JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
             WHERE t.TABLE_TYPE IN ('BASE TABLE', 'SEQUENCE', 'SYSTEM VERSIONED') \
             AND COALESCE(e.TRANSACTIONS, 'NO') <> 'YES' \
             AND t.ENGINE NOT IN ('MEMORY', 'BLACKHOLE', 'PERFORMANCE_SCHEMA') \
             AND {} LIMIT 10000",
            is_of_users("t.TABLE_SCHEMA")
        )
    }

    /// Engines of user tables that have transactions and aren't InnoDB.
    pub fn other_engines_query(&self) -> String {
        format!(
            "SELECT DISTINCT t.ENGINE FROM information_schema.TABLES t \
             JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
             WHERE t.TABLE_TYPE IN ('BASE TABLE', 'SEQUENCE', 'SYSTEM VERSIONED') \
             AND e.TRANSACTIONS = 'YES' AND t.ENGINE <> 'InnoDB' \
             AND {}",
            is_of_users("t.TABLE_SCHEMA")
        )
    }

    /// Files of InnoDB that aren't given relative to the data directory, one column `path`.
    pub fn outside_files_query(&self) -> &'static str {
        match self.family {
            Family::Mariadb if self.version >= (10, 6, 0) => {
                "SELECT FILENAME AS path FROM information_schema.INNODB_SYS_TABLESPACES \
                 WHERE FILENAME NOT LIKE './%' AND FILENAME LIKE '%/%' LIMIT 100000"
            }
            Family::Mysql if self.version >= (8, 0, 0) => {
                "SELECT FILE_NAME AS path FROM information_schema.FILES \
                 WHERE FILE_TYPE IN ('TABLESPACE', 'UNDO LOG') \
                 AND FILE_NAME NOT LIKE './%' AND FILE_NAME LIKE '%/%' LIMIT 100000"
            }
            Family::Mariadb | Family::Mysql => {
                "SELECT PATH AS path FROM information_schema.INNODB_SYS_DATAFILES \
                 WHERE PATH NOT LIKE './%' AND PATH LIKE '%/%' LIMIT 100000"
            }
        }
    }

    /// Makes InnoDB write all dirty pages and a checkpoint now, instead of in steps of a second.
    /// MySQL's release builds have no such thing; a version without the variable refuses it, which
    /// does no harm.
    pub fn checkpoint_now(&self) -> Option<&'static str> {
        match self.family {
            Family::Mariadb => Some("SET GLOBAL innodb_log_checkpoint_now = ON"),
            Family::Mysql => None,
        }
    }

    /// What keeps a private server on restored files from touching anything else: no network, no
    /// replication, no events, no logs, none of what SET PERSIST or a plugin would start.
    pub fn private_options(&self) -> &'static [&'static str] {
        match self.family {
            Family::Mariadb => &[
                "skip-networking",
                "skip-slave-start",
                "skip-name-resolve",
                "event-scheduler=OFF",
                "general-log=OFF",
                "slow-query-log=OFF",
                "performance-schema=OFF",
                "max-connections=30",
                "max-allowed-packet=1G",
                "loose-wsrep-on=OFF",
                "loose-feedback=OFF",
                "loose-server-audit-logging=OFF",
                "innodb-buffer-pool-load-at-startup=OFF",
                "innodb-buffer-pool-dump-at-shutdown=OFF",
            ],
            Family::Mysql if self.version >= (8, 0, 26) => &[
                "skip-networking",
                "skip-replica-start",
                "skip-name-resolve",
                "event-scheduler=OFF",
                "general-log=OFF",
                "slow-query-log=OFF",
                "performance-schema=OFF",
                "max-connections=30",
                "max-allowed-packet=1G",
                "loose-mysqlx=OFF",
                "loose-persisted-globals-load=OFF",
                "loose-group-replication-start-on-boot=OFF",
                "loose-innodb-dedicated-server=OFF",
                "secure-file-priv=NULL",
                "innodb-buffer-pool-load-at-startup=OFF",
                "innodb-buffer-pool-dump-at-shutdown=OFF",
            ],
            Family::Mysql => &[
                "skip-networking",
                "skip-slave-start",
                "skip-name-resolve",
                "event-scheduler=OFF",
                "general-log=OFF",
                "slow-query-log=OFF",
                "performance-schema=OFF",
                "max-connections=30",
                "max-allowed-packet=1G",
                "loose-mysqlx=OFF",
                "loose-persisted-globals-load=OFF",
                "loose-group-replication-start-on-boot=OFF",
                "loose-innodb-dedicated-server=OFF",
                "innodb-buffer-pool-load-at-startup=OFF",
                "innodb-buffer-pool-dump-at-shutdown=OFF",
            ],
        }
    }

    /// Where packages put the server program.
    pub fn server_programs(&self) -> &'static [&'static str] {
        match self.family {
            Family::Mariadb => &[
                "/usr/sbin/mariadbd",
                "/usr/bin/mariadbd",
                "/usr/local/bin/mariadbd",
            ],
            Family::Mysql => &[
                "/usr/sbin/mysqld",
                "/usr/bin/mysqld",
                "/usr/local/bin/mysqld",
            ],
        }
    }

    /// Files of InnoDB tables that must be there, one column: paths relative to the data directory
    /// or absolute. MySQL's dictionary names the files without opening them (its FILES has no type
    /// for one that is gone). MariaDB's names the tables, which are the paths without their ending;
    /// it lists no table whose .frm is gone.
    pub fn table_files_query(&self) -> &'static str {
        match self.family {
            Family::Mysql if self.version >= (8, 0, 0) => {
                "SELECT PATH FROM information_schema.INNODB_DATAFILES WHERE PATH LIKE '%.ibd'"
            }
            Family::Mysql => {
                "SELECT PATH FROM information_schema.INNODB_SYS_DATAFILES WHERE PATH LIKE '%.ibd'"
            }
            Family::Mariadb => {
                "SELECT CONCAT('./', NAME, '.ibd') FROM information_schema.INNODB_SYS_TABLES \
                 WHERE SPACE <> 0 AND NAME NOT LIKE '%#sql%' AND NAME LIKE '%/%' UNION SELECT \
                 CONCAT('./', SUBSTRING_INDEX(SUBSTRING_INDEX(NAME, '#P#', 1), '#p#', 1), '.frm') \
                 FROM information_schema.INNODB_SYS_TABLES WHERE NAME NOT LIKE '%#sql%' \
                 AND NAME NOT LIKE '%/FTS!_0%' ESCAPE '!' AND NAME LIKE '%/%'"
            }
        }
    }

    /// All tables that can be checked: schema, name, engine, bytes; the largest first.
    pub fn tables_query(&self) -> String {
        format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(ENGINE, ''), \
             COALESCE(DATA_LENGTH, 0) + COALESCE(INDEX_LENGTH, 0), COALESCE(TABLE_COMMENT, '') \
             FROM information_schema.TABLES \
             WHERE TABLE_TYPE IN ('BASE TABLE', 'SEQUENCE', 'SYSTEM VERSIONED') \
             AND ({} OR TABLE_SCHEMA = 'mysql') ORDER BY 4 DESC",
            is_of_users("TABLE_SCHEMA")
        )
    }

    /// Schema and name of tables with keys over expressions. MySQL keeps these as hidden columns, which
    /// CHECKSUM TABLE reads without computing them: over an array (a multi-valued index) it says another
    /// number each time (9.7.4).
    pub fn computed_keys_query(&self) -> Option<&'static str> {
        (self.family == Family::Mysql && self.version >= (8, 0, 13)).then_some(
            "SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME FROM information_schema.STATISTICS \
             WHERE EXPRESSION IS NOT NULL",
        )
    }

    /// Name and type of each column of a table, in order; hidden ones aren't among them.
    pub fn columns_query(&self, schema: &str, table: &str) -> String {
        format!(
            "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
            quote_text(schema),
            quote_text(table)
        )
    }

    /// Foreign keys of user tables, one row per column in order: constraint's schema and name, the
    /// child's table and column, the parent's schema, table and column.
    pub fn foreign_keys_query(&self) -> &'static str {
        "SELECT TABLE_SCHEMA, CONSTRAINT_NAME, TABLE_NAME, COLUMN_NAME, \
         REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME \
         FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL \
         ORDER BY TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION"
    }

    /// Makes a restored server nobody's replica: what it knew of sources is forgotten.
    pub fn forget_sources(&self, channel: &ChannelName) -> String {
        self.replica_statement("RESET", "ALL", channel)
    }

    /// The statements that make a replica of a server restored at `position`, in order. Account and
    /// password are for whoever runs them to fill in.
    pub fn replicate_from(&self, position: &Position) -> Vec<String> {
        let has_gtid = !position.gtid.is_empty();
        let mut statements = Vec::new();
        match self.family {
            Family::Mariadb if has_gtid => {
                statements.push(format!(
                    "SET GLOBAL gtid_slave_pos = {}",
                    quote_text(&position.gtid)
                ));
            }
            Family::Mysql if has_gtid => {
                let reset = match self.version >= (8, 2, 0) {
                    true => "RESET BINARY LOGS AND GTIDS",
                    false => "RESET MASTER",
                };
                statements.push(reset.to_owned());
                statements.push(format!(
                    "SET GLOBAL gtid_purged = {}",
                    quote_text(&position.gtid)
                ));
            }
            Family::Mariadb | Family::Mysql => {}
        }
        let (change, word, start) = match self.family {
            Family::Mysql if self.version >= (8, 0, 23) => {
                ("CHANGE REPLICATION SOURCE TO", "SOURCE", "START REPLICA")
            }
            Family::Mysql if self.says_replica() => ("CHANGE MASTER TO", "MASTER", "START REPLICA"),
            Family::Mysql | Family::Mariadb => ("CHANGE MASTER TO", "MASTER", "START SLAVE"),
        };
        for channel in &position.channels {
            let at = match (self.family, has_gtid) {
                (Family::Mariadb, true) => "MASTER_USE_GTID = slave_pos".to_owned(),
                (Family::Mysql, true) => format!("{word}_AUTO_POSITION = 1"),
                (Family::Mariadb | Family::Mysql, false) => format!(
                    "{word}_LOG_FILE = {}, {word}_LOG_POS = {}",
                    quote_text(&channel.source_log_file),
                    channel.source_log_pos
                ),
            };
            let (before, behind) = match (self.family, channel.name.is_empty()) {
                (_, true) => (String::new(), String::new()),
                (Family::Mariadb, false) => {
                    (format!("{} ", quote_text(&channel.name)), String::new())
                }
                (Family::Mysql, false) => (
                    String::new(),
                    format!(" FOR CHANNEL {}", quote_text(&channel.name)),
                ),
            };
            let change = change.replacen(" TO", &format!(" {before}TO"), 1);
            statements.push(format!(
                "{change} {word}_HOST = {}, {word}_PORT = {}, {word}_USER = '…', \
                 {word}_PASSWORD = '…', {at}{behind}",
                quote_text(&channel.source_host),
                channel.source_port
            ));
            statements.push(match self.family {
                Family::Mariadb if !channel.name.is_empty() => {
                    format!("{start} {}", quote_text(&channel.name))
                }
                Family::Mariadb | Family::Mysql => format!("{start}{behind}"),
            });
        }
        statements
    }

    /// The counters that stand still when InnoDB writes nothing, as status variable names.
    pub fn write_counters(&self) -> &'static [&'static str] {
        &[
            "Innodb_data_writes",
            "Innodb_data_written",
            "Innodb_pages_written",
            "Innodb_os_log_written",
            "Innodb_data_fsyncs",
            "Innodb_lsn_current",
            "Innodb_lsn_flushed",
            "Innodb_lsn_last_checkpoint",
            "Innodb_checkpoint_age",
            "Innodb_redo_log_current_lsn",
            "Innodb_redo_log_checkpoint_lsn",
        ]
    }
}

fn flush_with_read_lock(tables: &[(String, String)]) -> String {
    let names: Vec<String> = tables
        .iter()
        .map(|(schema, table)| format!("{}.{}", quote_name(schema), quote_name(table)))
        .collect();
    format!("FLUSH TABLES {} WITH READ LOCK", names.join(", "))
}

/// An SQL identifier in backquotes.
pub fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Schemas that belong to the server itself, in these very letters: where names differ by case, `SYS`
/// is a user's.
const SYSTEM_SCHEMAS: [&str; 3] = ["mysql", "sys", "ndbinfo"];

/// A condition: the schema that the column names isn't the server's own. MariaDB compares the names of
/// its catalogue without case.
pub fn is_of_users(column: &str) -> String {
    let names: Vec<String> = SYSTEM_SCHEMAS.iter().map(|name| quote_text(name)).collect();
    format!(
        "LOWER({column}) NOT IN ('information_schema', 'performance_schema') \
         AND CAST({column} AS BINARY) NOT IN ({})",
        names.join(", ")
    )
}

/// An SQL string literal; our sessions run with an empty sql_mode, so backslashes escape.
pub fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_numbers() {
        let cases = [
            (
                "10.11.19-MariaDB-0+deb12u1 Debian 12",
                Family::Mariadb,
                (10, 11, 19),
            ),
            (
                "5.5.5-10.2.3-MariaDB mariadb.org binary",
                Family::Mariadb,
                (10, 2, 3),
            ),
            ("9.7.4 (Debian)", Family::Mysql, (9, 7, 4)),
            ("8.0.36-28 Percona Server (GPL)", Family::Mysql, (8, 0, 36)),
            (
                "5.6.24 MySQL Community Server (GPL)",
                Family::Mysql,
                (5, 6, 24),
            ),
        ];
        for (text, family, version) in cases {
            let flavour = Flavour::of_version(text);
            assert_eq!(
                (flavour.family, flavour.version),
                (family, version),
                "{text}"
            );
        }
    }

    #[test]
    fn statements_follow_the_version() {
        let channel = ChannelName::from("east'1");
        let stop = |version: &str| Flavour::of_version(version).stop_sql_thread(&channel);
        assert_eq!(stop("10.11.1-MariaDB x"), "STOP SLAVE 'east''1' SQL_THREAD");
        assert_eq!(
            stop("9.7.4 x"),
            "STOP REPLICA SQL_THREAD FOR CHANNEL 'east''1'"
        );
        assert_eq!(
            stop("8.0.21 x"),
            "STOP SLAVE SQL_THREAD FOR CHANNEL 'east''1'"
        );
        assert_eq!(stop("5.6.24 x"), "STOP SLAVE SQL_THREAD");
    }

    #[test]
    fn a_restored_server_is_told_where_to_go_on() {
        let channel = crate::server::position::ChannelPosition {
            name: "east".to_owned(),
            source_host: "db1".to_owned(),
            source_port: 3306,
            source_log_file: "binlog.000003".to_owned(),
            source_log_pos: 1234,
        };
        let at = |version: &str, gtid: &str| {
            Flavour::of_version(version).replicate_from(&Position {
                gtid: gtid.to_owned(),
                channels: vec![channel.clone()],
                ..Position::default()
            })
        };
        assert_eq!(
            at("10.11.1-MariaDB x", "0-1-5"),
            [
                "SET GLOBAL gtid_slave_pos = '0-1-5'",
                "CHANGE MASTER 'east' TO MASTER_HOST = 'db1', MASTER_PORT = 3306, \
                 MASTER_USER = '…', MASTER_PASSWORD = '…', MASTER_USE_GTID = slave_pos",
                "START SLAVE 'east'",
            ]
        );
        assert_eq!(
            at("9.7.1 x", "u:1-5"),
            [
                "RESET BINARY LOGS AND GTIDS",
                "SET GLOBAL gtid_purged = 'u:1-5'",
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'db1', SOURCE_PORT = 3306, \
                 SOURCE_USER = '…', SOURCE_PASSWORD = '…', SOURCE_AUTO_POSITION = 1 \
                 FOR CHANNEL 'east'",
                "START REPLICA FOR CHANNEL 'east'",
            ]
        );
        assert_eq!(
            at("5.7.40 x", "")[0],
            "CHANGE MASTER TO MASTER_HOST = 'db1', MASTER_PORT = 3306, MASTER_USER = '…', \
             MASTER_PASSWORD = '…', MASTER_LOG_FILE = 'binlog.000003', MASTER_LOG_POS = 1234 \
             FOR CHANNEL 'east'"
        );
    }

    #[test]
    fn own_position_statement_changed_in_8_2() {
        let own = |version: &str| Flavour::of_version(version).own_position();
        assert_eq!(own("8.0.40 x"), "SHOW MASTER STATUS");
        assert_eq!(own("8.4.0 x"), "SHOW BINARY LOG STATUS");
        assert_eq!(own("10.11.19-MariaDB x"), "SHOW BINLOG STATUS");
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quote_name("a`b"), "`a``b`");
        assert_eq!(quote_text(r"a\'b"), r"'a\\''b'");
    }
}
