//! What a change of roles has to be allowed, and what an account is: the one table that `grants`
//! prints from, and that accounts are held against before anything is changed.

use super::flavour::{Family, Flavour};

/// When a privilege is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing moves without it.
    Always,
    /// For a planned change; a failover comes through without it.
    Planned,
    /// It only shows something that is told.
    Told,
}

/// One privilege of those that move roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needed {
    /// As GRANT words it.
    pub name: &'static str,
    /// As GRANT words it: `*.*`, or names in backticks.
    pub on: &'static str,
    pub need: Need,
    /// What it is for, to complete "without it nobody can …".
    pub to: &'static str,
}

impl Needed {
    /// `PROCESS`, or `SELECT ON `mysql`.`user``.
    pub fn words(&self) -> String {
        match self.on {
            EVERYWHERE => self.name.to_owned(),
            on => format!("{} ON {on}", self.name),
        }
    }
}

pub(super) const EVERYWHERE: &str = "*.*";

/// Where MySQL keeps what a link is set to.
const HEARTBEATS: &str = "`performance_schema`.*";

const fn needed(name: &'static str, on: &'static str, need: Need, to: &'static str) -> Needed {
    Needed { name, on, need, to }
}

impl Flavour {
    /// All that switchover, failover, repoint and rejoin need, on each server of the pair.
    pub fn moves_roles(&self) -> Vec<Needed> {
        use Need::{Always, Planned};
        let mut table = match self.family {
            Family::Mariadb => self.mariadb_moves(),
            Family::Mysql if self.version >= (8, 0, 0) => self.mysql_moves(),
            Family::Mysql => vec![
                needed(
                    "REPLICATION CLIENT",
                    EVERYWHERE,
                    Always,
                    "see who follows whom",
                ),
                needed(
                    "SUPER",
                    EVERYWHERE,
                    Always,
                    "open, close and turn servers, and end clients",
                ),
            ],
        };
        if self.family == Family::Mysql && self.version >= (5, 7, 3) {
            // Heartbeats are read there.
            table.push(needed(
                "SELECT",
                HEARTBEATS,
                Always,
                "keep what a link is set to",
            ));
        }
        table.extend([
            needed(
                "RELOAD",
                EVERYWHERE,
                Always,
                "let the new source forget its old one, and lock writers out",
            ),
            needed(
                "PROCESS",
                EVERYWHERE,
                Planned,
                "see whose sessions have to be ended",
            ),
            needed("EVENT", EVERYWHERE, Planned, "move the events"),
            needed(
                "SELECT",
                "`mysql`.`user`",
                Planned,
                "see whether the old source may log in to the new one",
            ),
            needed(
                "SELECT",
                "`understudy`.*",
                Planned,
                "see that a marker has arrived",
            ),
            needed(
                "CREATE",
                "`understudy`.*",
                Planned,
                "make the table of markers",
            ),
            needed("DROP", "`understudy`.*", Planned, "remove that table again"),
            needed("INSERT", "`understudy`.*", Planned, "write a marker"),
            needed("DELETE", "`understudy`.*", Planned, "remove a marker"),
        ]);
        table
    }

    /// What of that `repoint` needs on the replica that it turns.
    pub fn turns_a_replica(&self) -> Vec<Needed> {
        const NAMES: [&str; 6] = [
            "REPLICATION CLIENT",
            "SLAVE MONITOR",
            "REPLICATION SLAVE ADMIN",
            "REPLICATION_SLAVE_ADMIN",
            "SUPER",
            "SELECT",
        ];
        let mut table = self.moves_roles();
        table.retain(|needed| {
            NAMES.contains(&needed.name) && (needed.name != "SELECT" || needed.on == HEARTBEATS)
        });
        table
    }

    /// What of that `rejoin` needs on the server that comes back, with events of its own or without:
    /// it is closed, made to follow, and its events sleep.
    pub fn takes_back(&self, has_events: bool) -> Vec<Needed> {
        const CLOSES: [&str; 2] = ["READ_ONLY ADMIN", "SYSTEM_VARIABLES_ADMIN"];
        const EVENTS: [&str; 4] = ["EVENT", "BINLOG ADMIN", "SET USER", "SET_ANY_DEFINER"];
        let turns = self.turns_a_replica();
        let mut table = self.moves_roles();
        table.retain(|needed| {
            turns.contains(needed)
                || CLOSES.contains(&needed.name)
                || has_events && EVENTS.contains(&needed.name)
        });
        table
    }

    /// What shows who follows whom.
    pub fn shows_links(&self) -> Vec<Needed> {
        let mut table = self.moves_roles();
        table.retain(|needed| matches!(needed.name, "REPLICATION CLIENT" | "SLAVE MONITOR"));
        table
    }

    /// MariaDB 11 took most of SUPER apart, and 10.5 knows the parts already.
    fn mariadb_moves(&self) -> Vec<Needed> {
        use Need::{Always, Planned, Told};
        let parts = self.version >= (10, 5, 2);
        let mut table = vec![needed(
            "BINLOG MONITOR",
            EVERYWHERE,
            Told,
            "see what binary logs hold",
        )];
        if self.version >= (10, 5, 9) {
            table.push(needed(
                "SLAVE MONITOR",
                EVERYWHERE,
                Always,
                "see who follows whom",
            ));
        }
        table.push(needed(
            "REPLICATION SLAVE ADMIN",
            EVERYWHERE,
            Always,
            "turn replicas",
        ));
        match parts {
            true => table.extend([
                needed(
                    "READ_ONLY ADMIN",
                    EVERYWHERE,
                    Always,
                    "open and close servers",
                ),
                needed(
                    "CONNECTION ADMIN",
                    EVERYWHERE,
                    Planned,
                    "end the sessions of clients",
                ),
                needed(
                    "BINLOG ADMIN",
                    EVERYWHERE,
                    Planned,
                    "keep what is done to events out of the binary log",
                ),
                needed(
                    "REPLICATION MASTER ADMIN",
                    EVERYWHERE,
                    Told,
                    "switch semi-synchronous replication",
                ),
                needed(
                    "BINLOG REPLAY",
                    EVERYWHERE,
                    Told,
                    "bring in what only a dead source's binary logs hold",
                ),
                needed(
                    "SET USER",
                    EVERYWHERE,
                    Planned,
                    "leave events to their definers",
                ),
            ]),
            false => table.push(needed(
                "SUPER",
                EVERYWHERE,
                Always,
                "open and close servers, and end clients",
            )),
        }
        table
    }

    fn mysql_moves(&self) -> Vec<Needed> {
        use Need::{Always, Planned, Told};
        let definers = match self.version >= (8, 2, 0) {
            true => "SET_ANY_DEFINER",
            false => "SET_USER_ID",
        };
        let mut table = vec![
            needed(
                "REPLICATION CLIENT",
                EVERYWHERE,
                Always,
                "see who follows whom",
            ),
            needed(
                "REPLICATION_SLAVE_ADMIN",
                EVERYWHERE,
                Always,
                "turn replicas",
            ),
            needed(
                "SYSTEM_VARIABLES_ADMIN",
                EVERYWHERE,
                Always,
                "open and close servers",
            ),
            needed(
                "CONNECTION_ADMIN",
                EVERYWHERE,
                Planned,
                "end the sessions of clients",
            ),
            needed(
                definers,
                EVERYWHERE,
                Planned,
                "leave events to their definers",
            ),
            needed(
                "BINLOG_ADMIN",
                EVERYWHERE,
                Told,
                "bring in what only a dead source's binary logs hold",
            ),
            needed(
                "XA_RECOVER_ADMIN",
                EVERYWHERE,
                Told,
                "see XA transactions that are prepared",
            ),
        ];
        if self.version >= (8, 0, 16) {
            // Without it the session of whoever has it can't be ended, nor be the definer of an event.
            table.push(needed(
                "SYSTEM_USER",
                EVERYWHERE,
                Planned,
                "end the sessions of administrators",
            ));
        }
        table
    }

    /// The word that SHOW GRANTS has for a privilege that has several.
    pub(super) fn printed_word<'t>(&self, name: &'t str) -> &'t str {
        match (self.family, name) {
            (Family::Mariadb, "REPLICATION CLIENT") => "BINLOG MONITOR",
            (Family::Mariadb, "REPLICA MONITOR") => "SLAVE MONITOR",
            (Family::Mariadb, "REPLICATION REPLICA ADMIN") => "REPLICATION SLAVE ADMIN",
            (Family::Mariadb | Family::Mysql, name) => name,
        }
    }

    /// Whether SUPER comes with it. MariaDB 10.11.14: not with READ_ONLY ADMIN (error 1227); 11.0.1
    /// took all the others too. MySQL 9.7.4: with all but SYSTEM_USER and XA_RECOVER_ADMIN.
    pub(super) fn super_does(&self, name: &str) -> bool {
        match self.family {
            Family::Mariadb => match name {
                "READ_ONLY ADMIN" => self.version < (10, 11, 0),
                "REPLICATION SLAVE ADMIN"
                | "CONNECTION ADMIN"
                | "BINLOG ADMIN"
                | "BINLOG REPLAY"
                | "REPLICATION MASTER ADMIN"
                | "SET USER"
                | "BINLOG MONITOR"
                | "SLAVE MONITOR" => self.version < (11, 0, 1),
                _ => false,
            },
            Family::Mysql => matches!(
                name,
                "REPLICATION CLIENT"
                    | "REPLICATION_SLAVE_ADMIN"
                    | "SYSTEM_VARIABLES_ADMIN"
                    | "CONNECTION_ADMIN"
                    | "BINLOG_ADMIN"
                    | "SET_ANY_DEFINER"
                    | "SET_USER_ID"
            ),
        }
    }
}
