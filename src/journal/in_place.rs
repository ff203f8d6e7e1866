//! Putting a snapshot in place of a stopped server's data: the part that must be carried through
//! once it has begun, by the command itself or by `recover`.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::service::{self, SERVICE_LIMIT, ServiceError};
use super::state::StateDir;
use crate::config::ServiceControl;
use crate::server::globals::{self, GlobalBefore};
use crate::server::session::{Session, SessionError, Target};
use crate::server::{Identity, replication};
use crate::sys::{failpoint, files, process};
use crate::volume::{self, BackendKind, PlannedVolume, PutRequest, Renamed};

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A server that was read-only is writable from its start until we are there.
const LOOK_SOON: Duration = Duration::from_millis(5);

/// All that is needed to carry it through, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlaceRestore {
    pub identity: Identity,
    pub data_dir: std::path::PathBuf,
    pub service: ServiceControl,
    pub backend: BackendKind,
    pub requests: Vec<PutRequest>,
    /// The statements that make a channel go on, of those whose threads ran before.
    pub resume: Vec<Resume>,
    /// What the restart forgets, as it was before; none in the journals of older versions.
    #[serde(default)]
    pub globals: Vec<GlobalBefore>,
    /// read_only was off before, and is put on meanwhile.
    pub closed: bool,
}

/// One channel's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    pub channel: String,
    pub statements: Vec<String>,
}

/// How far putting a snapshot in place had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutStage {
    /// The storage wasn't touched.
    Stopping,
    Putting,
    Put,
}

#[derive(Debug, thiserror::Error)]
pub enum InPlaceError {
    #[error(transparent)]
    Volume(#[from] volume::VolumeError),
    #[error(transparent)]
    File(#[from] files::FileError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("the server doesn't answer after its start: {0}")]
    Unreachable(#[source] SessionError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("{channel} doesn't go on: {reason}")]
    NotRunning { channel: String, reason: String },
}

/// Puts all volumes in place. May be called again after it was interrupted anywhere.
pub fn put_all(
    state: &StateDir,
    putting: &InPlaceRestore,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), InPlaceError> {
    if process::runs_in(&putting.data_dir) {
        return Err(ServiceError::StillUp(putting.data_dir.clone()).into());
    }
    let backend = volume::open(putting.backend)?;
    for request in &putting.requests {
        let renamed = backend.put(request, progress)?;
        rename_records(state, &renamed)?;
        failpoint::hit("put-one");
    }
    Ok(())
}

/// What the storage calls a kept volume now goes into its manifest.
fn rename_records(state: &StateDir, renamed: &[Renamed]) -> Result<(), InPlaceError> {
    for Renamed { id, record } in renamed {
        let path = state.manifest(id);
        let Some(text) = files::read_text(&path)? else {
            continue;
        };
        let Ok(mut manifest) = serde_json::from_str::<serde_json::Value>(&text) else {
            continue;
        };
        let volumes = manifest["volumes"].as_array_mut();
        for volume in volumes.into_iter().flatten() {
            if volume["uuid"] == record.uuid.as_str() {
                for (name, value) in [
                    ("name", record.name.clone()),
                    ("origin", record.origin.clone()),
                    ("path", record.path.display().to_string()),
                ] {
                    volume[name] = value.into();
                }
            }
        }
        let text = serde_json::to_vec_pretty(&manifest).unwrap_or(text.into_bytes());
        files::replace(&path, &text)?;
    }
    Ok(())
}

/// Starts the server unless it answers, waits until the right one does, and sets back at once what
/// its restart forgot.
pub fn start(putting: &InPlaceRestore, target: &Target) -> Result<Session, InPlaceError> {
    if Session::connect(target).is_err() {
        service::start(&putting.service)?;
    }
    let until = Instant::now() + SERVICE_LIMIT;
    loop {
        match Session::connect_to(target, &putting.identity) {
            Ok(session) => return Ok(globals::restore(session, &putting.globals)?.0),
            Err(error @ SessionError::WrongServer { .. }) => return Err(error.into()),
            Err(error) if Instant::now() >= until => return Err(InPlaceError::Unreachable(error)),
            Err(_) => sleep(LOOK_SOON),
        }
    }
}

/// Makes the channels that ran before go on, where the server's own start didn't.
pub fn resume(mut session: Session, channels: &[Resume]) -> Result<Session, InPlaceError> {
    for wanted in channels {
        let (back, running) = is_running(session, &wanted.channel)?;
        session = back;
        if running {
            continue;
        }
        for statement in &wanted.statements {
            // A thread that is stopped or started already is what we want.
            let (back, _) = session.attempt(statement, STATEMENT_LIMIT)?;
            session = back;
        }
        let until = Instant::now() + STATEMENT_LIMIT;
        loop {
            let (back, running) = is_running(session, &wanted.channel)?;
            session = back;
            if running {
                break;
            }
            if Instant::now() >= until {
                let (_, channels) = replication::observe_channels(session)?;
                let reason = channels
                    .iter()
                    .find(|channel| channel.name.as_str() == wanted.channel)
                    .map(|channel| format!("{} {}", channel.io_error, channel.sql_error))
                    .unwrap_or_default();
                return Err(InPlaceError::NotRunning {
                    channel: wanted.channel.clone(),
                    reason: reason.trim().to_owned(),
                });
            }
            sleep(LOOK_EVERY);
        }
    }
    Ok(session)
}

fn is_running(session: Session, channel: &str) -> Result<(Session, bool), InPlaceError> {
    use replication::ThreadState;
    let (session, channels) = replication::observe_channels(session)?;
    let running = channels.iter().any(|own| {
        own.name.as_str() == channel
            && own.sql == ThreadState::Running
            && matches!(own.io, ThreadState::Running | ThreadState::Connecting)
    });
    Ok((session, running))
}

/// For `recover`: carries through what was begun, and starts the server. `note_put` says durably that
/// the storage needs nothing more: whatever ends this after the start, the next one finds the server
/// running on the restored data, which isn't to be put there again.
pub fn carry_through(
    state: &StateDir,
    target: &Target,
    operation: &str,
    putting: &InPlaceRestore,
    stage: PutStage,
    note_put: impl FnOnce() -> Result<(), files::FileError>,
) -> Result<Vec<String>, InPlaceError> {
    let name = &target.server;
    let mut actions = Vec::new();
    if stage == PutStage::Putting {
        put_all(state, putting, &mut |_, _| {})?;
        note_put()?;
        actions.push("put the snapshot in place to the end".to_owned());
    }
    let session = start(putting, target)?;
    let session = resume(session, &putting.resume)?;
    if stage == PutStage::Stopping && putting.closed {
        open_writes(session)?;
    }
    match stage {
        PutStage::Stopping => actions.extend(drop_undo(state, operation)?),
        PutStage::Putting | PutStage::Put => {
            let undo = undo_of(state, operation)?;
            actions.extend(undo.and_then(|(_, manifest)| {
                let id = manifest["id"].as_str()?;
                Some(format!("the state before is kept as {id}, held"))
            }));
        }
    }
    actions.push(match stage {
        PutStage::Stopping => format!("{name} runs on its data as it was before"),
        PutStage::Putting | PutStage::Put => format!("{name} runs on the restored data"),
    });
    Ok(actions)
}

/// The tag of an undo snapshot, with the operation that took it.
pub const UNDO_TAG: &str = "undo-of";

/// The undo snapshot of an operation, as its manifest says it.
fn undo_of(
    state: &StateDir,
    operation: &str,
) -> Result<Option<(PathBuf, serde_json::Value)>, InPlaceError> {
    for path in files::list(&state.manifests())? {
        let text = files::read_text(&path).ok().flatten().unwrap_or_default();
        let Ok(manifest) = serde_json::from_str::<serde_json::Value>(&text) else {
            continue;
        };
        if manifest["tags"][UNDO_TAG] == operation {
            return Ok(Some((path, manifest)));
        }
    }
    Ok(None)
}

/// Removes the undo snapshot of an operation that changed nothing; what was done.
pub fn drop_undo(state: &StateDir, operation: &str) -> Result<Option<String>, InPlaceError> {
    let Some((path, manifest)) = undo_of(state, operation)? else {
        return Ok(None);
    };
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let id = word(&manifest["id"]);
    let Ok(kind) = serde_json::from_value::<BackendKind>(manifest["backend_kind"].clone()) else {
        return Ok(None);
    };
    let volumes = manifest["volumes"].as_array().into_iter().flatten();
    let planned: Vec<PlannedVolume> = volumes
        .map(|volume| PlannedVolume {
            origin: word(&volume["origin"]),
            name: word(&volume["name"]),
        })
        .collect();
    volume::open(kind)?.sweep(&id, &planned)?;
    files::remove(&path)?;
    Ok(Some(format!(
        "removed the undo snapshot {id}, which wasn't needed"
    )))
}

/// Ends what `close_writes` did, where the server's restart didn't.
pub fn open_writes(session: Session) -> Result<Session, InPlaceError> {
    Ok(session.execute("SET GLOBAL read_only = OFF", STATEMENT_LIMIT)?)
}

/// On a server that is nobody's replica: nothing may be written between the undo snapshot and the
/// stop.
pub fn close_writes(session: Session) -> Result<Session, InPlaceError> {
    Ok(session.execute("SET GLOBAL read_only = ON", STATEMENT_LIMIT)?)
}
