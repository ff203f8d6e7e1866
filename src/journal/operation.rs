//! An operation in hand: what it noted before each change, what it did so far, and what remains.
//!
//! Until it is committed, a failure walks back what was noted; from then on it is carried through.
//! Killed at any moment, `recover` does the same by the journal alone. Whoever begins one holds the
//! locks of all its parties.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::act::{self, Act, ActError, Came, Means, Reach, Rest};
use super::log::{Beginning, Log};
use super::state::StateDir;
use crate::server::session::{Session, SessionError, Target};
use crate::server::{Flavour, Identity};
use crate::sys::cancel::{Cancel, Interrupted};
use crate::sys::failpoint;
use crate::sys::files::FileError;
use crate::sys::progress::Progress;

/// A server that an operation changes, as it was found.
#[derive(Debug, Clone)]
pub struct Party {
    pub name: String,
    pub target: Target,
    pub identity: Identity,
    pub flavour: Flavour,
    pub credentials: Option<std::path::PathBuf>,
}

impl Party {
    /// How the journal keeps it.
    pub fn reach(&self) -> Reach {
        Reach {
            server: self.name.clone(),
            address: Some(self.target.address.clone()),
            credentials: self.credentials.clone(),
            tls: self.target.tls,
            tls_ca: self.target.tls_ca.clone(),
            identity: self.identity.clone(),
        }
    }

    /// A connection to the very server that was found.
    pub fn session(&self) -> Result<Session, SessionError> {
        Session::connect_to(&self.target, &self.identity)
    }
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Changed(String),
    AlreadySo(String),
    /// Something was looked at, and it is as it should be.
    Verified(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Changed(_) => "changed",
            Self::AlreadySo(_) => "already-so",
            Self::Verified(_) => "verified",
        }
    }

    fn detail(self) -> String {
        match self {
            Self::Changed(detail) | Self::AlreadySo(detail) | Self::Verified(detail) => detail,
        }
    }
}

/// One step as it is reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Step {
    pub name: &'static str,
    /// changed, already-so, verified; in a dry run also would-change, would-verify, would-refuse.
    pub result: &'static str,
    pub detail: String,
    pub ms: u64,
}

/// What an operation is run with.
pub struct Surroundings<'a> {
    pub state: &'a StateDir,
    pub progress: &'a Progress,
    pub cancel: &'a Cancel,
}

pub struct Operation {
    /// `setup-db2-20261122T020000Z-7f3a`
    pub id: String,
    /// As they were done.
    pub steps: Vec<Step>,
    state: StateDir,
    progress: Progress,
    cancel: Cancel,
    log: Log,
    /// Names of steps that were begun.
    begun: Vec<&'static str>,
    undos: Vec<Act>,
    rest: Option<Vec<Rest>>,
    done: BTreeSet<usize>,
}

impl Operation {
    /// Its journal is there from now on.
    pub fn begin(
        surroundings: &Surroundings<'_>,
        beginning: Beginning<'_>,
    ) -> Result<Self, FileError> {
        let id = beginning.operation.to_owned();
        let log = Log::begin(surroundings.state, beginning)?;
        failpoint::hit("operation-begun");
        Ok(Self {
            id,
            steps: Vec::new(),
            state: surroundings.state.clone(),
            progress: surroundings.progress.clone(),
            cancel: surroundings.cancel.clone(),
            log,
            begun: Vec::new(),
            undos: Vec::new(),
            rest: None,
            done: BTreeSet::new(),
        })
    }

    /// Notes, before a change, how it is undone.
    pub fn note(&mut self, undo: Act) -> Result<(), FileError> {
        self.log.undo(&undo)?;
        self.undos.push(undo);
        Ok(())
    }

    /// The point of no return: from here on, also after a kill, `rest` is done and nothing undone.
    pub fn commit(&mut self, rest: Vec<Rest>) -> Result<(), FileError> {
        failpoint::hit("commit:before");
        self.log.commit(&rest)?;
        self.rest = Some(rest);
        failpoint::hit("commit:after");
        Ok(())
    }

    /// The rest up to its last gate was done by the caller on connections of its own: the moment
    /// counts.
    pub fn gate_is_done(&mut self) {
        let gate = self.rest().iter().rposition(|rest| rest.gate).unwrap_or(0);
        for number in 0..=gate {
            // Where that can't be written it may be done twice.
            drop(self.log.done(number));
            self.done.insert(number);
            failpoint::hit(&format!("rest-{number}:after"));
        }
    }

    /// What remains after the commit, done or not.
    pub fn rest(&self) -> &[Rest] {
        self.rest.as_deref().unwrap_or_default()
    }

    pub fn has_begun(&self, step: &str) -> bool {
        self.begun.contains(&step)
    }

    pub fn is_committed(&self) -> bool {
        self.rest.is_some()
    }

    /// Does the first `count` of what remains after the commit; a line for each thing done. `told`
    /// hears what came of each.
    pub fn carry(
        &mut self,
        known: &[Target],
        count: usize,
        mut told: impl FnMut(&Act, Result<Option<&str>, &ActError>, Duration),
    ) -> Result<Came, ActError> {
        let mut rest = self.rest.clone().unwrap_or_default();
        rest.truncate(count);
        let progress = self.progress.clone();
        let mut bytes = |done, total| progress.bytes(done, total);
        let mut means = Means {
            state: &self.state,
            known,
            progress: &mut bytes,
        };
        let mut since = Instant::now();
        let (log, is_done) = (&mut self.log, &mut self.done);
        act::carry_all(&rest, &is_done.clone(), &mut means, |number, came| {
            if came.is_ok() {
                // Where that can't be written it may be done twice.
                drop(log.done(number));
                is_done.insert(number);
                failpoint::hit(&format!("rest-{number}:after"));
            }
            told(&rest[number].act, came, since.elapsed());
            since = Instant::now();
        })
    }

    /// Does one act now, as a later process would.
    pub fn act(&self, act: &Act) -> Result<Option<String>, ActError> {
        let progress = self.progress.clone();
        act::run_one(
            act,
            &mut Means {
                state: &self.state,
                known: &[],
                progress: &mut |done, total| progress.bytes(done, total),
            },
        )
    }

    /// Walks back all that was noted, and ends the journal where nothing is left to put back.
    pub fn put_back(mut self, why: &str) -> Result<Vec<String>, ActError> {
        let since = Instant::now();
        let undone = {
            let progress = self.progress.clone();
            let mut bytes = |done, total| progress.bytes(done, total);
            let mut means = Means {
                state: &self.state,
                known: &[],
                progress: &mut bytes,
            };
            let log = &mut self.log;
            act::undo_all(&self.undos, &BTreeSet::new(), &mut means, |number| {
                // Where that can't be written it may be undone twice.
                drop(log.undone(number));
            })
        };
        match &undone {
            Ok(actions) => {
                for action in actions {
                    self.progress.step("undo", action.as_str(), since);
                }
                drop(self.log.end(&format!("failed: {why}")));
            }
            Err(ActError::Lost(words) | ActError::Moved(words)) => {
                drop(self.log.end(&format!("failed: {why}; {words}")));
            }
            // Its journal stays open: `recover` goes on with it.
            Err(_) => {}
        }
        undone
    }

    /// It is over: nothing of it needs putting back any more.
    pub fn end(mut self, result: &str) -> Result<(), FileError> {
        self.close(result)
    }

    /// As `end`; where that can't be written it can still be put back.
    pub fn close(&mut self, result: &str) -> Result<(), FileError> {
        failpoint::hit("end:before");
        self.log.close(result)
    }

    /// As `end`, of one that is carried through already; in words what is left of it where that can't
    /// be written.
    pub fn end_carried(self, result: &str) -> Option<String> {
        let error = self.end(result).err()?;
        Some(format!(
            "all is done, but that can't be written to the journal: {error}; make room, then run \
             `understudy recover`"
        ))
    }

    /// Opens a step whose outcome is written later, by `close_step`: nothing is written while the
    /// moment counts.
    pub fn open_step(&mut self, name: &'static str) -> Result<Instant, FileError> {
        self.log.intent(name)?;
        self.begun.push(name);
        failpoint::hit(&format!("{name}:before"));
        Ok(Instant::now())
    }

    pub fn close_step(
        &mut self,
        name: &'static str,
        outcome: Outcome,
        since: Instant,
    ) -> Result<(), FileError> {
        self.log.outcome(name, outcome.word())?;
        self.report(name, outcome, since);
        Ok(())
    }

    fn report(&mut self, name: &'static str, outcome: Outcome, since: Instant) {
        let (result, detail) = (outcome.word(), outcome.detail());
        self.progress
            .step(name, format!("{result}: {detail}"), since);
        self.steps.push(Step {
            name,
            result,
            detail,
            ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
    }
}

/// Whatever has an operation in hand, and does it step by step.
pub trait InHand {
    fn operation(&mut self) -> &mut Operation;

    /// Does one step, unless it is time to put things back. The body notes how each of its changes
    /// is undone before it makes it.
    fn step<E: From<FileError> + From<Interrupted>>(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&mut Self) -> Result<Outcome, E>,
    ) -> Result<(), E> {
        let operation = self.operation();
        operation.cancel.check(name)?;
        let since = operation.open_step(name)?;
        let outcome = body(self)?;
        failpoint::hit(&format!("{name}:in"));
        let operation = self.operation();
        operation.close_step(name, outcome, since)?;
        Ok(())
    }

    /// Notes, before a change, how it is undone.
    fn note(&mut self, undo: Act) -> Result<(), FileError> {
        self.operation().note(undo)
    }

    /// As `note`, of a file that isn't there yet.
    fn note_file(&mut self, path: &Path) -> Result<(), FileError> {
        self.note(Act::File {
            path: path.to_owned(),
        })
    }
}

impl InHand for Operation {
    fn operation(&mut self) -> &mut Operation {
        self
    }
}
