//! What a rule says, and what a pair's state is by it.

use serde::Serialize;

/// How bad it is, in the order in which the worst one counts. What can't be known may hide a
/// critical thing, so it is worse than a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Said, and no fault.
    Info,
    Warning,
    Unknown,
    Critical,
}

impl Severity {
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }
}

/// One rule's word on one server or on the pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    pub rule: &'static str,
    pub severity: Severity,
    /// A fragment that names what was seen, and where.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// What a rule function answers.
pub struct Verdict {
    pub severity: Severity,
    pub message: String,
    pub hint: String,
}

impl Verdict {
    pub fn new(severity: Severity, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            severity,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// A pair in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Healthy,
    Degraded,
    Unknown,
    Critical,
}

impl State {
    pub fn of<'f>(findings: impl Iterator<Item = &'f Finding>) -> Self {
        match findings.map(|finding| finding.severity).max() {
            None | Some(Severity::Info) => Self::Healthy,
            Some(Severity::Warning) => Self::Degraded,
            Some(Severity::Unknown) => Self::Unknown,
            Some(Severity::Critical) => Self::Critical,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }
}
