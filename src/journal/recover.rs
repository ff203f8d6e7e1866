//! The third keeper: finishes or undoes what interrupted operations left, for one server.
//!
//! Runs by hand, at the start of every command that changes that server, and at boot. The caller
//! holds the server's lock, so whoever began an unfinished operation is gone.

use std::time::Duration;

use serde::Serialize;

use super::act::{self, Act, ActError, Came, Means, Reach};
use super::lease::{self, Found, Lease, Purpose};
use super::log::{self, Log, Unfinished};
use super::putback::{self, PutBackError};
use super::state::{StateDir, StateError};
use crate::server::pair_lock::{self, Holder};
use crate::server::session::{Session, Target};
use crate::sys::failpoint;
use crate::sys::files::{self, FileError};
use crate::sys::lock::{FileLock, LockError};

/// How long putting one lease back may take before an operator must look.
const PUT_BACK_FOR: Duration = Duration::from_secs(60);

/// How long another keeper that is at it is waited for.
const OTHER_KEEPER_FOR: Duration = Duration::from_secs(90);

#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("put back what {operation} left: {source}")]
    PutBack {
        operation: String,
        #[source]
        source: PutBackError,
    },
    #[error("put back what {operation} changed: {source}")]
    Undo {
        operation: String,
        #[source]
        source: Box<ActError>,
    },
    /// It can't be undone any more.
    #[error("carry {operation} through: {source}")]
    Carry {
        operation: String,
        server: String,
        #[source]
        source: Box<ActError>,
    },
    /// Another operation holds a server that the unfinished one changed too.
    #[error(transparent)]
    State(#[from] StateError),
    /// Somebody changes the pair from another host.
    #[error("another operation holds {server}: {}", holder.words(server))]
    Elsewhere { server: String, holder: Holder },
    #[error("lease {} can't be read: {reason}", path.display())]
    Lease {
        path: std::path::PathBuf,
        reason: String,
    },
}

/// What was done about one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Recovered {
    pub operation: String,
    pub server: String,
    pub actions: Vec<String>,
    /// What couldn't be done, and is left to an operator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// What `recover` found about a server's pause.
#[derive(Debug, Clone, PartialEq)]
pub enum Paused {
    No,
    /// Paused on purpose, in time, and watched.
    OnPurpose(Box<Lease>),
}

/// Puts everything of this server back. A manual pause that is in time is left alone.
pub fn recover(
    state: &StateDir,
    target: &Target,
) -> Result<(Vec<Recovered>, Paused), RecoverError> {
    recover_holding(state, target, &[&target.server])
}

/// As `recover`, for who holds the locks of these servers, its own among them.
pub fn recover_holding(
    state: &StateDir,
    target: &Target,
    held: &[&str],
) -> Result<(Vec<Recovered>, Paused), RecoverError> {
    state.sweep()?;
    log::put_away_ended(state)?;
    let mut recovered = Vec::new();
    let paused = recover_lease(state, target, &mut recovered)?;
    recovered.extend(recover_uses(state, &target.server)?);
    for operation in log::unfinished(state, Some(&target.server))? {
        let of_pause = match &paused {
            Paused::OnPurpose(lease) => lease.operation == operation.operation,
            Paused::No => false,
        };
        if operation.kind.is_use() || of_pause {
            continue;
        }
        let others = operation
            .parties
            .iter()
            .filter(|name| !held.contains(&name.as_str()));
        let _locks = others
            .map(|name| state.lock_server(name, "recover"))
            .collect::<Result<Vec<_>, _>>()?;
        finish(
            state,
            &operation,
            std::slice::from_ref(target),
            &mut recovered,
        )?;
    }
    Ok((recovered, paused))
}

/// Ends one operation, whatever it was: carries it through once it was committed, undoes it before.
fn finish(
    state: &StateDir,
    operation: &Unfinished,
    known: &[Target],
    recovered: &mut Vec<Recovered>,
) -> Result<(), RecoverError> {
    let mut means = Means {
        state,
        known,
        progress: &mut |_, _| {},
    };
    let _sessions = hold_servers(&means, operation)?;
    let mut log = Log::reopen(state, &operation.path)?;
    // Where what is done can't be noted, it may be done twice.
    let ended = match &operation.rest {
        Some(rest) => {
            let came = act::carry_all(rest, &operation.done, &mut means, |number, came| {
                if came.is_ok() {
                    drop(log.done(number));
                }
                failpoint::hit("act:after");
            });
            match came {
                Err(ActError::Moved(words)) => given_up(operation, &mut means, words),
                came => came,
            }
        }
        None if operation.is_settled() => Ok(Came::default()),
        None => act::undo_all(&operation.undos, &operation.undone, &mut means, |number| {
            drop(log.undone(number));
            failpoint::hit("act:after");
        })
        .map(|actions| Came {
            actions,
            left: Vec::new(),
        }),
    };
    let name = operation.operation.clone();
    let Came { mut actions, left } = match ended {
        Ok(came) => came,
        Err(ActError::Moved(words)) => Came {
            actions: Vec::new(),
            left: vec![words],
        },
        // Told once, and not again by each later `recover`.
        Err(ActError::Lost(words)) => Came {
            actions: vec![words],
            left: Vec::new(),
        },
        Err(error) if operation.rest.is_some() => {
            return Err(RecoverError::Carry {
                operation: name,
                server: operation.server.clone(),
                source: Box::new(error),
            });
        }
        Err(error) => {
            return Err(RecoverError::Undo {
                operation: name,
                source: Box::new(error),
            });
        }
    };
    for place in [StateDir::run_place(&name), state.work(&name)] {
        if files::remove_tree(&place)? {
            actions.push(format!("removed {}", place.display()));
        }
    }
    log.outcome("recover", &actions.join("; "))?;
    log.end("recovered")?;
    note(recovered, &name, &operation.server, actions);
    if let Some(told) = recovered.iter_mut().find(|one| one.operation == name) {
        told.left.extend(left);
    }
    Ok(())
}

/// Somebody else has moved the roles meanwhile: what was changed before the commit is put back, and told.
fn given_up(
    operation: &Unfinished,
    means: &mut Means<'_>,
    words: String,
) -> Result<Came, ActError> {
    let undone = act::undo_all(&operation.undos, &operation.undone, means, |_| {});
    let actions = match undone {
        Ok(actions) => actions,
        // It says the same.
        Err(ActError::Moved(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(Came {
        actions,
        left: vec![words],
    })
}

/// Whoever changes the pair from another host is waited out: its servers' own locks, of those that answer.
fn hold_servers(means: &Means<'_>, operation: &Unfinished) -> Result<Vec<Session>, RecoverError> {
    if !operation.kind.changes_a_pair() {
        return Ok(Vec::new());
    }
    let acts = operation.undos.iter();
    let acts = acts.chain(operation.rest.iter().flatten().map(|rest| &rest.act));
    let mut reaches: Vec<&Reach> = acts.flat_map(Act::reaches).collect();
    reaches.sort_by(|one, other| one.server.cmp(&other.server));
    reaches.dedup_by(|one, other| one.server == other.server);
    let mut sessions = Vec::new();
    for on in reaches {
        let Some(session) = act::session(means, on) else {
            continue;
        };
        match pair_lock::take(session, "recover") {
            Ok(Ok(session)) => sessions.push(session),
            Ok(Err(holder)) => {
                return Err(RecoverError::Elsewhere {
                    server: on.server.clone(),
                    holder,
                });
            }
            // It went away just now.
            Err(error) => tracing::warn!(%error, server = %on.server, "not held"),
        }
    }
    Ok(sessions)
}

/// Puts back what killed uses of this server's snapshots left; needs neither the server nor its
/// lock.
pub fn recover_uses(state: &StateDir, server: &str) -> Result<Vec<Recovered>, RecoverError> {
    let mut recovered = Vec::new();
    let _alone = FileLock::take_within(&state.uses_lock(), "recover", OTHER_KEEPER_FOR)?;
    for operation in log::unfinished(state, Some(server))? {
        if operation.kind.is_use() && !operation.owner.is_alive() {
            finish(state, &operation, &[], &mut recovered)?;
        }
    }
    Ok(recovered)
}

/// What is left over of a server's operations, as far as the state directory tells. An operation
/// that is still running shows up too.
pub fn left_over(state: &StateDir, server: &str) -> Result<Vec<Recovered>, RecoverError> {
    let mut left = Vec::new();
    match lease::read(state, server)? {
        Found::None => {}
        Found::Lease(lease) => {
            let action = format!("put back what was changed under the lease of {server}");
            note(&mut left, &lease.operation, server, vec![action]);
        }
        Found::Unreadable(reason) => {
            let action = format!("an operator must look at the lease: {reason}");
            note(&mut left, "unknown", server, vec![action]);
        }
    }
    for operation in log::unfinished(state, Some(server))? {
        if operation.kind.is_use() && operation.owner.is_alive() {
            continue;
        }
        let actions = operation.words();
        note(&mut left, &operation.operation, server, actions);
    }
    Ok(left)
}

fn recover_lease(
    state: &StateDir,
    target: &Target,
    recovered: &mut Vec<Recovered>,
) -> Result<Paused, RecoverError> {
    let lease = match lease::read(state, &target.server)? {
        Found::None => return Ok(Paused::No),
        Found::Lease(lease) => lease,
        Found::Unreadable(reason) => {
            return Err(RecoverError::Lease {
                path: state.lease(&target.server),
                reason,
            });
        }
    };
    let watched = lease.watchdog.as_ref().is_some_and(|w| w.is_alive());
    if lease.purpose == Purpose::Manual && !lease.is_expired() && watched {
        return Ok(Paused::OnPurpose(lease));
    }
    let actions = put_back_alone(state, target, &lease)?;
    note(recovered, &lease.operation, &target.server, actions);
    Ok(Paused::No)
}

/// Puts a lease back while no other keeper is at it, and removes it.
pub fn put_back_alone(
    state: &StateDir,
    target: &Target,
    lease: &Lease,
) -> Result<Vec<String>, RecoverError> {
    let _alone = FileLock::take_within(
        &state.putback_lock(&lease.server),
        "recover",
        OTHER_KEEPER_FOR,
    )?;
    let actions =
        putback::put_back(target, lease, PUT_BACK_FOR).map_err(|source| RecoverError::PutBack {
            operation: lease.operation.clone(),
            source,
        })?;
    lease::remove(state, lease)?;
    Ok(actions)
}

fn note(recovered: &mut Vec<Recovered>, operation: &str, server: &str, actions: Vec<String>) {
    match recovered.iter_mut().find(|r| r.operation == operation) {
        Some(known) => known.actions.extend(actions),
        None => recovered.push(Recovered {
            operation: operation.to_owned(),
            server: server.to_owned(),
            actions,
            left: Vec::new(),
        }),
    }
}
