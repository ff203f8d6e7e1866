//! The SQL for accounts that may do one thing only: printed, for an administrator to run.
//!
//! Held against real servers by tests/health/output.rs, tests/replication/ and tests/failover/told.rs,
//! which do the commands with just these.

use super::flavour::{Family, Flavour, quote_text};
use super::privileges::Needed;

/// What an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// status, check.
    Monitor,
    /// doctor, snapshot, pause, resume, recover; and what Monitor may.
    Snapshot,
    /// Snapshots by SQL alone; and what Snapshot may.
    Dump,
    /// heartbeat, on the source; and what Monitor may.
    Heartbeat,
    /// setup, as the source.
    SetupSource,
    /// setup, as the replica, which is made to hold whatever the source has.
    SetupReplica,
    /// switchover, failover, repoint, rejoin; and what Monitor may.
    Failover,
}

impl Purpose {
    pub const ALL: [Self; 7] = [
        Self::Monitor,
        Self::Snapshot,
        Self::Dump,
        Self::Heartbeat,
        Self::SetupSource,
        Self::SetupReplica,
        Self::Failover,
    ];

    pub fn account(self) -> &'static str {
        match self {
            Self::Monitor => "understudy_monitor",
            Self::Snapshot => "understudy_snapshot",
            Self::Dump => "understudy_dump",
            Self::Heartbeat => "understudy_heartbeat",
            Self::SetupSource | Self::SetupReplica => "understudy_setup",
            Self::Failover => "understudy_failover",
        }
    }

    pub fn commands(self) -> &'static str {
        match self {
            Self::Monitor => "status, check",
            Self::Snapshot => "doctor, snapshot, pause, resume, recover",
            Self::Heartbeat => "heartbeat",
            Self::Dump => "snapshots with backend = \"dump\"; pause, resume, recover",
            // Files bring its accounts: the same one must then do for the replica.
            Self::SetupSource => {
                "setup by replication or dump, when this server is the source \
                 (clone, snapshot:ID: as for the replica)"
            }
            Self::SetupReplica => "setup, when this server is the replica",
            Self::Failover => "switchover, failover, repoint, rejoin; recover after them",
        }
    }
}

/// What setup needs on the source for itself, or to give to the accounts that it makes.
const HANDED_ON: &str = "PROCESS, RELOAD, SELECT, LOCK TABLES, SHOW VIEW, TRIGGER, EVENT, \
                         CREATE USER, REPLICATION SLAVE";

impl Flavour {
    /// The statements that make one account, in order; the password is for the administrator to
    /// fill in.
    pub fn grants(&self, purpose: Purpose, host: &str) -> Vec<String> {
        let account = format!("{}@{}", quote_text(purpose.account()), quote_text(host));
        let mut statements = vec![format!("CREATE USER {account} IDENTIFIED BY '…';")];
        statements.extend(self.privileges(purpose).into_iter().map(|(what, on)| {
            // What setup hands on, it must have to give.
            let hands_on = matches!(purpose, Purpose::SetupSource | Purpose::SetupReplica);
            let behind = match hands_on && on == "*.*" {
                true => " WITH GRANT OPTION",
                false => "",
            };
            format!("GRANT {what} ON {on} TO {account}{behind};")
        }));
        statements
    }

    /// What a purpose needs, and on what.
    pub fn privileges(&self, purpose: Purpose) -> Vec<(String, &'static str)> {
        match self.family {
            _ if purpose == Purpose::Dump => {
                let mut privileges = self.privileges(Purpose::Snapshot);
                // What it may not see isn't listed to it, and would be missing.
                privileges.extend(owned(vec![("SHOW VIEW, TRIGGER, EVENT", "*.*")]));
                privileges
            }
            _ if purpose == Purpose::Failover => by_object(&self.moves_roles()),
            _ if purpose == Purpose::SetupReplica => owned(vec![("ALL", "*.*")]),
            Family::Mariadb => owned(self.mariadb_privileges(purpose)),
            Family::Mysql if self.version >= (8, 0, 0) => owned(mysql_privileges(purpose)),
            Family::Mysql => owned(old_mysql_privileges(purpose)),
        }
    }

    /// MariaDB 11 took most of SUPER apart, and 10.5 knows the parts already.
    fn mariadb_privileges(&self, purpose: Purpose) -> Vec<(&'static str, &'static str)> {
        let replica_monitor = match self.version >= (10, 5, 9) {
            true => "BINLOG MONITOR, SLAVE MONITOR",
            false => "BINLOG MONITOR, REPLICATION SLAVE ADMIN",
        };
        let mut privileges = vec![(replica_monitor, "*.*"), ("SELECT", "`understudy`.*")];
        privileges.extend(match purpose {
            Purpose::Monitor | Purpose::SetupReplica => vec![],
            Purpose::SetupSource => vec![
                (HANDED_ON, "*.*"),
                // Silence is noticed; commits wait for replicas.
                ("REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN", "*.*"),
                ("ALL", "`understudy`.*"),
            ],
            Purpose::Heartbeat => vec![("CREATE, INSERT, DELETE", "`understudy`.*")],
            Purpose::Snapshot => vec![
                // information_schema shows only tables that one may read: one that we can't see
                // would not be locked.
                // LOCK TABLES: where the binary log isn't on the volume of the data.
                ("PROCESS, RELOAD, SELECT, LOCK TABLES", "*.*"),
                ("REPLICATION SLAVE ADMIN, CONNECTION ADMIN", "*.*"),
                // File by file (copy, reflink) and `stop` set global variables.
                ("SUPER, READ_ONLY ADMIN", "*.*"),
            ],
            // Of a table of its own, and of Snapshot's.
            Purpose::Dump | Purpose::Failover => vec![],
        });
        privileges
    }
}

fn owned(privileges: Vec<(&str, &'static str)>) -> Vec<(String, &'static str)> {
    let owned = privileges.into_iter();
    owned.map(|(what, on)| (what.to_owned(), on)).collect()
}

/// One line for each object, in the table's order.
fn by_object(table: &[Needed]) -> Vec<(String, &'static str)> {
    let mut lines: Vec<(String, &'static str)> = Vec::new();
    for needed in table {
        match lines.iter_mut().find(|(_, on)| *on == needed.on) {
            Some((what, _)) => *what += &format!(", {}", needed.name),
            None => lines.push((needed.name.to_owned(), needed.on)),
        }
    }
    lines
}

fn mysql_privileges(purpose: Purpose) -> Vec<(&'static str, &'static str)> {
    let mut privileges = vec![
        ("REPLICATION CLIENT", "*.*"),
        ("SELECT", "`performance_schema`.*"),
        ("SELECT", "`understudy`.*"),
    ];
    privileges.extend(match purpose {
        Purpose::Monitor | Purpose::SetupReplica => vec![],
        Purpose::SetupSource => vec![
            (HANDED_ON, "*.*"),
            // Silence is noticed; commits wait for replicas, by a plugin.
            ("SYSTEM_VARIABLES_ADMIN", "*.*"),
            ("INSERT, DELETE", "`mysql`.`plugin`"),
            ("ALL", "`understudy`.*"),
        ],
        Purpose::Heartbeat => vec![("CREATE, INSERT, DELETE", "`understudy`.*")],
        Purpose::Snapshot => vec![
            // Tables that a crash would hurt are locked by name.
            ("PROCESS, RELOAD, SELECT, LOCK TABLES", "*.*"),
            (
                "REPLICATION_SLAVE_ADMIN, BACKUP_ADMIN, CONNECTION_ADMIN",
                "*.*",
            ),
            // File by file (copy, reflink) and `stop` set global variables.
            ("SYSTEM_VARIABLES_ADMIN", "*.*"),
        ],
        Purpose::Dump | Purpose::Failover => vec![],
    });
    privileges
}

fn old_mysql_privileges(purpose: Purpose) -> Vec<(&'static str, &'static str)> {
    let mut privileges = vec![("REPLICATION CLIENT", "*.*"), ("SELECT", "`understudy`.*")];
    privileges.extend(match purpose {
        Purpose::Monitor | Purpose::SetupReplica => vec![],
        Purpose::SetupSource => vec![
            (HANDED_ON, "*.*"),
            ("SUPER", "*.*"),
            ("INSERT, DELETE", "`mysql`.`plugin`"),
            ("ALL", "`understudy`.*"),
        ],
        Purpose::Heartbeat => vec![("CREATE, INSERT, DELETE", "`understudy`.*")],
        Purpose::Snapshot => vec![("PROCESS, RELOAD, SELECT, LOCK TABLES, SUPER", "*.*")],
        Purpose::Dump | Purpose::Failover => vec![],
    });
    privileges
}
