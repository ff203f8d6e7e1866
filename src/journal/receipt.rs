//! What is kept of a failover until its old source has rejoined: who was given up, for whom, and what
//! may be lost.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::state::StateDir;
use crate::sys::files::{self, FileError};

/// What the old source had, and the new one hasn't.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// False: it can't be told; `reason` says why.
    pub known: bool,
    pub gtid: String,
    pub transactions: Option<u64>,
    /// Where what was salvaged or cut off is kept as SQL.
    pub export: Option<String>,
    pub reason: Option<String>,
}

impl Lost {
    pub fn nothing() -> Self {
        Self {
            known: true,
            gtid: String::new(),
            transactions: Some(0),
            export: None,
            reason: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub operation: String,
    /// RFC 3339.
    pub at: String,
    pub pair: String,
    pub old_source: String,
    pub new_source: String,
    /// What the new source had when it was opened.
    pub gtid: String,
    pub lost: Lost,
}

/// What the state directory has of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipts {
    /// Oldest first.
    pub open: Vec<Receipt>,
    /// Files that are none, in words.
    pub unreadable: Vec<String>,
}

/// Those whose old source hasn't rejoined.
pub fn read_all(state: &StateDir) -> Result<Receipts, FileError> {
    let mut receipts = Receipts::default();
    let is_one = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    for path in files::list(&state.receipts())?.into_iter().filter(is_one) {
        let text = files::read_lossy(&path)?;
        match text.as_deref().map(serde_json::from_str::<Receipt>) {
            Some(Ok(receipt)) => receipts.open.push(receipt),
            Some(Err(error)) => receipts
                .unreadable
                .push(format!("{} is no receipt: {error}", path.display())),
            // It has rejoined meanwhile.
            None => {}
        }
    }
    receipts.open.sort_by(|one, other| one.at.cmp(&other.at));
    Ok(receipts)
}

/// A server follows again: what was kept of its failovers goes.
pub fn settle(state: &StateDir, server: &str) -> Result<(), FileError> {
    for receipt in read_all(state)?.open {
        if receipt.old_source == server {
            files::remove(&state.receipt(&receipt.operation))?;
        }
    }
    Ok(())
}
