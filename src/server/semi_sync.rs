//! Semi-synchronous replication: its two sides as a server has them, how they are switched, who waits
//! for an acknowledgement. And global variables that a server keeps over a restart, where it can.

use std::collections::BTreeMap;
use std::time::Duration;

use super::flavour::{Family, Flavour, quote_text};
use super::session::{READ_LIMIT, Session, SessionError};

/// A source that waits so long at most lets its writers go on: semi-synchronous replication may be
/// switched on where nobody acknowledges yet. It is the servers' own default.
pub const PATIENT_MAX: Duration = Duration::from_secs(10);

/// The part that a server has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Its commits wait.
    Source,
    /// It acknowledges.
    Replica,
}

/// A plugin of MySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plugin {
    pub name: &'static str,
    pub file: &'static str,
}

/// The variables of both sides; none of a side whose plugin isn't there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sides {
    variables: BTreeMap<String, String>,
}

/// The settings of the source's side that go with it to another server.
const SETTINGS: [(&str, &str); 4] = [
    ("timeout", "timeout"),
    ("wait_point", "wait_point"),
    ("wait_for_replica_count", "wait_for_slave_count"),
    ("wait_no_replica", "wait_no_slave"),
];

impl Sides {
    fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// What the names of a side's variables begin with: MySQL has new ones since 8.0.26, of which a
    /// server may have either.
    pub fn prefix(&self, side: Side) -> Option<&'static str> {
        let both = match side {
            Side::Source => ["rpl_semi_sync_source", "rpl_semi_sync_master"],
            Side::Replica => ["rpl_semi_sync_replica", "rpl_semi_sync_slave"],
        };
        both.into_iter()
            .find(|prefix| self.value(&format!("{prefix}_enabled")).is_some())
    }

    pub fn has(&self, side: Side) -> bool {
        self.prefix(side).is_some()
    }

    /// The variable that switches a side, where that is there.
    pub fn switch(&self, side: Side) -> Option<String> {
        Some(format!("{}_enabled", self.prefix(side)?))
    }

    pub fn is_on(&self, side: Side) -> bool {
        let value = self.switch(side);
        matches!(value.and_then(|name| self.value(&name)), Some("ON" | "1"))
    }

    /// One of [`SETTINGS`], under its new name: the variable's own name, and its value.
    fn setting(&self, (new, old): (&str, &str)) -> Option<(String, &str)> {
        let prefix = self.prefix(Side::Source)?;
        [new, old].iter().find_map(|word| {
            let name = format!("{prefix}_{word}");
            let value = self.value(&name)?;
            Some((name, value))
        })
    }

    /// How long a commit waits, as its variable's name and milliseconds.
    pub fn timeout(&self) -> Option<(String, u64)> {
        let (name, value) = self.setting(SETTINGS[0])?;
        Some((name, value.parse().ok()?))
    }

    /// When a commit waits, as its variable's name and value.
    pub fn wait_point(&self) -> Option<(String, &str)> {
        self.setting(SETTINGS[1])
    }

    /// Whether writers go on by themselves when nobody acknowledges.
    pub fn is_patient(&self) -> bool {
        let limit = PATIENT_MAX.as_millis();
        self.timeout()
            .is_some_and(|(_, ms)| u128::from(ms) <= limit)
    }

    /// How many replicas have to acknowledge.
    pub fn wanted(&self) -> u64 {
        self.setting(SETTINGS[2])
            .and_then(|(_, count)| count.parse().ok())
            .unwrap_or(1)
    }

    /// The settings of another server's source side that differ here, under their names here.
    pub fn settings_of(&self, other: &Self) -> Vec<(String, String)> {
        SETTINGS
            .into_iter()
            .filter_map(|setting| {
                let (_, wanted) = other.setting(setting)?;
                let (name, own) = self.setting(setting)?;
                (own != wanted).then(|| (name, wanted.to_owned()))
            })
            .collect()
    }

    /// As if these had been set.
    pub fn with(&self, settings: &[(String, String)]) -> Self {
        let mut variables = self.variables.clone();
        variables.extend(settings.iter().cloned());
        Self { variables }
    }
}

impl Flavour {
    /// What has to be installed for a side; `None` where it is built in.
    pub fn semi_sync_plugin(&self, side: Side) -> Option<Plugin> {
        let plugin = |name, file| Some(Plugin { name, file });
        match (self.family, side, self.version >= (8, 0, 26)) {
            (Family::Mariadb, _, _) => None,
            (Family::Mysql, Side::Source, true) => {
                plugin("rpl_semi_sync_source", "semisync_source.so")
            }
            (Family::Mysql, Side::Replica, true) => {
                plugin("rpl_semi_sync_replica", "semisync_replica.so")
            }
            (Family::Mysql, Side::Source, false) => {
                plugin("rpl_semi_sync_master", "semisync_master.so")
            }
            (Family::Mysql, Side::Replica, false) => {
                plugin("rpl_semi_sync_slave", "semisync_slave.so")
            }
        }
    }

    /// Whether the server itself writes down what a variable is to be after its restart.
    pub fn keeps_variables(&self) -> bool {
        self.close_for_good().is_some()
    }

    /// Sets a global variable, where the server can also for after its restart.
    pub fn set_kept(&self, name: &str, value: &str) -> String {
        match self.keeps_variables() {
            true => format!("SET PERSIST {name} = {}", literal(value)),
            false => set_now(name, value),
        }
    }

    /// One value: what a variable is persisted as; no row where it isn't.
    pub fn persisted_query(&self, name: &str) -> Option<String> {
        self.keeps_variables().then(|| {
            format!(
                "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables \
                 WHERE VARIABLE_NAME = {}",
                quote_text(name)
            )
        })
    }

    /// One value: CONFIG where the variable has its value from an option file. Only MariaDB tells of
    /// those that can't persist theirs.
    pub fn origin_query(&self, name: &str) -> Option<String> {
        (self.family == Family::Mariadb).then(|| {
            format!(
                "SELECT GLOBAL_VALUE_ORIGIN FROM information_schema.SYSTEM_VARIABLES \
                 WHERE VARIABLE_NAME = {}",
                quote_text(&name.to_ascii_uppercase())
            )
        })
    }

    /// After how much silence a replica gives its connection up: the variable, and the seconds that
    /// setup gives it.
    ///
    /// A source that looks through its binary log for where to go on sends no heartbeats meanwhile on
    /// MariaDB (10.11: 2.5 s for 0.8 GB of small transactions in memory), and a replica that gives up
    /// before that starts from the beginning, for ever. MySQL 9.7 sends them then, too.
    pub fn net_timeout(&self) -> (&'static str, u64) {
        match self.family {
            Family::Mariadb => ("slave_net_timeout", 30),
            Family::Mysql if self.version >= (8, 0, 26) => ("replica_net_timeout", 4),
            Family::Mysql => ("slave_net_timeout", 4),
        }
    }
}

/// Sets a global variable of the running server.
pub fn set_now(name: &str, value: &str) -> String {
    format!("SET GLOBAL {name} = {}", literal(value))
}

fn literal(value: &str) -> String {
    match value.parse::<f64>() {
        Ok(_) => value.to_owned(),
        Err(_) => quote_text(value),
    }
}

pub fn observe(session: Session) -> Result<(Session, Sides), SessionError> {
    let statement = r"SHOW GLOBAL VARIABLES LIKE 'rpl\_semi\_sync\_%'";
    let (session, rows) = session.query(statement, READ_LIMIT)?;
    let entry = |row: &super::row::Row| {
        let name = row.at(0)?.to_ascii_lowercase();
        Some((name, row.at(1)?.to_owned()))
    };
    let variables = rows.iter().filter_map(entry).collect();
    Ok((session, Sides { variables }))
}

/// A side is in force: a replica acknowledges now, a source waits now.
pub fn is_active(
    session: Session,
    sides: &Sides,
    side: Side,
) -> Result<(Session, bool), SessionError> {
    let Some(prefix) = sides.prefix(side) else {
        return Ok((session, false));
    };
    let statement = format!("SHOW GLOBAL STATUS LIKE '{prefix}_status'");
    let (session, rows) = session.query(&statement, READ_LIMIT)?;
    let is_on = rows.first().and_then(|row| row.at(1)) == Some("ON");
    Ok((session, is_on))
}

/// How many replicas acknowledge to a source.
pub fn clients(session: Session, sides: &Sides) -> Result<(Session, u64), SessionError> {
    let prefix = sides.prefix(Side::Source).unwrap_or_default();
    let statement = format!("SHOW GLOBAL STATUS LIKE '{prefix}_clients'");
    let (session, rows) = session.query(&statement, READ_LIMIT)?;
    let count = rows.first().and_then(|row| row.at(1)?.parse().ok());
    Ok((session, count.unwrap_or(0)))
}

/// The connections whose commits wait for an acknowledgement now, each with its statement: one that is
/// the same at the next look has waited meanwhile. Others wait behind them in other states ("waiting
/// for handler commit", "Commit").
pub fn waiting(session: Session) -> Result<(Session, Vec<String>), SessionError> {
    let statement = "SELECT CONCAT(ID, ' ', COALESCE(INFO, '')) \
                     FROM information_schema.PROCESSLIST \
                     WHERE STATE LIKE 'Waiting for semi-sync ACK%'";
    let (session, rows) = session.query(statement, READ_LIMIT)?;
    let waiting = rows.iter().filter_map(|row| row.at(0).map(str::to_owned));
    Ok((session, waiting.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(variables: &[(&str, &str)]) -> Sides {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Sides {
            variables: variables.iter().map(own).collect(),
        }
    }

    #[test]
    fn sides_are_read_under_either_name() {
        let new = sides(&[
            ("rpl_semi_sync_source_enabled", "ON"),
            ("rpl_semi_sync_source_timeout", "60000"),
            ("rpl_semi_sync_source_wait_for_replica_count", "2"),
            ("rpl_semi_sync_source_wait_point", "AFTER_SYNC"),
        ]);
        assert!(new.is_on(Side::Source) && !new.has(Side::Replica));
        assert!(!new.is_patient());
        assert_eq!(new.wanted(), 2);
        let mariadb = sides(&[
            ("rpl_semi_sync_master_enabled", "OFF"),
            ("rpl_semi_sync_master_timeout", "10000"),
            ("rpl_semi_sync_master_wait_point", "AFTER_COMMIT"),
            ("rpl_semi_sync_slave_enabled", "ON"),
        ]);
        assert!(mariadb.is_on(Side::Replica) && !mariadb.is_on(Side::Source));
        assert!(mariadb.is_patient());
        assert_eq!(mariadb.wanted(), 1);
        // What the other hasn't stays away.
        let differing = mariadb.settings_of(&new);
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            differing,
            [
                own("rpl_semi_sync_master_timeout", "60000"),
                own("rpl_semi_sync_master_wait_point", "AFTER_SYNC"),
            ]
        );
        assert!(!mariadb.with(&differing).is_patient());
        assert_eq!(sides(&[]).switch(Side::Source), None);
    }

    #[test]
    fn plugins_and_variables_are_in_each_versions_words() {
        let flavour = Flavour::of_version;
        let plugin = |version: &str, side| flavour(version).semi_sync_plugin(side);
        assert_eq!(plugin("10.11.19-MariaDB x", Side::Source), None);
        assert_eq!(
            plugin("9.7.4 x", Side::Replica).map(|plugin| plugin.file),
            Some("semisync_replica.so")
        );
        assert_eq!(
            plugin("8.0.25 x", Side::Source).map(|plugin| plugin.name),
            Some("rpl_semi_sync_master")
        );
        assert_eq!(
            flavour("9.7.4 x").set_kept("a", "ON"),
            "SET PERSIST a = 'ON'"
        );
        assert_eq!(flavour("5.7.30 x").set_kept("a", "5"), "SET GLOBAL a = 5");
        assert_eq!(flavour("8.0.20 x").net_timeout(), ("slave_net_timeout", 4));
    }
}
