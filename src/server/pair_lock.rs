//! The lock on a server itself, by which those who change its pair from several hosts see each other. It
//! lives with its connection. Who holds it is told by further locks of that connection: what it does, and
//! its process, a lock for each bit that is set.

use std::time::Duration;

use super::flavour::{Family, Flavour};
use super::session::{READ_LIMIT, Session, SessionError};

const NAME: &str = "understudy.pair";

/// A connection that was closed a moment ago may still have it.
const WAIT_S: u8 = 1;
/// It may be held for as long as a dump of terabytes takes, without a word.
const IDLE: &str = "SET SESSION wait_timeout = 2147483";
const LIMIT: Duration = Duration::from_secs(15);

/// Of process numbers, which are below 2²² on Linux.
const PID_BITS: u32 = 22;

/// Whatever takes it.
pub const WHAT: [&str; 6] = [
    "switchover",
    "failover",
    "rejoin",
    "repoint",
    "setup",
    "recover",
];

/// Who holds it, as far as the server tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    connection: String,
    /// From where that was made.
    host: Option<String>,
    what: Option<&'static str>,
    pid: Option<u32>,
}

impl Holder {
    /// For people, of a server of this name.
    pub fn words(&self, server: &str) -> String {
        let what = self.what.unwrap_or("something that changes its pair");
        let process = self
            .pid
            .map_or(String::new(), |pid| format!(", process {pid}"));
        let host = match self.host.as_deref() {
            None => String::new(),
            Some("localhost") => format!(" on the host of {server}"),
            Some(host) => format!(" on {host}"),
        };
        format!("{what}{process}{host} (connection {})", self.connection)
    }

    pub fn hint(&self, server: &str) -> String {
        format!(
            "Wait until that ends; `understudy status` shows the pair. If that host is gone for good, `KILL \
             {}` on {server} frees it.",
            self.connection
        )
    }
}

/// A session that has it from now on; or who else has.
pub fn take(session: Session, what: &str) -> Result<Result<Session, Holder>, SessionError> {
    let session = session.execute(IDLE, READ_LIMIT)?;
    let statement = format!("SELECT GET_LOCK('{NAME}', {WAIT_S})");
    let (session, got) = session.value(&statement, LIMIT)?;
    if got.as_deref() != Some("1") {
        return described(session).map(Err);
    }
    if !session.flavour().holds_many_locks() {
        return Ok(Ok(session));
    }
    let names = marks(what, std::process::id());
    let taken: Vec<String> = names
        .iter()
        .map(|name| format!("GET_LOCK('{name}', 0)"))
        .collect();
    let statement = format!("SELECT {}", taken.join(", "));
    Ok(Ok(session.query(&statement, LIMIT)?.0))
}

/// Whether a session that took it has it still.
pub fn is_held(session: Session) -> Result<(Session, bool), SessionError> {
    let statement = format!("SELECT IS_USED_LOCK('{NAME}') = CONNECTION_ID()");
    let (session, held) = session.value(&statement, READ_LIMIT)?;
    Ok((session, held.as_deref() == Some("1")))
}

/// The locks that say who holds the first one.
fn marks(what: &str, pid: u32) -> Vec<String> {
    let bits = (0..PID_BITS).filter(|bit| pid >> bit & 1 == 1);
    let bits = bits.map(|bit| format!("{NAME}.pid.{bit}"));
    [format!("{NAME}.{what}")].into_iter().chain(bits).collect()
}

/// Who has it, if anybody.
pub fn holder(session: Session) -> Result<Option<Holder>, SessionError> {
    let statement = format!("SELECT IS_USED_LOCK('{NAME}')");
    let (session, used) = session.value(&statement, READ_LIMIT)?;
    match used {
        None => Ok(None),
        Some(_) => described(session).map(Some),
    }
}

fn described(session: Session) -> Result<Holder, SessionError> {
    let of = |name: String| format!("IS_USED_LOCK('{NAME}{name}') <=> @holder");
    let statement = format!("SELECT @holder := IS_USED_LOCK('{NAME}')");
    let (session, connection) = session.value(&statement, READ_LIMIT)?;
    let connection = connection.unwrap_or_default();
    let (session, host) = session.value(
        "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = @holder",
        READ_LIMIT,
    )?;
    let asked: Vec<String> = WHAT
        .iter()
        .map(|what| of(format!(".{what}")))
        .chain((0..PID_BITS).map(|bit| of(format!(".pid.{bit}"))))
        .collect();
    let (_, rows) = session.query(&format!("SELECT {}", asked.join(", ")), READ_LIMIT)?;
    let is_set = |at: usize| rows.first().and_then(|row| row.at(at)) == Some("1");
    let pid = (0..PID_BITS)
        .zip(WHAT.len()..)
        .filter(|(_, at)| is_set(*at))
        .map(|(bit, _)| 1 << bit)
        .sum();
    Ok(Holder {
        // Without the port of the client.
        host: host.map(|host| {
            host.rsplit_once(':')
                .map_or(host.clone(), |(host, _)| host.to_owned())
        }),
        what: WHAT
            .into_iter()
            .enumerate()
            .find_map(|(at, what)| is_set(at).then_some(what)),
        pid: (pid > 0).then_some(pid),
        connection,
    })
}

impl Flavour {
    /// Before, GET_LOCK gave back what the connection had.
    fn holds_many_locks(&self) -> bool {
        match self.family {
            Family::Mysql => self.version >= (5, 7, 5),
            Family::Mariadb => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_told_with_what_is_known_of_it() {
        let holder = Holder {
            connection: "57".to_owned(),
            host: Some("192.0.2.3".to_owned()),
            what: Some("switchover"),
            pid: Some(4711),
        };
        assert_eq!(
            holder.words("db2"),
            "switchover, process 4711 on 192.0.2.3 (connection 57)"
        );
        let holder = Holder {
            host: Some("localhost".to_owned()),
            what: None,
            pid: None,
            ..holder
        };
        assert_eq!(
            holder.words("db2"),
            "something that changes its pair on the host of db2 (connection 57)"
        );
    }

    #[test]
    fn a_process_is_told_bit_by_bit() {
        let name = |bit: u32| format!("{NAME}.pid.{bit}");
        assert_eq!(
            marks("setup", 5),
            [format!("{NAME}.setup"), name(0), name(2)]
        );
    }
}
