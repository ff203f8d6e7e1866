//! What is going on, told without ever waiting for whoever listens: a stalled terminal must not
//! lengthen a pause.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Something worth telling a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step ended: its name, what came of it, how long it took.
    Step {
        name: &'static str,
        detail: String,
        took: Duration,
    },
    /// A step that goes on: its name, what it is at, since when.
    Still {
        name: &'static str,
        detail: String,
        took: Duration,
    },
    /// Bytes of long work.
    Bytes {
        name: &'static str,
        /// What it is counted in besides; may be empty.
        words: String,
        done: u64,
        /// As far as anybody knows it.
        total: Option<u64>,
    },
}

/// Where events go; dropping them is fine.
#[derive(Clone)]
pub struct Progress {
    sender: Option<Sender<Event>>,
}

impl Progress {
    pub fn to(sender: Sender<Event>) -> Self {
        Self {
            sender: Some(sender),
        }
    }

    pub fn silent() -> Self {
        Self { sender: None }
    }

    pub fn step(&self, name: &'static str, detail: impl Into<String>, since: Instant) {
        self.send(Event::Step {
            name,
            detail: detail.into(),
            took: since.elapsed(),
        });
    }

    /// As `step`, for one that was timed elsewhere.
    pub fn took(&self, name: &'static str, detail: impl Into<String>, took: Duration) {
        self.send(Event::Step {
            name,
            detail: detail.into(),
            took,
        });
    }

    pub fn still(&self, name: &'static str, detail: &str, since: Instant) {
        self.send(Event::Still {
            name,
            detail: detail.to_owned(),
            took: since.elapsed(),
        });
    }

    /// Of a copy.
    pub fn bytes(&self, done: u64, total: u64) {
        self.moved("copy", "", done, Some(total));
    }

    /// Of other long work: its name, and what it is counted in besides.
    pub fn moved(&self, name: &'static str, words: &str, done: u64, total: Option<u64>) {
        self.send(Event::Bytes {
            name,
            words: words.to_owned(),
            done,
            total,
        });
    }

    fn send(&self, event: Event) {
        if let Some(sender) = &self.sender {
            drop(sender.send(event));
        }
    }
}
