//! How a pair fails over: the model of `[pair.NAME.failover]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The default is what a pair without that table gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverConfig {
    /// Of equals the first of these becomes the source.
    pub prefer: Vec<String>,
    /// These never become the source.
    pub never: Vec<String>,
    /// The program, and its arguments, that sees to it that a server is off.
    pub fence: Option<Vec<String>>,
    /// The program, and its arguments, that fetches a dead server's binary logs.
    pub salvage: Option<Vec<String>>,
    /// How long the source has to be silent.
    pub confirm: Duration,
    /// For so long after a failover, the next one has to be asked for expressly.
    pub cooldown: Duration,
    /// Refuse when more transactions are lost, or when that can't be told.
    pub max_loss: Option<u64>,
    /// How long what was received may take to be applied.
    pub drain: Duration,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        Self {
            prefer: Vec::new(),
            never: Vec::new(),
            fence: None,
            salvage: None,
            confirm: Duration::from_secs(5),
            cooldown: Duration::from_secs(600),
            max_loss: None,
            drain: Duration::from_secs(60),
        }
    }
}
