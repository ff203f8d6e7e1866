//! Putting back what a lease says was changed: thaw, start the server, unlock, resume.
//!
//! The one path that all keepers share – the operation itself when its own connections failed, the
//! watchdog, and `recover`. Safe to run twice, and by two keepers in turn.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::lease::{ChannelBefore, Lease};
use super::service::{self, ServiceError};
use crate::server::globals;
use crate::server::replication::{self, ThreadState};
use crate::server::session::{READ_LIMIT, ServerError, Session, SessionError, Target};
use crate::volume::freeze;

/// Between two looks at a thread that should be running.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Between two tries to reach a server that is away.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);

/// The same after a start by us: a server that was read-only is writable until we are there.
const CONNECT_SOON: Duration = Duration::from_millis(10);

/// How long one START may take before we look at the threads again.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Why things aren't back.
#[derive(Debug, thiserror::Error)]
pub enum PutBackError {
    #[error("the server couldn't be reached: {0}")]
    Unreachable(#[source] SessionError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("thaw {}: {reason}", path.display())]
    Thaw {
        path: std::path::PathBuf,
        reason: String,
    },
    /// The server was told to start; it is still busy stopping, and will start afterwards.
    #[error("the applier of the {channel} hasn't ended its transaction; the server will resume it")]
    Pending { channel: String },
    #[error("the applier of the {channel} doesn't run: {reason}")]
    NotRunning { channel: String, reason: String },
}

/// Puts everything back within `patience`; returns a line for each thing that had to be done.
/// Our own live connections must be closed before, or be listed in none of `lease.connections`.
pub fn put_back(
    target: &Target,
    lease: &Lease,
    patience: Duration,
) -> Result<Vec<String>, PutBackError> {
    let mut actions = Vec::new();
    thaw(lease, &mut actions)?;
    start_service(target, lease, &mut actions)?;
    let until = Instant::now() + patience;
    let session = reach(target, lease, until)?;
    let session = end_connections(session, lease, &mut actions)?;
    let (session, restored) = globals::restore(session, &lease.globals)?;
    actions.extend(restored);
    resume(target, session, lease, until, &mut actions)?;
    Ok(actions)
}

fn thaw(lease: &Lease, actions: &mut Vec<String>) -> Result<(), PutBackError> {
    for path in &lease.freezes {
        match freeze::thaw(path) {
            Ok(true) => actions.push(format!("thawed {}", path.display())),
            Ok(false) => {}
            Err(error) => {
                return Err(PutBackError::Thaw {
                    path: path.clone(),
                    reason: error.to_string(),
                });
            }
        }
    }
    Ok(())
}

/// Starts a server that the operation stopped; one that answers is left alone.
fn start_service(
    target: &Target,
    lease: &Lease,
    actions: &mut Vec<String>,
) -> Result<(), PutBackError> {
    let Some(control) = &lease.service else {
        return Ok(());
    };
    if Session::connect(target).is_ok() {
        return Ok(());
    }
    service::start(control)?;
    actions.push(format!("started {}", lease.server));
    Ok(())
}

/// Connects, again and again while the server is away. The wrong server is never waited for.
fn reach(target: &Target, lease: &Lease, until: Instant) -> Result<Session, PutBackError> {
    let again = match lease.service {
        Some(_) => CONNECT_SOON,
        None => CONNECT_AGAIN,
    };
    loop {
        match Session::connect_to(target, &lease.identity) {
            Ok(session) => return Ok(session),
            Err(error @ SessionError::WrongServer { .. }) => return Err(error.into()),
            Err(error) if Instant::now() >= until => return Err(PutBackError::Unreachable(error)),
            Err(_) => sleep(again.min(until.saturating_duration_since(Instant::now()))),
        }
    }
}

/// Ends the operation's connections, so that their locks and pending statements go with them.
/// Ids start anew when a server restarts: then they are somebody else's, and none is ended.
fn end_connections(
    mut session: Session,
    lease: &Lease,
    actions: &mut Vec<String>,
) -> Result<Session, PutBackError> {
    let (back, up_s) = session.query("SHOW GLOBAL STATUS LIKE 'Uptime'", READ_LIMIT)?;
    session = back;
    let up_s: Option<u64> = up_s.first().and_then(|row| row.at(1)?.parse().ok());
    let same_run = match (up_s, lease.age()) {
        (Some(up_s), Some(age)) => up_s > age.as_secs(),
        (None, _) | (_, None) => false,
    };
    if !same_run {
        return Ok(session);
    }
    let mine = session.connection_id();
    for id in lease.connections.iter().filter(|id| **id != mine) {
        let (back, killed) = session.attempt(&format!("KILL CONNECTION {id}"), READ_LIMIT)?;
        session = back;
        match killed {
            Ok(_) => actions.push(format!("ended connection {id}")),
            Err(error) if error.code == ServerError::NO_SUCH_THREAD => {}
            Err(error) => {
                return Err(SessionError::Server {
                    server: lease.server.clone(),
                    statement: "KILL CONNECTION".to_owned(),
                    error,
                }
                .into());
            }
        }
    }
    Ok(session)
}

/// Starts the appliers that ran before, and only them; and what ran beside them, where a restart
/// of the server by us ended it too.
fn resume(
    target: &Target,
    mut session: Session,
    lease: &Lease,
    until: Instant,
    actions: &mut Vec<String>,
) -> Result<(), PutBackError> {
    if lease.service.is_some() {
        session = match_io_threads(session, lease, actions)?;
    }
    let mut resumer = Resumer {
        target,
        lease,
        until,
        session: Some(session),
    };
    for before in lease.channels.iter().filter(|channel| channel.sql_running) {
        if resumer.resume(before)? {
            actions.push(format!("resumed the applier of the {}", before.name));
        }
    }
    Ok(())
}

/// After our own restart of the server: threads that start by themselves but didn't run before are
/// stopped again, and receivers that ran are started.
fn match_io_threads(
    session: Session,
    lease: &Lease,
    actions: &mut Vec<String>,
) -> Result<Session, PutBackError> {
    let (mut session, now) = replication::observe_channels(session)?;
    for before in &lease.channels {
        let Some(channel) = now.iter().find(|channel| channel.name == before.name) else {
            continue;
        };
        let io_running = channel.io != ThreadState::Stopped;
        let flavour = session.flavour();
        let mut statements = Vec::new();
        if io_running && !before.io_running {
            statements.push(flavour.stop_io_thread(&before.name));
        } else if !io_running && before.io_running {
            statements.push(flavour.start_io_thread(&before.name));
        }
        if channel.sql == ThreadState::Running && !before.sql_running {
            statements.push(flavour.stop_sql_thread(&before.name));
        }
        for statement in statements {
            session = session.execute(&statement, START_LIMIT)?;
            actions.push(statement);
        }
    }
    Ok(session)
}

/// Starts appliers and watches until they run and no stop is pending any more.
///
/// A STOP that waits for a long transaction stays in force even when its connection is ended, and
/// the applier counts as running meanwhile. A START then queues behind it on the server (seen on
/// MariaDB 10.11 and MySQL 9.7) and is carried out in that order.
struct Resumer<'a> {
    target: &'a Target,
    lease: &'a Lease,
    until: Instant,
    session: Option<Session>,
}

/// One look at a channel.
struct Look {
    sql: Option<ThreadState>,
    sql_error: String,
    stop_pending: bool,
    start_pending: bool,
}

impl Resumer<'_> {
    /// True when it had to be started.
    fn resume(&mut self, before: &ChannelBefore) -> Result<bool, PutBackError> {
        let mut started = false;
        loop {
            let look = self.look(before)?;
            let pending = look.stop_pending || look.start_pending;
            let expired = Instant::now() >= self.until;
            match look.sql {
                Some(ThreadState::Running) if !pending => return Ok(started),
                Some(ThreadState::Running) if expired => {
                    return Err(PutBackError::Pending {
                        channel: before.name.to_string(),
                    });
                }
                None => return Err(not_running(before, "it doesn't exist any more")),
                Some(ThreadState::Stopped) if started && !look.sql_error.is_empty() => {
                    return Err(not_running(before, &look.sql_error));
                }
                Some(_) if expired => return Err(not_running(before, "it didn't start in time")),
                Some(_) => {}
            }
            if look.start_pending {
                sleep(LOOK_AGAIN);
            } else {
                self.start(before)?;
                started = true;
            }
        }
    }

    fn session(&mut self) -> Result<Session, PutBackError> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => reach(self.target, self.lease, self.until),
        }
    }

    /// A START that hangs behind a STOP is left to the server; we look again on a new connection.
    fn start(&mut self, before: &ChannelBefore) -> Result<(), PutBackError> {
        let session = self.session()?;
        let statement = session.flavour().start_sql_thread(&before.name);
        let left = self.until.saturating_duration_since(Instant::now());
        let limit = left.clamp(Duration::from_secs(1), START_LIMIT);
        match session.execute(&statement, limit) {
            Ok(session) => self.session = Some(session),
            Err(SessionError::Lost { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn look(&mut self, before: &ChannelBefore) -> Result<Look, PutBackError> {
        loop {
            let session = self.session()?;
            match look(session, before) {
                Ok((session, look)) => {
                    self.session = Some(session);
                    return Ok(look);
                }
                Err(SessionError::Lost { .. }) if Instant::now() < self.until => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn look(session: Session, before: &ChannelBefore) -> Result<(Session, Look), SessionError> {
    let (session, channels) = replication::observe_channels(session)?;
    let channel = channels.into_iter().find(|c| c.name == before.name);
    let (session, processes) = session.query("SHOW FULL PROCESSLIST", READ_LIMIT)?;
    let pending = |verb: &str| {
        processes
            .iter()
            .filter_map(|row| row.get("Info"))
            .map(str::to_ascii_uppercase)
            .any(|info| info.starts_with(verb) && info.contains("SQL_THREAD"))
    };
    let look = Look {
        sql: channel.as_ref().map(|channel| channel.sql),
        sql_error: channel.map(|channel| channel.sql_error).unwrap_or_default(),
        stop_pending: pending("STOP "),
        start_pending: pending("START "),
    };
    Ok((session, look))
}

fn not_running(before: &ChannelBefore, reason: &str) -> PutBackError {
    PutBackError::NotRunning {
        channel: before.name.to_string(),
        reason: reason.to_owned(),
    }
}
