//! Why a snapshot command didn't do what was asked, sorted by what it leaves behind.

use crate::journal::act::ActError;
use crate::journal::putback::PutBackError;
use crate::journal::recover::RecoverError;
use crate::journal::state::StateError;
use crate::journal::watchdog::WatchdogError;
use crate::server::SessionError;
use crate::server::pair_lock::Holder;
use crate::sys::cancel::Interrupted;
use crate::sys::files::FileError;
use crate::volume::VolumeError;

/// A safety rule that says no: the evidence as a fragment, the cure as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub hint: String,
}

impl Refusal {
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            hint: hint.into(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Nothing was changed.
    #[error("{}", refusals.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>().join("; "))]
    Refused { refusals: Vec<Refusal> },
    /// Another operation holds the server.
    #[error("another operation holds {server}: {holder}")]
    Busy {
        server: String,
        holder: String,
        hint: String,
    },
    #[error("no server named {name} in the configuration")]
    UnknownServer { name: String, known: Vec<String> },
    #[error("{reason}")]
    UnknownId { reason: String, hint: String },
    #[error("credentials of {server}: {reason}")]
    Credentials {
        server: String,
        reason: String,
        hint: String,
    },
    /// It failed, and what had been changed was put back.
    #[error("{step}: {reason}")]
    Failed {
        step: &'static str,
        reason: String,
        hint: Option<String>,
    },
    /// SIGINT or SIGTERM; what had been changed was put back.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// Something needs an operator.
    #[error("{reason}")]
    NeedsOperator { reason: String, hint: String },
    /// Past the point of no return, and somebody else is the source by now: it isn't gone on with.
    #[error("{reason}")]
    Moved { reason: String, hint: String },
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Exec(#[from] crate::sys::exec::ExecError),
    #[error(transparent)]
    Watchdog(#[from] WatchdogError),
    #[error(transparent)]
    Room(#[from] crate::sys::room::RoomError),
}

impl SnapshotError {
    pub fn refused(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            refusals: vec![Refusal::new(reason, hint)],
        }
    }

    /// Putting back failed: what state the replica is in and what to run.
    pub fn left(server: &str, error: &PutBackError, cause: Option<&Self>) -> Self {
        let because = cause
            .map(|cause| format!(" (after: {cause})"))
            .unwrap_or_default();
        Self::NeedsOperator {
            reason: format!("{server} isn't as it was before: {error}{because}"),
            hint: format!(
                "Run `understudy recover {server}` when the server answers; its watchdog goes on \
                 trying meanwhile."
            ),
        }
    }
}

impl SnapshotError {
    /// Somebody changes the server's pair, by the lock on the server itself.
    pub fn busy(server: &str, holder: &Holder) -> Self {
        Self::Busy {
            server: server.to_owned(),
            holder: holder.words(server),
            hint: holder.hint(server),
        }
    }
}

impl From<StateError> for SnapshotError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Busy {
                server,
                holder,
                hint,
            } => Self::Busy {
                server,
                holder,
                hint,
            },
            StateError::File(error) => Self::File(error),
            StateError::Lock(error) => Self::Failed {
                step: "lock the server",
                reason: error.to_string(),
                hint: None,
            },
        }
    }
}

impl From<RecoverError> for SnapshotError {
    fn from(error: RecoverError) -> Self {
        if let RecoverError::State(error) = error {
            return error.into();
        }
        if let RecoverError::Elsewhere { server, holder } = &error {
            return Self::busy(server, holder);
        }
        Self::NeedsOperator {
            hint: match &error {
                RecoverError::PutBack { .. } => {
                    "Make the server reachable, then run `understudy recover`.".to_owned()
                }
                RecoverError::Carry { server, .. } => format!(
                    "Cure that, then run `understudy recover {server}`; {server} isn't to be \
                     started by hand before."
                ),
                RecoverError::Undo { source, .. } => match source.as_ref() {
                    ActError::Volume(_) => {
                        "Cure what the storage says, then run `understudy recover`.".to_owned()
                    }
                    ActError::Unreachable { .. }
                    | ActError::GoesOn { .. }
                    | ActError::NotRunning { .. }
                    | ActError::Session(_)
                    | ActError::File(_)
                    | ActError::Service(_)
                    | ActError::Reroute(_)
                    | ActError::Salvage(_)
                    | ActError::Several(_)
                    | ActError::Moved(_)
                    | ActError::Lost(_) => {
                        "Make both servers of the pair reachable, then run `understudy recover`."
                            .to_owned()
                    }
                },
                RecoverError::State(_) | RecoverError::Elsewhere { .. } => {
                    "Wait until that ends, then run `understudy recover`.".to_owned()
                }
                RecoverError::Lease { path, .. } => format!(
                    "Look at the replica's SQL threads with `understudy resume`, then remove {}.",
                    path.display()
                ),
                RecoverError::File(_) | RecoverError::Lock(_) => {
                    "Make the state directory usable, then run `understudy recover`.".to_owned()
                }
            },
            reason: error.to_string(),
        }
    }
}
