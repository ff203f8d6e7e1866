//! From every error to one exit code, one message, and the hints that say what to do.

use std::process::ExitCode;

use serde_json::json;

use crate::config::ConfigError;
use crate::replication::SetupError;
use crate::server::SessionError;
use crate::snapshot::SnapshotError;
use crate::snapshot::error::Refusal;
use crate::sys::files::FileError;
use crate::volume::VolumeError;

/// The exit codes of docs/EXIT-CODES.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Failed,
    /// A verification's verdict: the snapshot isn't good.
    Unproven,
    Usage,
    Config,
    Refused,
    NeedsOperator,
    Busy,
}

impl Kind {
    pub fn code(self) -> u8 {
        match self {
            Self::Failed | Self::Unproven => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Refused => 4,
            Self::NeedsOperator => 5,
            Self::Busy => 6,
        }
    }

    /// The worst is 0: what needs somebody now, what failed, what nobody has seen to, what was only busy.
    pub fn rank(self) -> u8 {
        match self {
            Self::NeedsOperator => 0,
            Self::Failed | Self::Unproven => 1,
            Self::Config => 2,
            Self::Refused => 3,
            Self::Usage => 4,
            Self::Busy => 5,
        }
    }

    /// As in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unproven => "unproven",
            Self::Usage => "usage",
            Self::Config => "config",
            Self::Refused => "refused",
            Self::NeedsOperator => "needs-operator",
            Self::Busy => "busy",
        }
    }
}

/// A failure as the user sees it.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
    pub hints: Vec<String>,
    /// What else the JSON document holds.
    pub more: serde_json::Value,
}

impl Failure {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hints: Vec::new(),
            more: serde_json::Value::Null,
        }
    }

    /// An object whose members stand beside `error`.
    pub fn with(mut self, more: serde_json::Value) -> Self {
        self.more = more;
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }

    pub fn json(&self) -> serde_json::Value {
        let mut document = json!({"error": {
            "kind": self.kind.word(),
            "message": self.message,
            "hints": self.hints,
        }});
        if let (Some(document), Some(more)) = (document.as_object_mut(), self.more.as_object()) {
            document.extend(more.clone());
        }
        document
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::new(Kind::Config, error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        let message = error.to_string();
        match error {
            SnapshotError::Refused { refusals } => refused(&refusals),
            SnapshotError::Busy { hint, .. } => Self::new(Kind::Busy, message).hint(hint),
            SnapshotError::UnknownServer { known, .. } => {
                Self::new(Kind::Usage, message).hint(match known.as_slice() {
                    [] => "The configuration names no server.".to_owned(),
                    names => format!("The configuration names: {}.", names.join(", ")),
                })
            }
            SnapshotError::UnknownId { hint, .. } => Self::new(Kind::Usage, message).hint(hint),
            SnapshotError::Credentials { hint, .. } => Self::new(Kind::Config, message).hint(hint),
            SnapshotError::Failed { hint, .. } => {
                let failure = Self::new(Kind::Failed, message);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            SnapshotError::NeedsOperator { hint, .. } | SnapshotError::Moved { hint, .. } => {
                Self::new(Kind::NeedsOperator, message).hint(hint)
            }
            SnapshotError::Session(error) => session(&error),
            SnapshotError::Volume(error) => volume(&error),
            SnapshotError::File(error) => file(&error),
            SnapshotError::Interrupted(_) | SnapshotError::Watchdog(_) | SnapshotError::Exec(_) => {
                Self::new(Kind::Failed, message)
            }
            SnapshotError::Room(_) => Self::new(Kind::Failed, message)
                .hint("Run it as root; in a container it needs the right to mount."),
        }
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        let message = error.to_string();
        match error {
            SetupError::Refused { refusals } => refused(&refusals),
            SetupError::UnknownPair { known, .. } => {
                Self::new(Kind::Usage, message).hint(match known.as_slice() {
                    [] => "The configuration names no pair.".to_owned(),
                    names => format!("The configuration names: {}.", names.join(", ")),
                })
            }
            SetupError::NotInPair { known, .. } => Self::new(Kind::Usage, message)
                .hint(format!("Its replicas are: {}.", known.join(", "))),
            SetupError::Failed { hint, .. } => {
                let failure = Self::new(Kind::Failed, message);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            SetupError::NeedsOperator { hint, .. } => {
                Self::new(Kind::NeedsOperator, message).hint(hint)
            }
            SetupError::Session(error) => session(&error),
            SetupError::Other(error) => error.into(),
        }
    }
}

fn refused(refusals: &[Refusal]) -> Failure {
    let reasons: Vec<&str> = refusals.iter().map(|r| r.reason.as_str()).collect();
    let mut failure = Failure::new(Kind::Refused, reasons.join("; "));
    for refusal in refusals {
        if !failure.hints.contains(&refusal.hint) {
            failure.hints.push(refusal.hint.clone());
        }
    }
    failure
}

fn session(error: &SessionError) -> Failure {
    let failure = Failure::new(Kind::Failed, error.to_string());
    match error {
        SessionError::Connect {
            code: Some(1045 | 1698),
            ..
        } => failure.hint("Check user and password in the server's credentials file."),
        SessionError::Connect { .. } => {
            failure.hint("Check that the server runs and that address and tls are right.")
        }
        SessionError::WrongServer { .. } => failure
            .hint("Another server answers there: check the address, tunnels and port mappings."),
        SessionError::Server { error, .. } if error.is_privilege() => failure
            .hint("The account lacks a privilege: `understudy grants SERVER` prints what each command needs."),
        SessionError::Server { error, .. }
            if error.code == crate::server::session::ServerError::LOCK_WAIT_TIMEOUT =>
        {
            failure.hint(
                "A long query or transaction holds the lock off: find it, or raise lock_wait.",
            )
        }
        SessionError::Server { .. }
        | SessionError::Lost { .. }
        | SessionError::Unexpected { .. } => failure,
    }
}

fn file(error: &FileError) -> Failure {
    let failure = Failure::new(Kind::Failed, error.to_string());
    match error.source.kind() {
        std::io::ErrorKind::PermissionDenied => {
            failure.hint("Run it as root, on the replica's host.")
        }
        std::io::ErrorKind::StorageFull => failure.hint("Make room on the disk of state_dir."),
        std::io::ErrorKind::ReadOnlyFilesystem => {
            failure.hint("Mount the disk of state_dir writable, or set another state_dir.")
        }
        _ => failure,
    }
}

fn volume(error: &VolumeError) -> Failure {
    match error {
        VolumeError::Refused { hint, .. } => {
            Failure::new(Kind::Refused, error.to_string()).hint(hint.clone())
        }
        VolumeError::NotOurs { .. } => Failure::new(Kind::Refused, error.to_string())
            .hint("It is left alone; remove it with the storage's own means if you are sure."),
        VolumeError::Busy { .. } => {
            Failure::new(Kind::Refused, error.to_string()).hint("End what uses it, then try again.")
        }
        VolumeError::Dump { hint, .. } => {
            let mut failure = Failure::new(Kind::Failed, error.to_string());
            failure.hints.extend(hint.clone());
            failure
        }
        VolumeError::NotFound { .. }
        | VolumeError::Torn { .. }
        | VolumeError::Exec(_)
        | VolumeError::File(_)
        | VolumeError::Call { .. }
        | VolumeError::Parse { .. }
        | VolumeError::Said { .. } => Failure::new(Kind::Failed, error.to_string()),
    }
}
