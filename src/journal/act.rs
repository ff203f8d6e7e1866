//! What can be done to put something back, or to carry it through, as data that a later process can
//! run: by the operation that noted it, or by `recover` after that was killed.
//!
//! Each act may run twice, and for a change that was never begun.

mod clients;
mod clone;
mod follow;
pub mod option_file;
mod roles;
mod salvage;
mod server;
mod storage;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::service::ServiceError;
use super::state::StateDir;
use crate::config::{Address, ServiceControl, TlsMode};
use crate::reroute::RerouteAct;
use crate::server::Identity;
use crate::server::channel::ChannelName;
use crate::server::globals::GlobalBefore;
use crate::server::log_files::LogPlace;
use crate::server::session::{Session, SessionError, Target};
use crate::sys::files::{self, FileError};
use crate::volume::{self, BackendKind, PlannedVolume, PutRequest, VolumeError};

pub use server::unlogged;
pub use storage::{UNDO_TAG, drop_clones, undo_id};

/// How to reach a server again; the credentials stay in their file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    pub server: String,
    /// `None`: only the configuration tells it (journals of older versions).
    pub address: Option<Address>,
    pub credentials: Option<PathBuf>,
    pub tls: TlsMode,
    pub tls_ca: Option<PathBuf>,
    pub identity: Identity,
}

/// The statements that make one channel go on, of those whose threads ran before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    pub channel: String,
    pub statements: Vec<String>,
}

/// A link to a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub channel: ChannelName,
    /// The source's name in the configuration.
    pub to: String,
    pub host: String,
    pub port: u16,
    /// For a server that follows nobody yet: as whom, by which file, with which encryption. Else all
    /// of that stays as it is.
    pub fresh: Option<FreshLink>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshLink {
    pub user: String,
    pub password_file: PathBuf,
    pub tls: TlsMode,
    pub tls_ca: Option<PathBuf>,
    /// Channels of the same server that apply what comes from elsewhere. MariaDB takes a position only
    /// while nothing is applied: they are held for that moment, and go on whatever comes of it.
    #[serde(default)]
    pub beside: Vec<ChannelName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Act {
    /// Statements on one connection; those whose object is gone already are passed over.
    Statements {
        on: Reach,
        /// What this does, for people.
        words: String,
        statements: Vec<String>,
    },
    /// Opens a server for writers, unless one of `beside` takes writes by now.
    Open {
        on: Reach,
        words: String,
        statements: Vec<String>,
        beside: Vec<Reach>,
    },
    /// Sees, before `to` is opened, that nobody else is the source by now; `closes`: the former one is
    /// closed next.
    Unmoved {
        from: Option<Reach>,
        to: Reach,
        others: Vec<Reach>,
        closes: bool,
    },
    /// Removes a file.
    File { path: PathBuf },
    /// Puts an option file of ours back: its former text, `None` where it wasn't there.
    OptionFile {
        path: PathBuf,
        before: Option<String>,
    },
    /// Removes a directory with all in it.
    Tree { path: PathBuf },
    /// Removes a directory, if it is empty.
    EmptyDirectory { path: PathBuf },
    /// Unmounts what bears one of these names.
    MountPoint { path: PathBuf, names: Vec<String> },
    /// Removes what there is of these volumes of a snapshot.
    Volumes {
        id: String,
        backend: BackendKind,
        volumes: Vec<PlannedVolume>,
    },
    /// Removes what there is of these clones.
    Clones {
        use_id: String,
        backend: BackendKind,
        volumes: Vec<PlannedVolume>,
    },
    /// Removes the snapshot that this operation took of the state before.
    UndoSnapshot { operation: String },
    /// Puts kept volumes in place of a stopped server's data.
    Put {
        server: String,
        data_dir: PathBuf,
        backend: BackendKind,
        requests: Vec<PutRequest>,
    },
    /// Starts a server unless it answers, and sets back at once what its restart forgot.
    Start {
        on: Reach,
        service: ServiceControl,
        globals: Vec<GlobalBefore>,
        /// What this comes to, for people.
        words: String,
    },
    /// Makes channels go on that the server's own start didn't.
    Resume { on: Reach, channels: Vec<Resume> },
    /// Makes a server follow another one by GTID.
    Follow { on: Reach, link: Box<Link> },
    /// Brings in what only a dead source's binary logs hold; `work` is a directory for that alone.
    Salvage {
        on: Reach,
        logs: LogPlace,
        work: PathBuf,
    },
    /// Leads clients to a new source, by all ways side by side, and sees that they reach it.
    Reroute { ways: Vec<RerouteAct> },
    /// Puts a data directory back that was moved aside for another one.
    DataDir {
        on: Reach,
        service: ServiceControl,
        data_dir: PathBuf,
        aside: PathBuf,
    },
    /// Ends a clone that may still go on, and has a server up that is down after it.
    Clone {
        on: Reach,
        service: Option<ServiceControl>,
        /// From where, and as whom.
        donor: Reach,
        user: String,
    },
    /// Says what can't be put back.
    Lost { words: String },
    /// Says what is worth knowing.
    Told { words: String },
}

/// An act that remains to be done once an operation can't be undone any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    pub act: Act,
    /// What comes after it waits for it, whichever server that changes.
    pub gate: bool,
}

/// What acts are run with.
pub struct Means<'a> {
    pub state: &'a StateDir,
    /// The configuration's present word on how to reach servers: newer than a journal's.
    pub known: &'a [Target],
    /// Told of the bytes of a long copy: done, in all.
    pub progress: &'a mut dyn FnMut(u64, u64),
}

#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error("{server} couldn't be reached: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("the clone on {server} doesn't end by itself; restarting that server ends it")]
    GoesOn { server: String },
    #[error("{channel} doesn't go on: {reason}")]
    NotRunning { channel: String, reason: String },
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("the dead source's binary logs aren't all in: {0}")]
    Salvage(String),
    #[error("{0}")]
    Reroute(String),
    #[error("{0}")]
    Several(String),
    /// Somebody else has moved the roles since.
    #[error("{0}")]
    Moved(String),
    /// Everything else is back.
    #[error("{0}")]
    Lost(String),
}

/// An act that failed, and the server that it is about; `None` for this host's files and storage.
struct Failure {
    server: Option<String>,
    error: ActError,
}

/// Undoes in reverse what isn't `undone` yet, and tells `note` of each as it is done: what was made
/// anew by then isn't undone again. A line for each thing that was done.
///
/// A server that can't be put back doesn't hold up the other ones. What is lost for good is told
/// when all the rest is back.
pub fn undo_all(
    acts: &[Act],
    undone: &BTreeSet<usize>,
    means: &mut Means<'_>,
    mut note: impl FnMut(usize),
) -> Result<Vec<String>, ActError> {
    let mut actions = Vec::new();
    let mut lost = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    for (number, act) in acts.iter().enumerate().rev() {
        if let Act::Lost { words } = act {
            lost.push(words.clone());
            continue;
        }
        let waits = failures.iter().any(|failure| match act.server() {
            Some(server) => failure.server.as_deref() == Some(server),
            None => true,
        });
        if waits || undone.contains(&number) {
            continue;
        }
        match act.run(means) {
            Ok(action) => {
                actions.extend(action);
                note(number);
            }
            Err(failure) => failures.push(failure),
        }
    }
    // The rest of what it told was of a source that is none any more.
    let moved = failures
        .iter()
        .position(|one| matches!(one.error, ActError::Moved(_)));
    if let Some(moved) = moved {
        let Failure { error, .. } = failures.swap_remove(moved);
        return match joined(failures) {
            None => Err(error),
            Some(other) => Err(other),
        };
    }
    match (joined(failures), lost.is_empty()) {
        (None, true) => Ok(actions),
        (None, false) => Err(ActError::Lost(lost.join("; "))),
        (Some(error), _) => Err(error),
    }
}

/// What came of carrying something through: a line for each thing done, and for each that is left.
#[derive(Debug, Default)]
pub struct Came {
    pub actions: Vec<String>,
    pub left: Vec<String>,
}

/// Carries through what isn't `done` yet, in its order, and tells `note` what came of each: its line,
/// or why it failed. What fails holds up the rest of its server; a gate that fails ends it all, and is
/// the error. What else failed is left.
pub fn carry_all(
    rest: &[Rest],
    done: &BTreeSet<usize>,
    means: &mut Means<'_>,
    mut note: impl FnMut(usize, Result<Option<&str>, &ActError>),
) -> Result<Came, ActError> {
    let mut actions = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    let waits = |failures: &[Failure], act: &Act| {
        act.server().is_some_and(|server| {
            let mut failed = failures.iter();
            failed.any(|failure| failure.server.as_deref() == Some(server))
        })
    };
    for (number, Rest { act, gate }) in rest.iter().enumerate() {
        if waits(&failures, act) || done.contains(&number) {
            continue;
        }
        match act.run(means) {
            Ok(action) => {
                note(number, Ok(action.as_deref()));
                actions.extend(action);
            }
            Err(failure) => {
                note(number, Err(&failure.error));
                if *gate {
                    return Err(failure.error);
                }
                failures.push(failure);
            }
        }
    }
    let left = failures.iter().map(|failure| match &failure.server {
        Some(server) => format!(
            "{server}: {}; when it is cured, `understudy rejoin {server}`",
            failure.error
        ),
        None => failure.error.to_string(),
    });
    Ok(Came {
        actions,
        left: left.collect(),
    })
}

/// A session with the very server that was meant, if that answers now.
pub fn session(means: &Means<'_>, on: &Reach) -> Option<Session> {
    let target = server::target(means, on).ok()?;
    Session::connect_to(&target, &on.identity).ok()
}

/// One act alone.
pub fn run_one(act: &Act, means: &mut Means<'_>) -> Result<Option<String>, ActError> {
    act.run(means).map_err(|failure| failure.error)
}

fn joined(mut failures: Vec<Failure>) -> Option<ActError> {
    match failures.len() {
        0 => None,
        1 => Some(failures.remove(0).error),
        _ => {
            let errors: Vec<String> = failures.iter().map(|f| f.error.to_string()).collect();
            Some(ActError::Several(errors.join("; ")))
        }
    }
}

impl Act {
    /// The server that it changes.
    fn server(&self) -> Option<&str> {
        match self {
            Self::Statements { on, .. }
            | Self::Open { on, .. }
            | Self::Start { on, .. }
            | Self::Resume { on, .. }
            | Self::Follow { on, .. }
            | Self::DataDir { on, .. }
            | Self::Clone { on, .. } => Some(&on.server),
            Self::Put { server, .. } => Some(server),
            Self::File { .. }
            | Self::OptionFile { .. }
            | Self::Tree { .. }
            | Self::EmptyDirectory { .. }
            | Self::MountPoint { .. }
            | Self::Volumes { .. }
            | Self::Clones { .. }
            | Self::UndoSnapshot { .. }
            // What can't be brought in doesn't keep that server from being opened.
            | Self::Salvage { .. }
            // It is a gate.
            | Self::Unmoved { .. }
            | Self::Reroute { .. }
            | Self::Lost { .. }
            | Self::Told { .. } => None,
        }
    }

    /// All servers that it asks or changes.
    pub fn reaches(&self) -> Vec<&Reach> {
        match self {
            Self::Statements { on, .. }
            | Self::Start { on, .. }
            | Self::Resume { on, .. }
            | Self::Follow { on, .. }
            | Self::DataDir { on, .. }
            | Self::Salvage { on, .. } => vec![on],
            Self::Clone { on, donor, .. } => vec![on, donor],
            Self::Open { on, beside, .. } => [on].into_iter().chain(beside).collect(),
            Self::Unmoved {
                from, to, others, ..
            } => from.iter().chain([to]).chain(others).collect(),
            Self::File { .. }
            | Self::OptionFile { .. }
            | Self::Tree { .. }
            | Self::EmptyDirectory { .. }
            | Self::MountPoint { .. }
            | Self::Volumes { .. }
            | Self::Clones { .. }
            | Self::UndoSnapshot { .. }
            | Self::Put { .. }
            | Self::Reroute { .. }
            | Self::Lost { .. }
            | Self::Told { .. } => Vec::new(),
        }
    }

    /// What was done, if there was anything to do.
    fn run(&self, means: &mut Means<'_>) -> Result<Option<String>, Failure> {
        if let Self::Clone {
            on,
            service,
            donor,
            user,
        } = self
        {
            return clone::end(means, (on, service.as_ref()), donor, user)
                .map(|()| None)
                .map_err(|(server, error)| Failure {
                    server: Some(server),
                    error,
                });
        }
        self.run_here(means).map_err(|error| Failure {
            server: self.server().map(str::to_owned),
            error,
        })
    }

    fn run_here(&self, means: &mut Means<'_>) -> Result<Option<String>, ActError> {
        let removed =
            |was: bool, path: &PathBuf| was.then(|| format!("removed {}", path.display()));
        Ok(match self {
            Self::Statements {
                on,
                words,
                statements,
            } => {
                server::run(means, on, statements)?;
                Some(format!("{words} on {}", on.server))
            }
            Self::Open {
                on,
                words,
                statements,
                beside,
            } => {
                roles::open(means, on, statements, beside)?;
                Some(format!("{words} on {}", on.server))
            }
            Self::Unmoved {
                from,
                to,
                others,
                closes,
            } => {
                roles::unmoved(means, from.as_ref(), to, others, *closes)?;
                None
            }
            Self::File { path } => removed(files::remove(path)?, path),
            Self::OptionFile { path, before } => option_file::put_back(path, before.as_deref())?,
            Self::Tree { path } => removed(files::remove_tree(path)?, path),
            Self::EmptyDirectory { path } => files::remove_empty_dir(path)?
                .then(|| format!("removed the directory {}", path.display())),
            Self::MountPoint { path, names } => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let was = volume::mount::is_ours_at(path, &names)? && volume::mount::unmount(path)?;
                was.then(|| format!("unmounted {}", path.display()))
            }
            Self::Volumes {
                id,
                backend,
                volumes,
            } => several(volume::open(*backend)?.sweep(id, volumes)?),
            Self::Clones {
                use_id,
                backend,
                volumes,
            } => several(drop_clones(
                volume::open(*backend)?.as_ref(),
                use_id,
                volumes,
            )?),
            Self::UndoSnapshot { operation } => storage::drop_undo(means.state, operation)?,
            Self::Put {
                data_dir,
                backend,
                requests,
                ..
            } => Some(storage::put(means, data_dir, *backend, requests)?),
            Self::Start {
                on,
                service,
                globals,
                words,
            } => {
                server::start(means, on, service, globals)?;
                Some(words.clone())
            }
            Self::Resume { on, channels } => {
                server::resume(means, on, channels)?;
                None
            }
            Self::Salvage { on, logs, work } => Some(salvage::bring(means, on, logs, work)?),
            Self::Reroute { ways } => Some(clients::lead(ways)?),
            Self::Follow { on, link } => Some(follow::follow(means, on, link)?),
            Self::DataDir {
                on,
                service,
                data_dir,
                aside,
            } => server::put_data_dir_back(means, on, service, data_dir, aside)?,
            Self::Clone { .. } | Self::Lost { .. } => None,
            Self::Told { words } => Some(words.clone()),
        })
    }

    /// What would be done, for --dry-run; `None` where nobody need know.
    pub fn words(&self) -> Option<String> {
        Some(match self {
            Self::Statements { on, words, .. } | Self::Open { on, words, .. } => {
                format!("{words} on {}", on.server)
            }
            Self::Unmoved { to, .. } => {
                format!(
                    "see that nobody else takes writes by now, instead of {}",
                    to.server
                )
            }
            Self::File { path } | Self::Tree { path } | Self::EmptyDirectory { path } => {
                format!("remove {}", path.display())
            }
            Self::OptionFile { path, .. } => format!("put {} back as it was", path.display()),
            Self::MountPoint { path, .. } => format!("unmount {}", path.display()),
            Self::Volumes { volumes, .. } | Self::Clones { volumes, .. } => {
                let names: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
                format!("look for {}", names.join(", "))
            }
            Self::UndoSnapshot { .. } => "remove the undo snapshot, which isn't needed".to_owned(),
            Self::Put { server, .. } => {
                format!("put the snapshot in place of {server}'s data to the end")
            }
            Self::Start { on, .. } => format!("start {}", on.server),
            Self::Resume { on, channels } => match channels.is_empty() {
                true => return None,
                false => format!("see that {} replicates again", on.server),
            },
            Self::Salvage { on, logs, .. } => format!(
                "bring in what only the binary logs in {} hold, on {}",
                logs.directory.display(),
                on.server
            ),
            Self::Reroute { ways } => {
                let names: Vec<String> = ways.iter().map(|way| way.reroute.way.name()).collect();
                format!("lead clients there by {}", names.join(", "))
            }
            Self::Follow { on, link } => format!("make {} follow {}", on.server, link.to),
            Self::DataDir { data_dir, .. } => format!("put {} back as it was", data_dir.display()),
            Self::Clone { on, .. } => format!("end the clone on {}", on.server),
            Self::Lost { words } | Self::Told { words } => words.clone(),
        })
    }
}

fn several(actions: Vec<String>) -> Option<String> {
    (!actions.is_empty()).then(|| actions.join("; "))
}
