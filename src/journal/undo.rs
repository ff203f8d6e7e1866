//! How a set-up is put back: what was journalled before each of its steps, in reverse.
//!
//! The one path of the set-up that failed and of `recover` after one that was killed. Each undo may
//! run twice, and for a step that was never begun.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::service::{self, SERVICE_LIMIT, ServiceError};
use crate::config::{Address, ServiceControl, TlsMode, credentials};
use crate::server::flavour::quote_text;
use crate::server::pair::{PLUGIN_IN_USE, is_undone_already};
use crate::server::session::{Session, SessionError, Target};
use crate::server::{Flavour, Identity};
use crate::sys::files::{self, FileError};
use crate::sys::process;

/// Dropping schemas of terabytes takes its time.
const STATEMENT_LIMIT: Duration = Duration::from_secs(900);

/// What only looks, or tells a thread to end.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// How long a server that doesn't answer is waited for.
const REACH_FOR: Duration = Duration::from_secs(20);

/// Crash recovery of a large server is long.
const START_FOR: Duration = Duration::from_secs(900);

/// A clone ends where it can be broken off; a server that was just cloned to restarts.
const CLONE_ENDS_IN: Duration = Duration::from_secs(600);

/// How long it may take to clear its files away.
const CLEARED_IN: Duration = Duration::from_secs(20);

const CLONES: &str = "SELECT 1 FROM information_schema.PROCESSLIST \
     WHERE INFO LIKE 'CLONE INSTANCE%'";

/// The list of threads loses its words when it waits for its donor again.
const CLONE_STATE: &str = "SELECT 1 FROM performance_schema.clone_status \
     WHERE STATE = 'In Progress'";

/// A schema's directory is there without the schema: a clone that was broken off removes its files,
/// and leaves their empty directories until the server is restarted (seen on MySQL 9.7).
const DIRECTORY_IS_THERE: u16 = 3681;

/// A thread that went before it was told to.
const NO_SUCH_THREAD: u16 = 1094;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How to reach a server again without the configuration; the credentials stay in their file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    pub server: String,
    pub address: Address,
    pub credentials: Option<PathBuf>,
    pub tls: TlsMode,
    pub tls_ca: Option<PathBuf>,
    pub identity: Identity,
}

/// One step's undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Undo {
    /// Statements on one connection; those whose object is gone already are passed over.
    Statements {
        on: Reach,
        /// What this does, for people.
        words: String,
        statements: Vec<String>,
    },
    /// A file that wasn't there before.
    File { path: PathBuf },
    /// A directory that wasn't there before, with all in it.
    Tree { path: PathBuf },
    /// A data directory that was moved aside for another one.
    DataDir {
        on: Reach,
        service: ServiceControl,
        data_dir: PathBuf,
        aside: PathBuf,
    },
    /// A clone that may still go on, and a server that is down after it.
    Clone {
        on: Reach,
        service: Option<ServiceControl>,
        /// From where, and as whom.
        donor: Reach,
        user: String,
    },
    /// What can't be put back, said so.
    Lost { words: String },
}

#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    #[error("{server} couldn't be reached: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("the clone on {server} doesn't end by itself; restarting that server ends it")]
    GoesOn { server: String },
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("{0}")]
    Several(String),
    /// Everything else is back.
    #[error("{0}")]
    Lost(String),
}

/// Undoes in reverse what isn't `undone` yet, and tells `note` of each as it is done: what was made
/// anew by then isn't undone again. A line for each thing that was done.
///
/// A server that can't be put back doesn't hold up the other one. What is lost for good is told
/// when all the rest is back.
pub fn undo_all(
    undos: &[Undo],
    undone: &BTreeSet<usize>,
    mut note: impl FnMut(usize),
) -> Result<Vec<String>, UndoError> {
    let mut actions = Vec::new();
    let mut lost = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    for (number, undo) in undos.iter().enumerate().rev() {
        if let Undo::Lost { words } = undo {
            lost.push(words.clone());
            continue;
        }
        let waits = failures.iter().any(|failure| match undo.server() {
            Some(server) => failure.server.as_deref() == Some(server),
            None => true,
        });
        if waits || undone.contains(&number) {
            continue;
        }
        match undo.run() {
            Ok(action) => {
                actions.extend(action);
                note(number);
            }
            Err(failure) => failures.push(failure),
        }
    }
    match (failures.len(), lost.is_empty()) {
        (0, true) => Ok(actions),
        (0, false) => Err(UndoError::Lost(lost.join("; "))),
        (1, _) => Err(failures.remove(0).error),
        (_, _) => {
            let errors: Vec<String> = failures.iter().map(|f| f.error.to_string()).collect();
            Err(UndoError::Several(errors.join("; ")))
        }
    }
}

struct Failure {
    /// `None`: of this host's files.
    server: Option<String>,
    error: UndoError,
}

impl Undo {
    /// The server that it changes.
    fn server(&self) -> Option<&str> {
        match self {
            Self::Statements { on, .. } | Self::DataDir { on, .. } | Self::Clone { on, .. } => {
                Some(&on.server)
            }
            Self::File { .. } | Self::Tree { .. } | Self::Lost { .. } => None,
        }
    }

    /// What was done, if there was anything to do.
    fn run(&self) -> Result<Option<String>, Failure> {
        let own = |error: UndoError| Failure {
            server: self.server().map(str::to_owned),
            error,
        };
        match self {
            Self::Statements {
                on,
                words,
                statements,
            } => {
                run(on, statements).map_err(own)?;
                Ok(Some(format!("{words} on {}", on.server)))
            }
            Self::File { path } => {
                let was = files::remove(path).map_err(|error| own(error.into()))?;
                Ok(was.then(|| format!("removed {}", path.display())))
            }
            Self::Tree { path } => {
                let was = files::remove_tree(path).map_err(|error| own(error.into()))?;
                Ok(was.then(|| format!("removed {}", path.display())))
            }
            Self::DataDir {
                on,
                service,
                data_dir,
                aside,
            } => put_data_dir_back(on, service, data_dir, aside).map_err(own),
            Self::Clone {
                on,
                service,
                donor,
                user,
            } => {
                end_clone(on, service.as_ref(), donor, user).map_err(own)?;
                // The donor's part again later, when it was away.
                end_donor(donor, user).map_err(|error| Failure {
                    server: Some(donor.server.clone()),
                    error,
                })?;
                Ok(None)
            }
            Self::Lost { .. } => Ok(None),
        }
    }
}

/// Of a set-up that stays: removes what it moved aside.
pub fn tidy(undos: &[Undo]) -> Result<Vec<String>, FileError> {
    let mut actions = Vec::new();
    for undo in undos {
        if let Undo::DataDir { aside, .. } = undo
            && files::remove_tree(aside)?
        {
            actions.push(format!("removed {}", aside.display()));
        }
    }
    Ok(actions)
}

/// What `tidy` would do, for --dry-run.
pub fn tidy_words(undos: &[Undo]) -> Vec<String> {
    undos
        .iter()
        .filter_map(|undo| match undo {
            Undo::DataDir { aside, .. } if aside.exists() => {
                Some(format!("remove {}", aside.display()))
            }
            _ => None,
        })
        .collect()
}

/// What would be done, for --dry-run.
pub fn words(undos: &[Undo], undone: &BTreeSet<usize>) -> Vec<String> {
    undos
        .iter()
        .enumerate()
        .rev()
        .filter(|(number, _)| !undone.contains(number))
        .map(|(_, undo)| match undo {
            Undo::Statements { on, words, .. } => format!("{words} on {}", on.server),
            Undo::File { path } | Undo::Tree { path } => format!("remove {}", path.display()),
            Undo::DataDir { data_dir, .. } => {
                format!("put {} back as it was", data_dir.display())
            }
            Undo::Clone { on, .. } => format!("end the clone on {}", on.server),
            Undo::Lost { words } => words.clone(),
        })
        .collect()
}

fn run(on: &Reach, statements: &[String]) -> Result<(), UndoError> {
    let mut session = reach(on, REACH_FOR)?;
    let until = Instant::now() + CLEARED_IN;
    for statement in statements {
        let answer = loop {
            let (back, answer) = session.attempt(statement, STATEMENT_LIMIT)?;
            session = back;
            match answer {
                Err(error) if error.code == DIRECTORY_IS_THERE && Instant::now() < until => {
                    if !remove_left_directory(on, &error.message)? {
                        sleep(LOOK_EVERY);
                    }
                }
                Err(error) if error.code == PLUGIN_IN_USE && Instant::now() < until => {
                    sleep(LOOK_EVERY);
                }
                answer => break answer,
            }
        };
        match answer {
            Ok(_) => {}
            Err(error) if is_undone_already(error.code) => {}
            Err(error) => {
                return Err(UndoError::Session(SessionError::Server {
                    server: on.server.clone(),
                    statement: statement.clone(),
                    error,
                }));
            }
        }
    }
    Ok(())
}

/// Removes the empty directory that the server names, if this host has that very server's data.
fn remove_left_directory(on: &Reach, message: &str) -> Result<bool, UndoError> {
    let data_dir = std::path::Path::new(&on.identity.data_dir);
    let own = files::read_text(&data_dir.join("auto.cnf"))?.unwrap_or_default();
    let is_its = on
        .identity
        .server_uuid
        .as_ref()
        .is_some_and(|uuid| own.to_ascii_lowercase().contains(uuid.as_str()));
    let named = message
        .split_once("directory './")
        .and_then(|(_, rest)| rest.split_once("/'"))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'));
    match named {
        Some(name) if is_its => Ok(files::remove_empty_dir(&data_dir.join(name))?),
        Some(_) | None => Ok(false),
    }
}

/// Connects to the server that was meant, which may be restarting.
fn reach(on: &Reach, limit: Duration) -> Result<Session, UndoError> {
    let target = target(on)?;
    let until = Instant::now() + limit;
    loop {
        match Session::connect_to(&target, &on.identity) {
            Ok(session) => return Ok(session),
            Err(error @ SessionError::WrongServer { .. }) => return Err(error.into()),
            Err(error) if Instant::now() >= until => {
                return Err(UndoError::Unreachable {
                    server: on.server.clone(),
                    reason: error.to_string(),
                });
            }
            Err(_) => sleep(LOOK_EVERY),
        }
    }
}

fn target(on: &Reach) -> Result<Target, UndoError> {
    let credentials = match &on.credentials {
        Some(path) => credentials::load(path).map_err(|error| UndoError::Unreachable {
            server: on.server.clone(),
            reason: error.to_string(),
        })?,
        None => credentials::Credentials::default(),
    };
    Ok(Target {
        server: on.server.clone(),
        address: on.address.clone(),
        user: credentials.user.unwrap_or_else(|| "root".to_owned()),
        password: credentials.password.unwrap_or_default(),
        tls: on.tls,
        tls_ca: on.tls_ca.clone(),
    })
}

/// Which statements a server needs first, so that an undo leaves nothing in its binary log.
pub fn unlogged(flavour: &Flavour, statements: Vec<String>) -> Vec<String> {
    let mut all = vec![flavour.without_binary_log().to_owned()];
    all.extend(statements);
    all
}

/// Stops the server, puts its own directory back in its place, starts it.
fn put_data_dir_back(
    on: &Reach,
    control: &ServiceControl,
    data_dir: &std::path::Path,
    aside: &std::path::Path,
) -> Result<Option<String>, UndoError> {
    let target = target(on)?;
    let moved = aside.exists();
    if moved {
        if process::runs_in(data_dir) || Session::connect(&target).is_ok() {
            service::stop(control, &target, data_dir, SERVICE_LIMIT)?;
        }
        files::remove_tree(data_dir)?;
        files::rename(aside, data_dir)?;
    }
    if Session::connect(&target).is_err() {
        service::start(control)?;
        reach(on, START_FOR)?;
    }
    Ok(moved.then(|| format!("put {} back as it was", data_dir.display())))
}

/// Ends what still clones, and has the server up.
///
/// The donor's side is told to end: it sends an error, and the other side is done in a moment. To
/// KILL the clone itself makes MySQL 9.7 spin for ever in vio_shutdown(), its list of threads locked
/// (nearly always while data flows); and a donor whose receiver goes away without a word keeps its
/// plugin in use for five minutes.
fn end_clone(
    on: &Reach,
    control: Option<&ServiceControl>,
    donor: &Reach,
    user: &str,
) -> Result<(), UndoError> {
    let target = target(on)?;
    let until = Instant::now() + CLONE_ENDS_IN;
    loop {
        let sends = match end_donor(donor, user) {
            Ok(sends) => sends,
            // It can be reached, and doesn't let us.
            Err(error @ UndoError::Session(SessionError::Server { .. })) => return Err(error),
            // A donor that is away ends nothing; its receiver sees that in some minutes.
            Err(_) => false,
        };
        match Session::connect_to(&target, &on.identity) {
            Ok(session) => {
                if !clones(session)? && !sends {
                    return Ok(());
                }
                if Instant::now() >= until {
                    return Err(UndoError::GoesOn {
                        server: on.server.clone(),
                    });
                }
            }
            Err(error @ SessionError::WrongServer { .. }) => return Err(error.into()),
            Err(error) if Instant::now() >= until => {
                return Err(UndoError::Unreachable {
                    server: on.server.clone(),
                    reason: error.to_string(),
                });
            }
            Err(_) => {
                let data_dir = std::path::Path::new(&on.identity.data_dir);
                if let Some(control) = control
                    && !process::runs_in(data_dir)
                {
                    service::start(control)?;
                }
            }
        }
        sleep(LOOK_EVERY);
    }
}

/// Tells each thread of `user` to end what it does. True while there are any.
fn end_donor(donor: &Reach, user: &str) -> Result<bool, UndoError> {
    let session = Session::connect_to(&target(donor)?, &donor.identity)?;
    let threads = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = {}",
        quote_text(user)
    );
    let (mut session, rows) = session.query(&threads, LOOK_LIMIT)?;
    for id in rows.iter().filter_map(|row| row.at(0)) {
        let statement = format!("KILL QUERY {id}");
        let (back, answer) = session.attempt(&statement, LOOK_LIMIT)?;
        session = back;
        match answer {
            Err(error) if error.code != NO_SUCH_THREAD => {
                return Err(UndoError::Session(SessionError::Server {
                    server: donor.server.clone(),
                    statement,
                    error,
                }));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(!rows.is_empty())
}

fn clones(session: Session) -> Result<bool, UndoError> {
    let (session, rows) = session.query(CLONES, LOOK_LIMIT)?;
    // Without the plugin there is no such table.
    let (_, state) = session.attempt(CLONE_STATE, LOOK_LIMIT)?;
    Ok(!rows.is_empty() || state.is_ok_and(|rows| !rows.is_empty()))
}
