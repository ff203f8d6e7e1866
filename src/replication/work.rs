//! A set-up in hand: its journal with the undo of each step, its two servers, what was done so far.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::error::SetupError;
use super::warning::Warning;
use crate::config::ServerConfig;
use crate::journal::log::SET_UP_STEP;
use crate::journal::undo::{self, Reach, Undo, UndoError};
use crate::journal::{Log, OperationKind};
use crate::server::session::{Session, Target};
use crate::server::{Flavour, Identity};
use crate::snapshot::{Context, SnapshotError};
use crate::sys::{clock, failpoint, files};

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Changed(String),
    AlreadySo(String),
    /// Something was looked at, and it is as it should be.
    Verified(String),
}

/// One step as it is reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub name: &'static str,
    /// changed, already-so, verified; in a dry run also would-change and would-verify.
    pub result: &'static str,
    pub detail: String,
    pub ms: u64,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Source,
    Replica,
}

/// A server of the pair.
#[derive(Debug, Clone)]
pub struct Party {
    pub name: String,
    pub target: Target,
    pub identity: Identity,
    pub flavour: Flavour,
    credentials: Option<PathBuf>,
}

impl Party {
    pub fn of(
        ctx: &Context,
        config: &ServerConfig,
        identity: &Identity,
        flavour: &Flavour,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            name: config.name.clone(),
            target: ctx.target(config)?,
            identity: identity.clone(),
            flavour: flavour.clone(),
            credentials: config.credentials.clone(),
        })
    }

    pub fn reach(&self) -> Reach {
        Reach {
            server: self.name.clone(),
            address: self.target.address.clone(),
            credentials: self.credentials.clone(),
            tls: self.target.tls,
            tls_ca: self.target.tls_ca.clone(),
            identity: self.identity.clone(),
        }
    }
}

pub struct Work<'a> {
    pub ctx: &'a Context,
    /// `setup-db2-20261122T020000Z-7f3a`
    pub id: String,
    pub source: Party,
    pub replica: Party,
    pub steps: Vec<Step>,
    pub warnings: Vec<Warning>,
    /// Links that use the replication account have to be told.
    pub password_is_new: bool,
    log: Log,
    undos: Vec<Undo>,
}

impl<'a> Work<'a> {
    pub fn begin(ctx: &'a Context, source: Party, replica: Party) -> Result<Self, SetupError> {
        let id = crate::snapshot::id::new(&format!("setup-{}", replica.name), clock::now());
        let log = Log::begin(&ctx.state, &id, OperationKind::Setup, &replica.name)?;
        failpoint::hit("setup-begun");
        Ok(Self {
            ctx,
            id,
            source,
            replica,
            steps: Vec::new(),
            warnings: Vec::new(),
            password_is_new: false,
            log,
            undos: Vec::new(),
        })
    }

    pub fn party(&self, who: Who) -> &Party {
        match who {
            Who::Source => &self.source,
            Who::Replica => &self.replica,
        }
    }

    /// A connection to the server that was planned for.
    pub fn session(&self, who: Who) -> Result<Session, SetupError> {
        let party = self.party(who);
        Ok(Session::connect_to(&party.target, &party.identity)?)
    }

    /// Journals how what is about to be done is undone.
    pub fn before(
        &mut self,
        who: Who,
        words: &str,
        statements: Vec<String>,
    ) -> Result<(), SetupError> {
        let on = self.party(who).reach();
        self.note(Undo::Statements {
            on,
            words: words.to_owned(),
            statements,
        })
    }

    /// As `before`, for what stays out of the replica's binary log.
    pub fn before_unlogged(
        &mut self,
        words: &str,
        statements: Vec<String>,
    ) -> Result<(), SetupError> {
        let statements = undo::unlogged(&self.replica.flavour, statements);
        self.before(Who::Replica, words, statements)
    }

    pub fn before_file(&mut self, path: &Path) -> Result<(), SetupError> {
        self.note(Undo::File {
            path: path.to_owned(),
        })
    }

    pub fn note(&mut self, undo: Undo) -> Result<(), SetupError> {
        self.log.undo(&undo)?;
        self.undos.push(undo);
        Ok(())
    }

    /// Does one step, unless it is time to put things back.
    pub fn step(
        &mut self,
        name: &'static str,
        act: impl FnOnce(&mut Self) -> Result<Outcome, SetupError>,
    ) -> Result<(), SetupError> {
        self.ctx.cancel.check(name)?;
        let since = Instant::now();
        self.log.intent(name)?;
        let outcome = act(self)?;
        let (result, detail) = match outcome {
            Outcome::Changed(detail) => ("changed", detail),
            Outcome::AlreadySo(detail) => ("already-so", detail),
            Outcome::Verified(detail) => ("verified", detail),
        };
        self.log.outcome(name, result)?;
        self.ctx
            .progress
            .step(name, format!("{result}: {detail}"), since);
        self.steps.push(Step {
            name,
            result,
            detail,
            ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        Ok(())
    }

    /// From here on nothing is put back any more; if this fails, it still is.
    pub fn settle(&mut self) -> Result<(), SetupError> {
        files::remove_tree(&self.ctx.state.work(&self.id))?;
        failpoint::hit("setup-done");
        self.log.outcome(SET_UP_STEP, "done")?;
        failpoint::hit("setup-settled");
        Ok(())
    }

    /// After it is settled: what was moved aside goes, now or by `recover`.
    pub fn end(mut self) -> (Vec<Step>, Vec<Warning>) {
        let tidied = match undo::tidy(&self.undos) {
            Ok(_) => self.log.end("done").map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = tidied {
            self.warnings.push(Warning {
                rule: "left-over",
                message: format!(
                    "{} is set up, and not all is tidied up: {error}; `understudy recover {}` \
                     does it later",
                    self.replica.name, self.replica.name
                ),
            });
        }
        (self.steps, self.warnings)
    }

    /// Puts everything back after a failure; the failure, or why an operator is needed.
    pub fn put_back(mut self, failure: SetupError) -> SetupError {
        let name = self.replica.name.clone();
        drop(files::remove_tree(&self.ctx.state.work(&self.id)));
        let since = Instant::now();
        // Where that can't be written it may be undone twice.
        let note = |number| drop(self.log.undone(number));
        match undo::undo_all(&self.undos, &BTreeSet::new(), note) {
            Ok(actions) => {
                drop(self.log.end(&format!("failed: {failure}")));
                for action in &actions {
                    self.ctx.progress.step("undo", action.as_str(), since);
                }
                match failure {
                    // A refusal after changes were made and put back is a failure.
                    SetupError::Refused { refusals } => SetupError::Failed {
                        step: "set up",
                        reason: refusals
                            .iter()
                            .map(|refusal| refusal.reason.clone())
                            .collect::<Vec<_>>()
                            .join("; "),
                        hint: refusals.first().map(|refusal| refusal.hint.clone()),
                    },
                    other => other,
                }
            }
            Err(UndoError::Lost(words)) => {
                drop(self.log.end(&format!("failed: {failure}; {words}")));
                let hint = match &failure {
                    SetupError::Failed {
                        hint: Some(hint), ..
                    } => format!("{hint} Then run setup with --replace again."),
                    _ => "Cure that, then run setup with --replace again.".to_owned(),
                };
                SetupError::NeedsOperator {
                    reason: format!("{failure}; {words}"),
                    hint,
                }
            }
            Err(error) => SetupError::NeedsOperator {
                reason: format!("{failure}; and what was changed couldn't be put back: {error}"),
                hint: format!("Cure that, then run `understudy recover {name}`."),
            },
        }
    }
}

/// An interruption, as everywhere.
pub fn interrupted(step: &'static str) -> SetupError {
    SetupError::Other(SnapshotError::Interrupted { step })
}
