//! What doctor tells of one thing that it looked at.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Ok,
    Unknown,
    Warn,
    Fail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// A rule's name, or one of docs/STATUS.md.
    pub id: String,
    pub server: Option<String>,
    pub status: Status,
    pub message: String,
    /// Empty when there is nothing to do.
    pub hint: String,
}

impl Check {
    pub fn new(
        id: &str,
        server: &str,
        status: Status,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            id: id.to_owned(),
            server: Some(server.to_owned()),
            status,
            message: message.into(),
            hint: hint.into(),
        }
    }
}
