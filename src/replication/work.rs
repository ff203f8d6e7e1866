//! A set-up in hand: its journal with the undo of each step, its two servers, what was done so far.

use std::path::PathBuf;

use super::error::SetupError;
use super::warning::Warning;
use crate::journal::act::{self, Act, ActError, Rest};
use crate::journal::operation::Step;
use crate::journal::{Beginning, InHand, Operation, OperationKind, Party};
use crate::server::session::Session;
use crate::snapshot::Context;
use crate::sys::cancel::Interrupted;
use crate::sys::{clock, files};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Source,
    Replica,
}

/// What a server has to have after its restart as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub who: Who,
    pub name: String,
    pub value: String,
    /// It comes up with it by itself.
    pub stays: bool,
}

pub struct Work<'a> {
    pub ctx: &'a Context,
    pub source: Party,
    pub replica: Party,
    pub warnings: Vec<Warning>,
    /// Links that use the replication account have to be told.
    pub password_is_new: bool,
    /// What both have to come up with after a restart.
    pub settings: Vec<Setting>,
    /// Its own data directory meanwhile, where that was exchanged.
    pub aside: Option<PathBuf>,
    operation: Operation,
}

impl<'a> Work<'a> {
    pub fn begin(ctx: &'a Context, source: Party, replica: Party) -> Result<Self, SetupError> {
        let id = crate::snapshot::id::new(&format!("setup-{}", replica.name), clock::now());
        let operation = ctx.begin(Beginning {
            operation: &id,
            kind: OperationKind::Setup,
            parties: &[&replica.name, &source.name],
            settled_by: None,
        })?;
        Ok(Self {
            ctx,
            source,
            replica,
            warnings: Vec::new(),
            password_is_new: false,
            settings: Vec::new(),
            aside: None,
            operation,
        })
    }

    pub fn id(&self) -> &str {
        &self.operation.id
    }

    pub fn party(&self, who: Who) -> &Party {
        match who {
            Who::Source => &self.source,
            Who::Replica => &self.replica,
        }
    }

    /// A connection to the server that was planned for.
    pub fn session(&self, who: Who) -> Result<Session, SetupError> {
        Ok(self.party(who).session()?)
    }

    /// Journals how what is about to be done is undone.
    pub fn before(
        &mut self,
        who: Who,
        words: &str,
        statements: Vec<String>,
    ) -> Result<(), SetupError> {
        let on = self.party(who).reach();
        Ok(self.note(Act::Statements {
            on,
            words: words.to_owned(),
            statements,
        })?)
    }

    /// As `before`, for what stays out of the replica's binary log.
    pub fn before_unlogged(
        &mut self,
        words: &str,
        statements: Vec<String>,
    ) -> Result<(), SetupError> {
        let statements = act::unlogged(&self.replica.flavour, statements);
        self.before(Who::Replica, words, statements)
    }

    /// From here on nothing is put back any more; what was moved aside goes.
    pub fn settle(&mut self) -> Result<(), SetupError> {
        files::remove_tree(&self.ctx.state.work(self.id()))?;
        let path = self.aside.clone();
        let tidy = path.map(|path| Rest {
            act: Act::Tree { path },
            gate: true,
        });
        Ok(self.operation.commit(tidy.into_iter().collect())?)
    }

    /// After it is settled: what was moved aside goes, now or by `recover`.
    pub fn end(mut self) -> (Vec<Step>, Vec<Warning>) {
        let steps = std::mem::take(&mut self.operation.steps);
        let tidied = match self.operation.carry(&[], usize::MAX, |_, _, _| {}) {
            Ok(_) => self
                .operation
                .end("done")
                .map_err(|error| error.to_string()),
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
        (steps, self.warnings)
    }

    /// Puts everything back after a failure; the failure, or why an operator is needed.
    pub fn put_back(self, failure: SetupError) -> SetupError {
        let name = self.replica.name.clone();
        drop(files::remove_tree(&self.ctx.state.work(self.id())));
        match self.operation.put_back(&failure.to_string()) {
            Ok(_) => {
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
            Err(ActError::Lost(words)) => {
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

impl InHand for Work<'_> {
    fn operation(&mut self) -> &mut Operation {
        &mut self.operation
    }
}

/// An interruption, as everywhere.
pub fn interrupted(step: &'static str) -> SetupError {
    Interrupted { step }.into()
}
