//! Acts on servers, which are reached again by their identity.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{ActError, Means, Reach, Resume};
use crate::config::{ServiceControl, credentials};
use crate::journal::service::{self, SERVICE_LIMIT};
use crate::server::globals::{self, GlobalBefore};
use crate::server::pair::{PLUGIN_IN_USE, is_undone_already};
use crate::server::replication::{self, ThreadState};
use crate::server::session::{Session, SessionError, Target};
use crate::server::{Flavour, Identity};
use crate::sys::{files, process};

/// Dropping schemas of terabytes takes its time.
const STATEMENT_LIMIT: Duration = Duration::from_secs(900);
const RESUME_LIMIT: Duration = Duration::from_secs(60);

/// How long a server that doesn't answer is waited for.
pub const REACH_FOR: Duration = Duration::from_secs(20);

/// How long it may take to clear its files away.
const CLEARED_IN: Duration = Duration::from_secs(20);

/// A schema's directory is there without the schema: a clone that was broken off removes its files,
/// and leaves their empty directories until the server is restarted (seen on MySQL 9.7).
const DIRECTORY_IS_THERE: u16 = 3681;

/// Others wait meanwhile.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

pub const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A server that was read-only is writable from its start until we are there.
const LOOK_SOON: Duration = Duration::from_millis(5);

/// The configuration's present word, else the journal's.
pub fn target(means: &Means<'_>, on: &Reach) -> Result<Target, ActError> {
    let unreachable = |reason: String| ActError::Unreachable {
        server: on.server.clone(),
        reason,
    };
    if let Some(known) = means.known.iter().find(|known| known.server == on.server) {
        return Ok(known.clone());
    }
    let address = on.address.clone();
    let address = address.ok_or_else(|| unreachable("nothing tells its address".to_owned()))?;
    let credentials = match &on.credentials {
        Some(path) => credentials::load(path).map_err(|error| unreachable(error.to_string()))?,
        None => credentials::Credentials::default(),
    };
    Ok(Target {
        server: on.server.clone(),
        address,
        user: credentials.user.unwrap_or_else(|| "root".to_owned()),
        password: credentials.password.unwrap_or_default(),
        tls: on.tls,
        tls_ca: on.tls_ca.clone(),
    })
}

/// Connects to the server that was meant, which may be restarting.
pub fn reach(
    target: &Target,
    identity: &Identity,
    limit: Duration,
    every: Duration,
) -> Result<Session, ActError> {
    let until = Instant::now() + limit;
    loop {
        match Session::connect_to(target, identity) {
            Ok(session) => return Ok(session),
            Err(error @ SessionError::WrongServer { .. }) => return Err(error.into()),
            Err(error) if Instant::now() >= until => {
                return Err(ActError::Unreachable {
                    server: target.server.clone(),
                    reason: error.to_string(),
                });
            }
            Err(_) => sleep(every),
        }
    }
}

/// Which statements a server needs first, so that an undo leaves nothing in its binary log.
pub fn unlogged(flavour: &Flavour, statements: Vec<String>) -> Vec<String> {
    let mut all = vec![flavour.without_binary_log().to_owned()];
    all.extend(statements);
    all
}

pub fn run(means: &Means<'_>, on: &Reach, statements: &[String]) -> Result<(), ActError> {
    let mut session = reach(&target(means, on)?, &on.identity, REACH_FOR, LOOK_EVERY)?;
    let until = Instant::now() + CLEARED_IN;
    for statement in statements {
        let answer = loop {
            let (back, answer) = session.attempt(statement, STATEMENT_LIMIT)?;
            session = back;
            match answer {
                Err(error) if error.code == DIRECTORY_IS_THERE && Instant::now() < until => {
                    if !remove_left_directory(on, &error.message)? {
                        sleep(LOOK_EVERY);
                    }
                }
                Err(error) if error.code == PLUGIN_IN_USE && Instant::now() < until => {
                    sleep(LOOK_EVERY);
                }
                answer => break answer,
            }
        };
        match answer {
            Ok(_) => {}
            Err(error) if is_undone_already(error.code) => {}
            Err(error) => {
                return Err(ActError::Session(SessionError::Server {
                    server: on.server.clone(),
                    statement: statement.clone(),
                    error,
                }));
            }
        }
    }
    Ok(())
}

/// None of them takes writes, as far as they answer; else `server` stays closed for good.
pub fn nobody_writes_to(means: &Means<'_>, others: &[Reach], server: &str) -> Result<(), ActError> {
    for other in others {
        let target = target(means, other)?;
        // Who doesn't answer takes no writes that we could know of.
        let Ok(session) = Session::connect_within(&target, ANSWERS_WITHIN) else {
            continue;
        };
        let closed = session.value("SELECT @@GLOBAL.read_only", ANSWERS_WITHIN);
        if let Ok((_, Some(closed))) = closed
            && closed == "0"
        {
            return Err(ActError::Lost(format!(
                "{} takes writes by now: {server} isn't opened too; see `understudy status`",
                other.server
            )));
        }
    }
    Ok(())
}

/// Closes a server if it answers: one that is dead is left alone.
pub fn close(means: &Means<'_>, on: &Reach, statements: &[String]) -> Result<bool, ActError> {
    let target = target(means, on)?;
    let is_it = Session::connect_within(&target, ANSWERS_WITHIN)
        .is_ok_and(|session| *session.identity() == on.identity);
    if is_it {
        run(means, on, statements)?;
    }
    Ok(is_it)
}

/// Removes the empty directory that the server names, if this host has that very server's data.
fn remove_left_directory(on: &Reach, message: &str) -> Result<bool, ActError> {
    let data_dir = Path::new(&on.identity.data_dir);
    let own = files::read_text(&data_dir.join("auto.cnf"))?.unwrap_or_default();
    let is_its = on
        .identity
        .server_uuid
        .as_ref()
        .is_some_and(|uuid| own.to_ascii_lowercase().contains(uuid.as_str()));
    let named = message
        .split_once("directory './")
        .and_then(|(_, rest)| rest.split_once("/'"))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'));
    match named {
        Some(name) if is_its => Ok(files::remove_empty_dir(&data_dir.join(name))?),
        Some(_) | None => Ok(false),
    }
}

/// Starts the server unless it answers, waits until the right one does, and sets back at once what
/// its restart forgot.
pub fn start(
    means: &Means<'_>,
    on: &Reach,
    service: &ServiceControl,
    globals: &[GlobalBefore],
) -> Result<(), ActError> {
    let target = target(means, on)?;
    if Session::connect(&target).is_err() {
        service::start(service)?;
    }
    let session = reach(&target, &on.identity, SERVICE_LIMIT, LOOK_SOON)?;
    globals::restore(session, globals)?;
    Ok(())
}

/// Makes the channels that ran before go on, where the server's own start didn't.
pub fn resume(means: &Means<'_>, on: &Reach, channels: &[Resume]) -> Result<(), ActError> {
    if channels.is_empty() {
        return Ok(());
    }
    let mut session = reach(&target(means, on)?, &on.identity, REACH_FOR, LOOK_EVERY)?;
    for wanted in channels {
        let (back, running) = is_running(session, &wanted.channel)?;
        session = back;
        if running {
            continue;
        }
        for statement in &wanted.statements {
            // A thread that is stopped or started already is what we want.
            let (back, _) = session.attempt(statement, RESUME_LIMIT)?;
            session = back;
        }
        session = see_running(session, &wanted.channel)?;
    }
    Ok(())
}

pub fn see_running(mut session: Session, channel: &str) -> Result<Session, ActError> {
    let until = Instant::now() + RESUME_LIMIT;
    loop {
        let (back, running) = is_running(session, channel)?;
        session = back;
        if running {
            return Ok(session);
        }
        if Instant::now() >= until {
            let (_, channels) = replication::observe_channels(session)?;
            let reason = channels
                .iter()
                .find(|own| own.name.as_str() == channel)
                .map(|own| format!("{} {}", own.io_error, own.sql_error))
                .unwrap_or_default();
            return Err(ActError::NotRunning {
                channel: channel.to_owned(),
                reason: reason.trim().to_owned(),
            });
        }
        sleep(LOOK_EVERY);
    }
}

fn is_running(session: Session, channel: &str) -> Result<(Session, bool), ActError> {
    let (session, channels) = replication::observe_channels(session)?;
    let running = channels.iter().any(|own| {
        own.name.as_str() == channel
            && own.sql == ThreadState::Running
            && matches!(own.io, ThreadState::Running | ThreadState::Connecting)
    });
    Ok((session, running))
}

/// Stops the server, puts its own directory back in its place, starts it.
pub fn put_data_dir_back(
    means: &Means<'_>,
    on: &Reach,
    control: &ServiceControl,
    data_dir: &Path,
    aside: &Path,
) -> Result<Option<String>, ActError> {
    let target = target(means, on)?;
    let moved = aside.exists();
    if moved {
        if process::runs_in(data_dir) || Session::connect(&target).is_ok() {
            service::stop(control, &target, data_dir, SERVICE_LIMIT)?;
        }
        files::remove_tree(data_dir)?;
        files::rename(aside, data_dir)?;
    }
    if Session::connect(&target).is_err() {
        service::start(control)?;
        reach(&target, &on.identity, SERVICE_LIMIT, LOOK_EVERY)?;
    }
    Ok(moved.then(|| format!("put {} back as it was", data_dir.display())))
}
