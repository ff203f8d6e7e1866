//! Who may move a pair's roles: the locks here, and one on every server that answers, so that two
//! operators on two hosts don't meet in the middle.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::scene::targets;
use crate::journal::lease::{self, Found};
use crate::journal::state::{self, StateError};
use crate::journal::{OperationKind, log, recover};
use crate::server::Target;
use crate::server::pair_lock;
use crate::server::session::Session;
use crate::snapshot::{Context, SnapshotError};
use crate::sys::lock::FileLock;

/// How long a snapshot whose pause was ended may take to see that and to give its lock back.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Everything that is held while roles move.
pub struct Hold {
    _locks: Vec<FileLock>,
    sessions: Vec<Session>,
}

impl Hold {
    /// Of our connections to a server that only hold; another server's have the same numbers.
    pub fn connection_ids(&self, server: &str) -> Vec<u64> {
        let own = self.sessions.iter();
        own.filter(|session| session.target().server == server)
            .map(Session::connection_id)
            .collect()
    }

    /// Before the moment: somebody may have ended one of our connections, and be at it himself. A server
    /// that is gone by now nobody else can hold either.
    pub fn still(&mut self) -> Result<(), SnapshotError> {
        let sessions = std::mem::take(&mut self.sessions);
        for session in sessions {
            let target = session.target().clone();
            let server = &target.server;
            let lost = |reason: String| SnapshotError::Failed {
                step: "hold the pair",
                reason: format!("the lock on {server} was lost: {reason}"),
                hint: Some("See who else changes the pair, then run it again.".to_owned()),
            };
            match pair_lock::is_held(session) {
                Ok((session, true)) => self.sessions.push(session),
                Ok((_, false)) => return Err(lost("somebody else has it".to_owned())),
                Err(error) if Session::connect(&target).is_ok() => {
                    return Err(lost(error.to_string()));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Takes all of a pair's servers in the order of their names. A pause in progress is ended through
/// its lease, and what an earlier run left is recovered first. `dead` is only kept from others.
pub fn take(
    ctx: &Context,
    servers: &[Target],
    what: &str,
    dead: Option<&str>,
) -> Result<Hold, SnapshotError> {
    ctx.state.create()?;
    let mut sorted: Vec<&Target> = servers.iter().collect();
    sorted.sort_by(|one, other| one.server.cmp(&other.server));
    let mut locks = Vec::new();
    for target in &sorted {
        let is_dead = dead == Some(target.server.as_str());
        locks.push(lock(ctx, target, what, is_dead)?);
    }
    if let Some(dead) = dead {
        supersede(ctx, dead, what)?;
        sorted.retain(|target| target.server != dead);
    }
    let held: Vec<&str> = servers
        .iter()
        .map(|target| target.server.as_str())
        .collect();
    for target in &sorted {
        for operation in recover::recover_holding(&ctx.state, target, &held)?.0 {
            tracing::warn!(operation = %operation.operation, actions = ?operation.actions, left = ?operation.left, "recovered");
        }
    }
    let mut sessions = Vec::new();
    for target in sorted {
        // One that doesn't answer can't be held, nor can anybody else hold it.
        if let Ok(session) = Session::connect(target) {
            sessions.push(hold(session, what)?);
        }
    }
    Ok(Hold {
        _locks: locks,
        sessions,
    })
}

/// What stands against a change of roles may come of another one that goes on: then that is said.
pub fn or_in_motion<T>(
    ctx: &Context,
    pair: &str,
    looked: Result<T, SnapshotError>,
) -> Result<T, SnapshotError> {
    match looked {
        Err(SnapshotError::Refused { refusals }) => {
            Err(in_motion(ctx, pair).unwrap_or(SnapshotError::Refused { refusals }))
        }
        looked => looked,
    }
}

/// Who moves the roles of a pair now, from here or from another host.
fn in_motion(ctx: &Context, pair: &str) -> Option<SnapshotError> {
    let servers = targets(ctx, ctx.config.pairs.get(pair)?).ok()?;
    for target in &servers {
        let operations = log::unfinished(&ctx.state, Some(&target.server)).ok()?;
        let live = |one: &&log::Unfinished| one.kind.moves_roles() && one.owner.is_alive();
        if let Some(operation) = operations.iter().find(live) {
            let holder = format!("{}, pid {}", operation.kind.words(), operation.owner.pid);
            return Some(state::held(&target.server, &holder).into());
        }
        if let Ok(Some(holder)) = Session::connect(target).and_then(pair_lock::holder) {
            return Some(SnapshotError::busy(&target.server, &holder));
        }
    }
    None
}

/// The server's lock here; a pause that holds it is ended.
fn lock(
    ctx: &Context,
    target: &Target,
    what: &str,
    is_dead: bool,
) -> Result<FileLock, SnapshotError> {
    let name = &target.server;
    let until = Instant::now() + ENDS_WITHIN;
    loop {
        let busy = match ctx.state.lock_server(name, what) {
            Ok(lock) => {
                if !is_dead {
                    end_pause(ctx, target)?;
                }
                return Ok(lock);
            }
            Err(busy @ StateError::Busy { .. }) => busy,
            Err(error) => return Err(error.into()),
        };
        // A dead source is in no journal of a failover: its holder's own word tells that it isn't one.
        let moves_roles = matches!(&busy, StateError::Busy { holder, .. } if moves_roles(holder));
        if moves_roles {
            return Err(busy.into());
        }
        let ended = !is_dead && end_pause(ctx, target)?;
        if Instant::now() >= until || !ended && !ends_soon(ctx, name)? {
            return Err(busy.into());
        }
        sleep(LOOK_EVERY);
    }
}

/// By what the holder of a server's lock wrote about itself.
fn moves_roles(holder: &str) -> bool {
    let commands = ["switchover", "failover", "rejoin", "repoint"];
    commands.iter().any(|command| holder.starts_with(command))
}

/// A change of roles that didn't come to its opening can't be undone on a dead server, nor need it: a
/// failover takes its place.
fn supersede(ctx: &Context, dead: &str, what: &str) -> Result<(), SnapshotError> {
    for operation in log::unfinished(&ctx.state, Some(dead))? {
        let takes_its_place = matches!(
            operation.kind,
            OperationKind::Switchover | OperationKind::Failover
        );
        if takes_its_place && operation.rest.is_none() {
            log::supersede(&ctx.state, &operation, what)?;
        }
    }
    Ok(())
}

/// Only a snapshot ends by itself, or by its pause; and what has begun nothing yet may be one.
fn ends_soon(ctx: &Context, server: &str) -> Result<bool, SnapshotError> {
    let mut unfinished = log::unfinished(&ctx.state, Some(server))?.into_iter();
    Ok(unfinished.all(|operation| operation.kind == OperationKind::SnapshotCreate))
}

/// Puts the lease of a pause back, whoever's it is; its operation finds it broken. True if there was
/// one.
fn end_pause(ctx: &Context, target: &Target) -> Result<bool, SnapshotError> {
    match lease::read(&ctx.state, &target.server).map_err(recover::RecoverError::from)? {
        Found::Lease(lease) => {
            recover::put_back_alone(&ctx.state, target, &lease)?;
            Ok(true)
        }
        Found::None | Found::Unreadable(_) => Ok(false),
    }
}

fn hold(session: Session, what: &str) -> Result<Session, SnapshotError> {
    let server = session.target().server.clone();
    pair_lock::take(session, what)?.map_err(|holder| SnapshotError::busy(&server, &holder))
}
