//! The dead source stays off: the configured program sees to it, or somebody has given their word. One
//! that answers again isn't given up.

use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::program;
use crate::config::Address;
use crate::journal::operation::Outcome;
use crate::server::Target;
use crate::server::session::Session;
use crate::snapshot::SnapshotError;
use crate::sys::cancel::Cancel;

/// Longer than this nobody waits for a power switch.
const PROGRAM_LIMIT: Duration = Duration::from_secs(60);
/// The cure where it isn't there.
const WITHOUT: &str = "without it, see that the source is off, then say --unfenced.";

/// What was switched off may take so long to be gone from the network.
const GONE_WITHIN: Duration = Duration::from_secs(3);
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// Rarely: each look stays in the queue of a server that is only stopped, and once that is full nobody
/// hears from it (seen on Linux 6 with 60 looks).
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What keeps a dead source off.
#[derive(Debug, Clone, Copy)]
pub enum Fence<'a> {
    /// A program of the user's, with its arguments.
    Program(&'a [String]),
    /// Whoever asked says so (--unfenced).
    Word,
}

impl<'a> Fence<'a> {
    /// Somebody's word wins over the configuration's program; with neither it is refused, before
    /// anything is touched.
    pub fn choose(
        configured: Option<&'a [String]>,
        unfenced: bool,
        name: &str,
    ) -> Result<Self, SnapshotError> {
        match (configured, unfenced) {
            (_, true) => Ok(Self::Word),
            (Some(argv), false) => program::check("fence", argv, WITHOUT)
                .map(|()| Self::Program(argv))
                .map_err(|refusal| SnapshotError::Refused {
                    refusals: vec![refusal],
                }),
            (None, false) => Err(SnapshotError::refused(
                format!(
                    "{name} can't be reached, so nothing keeps it from coming back and taking writes"
                ),
                "See that it is off (power, its service, its network), then say --unfenced; a fence \
                 in [pair.NAME.failover] does that by a program.",
            )),
        }
    }

    /// For --dry-run.
    pub fn words(&self, name: &str) -> String {
        match self {
            Self::Program(argv) => format!("{} switches {name} off", argv.join(" ")),
            Self::Word => format!("{name} stays closed"),
        }
    }
}

/// The old source doesn't write, for good.
pub fn perform(
    pair: &str,
    target: &Target,
    fence: Fence<'_>,
    cancel: &Cancel,
) -> Result<Outcome, SnapshotError> {
    let name = &target.server;
    is_silent(target)?;
    match fence {
        Fence::Word => Ok(Outcome::AlreadySo(format!(
            "{name} is said to stay off; when it comes back, `understudy rejoin {name}` closes it first"
        ))),
        Fence::Program(argv) => {
            let environment = program::environment(pair, target);
            let said = program::run("fence", argv, environment, (PROGRAM_LIMIT, cancel));
            cancel.check("switching the source off: whether it is off isn't known")?;
            let said = said.map_err(|reason| refuse(name, &reason))?;
            if !is_gone(&target.address) {
                let reason = format!(
                    "the fence program ended with 0{said}, and something still listens at {}",
                    target.address
                );
                return Err(refuse(name, &reason));
            }
            Ok(Outcome::Changed(format!("{name} was switched off{said}")))
        }
    }
}

/// One that answers again isn't given up.
pub fn is_silent(target: &Target) -> Result<(), SnapshotError> {
    match Session::connect(target) {
        Err(_) => Ok(()),
        Ok(_) => Err(SnapshotError::refused(
            format!(
                "{} answers again: going on would lose what only it has",
                target.server
            ),
            "`understudy switchover` moves the role from a source that lives.",
        )),
    }
}

fn refuse(name: &str, reason: &str) -> SnapshotError {
    SnapshotError::refused(
        reason,
        format!(
            "{name} may still take writes. See that it is off (power, its service, its network), then \
             say --unfenced."
        ),
    )
}

/// Nothing takes connections there any more: what is only stopped still does.
fn is_gone(address: &Address) -> bool {
    let until = Instant::now() + GONE_WITHIN;
    while listens(address) {
        if Instant::now() >= until {
            return false;
        }
        sleep(LOOK_EVERY);
    }
    true
}

fn listens(address: &Address) -> bool {
    match address {
        Address::Socket(path) => UnixStream::connect(path).is_ok(),
        Address::Tcp { host, port } => {
            // A name that nobody knows any more leads nowhere.
            let addresses = (host.as_str(), *port).to_socket_addrs();
            let mut addresses = addresses.into_iter().flatten();
            addresses.any(|one| TcpStream::connect_timeout(&one, CONNECT_LIMIT).is_ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_is_not_gone() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = "127.0.0.1".to_owned();
        let address = Address::Tcp { host, port };
        assert!(listens(&address));
        drop(listener);
        assert!(is_gone(&address));
    }
}
