//! Who is told what came of a night: the model of `[notify]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::secret::Secret;

/// The default tells nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    /// Programs with their arguments.
    pub on_failure: Option<Vec<String>>,
    pub on_success: Option<Vec<String>>,
    pub on_recovery: Option<Vec<String>>,
    /// An address that may hold a token.
    pub webhook: Option<Secret>,
    pub webhook_events: Vec<NotifyEvent>,
    /// A dead man's switch; its address is the secret.
    pub ping: Option<Secret>,
    /// Whom the local sendmail sends to.
    pub mail: Option<String>,
    pub mail_events: Vec<NotifyEvent>,
    pub sendmail: PathBuf,
    /// How long each of them may take.
    pub timeout: Duration,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NotifyEvent {
    Failure,
    Success,
    /// The first success after a failure.
    Recovery,
}

impl NotifyEvent {
    pub fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Success => "success",
            Self::Recovery => "recovery",
        }
    }
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            on_failure: None,
            on_success: None,
            on_recovery: None,
            webhook: None,
            webhook_events: vec![
                NotifyEvent::Failure,
                NotifyEvent::Success,
                NotifyEvent::Recovery,
            ],
            ping: None,
            mail: None,
            mail_events: vec![NotifyEvent::Failure, NotifyEvent::Recovery],
            sendmail: PathBuf::from("/usr/sbin/sendmail"),
            timeout: Duration::from_secs(10),
        }
    }
}
