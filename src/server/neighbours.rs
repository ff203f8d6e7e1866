//! Whom a source knows of its replicas: what they said of themselves, and from where they fetch. And
//! what an account lacks of the rights that a purpose needs.

use super::flavour::{Family, Flavour};
use super::grants::Purpose;
use super::held::Held;
use super::pair::Account;
use super::row::Row;
use super::session::{READ_LIMIT, ServerError, Session, SessionError};

/// A replica as its source has been told of it; the address is the replica's own word, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    pub server_id: u32,
    /// MySQL's.
    pub uuid: Option<String>,
    /// Its `report_host`; often empty.
    pub host: String,
    pub port: u16,
}

impl Neighbour {
    fn of(row: &Row) -> Option<Self> {
        Some(Self {
            server_id: row.get("Server_Id")?.parse().ok()?,
            uuid: row
                .get_any(&["Replica_UUID", "Slave_UUID"])
                .filter(|uuid| !uuid.is_empty())
                .map(str::to_ascii_lowercase),
            host: row.get("Host").unwrap_or_default().to_owned(),
            port: row
                .get("Port")
                .and_then(|port| port.parse().ok())
                .unwrap_or(0),
        })
    }
}

impl Flavour {
    /// A row per replica that is connected.
    pub fn replicas_query(&self) -> &'static str {
        match self.family {
            Family::Mysql if self.version >= (8, 0, 22) => "SHOW REPLICAS",
            Family::Mysql | Family::Mariadb => "SHOW SLAVE HOSTS",
        }
    }

    /// What an account lacks of the rights for one purpose, as the statements that give them.
    pub fn missing_grants(&self, purpose: Purpose, held: &Held, account: &Account) -> Vec<String> {
        let needed = self.privileges(purpose).into_iter();
        let missing = needed.filter_map(|(list, on)| {
            let names = list.split(',').map(str::trim);
            let lacking: Vec<&str> = names.filter(|one| !held.holds(one, on)).collect();
            let lacking = lacking.join(", ");
            (!lacking.is_empty())
                .then(|| format!("GRANT {lacking} ON {on} TO {};", account.quoted()))
        });
        missing.collect()
    }
}

/// Those that are connected now. The server's refusal is an answer, too.
pub fn observe_replicas(
    session: Session,
) -> Result<(Session, Result<Vec<Neighbour>, ServerError>), SessionError> {
    let statement = session.flavour().replicas_query();
    let (session, rows) = session.attempt(statement, READ_LIMIT)?;
    Ok((
        session,
        rows.map(|rows| rows.iter().filter_map(Neighbour::of).collect()),
    ))
}

const DUMP_HOSTS: &str = "SELECT HOST FROM information_schema.PROCESSLIST \
     WHERE COMMAND IN ('Binlog Dump', 'Binlog Dump GTID')";

/// The hosts from which binary logs are being fetched, each once.
pub fn observe_dump_hosts(
    session: Session,
) -> Result<(Session, Result<Vec<String>, ServerError>), SessionError> {
    let (session, rows) = session.attempt(DUMP_HOSTS, READ_LIMIT)?;
    let hosts = rows.map(|rows| {
        let hosts = rows.iter().filter_map(|row| row.at(0));
        let mut hosts: Vec<String> = hosts.map(|host| without_port(host).to_owned()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    });
    Ok((session, hosts))
}

/// The port there is the connection's, not the server's.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        Some(_) | None => host,
    }
}

/// The account that the session is.
pub fn observe_own_account(session: Session) -> Result<(Session, Account), SessionError> {
    let (session, user) = session.value("SELECT CURRENT_USER()", READ_LIMIT)?;
    let account = Account::of_current_user(&user.unwrap_or_default());
    Ok((session, account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_s_own_word_is_read_in_every_version() {
        for (uuid, own) in [("Replica_UUID", "Server_Id"), ("Slave_UUID", "Server_id")] {
            let columns = [
                (own, Some("12")),
                ("Host", Some("db2")),
                ("Port", Some("3306")),
                (uuid, Some("AB")),
            ];
            let wanted = Neighbour {
                server_id: 12,
                uuid: Some("ab".to_owned()),
                host: "db2".to_owned(),
                port: 3306,
            };
            assert_eq!(Neighbour::of(&Row::of(columns)), Some(wanted));
        }
        assert_eq!(without_port("10.0.0.5:51234"), "10.0.0.5");
        assert_eq!(without_port("localhost"), "localhost");
    }

    #[test]
    fn only_what_is_missing_is_printed() {
        let mariadb = Flavour::of_version("10.11.19-MariaDB x");
        let account = Account::of_current_user("u@%");
        let missing = |lines: &[&str]| {
            let held = Held::parse(&mariadb, lines.iter().copied(), "");
            mariadb.missing_grants(Purpose::Monitor, &held, &account)
        };
        assert_eq!(
            missing(&["GRANT ALL PRIVILEGES ON *.* TO `u`@`%`"]),
            Vec::<String>::new()
        );
        let some = missing(&[
            "GRANT BINLOG MONITOR ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*X'",
            "GRANT SELECT ON `understudy`.* TO `u`@`%`",
        ]);
        assert_eq!(some, ["GRANT SLAVE MONITOR ON *.* TO 'u'@'%';"]);
        let none = missing(&["GRANT USAGE ON *.* TO `u`@`%`"]);
        assert_eq!(none.len(), 2, "{none:?}");
    }
}
