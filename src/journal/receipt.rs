//! What is kept of a failover until its old source has rejoined: who was given up, for whom, and what
//! may be lost.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::state::StateDir;
use crate::sys::clock;
use crate::sys::files::{self, FileError};

/// What the old source had, and the new one hasn't.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// A failover that is over, or not yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    pub receipt: Receipt,
    /// When its old source followed again, RFC 3339; `None` while it hasn't.
    pub settled: Option<String>,
}

/// All failovers that this host knows of. Once its old source is a source again it may give the same
/// GTIDs to other transactions than those that were lost: only this memory tells them apart.
pub fn past(state: &StateDir) -> Result<Vec<Past>, FileError> {
    let open = read_all(state)?.open.into_iter();
    let mut past: Vec<Past> = open
        .map(|receipt| Past {
            receipt,
            settled: None,
        })
        .collect();
    for path in files::list(&state.settled_receipts())? {
        let text = files::read_lossy(&path)?;
        // One that can't be read tells nothing.
        past.extend(text.and_then(|text| serde_json::from_str(&text).ok()));
    }
    Ok(past)
}

/// A server follows again: what was kept of its failovers is over.
pub fn settle(state: &StateDir, server: &str) -> Result<(), FileError> {
    settle_but(state, server, |_| false)
}

/// As `settle`; what `is_kept` was thought to be lost, and isn't.
pub fn settle_but(
    state: &StateDir,
    server: &str,
    is_kept: impl Fn(&Lost) -> bool,
) -> Result<(), FileError> {
    for mut receipt in read_all(state)?.open {
        if receipt.old_source == server {
            if is_kept(&receipt.lost) {
                receipt.lost = Lost::nothing();
            }
            settle_one(state, receipt)?;
        }
    }
    Ok(())
}

/// What a former source has of its own is known now: `own.lost`. Where no failover of it is known here,
/// that is kept by itself.
pub fn note_lost(state: &StateDir, own: Receipt) -> Result<(), FileError> {
    let mut is_known = false;
    for receipt in read_all(state)?.open {
        if receipt.old_source == own.old_source {
            is_known = true;
            let operation = receipt.operation.clone();
            let receipt = Receipt {
                lost: own.lost.clone(),
                ..receipt
            };
            let text =
                serde_json::to_vec_pretty(&receipt).expect("a receipt holds only plain data");
            files::replace(&state.receipt(&operation), &text)?;
        }
    }
    match is_known {
        true => Ok(()),
        false => settle_one(state, own),
    }
}

fn settle_one(state: &StateDir, receipt: Receipt) -> Result<(), FileError> {
    let operation = receipt.operation.clone();
    let past = Past {
        receipt,
        settled: Some(clock::rfc3339(clock::now())),
    };
    let text = serde_json::to_vec_pretty(&past).expect("a receipt holds only plain data");
    files::make_private_dir(&state.settled_receipts())?;
    files::replace(&state.settled_receipt(&operation), &text)?;
    files::remove(&state.receipt(&operation))?;
    Ok(())
}
