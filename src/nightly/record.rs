//! What is kept of one run of one server; a line of the history, and what notifications tell.

use serde::{Deserialize, Serialize};

use crate::snapshot::manifest::{Level, Proof};

/// The version of the lines that are written.
pub const VERSION: u32 = 1;

/// Older lines may lack what came later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Record {
    pub version: u32,
    pub server: String,
    /// RFC 3339, UTC, as all times.
    pub began: String,
    pub ended: String,
    pub took_ms: u64,
    /// `done`, or the kind of the error, as docs/EXIT-CODES.md has it.
    pub result: String,
    pub exit: u8,
    /// Where it failed: `recover`, `snapshot`, `verify`, `prune`; `run` of one that was killed.
    pub step: Option<String>,
    pub recovered: Vec<String>,
    pub snapshot: Option<String>,
    pub backend: Option<String>,
    pub pause_ms: Option<u64>,
    /// How far it was to be proven, and why that far.
    pub level: Option<Level>,
    pub level_reason: String,
    /// How far it was.
    pub proof: Option<Proof>,
    pub tables: Option<u64>,
    pub compared_with: Option<String>,
    pub verify_ms: Option<u64>,
    pub pruned: Vec<String>,
    /// Whole snapshots of the server afterwards, and what their volumes hold altogether.
    pub kept: Option<u64>,
    pub kept_bytes: Option<u64>,
    pub warnings: Vec<String>,
    pub error: Option<Told>,
}

/// An error as it was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Told {
    pub kind: String,
    pub message: String,
    pub hints: Vec<String>,
}

/// Of a run that did all that it was there for.
pub const DONE: &str = "done";
/// Of one that found another operation at work.
pub const BUSY: &str = "busy";

/// More of one text isn't kept: a server's words can be pages.
const TEXT_CHARS_MAX: usize = 1000;
/// Nor more of one list.
const LIST_MAX: usize = 50;

impl Record {
    pub fn is_done(&self) -> bool {
        self.result == DONE
    }

    /// Nothing was tried: another operation was at it.
    pub fn is_busy(&self) -> bool {
        self.result == BUSY
    }

    /// Of a run that began then and never ended. How far it came isn't known.
    pub fn interrupted(server: &str, began: &str) -> Self {
        Self {
            version: VERSION,
            server: server.to_owned(),
            began: began.to_owned(),
            ended: began.to_owned(),
            result: "failed".to_owned(),
            exit: 1,
            step: Some("run".to_owned()),
            error: Some(Told {
                kind: "failed".to_owned(),
                message: format!(
                    "the run of {server} that began at {began} never ended: it was killed, or its \
                     machine went down"
                ),
                hints: vec![
                    format!(
                        "`understudy recover {server}` puts back what it left, as the next run does."
                    ),
                    "A killer of processes that take much memory says so in the kernel's log: \
                     `journalctl -k`."
                        .to_owned(),
                ],
            }),
            ..Self::default()
        }
    }

    /// The same with every text and list of a bounded length.
    pub fn bounded(mut self) -> Self {
        let cut = |text: &mut String| {
            if let Some((at, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
                text.truncate(at);
                text.push('…');
            }
        };
        let lists = [&mut self.recovered, &mut self.pruned, &mut self.warnings];
        for list in lists
            .into_iter()
            .chain(self.error.as_mut().map(|e| &mut e.hints))
        {
            list.truncate(LIST_MAX);
            list.iter_mut().for_each(cut);
        }
        if let Some(error) = &mut self.error {
            cut(&mut error.message);
        }
        self
    }

    /// In one sentence.
    pub fn summary(&self) -> String {
        let server = &self.server;
        match (&self.error, &self.snapshot) {
            (Some(error), _) => {
                let step = self.step.as_deref().unwrap_or("run");
                format!("{server}: {step} {}: {}", self.result, error.message)
            }
            (None, Some(id)) => {
                let pause = self.pause_ms.unwrap_or_default();
                let proof = match self.proof {
                    None | Some(Proof::Taken) => "not proven".to_owned(),
                    Some(Proof::Failed) => "not good".to_owned(),
                    Some(Proof::Read) => "all of it read".to_owned(),
                    Some(Proof::Booted) => "a server came up on it".to_owned(),
                    Some(Proof::Checked) => "all tables checked".to_owned(),
                    Some(Proof::Rows) => "all rows compared".to_owned(),
                };
                format!("{server}: {id}, paused {pause} ms, {proof}")
            }
            (None, None) => format!("{server}: {}", self.result),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_for_pages_is_cut() {
        let record = Record {
            warnings: vec!["ü".repeat(5000); 100],
            error: Some(Told {
                message: "x".repeat(5000),
                ..Told::default()
            }),
            ..Record::default()
        };
        let bounded = record.bounded();
        assert_eq!(bounded.warnings.len(), LIST_MAX);
        assert_eq!(bounded.warnings[0].chars().count(), TEXT_CHARS_MAX + 1);
        let message = bounded.error.unwrap().message;
        assert_eq!(message.chars().count(), TEXT_CHARS_MAX + 1);
    }
}
