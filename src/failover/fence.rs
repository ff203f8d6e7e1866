//! The dead source stays off: the configured program sees to it, or somebody has given their word. One
//! that answers again isn't given up.

use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::Address;
use crate::journal::operation::Outcome;
use crate::server::Target;
use crate::server::session::Session;
use crate::snapshot::SnapshotError;
use crate::sys::exec::{ExecError, Options, Program};
use crate::sys::trust;

/// Longer than this nobody waits for a power switch.
const PROGRAM_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end by itself once its time is up.
const GRACE: Duration = Duration::from_millis(500);
/// More of what it says isn't repeated.
const WORDS_CHARS_MAX: usize = 200;

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
        program: Option<&'a [String]>,
        unfenced: bool,
        name: &str,
    ) -> Result<Self, SnapshotError> {
        match (program, unfenced) {
            (_, true) => Ok(Self::Word),
            (Some(argv), false) => check(argv).map(|()| Self::Program(argv)),
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

/// May be run, and nobody else has put it there.
fn check(argv: &[String]) -> Result<(), SnapshotError> {
    let program = argv.first().map_or("", String::as_str);
    trust::check(program.as_ref())
        .map_err(|untrusted| SnapshotError::refused(untrusted.to_string(), &untrusted.hint))?;
    match Path::new(program).is_file() {
        true => Ok(()),
        false => Err(SnapshotError::refused(
            format!("the fence program {program} isn't there"),
            "See fence in [pair.NAME.failover]; without it, see that the source is off, then say \
             --unfenced.",
        )),
    }
}

/// The old source doesn't write, for good.
pub fn perform(pair: &str, target: &Target, fence: Fence<'_>) -> Result<Outcome, SnapshotError> {
    let name = &target.server;
    if Session::connect(target).is_ok() {
        return Err(SnapshotError::refused(
            format!("{name} answers again: going on would lose what only it has"),
            "`understudy switchover` moves the role from a source that lives.",
        ));
    }
    match fence {
        Fence::Word => Ok(Outcome::AlreadySo(format!(
            "{name} is said to stay off; when it comes back, `understudy rejoin {name}` closes it first"
        ))),
        Fence::Program(argv) => {
            let said = run(argv, environment(pair, target), PROGRAM_LIMIT)
                .map_err(|reason| refuse(name, &reason))?;
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

fn refuse(name: &str, reason: &str) -> SnapshotError {
    SnapshotError::refused(
        reason,
        format!(
            "{name} may still take writes. See that it is off (power, its service, its network), then \
             say --unfenced."
        ),
    )
}

fn environment(pair: &str, target: &Target) -> [(&'static str, String); 3] {
    [
        ("UNDERSTUDY_PAIR", pair.to_owned()),
        ("UNDERSTUDY_SERVER", target.server.clone()),
        ("UNDERSTUDY_ADDRESS", target.address.to_string()),
    ]
}

/// The last line that it said, in brackets; else why it isn't to be relied on.
fn run(
    argv: &[String],
    environment: [(&'static str, String); 3],
    limit: Duration,
) -> Result<String, String> {
    let Some((program, args)) = argv.split_first() else {
        return Err("the fence program's command is empty".to_owned());
    };
    let options = Options {
        input: None,
        env: environment
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    };
    let ended = Program::at(program)
        .with_grace(GRACE)
        .run_with(args, limit, options);
    match ended {
        Ok(output) => Ok(last_line(&output.stdout)),
        Err(ExecError::Failed { status, stderr, .. }) => Err(format!(
            "the fence program {program} ended with {status}{}",
            last_line(&stderr)
        )),
        Err(
            error @ (ExecError::NotFound { .. }
            | ExecError::Start { .. }
            | ExecError::TimedOut { .. }),
        ) => Err(format!("the fence program: {error}")),
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.map_or(String::new(), |line| {
        let line: String = line.chars().take(WORDS_CHARS_MAX).collect();
        format!(" ({line})")
    })
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

    fn ran(argv: &[&str]) -> Result<String, String> {
        let argv: Vec<String> = argv.iter().map(|one| (*one).to_owned()).collect();
        let environment = ["UNDERSTUDY_PAIR", "UNDERSTUDY_SERVER", "UNDERSTUDY_ADDRESS"];
        let environment = environment.map(|name| (name, format!("a {name}")));
        run(&argv, environment, Duration::from_millis(300))
    }

    #[test]
    fn a_program_that_ends_with_0_is_believed_and_told_of_whom() {
        let said = ran(&["/bin/sh", "-c", "echo x; echo $UNDERSTUDY_SERVER; echo"]);
        assert_eq!(said, Ok(" (a UNDERSTUDY_SERVER)".to_owned()));
    }

    #[test]
    fn a_program_that_fails_hangs_or_is_not_there_is_told() {
        for (argv, words) in [
            (&["/bin/sh", "-c", "echo no >&2; exit 3"][..], "(no)"),
            (&["/bin/sleep", "60"], "didn't end within"),
            (&["/nowhere/fence"], "start /nowhere/fence"),
        ] {
            let error = ran(argv).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

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
