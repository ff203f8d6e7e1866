//! What moving roles reports: the same for a person, as JSON, and for `--dry-run`.

use serde::{Deserialize, Serialize};

use crate::journal::operation::Step;
pub use crate::journal::receipt::Lost;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Switchover,
    Failover,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Only looked.
    Planned,
    Done,
    /// Done, but for what is named.
    NeedsOperator,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NotRepointed {
    pub server: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    pub pair: String,
    pub kind: Kind,
    pub old_source: String,
    pub new_source: String,
    pub result: Ended,
    pub dry_run: bool,
    /// From the last write that the old source took to the first that the new one took, by writes of
    /// our own; `None` when the old one was dead.
    pub write_outage_ms: Option<u64>,
    pub lost: Lost,
    pub steps: Vec<Step>,
    pub repointed: Vec<String>,
    pub not_repointed: Vec<NotRepointed>,
    pub warnings: Vec<String>,
}

impl Report {
    /// With nothing in it yet.
    pub fn of(kind: Kind, pair: &str, old: &str, new: &str, result: Ended) -> Self {
        Self {
            pair: pair.to_owned(),
            kind,
            old_source: old.to_owned(),
            new_source: new.to_owned(),
            result,
            dry_run: result == Ended::Planned,
            write_outage_ms: None,
            lost: Lost::nothing(),
            steps: Vec::new(),
            repointed: Vec::new(),
            not_repointed: Vec::new(),
            warnings: Vec::new(),
        }
    }
}
