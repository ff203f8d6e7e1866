//! Why a set-up didn't do what was asked, sorted by what it leaves behind.

use crate::journal::state::StateError;
use crate::server::SessionError;
use crate::snapshot::SnapshotError;
use crate::snapshot::error::Refusal;
use crate::sys::cancel::Interrupted;
use crate::sys::files::FileError;

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Nothing was changed.
    #[error("{}", refusals.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>().join("; "))]
    Refused { refusals: Vec<Refusal> },
    #[error("no pair named {name} in the configuration")]
    UnknownPair { name: String, known: Vec<String> },
    #[error("{replica} is no replica of the pair {pair}")]
    NotInPair {
        replica: String,
        pair: String,
        known: Vec<String>,
    },
    /// What had been changed was put back.
    #[error("{step}: {reason}")]
    Failed {
        step: &'static str,
        reason: String,
        hint: Option<String>,
    },
    #[error("{reason}")]
    NeedsOperator { reason: String, hint: String },
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Locks, credentials, interruptions: as everywhere.
    #[error(transparent)]
    Other(#[from] SnapshotError),
}

impl SetupError {
    pub fn refused(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            refusals: vec![Refusal::new(reason, hint)],
        }
    }

    pub fn failed(step: &'static str, reason: impl Into<String>) -> Self {
        Self::Failed {
            step,
            reason: reason.into(),
            hint: None,
        }
    }

    pub fn hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Failed { step, reason, .. } => Self::Failed {
                step,
                reason,
                hint: Some(text.into()),
            },
            other @ (Self::Refused { .. }
            | Self::UnknownPair { .. }
            | Self::NotInPair { .. }
            | Self::NeedsOperator { .. }
            | Self::Session(_)
            | Self::Other(_)) => other,
        }
    }
}

impl From<Interrupted> for SetupError {
    fn from(error: Interrupted) -> Self {
        Self::Other(error.into())
    }
}

impl From<FileError> for SetupError {
    fn from(error: FileError) -> Self {
        Self::Other(error.into())
    }
}

impl From<StateError> for SetupError {
    fn from(error: StateError) -> Self {
        Self::Other(error.into())
    }
}
