//! What a set-up says beside doing it.

use serde::Serialize;

/// Something that doesn't stop a set-up but should be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Warning {
    pub rule: &'static str,
    pub message: String,
}
