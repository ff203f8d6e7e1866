//! The third keeper: finishes or undoes what interrupted operations left, for one server.
//!
//! Runs by hand, at the start of every command that changes that server, and at boot. The caller
//! holds the server's lock, so whoever began an unfinished operation is gone.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::in_place::{self, InPlaceError, InPlaceRestore, PutStage};
use super::lease::{self, Found, Lease, Purpose};
use super::log::{self, Log, OperationKind, Unfinished};
use super::putback::{self, PutBackError};
use super::state::StateDir;
use super::undo::{self, UndoError};
use crate::server::session::Target;
use crate::sys::files::{self, FileError};
use crate::sys::lock::{FileLock, LockError};
use crate::volume::{self, Backend, PlannedVolume, VolumeError};

/// How long putting one lease back may take before an operator must look.
const PUT_BACK_FOR: Duration = Duration::from_secs(60);

/// How long another keeper that is at it is waited for.
const OTHER_KEEPER_FOR: Duration = Duration::from_secs(90);

/// A server with much memory takes some seconds to go.
const STILL_DYING_FOR: Duration = Duration::from_secs(30);

const LOOK_AGAIN: Duration = Duration::from_millis(50);

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
    #[error("remove what {operation} left: {source}")]
    Sweep {
        operation: String,
        #[source]
        source: VolumeError,
    },
    #[error("restore {server} in place: {source}")]
    Putting {
        server: String,
        #[source]
        source: Box<InPlaceError>,
    },
    #[error("put back what {operation} changed: {source}")]
    Undo {
        operation: String,
        #[source]
        source: Box<UndoError>,
    },
    #[error("lease {} can't be read: {reason}", path.display())]
    Lease {
        path: std::path::PathBuf,
        reason: String,
    },
}

/// What was done about one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recovered {
    pub operation: String,
    pub server: String,
    pub actions: Vec<String>,
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
    state.sweep()?;
    log::put_away_ended(state)?;
    let mut recovered = Vec::new();
    let paused = recover_lease(state, target, &mut recovered)?;
    recovered.extend(recover_uses(state, &target.server)?);
    for operation in log::unfinished(state, Some(&target.server))? {
        if operation.kind.is_use() {
            continue;
        }
        let of_pause = match &paused {
            Paused::OnPurpose(lease) => lease.operation == operation.operation,
            Paused::No => false,
        };
        match (&operation.putting, of_pause) {
            (_, true) => {}
            (Some((putting, stage)), false) => {
                let actions = carry_through(state, target, &operation, putting, *stage)?;
                end_recovered(state, &operation, actions, &mut recovered)?;
            }
            (None, false) if operation.kind == OperationKind::Setup => {
                let actions = undo_setup(state, &operation)?;
                end_recovered(state, &operation, actions, &mut recovered)?;
            }
            (None, false) => finish(state, &operation, &mut recovered)?,
        }
    }
    Ok((recovered, paused))
}

fn carry_through(
    state: &StateDir,
    target: &Target,
    operation: &Unfinished,
    restore: &InPlaceRestore,
    stage: PutStage,
) -> Result<Vec<String>, RecoverError> {
    let mut log = Log::reopen(state, &operation.path)?;
    let name = &operation.operation;
    let note_put = || log.put();
    in_place::carry_through(state, target, name, restore, stage, note_put).map_err(|source| {
        RecoverError::Putting {
            server: target.server.clone(),
            source: Box::new(source),
        }
    })
}

/// Undoes a set-up, or ends one that was done already. What is lost for good is told once, and not
/// again by each later `recover`.
fn undo_setup(state: &StateDir, operation: &Unfinished) -> Result<Vec<String>, RecoverError> {
    files::remove_tree(&state.work(&operation.operation))?;
    if operation.is_set_up {
        return Ok(undo::tidy(&operation.undos)?);
    }
    let mut log = Log::reopen(state, &operation.path)?;
    // Where that can't be written it may be undone twice.
    let note = |number| drop(log.undone(number));
    match undo::undo_all(&operation.undos, &operation.undone, note) {
        Ok(actions) => Ok(actions),
        Err(UndoError::Lost(words)) => Ok(vec![words]),
        Err(source) => Err(RecoverError::Undo {
            operation: operation.operation.clone(),
            source: Box::new(source),
        }),
    }
}

/// Puts back what killed uses of this server's snapshots left; needs neither the server nor its
/// lock.
pub fn recover_uses(state: &StateDir, server: &str) -> Result<Vec<Recovered>, RecoverError> {
    let mut recovered = Vec::new();
    let _alone = FileLock::take_within(&state.uses_lock(), "recover", OTHER_KEEPER_FOR)?;
    for operation in log::unfinished(state, Some(server))? {
        if operation.kind.is_use() && !operation.owner.is_alive() {
            finish(state, &operation, &mut recovered)?;
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
        if let Some((_, stage)) = &operation.putting {
            let action = match stage {
                PutStage::Stopping => format!("start {server} on its data as it was"),
                PutStage::Putting => {
                    format!("put the snapshot in place of {server}'s data to the end")
                }
                PutStage::Put => format!("start {server} on the restored data"),
            };
            note(&mut left, &operation.operation, server, vec![action]);
            continue;
        }
        if operation.kind == OperationKind::Setup {
            let actions = match operation.is_set_up {
                true => undo::tidy_words(&operation.undos),
                false => undo::words(&operation.undos, &operation.undone),
            };
            note(&mut left, &operation.operation, server, actions);
            continue;
        }
        let volumes = operation.volumes.iter().flat_map(|(_, volumes)| volumes);
        let actions = volumes.map(|v| format!("look for {}", v.name)).collect();
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

/// Sweeps what an unfinished operation may have left on the volumes, and ends its log.
fn finish(
    state: &StateDir,
    operation: &Unfinished,
    recovered: &mut Vec<Recovered>,
) -> Result<(), RecoverError> {
    let mut actions = Vec::new();
    if operation.kind.is_use() {
        actions.extend(clear_use(state, operation)?);
        return end_recovered(state, operation, actions, recovered);
    }
    let id = operation.operation.trim_start_matches(log::DELETE_PREFIX);
    let keep = match operation.kind {
        // Once the manifest is written the snapshot is whole; only the end line is missing.
        OperationKind::SnapshotCreate => state.manifest(id).exists(),
        // Before its volumes are named nothing has gone.
        OperationKind::SnapshotDelete => operation.volumes.is_empty(),
        OperationKind::Pause
        | OperationKind::RestoreInPlace
        | OperationKind::Setup
        | OperationKind::Verify
        | OperationKind::Extract
        | OperationKind::Mount
        | OperationKind::RestoreTo => true,
    };
    if !keep {
        for (backend, volumes) in &operation.volumes {
            let swept = volume::open(*backend)
                .and_then(|backend| backend.sweep(id, volumes))
                .map_err(|source| RecoverError::Sweep {
                    operation: operation.operation.clone(),
                    source,
                })?;
            actions.extend(swept);
        }
        if files::remove(&state.manifest(id))? {
            actions.push(format!("removed the manifest of {id}"));
        }
    }
    end_recovered(state, operation, actions, recovered)
}

/// Removes the clones and directories of a use whose command is gone. Its private server died with
/// it, and so did its mounts.
fn clear_use(state: &StateDir, operation: &Unfinished) -> Result<Vec<String>, RecoverError> {
    let use_id = &operation.operation;
    let mut actions = Vec::new();
    if state.mount_record(use_id).exists() {
        // It was mounted to the end; only the end line is missing.
        return Ok(actions);
    }
    let sweep = |source| RecoverError::Sweep {
        operation: use_id.clone(),
        source,
    };
    for path in operation.mount_points.iter().rev() {
        let snapshot = log::snapshot_of_use(use_id);
        if volume::mount::is_ours_at(path, &[use_id, snapshot]).map_err(sweep)?
            && volume::mount::unmount(path).map_err(sweep)?
        {
            actions.push(format!("unmounted {}", path.display()));
        }
    }
    for (backend, volumes) in &operation.volumes {
        let dropped = volume::open(*backend)
            .and_then(|backend| drop_clones(backend.as_ref(), use_id, volumes))
            .map_err(sweep)?;
        actions.extend(dropped);
    }
    for path in &operation.files {
        if files::remove(path)? {
            actions.push(format!("removed {}", path.display()));
        }
    }
    for path in operation.directories.iter().rev() {
        if files::remove_empty_dir(path)? {
            actions.push(format!("removed the directory {}", path.display()));
        }
    }
    for place in [StateDir::run_place(use_id), state.work(use_id)] {
        if files::remove_tree(&place)? {
            actions.push(format!("removed {}", place.display()));
        }
    }
    Ok(actions)
}

/// Removes the clones of a use. Its private server may have been killed a moment ago: until the
/// kernel has taken it apart, the mounts of its room are there.
pub fn drop_clones(
    backend: &dyn Backend,
    use_id: &str,
    planned: &[PlannedVolume],
) -> Result<Vec<String>, VolumeError> {
    let until = Instant::now() + STILL_DYING_FOR;
    loop {
        match backend.drop_clones(use_id, planned) {
            Err(VolumeError::Busy { .. }) if Instant::now() < until => {
                std::thread::sleep(LOOK_AGAIN);
            }
            ended => return ended,
        }
    }
}

fn end_recovered(
    state: &StateDir,
    operation: &Unfinished,
    actions: Vec<String>,
    recovered: &mut Vec<Recovered>,
) -> Result<(), RecoverError> {
    let mut log = Log::reopen(state, &operation.path)?;
    log.outcome("recover", &actions.join("; "))?;
    log.end("recovered")?;
    note(recovered, &operation.operation, &operation.server, actions);
    Ok(())
}

fn note(recovered: &mut Vec<Recovered>, operation: &str, server: &str, actions: Vec<String>) {
    match recovered.iter_mut().find(|r| r.operation == operation) {
        Some(known) => known.actions.extend(actions),
        None => recovered.push(Recovered {
            operation: operation.to_owned(),
            server: server.to_owned(),
            actions,
        }),
    }
}
