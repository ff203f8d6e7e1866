//! The SQL for accounts that may do one thing only: printed, for an administrator to run.
//!
//! Held against real servers by tests/grants.rs, which does every command with just these.

use super::flavour::{Family, Flavour, quote_text};

/// What an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// status, check.
    Monitor,
    /// doctor, snapshot, pause, resume, recover; and what Monitor may.
    Snapshot,
    /// heartbeat, on the source; and what Monitor may.
    Heartbeat,
    /// setup, and to move roles; and what Monitor may.
    Failover,
}

impl Purpose {
    pub const ALL: [Self; 4] = [
        Self::Monitor,
        Self::Snapshot,
        Self::Heartbeat,
        Self::Failover,
    ];

    pub fn account(self) -> &'static str {
        match self {
            Self::Monitor => "understudy_monitor",
            Self::Snapshot => "understudy_snapshot",
            Self::Heartbeat => "understudy_heartbeat",
            Self::Failover => "understudy_failover",
        }
    }

    pub fn commands(self) -> &'static str {
        match self {
            Self::Monitor => "status, check",
            Self::Snapshot => "doctor, snapshot, pause, resume, recover",
            Self::Heartbeat => "heartbeat",
            Self::Failover => "setup, failover, switchover, rejoin",
        }
    }
}

impl Flavour {
    /// The statements that make one account, in order; the password is for the administrator to
    /// fill in.
    pub fn grants(&self, purpose: Purpose, host: &str) -> Vec<String> {
        let account = format!("{}@{}", quote_text(purpose.account()), quote_text(host));
        let mut statements = vec![format!("CREATE USER {account} IDENTIFIED BY '…';")];
        let privileges = match self.family {
            Family::Mariadb => self.mariadb_privileges(purpose),
            Family::Mysql if self.version >= (8, 0, 0) => mysql_privileges(purpose),
            Family::Mysql => old_mysql_privileges(purpose),
        };
        statements.extend(
            privileges
                .into_iter()
                .map(|(what, on)| format!("GRANT {what} ON {on} TO {account};")),
        );
        if purpose == Purpose::Failover {
            // What it gives to the replication account, it must have to give.
            statements.push(format!(
                "GRANT REPLICATION SLAVE ON *.* TO {account} WITH GRANT OPTION;"
            ));
        }
        statements
    }

    /// MariaDB 11 took most of SUPER apart, and 10.5 knows the parts already.
    fn mariadb_privileges(&self, purpose: Purpose) -> Vec<(&'static str, &'static str)> {
        let replica_monitor = match self.version >= (10, 5, 9) {
            true => "BINLOG MONITOR, SLAVE MONITOR",
            false => "BINLOG MONITOR, REPLICATION SLAVE ADMIN",
        };
        let mut privileges = vec![(replica_monitor, "*.*"), ("SELECT", "`understudy`.*")];
        privileges.extend(match purpose {
            Purpose::Monitor => vec![],
            Purpose::Heartbeat => vec![("CREATE, INSERT, DELETE", "`understudy`.*")],
            Purpose::Snapshot => vec![
                // information_schema shows only tables that one may read: one that we can't see
                // would not be locked.
                ("PROCESS, RELOAD, SELECT", "*.*"),
                ("REPLICATION SLAVE ADMIN, CONNECTION ADMIN", "*.*"),
                // File by file (copy, reflink) and `stop` set global variables.
                ("SUPER, READ_ONLY ADMIN", "*.*"),
            ],
            Purpose::Failover => vec![
                ("PROCESS, RELOAD, SELECT", "*.*"),
                (
                    "REPLICATION SLAVE ADMIN, CONNECTION ADMIN, BINLOG ADMIN, READ_ONLY ADMIN, SUPER",
                    "*.*",
                ),
                ("CREATE USER, CREATE, DROP, ALTER, INSERT, UPDATE, DELETE, INDEX, TRIGGER, EVENT, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, LOCK TABLES, REFERENCES", "*.*"),
            ],
        });
        privileges
    }
}

fn mysql_privileges(purpose: Purpose) -> Vec<(&'static str, &'static str)> {
    let mut privileges = vec![
        ("REPLICATION CLIENT", "*.*"),
        ("SELECT", "`performance_schema`.*"),
        ("SELECT", "`understudy`.*"),
    ];
    privileges.extend(match purpose {
        Purpose::Monitor => vec![],
        Purpose::Heartbeat => vec![("CREATE, INSERT, DELETE", "`understudy`.*")],
        Purpose::Snapshot => vec![
            // Tables that a crash would hurt are locked by name.
            ("PROCESS, RELOAD, SELECT, LOCK TABLES", "*.*"),
            ("REPLICATION_SLAVE_ADMIN, BACKUP_ADMIN, CONNECTION_ADMIN", "*.*"),
            // File by file (copy, reflink) and `stop` set global variables.
            ("SYSTEM_VARIABLES_ADMIN", "*.*"),
        ],
        Purpose::Failover => vec![
            ("PROCESS, RELOAD, SELECT", "*.*"),
            ("REPLICATION_SLAVE_ADMIN, BACKUP_ADMIN, CLONE_ADMIN, CONNECTION_ADMIN, SYSTEM_VARIABLES_ADMIN, PERSIST_RO_VARIABLES_ADMIN, BINLOG_ADMIN", "*.*"),
            ("CREATE USER, CREATE, DROP, ALTER, INSERT, UPDATE, DELETE, INDEX, TRIGGER, EVENT, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, LOCK TABLES, REFERENCES", "*.*"),
        ],
    });
    privileges
}

fn old_mysql_privileges(purpose: Purpose) -> Vec<(&'static str, &'static str)> {
    let mut privileges = vec![("REPLICATION CLIENT", "*.*"), ("SELECT", "`understudy`.*")];
    privileges.extend(match purpose {
        Purpose::Monitor => vec![],
        Purpose::Heartbeat => vec![("CREATE, INSERT, DELETE", "`understudy`.*")],
        Purpose::Snapshot => vec![("PROCESS, RELOAD, SELECT, LOCK TABLES, SUPER", "*.*")],
        Purpose::Failover => vec![
            ("PROCESS, RELOAD, SELECT, SUPER", "*.*"),
            ("CREATE USER, CREATE, DROP, ALTER, INSERT, UPDATE, DELETE, INDEX, TRIGGER, EVENT, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, LOCK TABLES, REFERENCES", "*.*"),
        ],
    });
    privileges
}
