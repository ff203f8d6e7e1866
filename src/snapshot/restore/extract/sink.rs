//! Where the SQL goes: a file, standard output, or the client program of a server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Address;
use crate::server::client::{self, Existing};
use crate::server::{Flavour, Session, Target};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::id;
use crate::snapshot::prove::clone_session::CloneSession;
use crate::sys::cancel::Interrupted;
use crate::sys::files;
use crate::sys::stream::Eater;

use super::heard::Heard;
use super::wanted::{Destination, Options};

const ASK_LIMIT: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Takes the SQL.
pub struct Sink {
    to: To,
    pub bytes: u64,
    existing: Existing,
}

enum To {
    File {
        partial: PathBuf,
        path: PathBuf,
        file: std::fs::File,
    },
    Output,
    Nowhere,
    Server {
        name: String,
        eater: Eater,
        /// Of rows that are listened to while they are loaded.
        heard: Option<Listener>,
    },
}

struct Listener {
    heard: Arc<Mutex<Heard>>,
    end: String,
}

impl Listener {
    fn now(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    pub fn open(
        ctx: &Context,
        using: &mut CloneSession<'_>,
        options: &Options,
    ) -> Result<Self, SnapshotError> {
        let to = match &options.destination {
            Destination::Output => To::Output,
            Destination::Nowhere => To::Nowhere,
            Destination::File(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let partial = path.with_file_name(format!(".{name}.{}", using.id));
                using.note_file(&partial)?;
                To::File {
                    file: files::create_private(&partial)?,
                    partial,
                    path: path.clone(),
                }
            }
            Destination::Server(name) => start_client(ctx, using, name, options.lineage.is_some())?,
        };
        Ok(Self {
            to,
            bytes: 0,
            existing: options.existing,
        })
    }

    pub fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        use io::Write;
        self.bytes += piece.len() as u64;
        match &mut self.to {
            To::File { file, .. } => file.write_all(piece),
            To::Output => io::stdout().lock().write_all(piece),
            To::Nowhere => Ok(()),
            To::Server { eater, .. } => eater.feed(piece),
        }
    }

    /// The last of a lineage: `questions` that print what is wrong. Rows that are added stay only when a
    /// server that is listened to has said nothing against any of them.
    pub fn end_rows(&mut self, ctx: &Context, questions: &str) -> Result<(), SnapshotError> {
        let failed = |error: &io::Error| SnapshotError::Failed {
            step: "write the SQL",
            reason: error.to_string(),
            hint: None,
        };
        self.take(questions.as_bytes())
            .map_err(|error| failed(&error))?;
        let last: &[u8] = match self.existing {
            Existing::AddRows => b"COMMIT;\n",
            Existing::Fail | Existing::Replace => b"",
        };
        if let To::Server {
            name,
            eater,
            heard: Some(listener),
        } = &mut self.to
        {
            let line = format!("SELECT '{}';\n", listener.end);
            eater
                .feed(line.as_bytes())
                .map_err(|error| failed(&error))?;
            wait_for_end(ctx, eater, listener)?;
            let bad = listener.now().bad();
            if let Some(bad) = bad {
                return Err(unwelcome(name, &bad, self.existing));
            }
        }
        self.take(last).map_err(|error| failed(&error))
    }

    /// How many rows were there already, as far as that was heard.
    pub fn there_already(&self) -> Option<u64> {
        match (&self.to, self.existing) {
            (To::Server { heard, .. }, Existing::AddRows) => {
                heard.as_ref().map(|listener| listener.now().there_already)
            }
            (To::Server { .. } | To::File { .. } | To::Output | To::Nowhere, _) => None,
        }
    }

    /// Makes the file lasting under its name, or removes it after a failure.
    pub fn close<T>(self, done: Result<T, SnapshotError>) -> Result<T, SnapshotError> {
        match self.to {
            To::Output | To::Nowhere => done,
            To::File {
                partial,
                path,
                file,
            } => {
                let kept = done.and_then(|extracted| {
                    files::finish(file, &partial, &path)?;
                    Ok(extracted)
                });
                if kept.is_err() {
                    files::remove(&partial)?;
                }
                kept
            }
            // It may wait for a lock of somebody's.
            To::Server { .. } if matches!(done, Err(SnapshotError::Interrupted(_))) => done,
            To::Server { name, eater, heard } => match (eater.finish(), done) {
                (Ok(()), done) => done,
                // The client's own words are the cause; that it took no more is only what followed.
                (Err(error), _) => Err(SnapshotError::Failed {
                    step: "load the SQL",
                    reason: format!("{name}: {error}"),
                    hint: Some(after_error(self.existing, heard.is_some()).to_owned()),
                }),
            },
        }
    }
}

fn after_error(existing: Existing, is_lineage: bool) -> &'static str {
    match (existing, is_lineage) {
        (Existing::AddRows, true) => "Nothing of it was loaded.",
        (Existing::Fail | Existing::Replace, true) => {
            "What was loaded before the error stays. Where a table exists already, choose \
             --missing-rows; where one is missing to which these refer, --with-parents."
        }
        (_, false) => {
            "What was loaded before the error stays. Where a table exists already, choose --replace or \
             --missing-rows."
        }
    }
}

fn unwelcome(name: &str, bad: &str, existing: Existing) -> SnapshotError {
    let stays = match existing {
        Existing::AddRows => "Nothing of it was loaded.",
        Existing::Fail | Existing::Replace => "The rows are loaded nevertheless.",
    };
    SnapshotError::Failed {
        step: "load the rows",
        reason: format!("{name}: {bad}"),
        hint: Some(format!(
            "{stays} Where rows refer to what isn't there, give --with-parents; where the tables have \
             changed since, load into a server of its own and bring the rows over from there."
        )),
    }
}

/// Until the client has loaded everything, or has ended.
fn wait_for_end(
    ctx: &Context,
    eater: &mut Eater,
    listener: &Listener,
) -> Result<(), SnapshotError> {
    while !listener.now().is_at_end && !eater.has_ended() {
        if ctx.cancel.is_set() {
            return Err(Interrupted {
                step: "loading rows",
            }
            .into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    match listener.now().is_at_end {
        true => Ok(()),
        // Its own words come when it is closed.
        false => Err(SnapshotError::Failed {
            step: "load the rows",
            reason: "the client program ended early".to_owned(),
            hint: None,
        }),
    }
}

/// The client program of the target's flavour, with its credentials in a private file.
fn start_client(
    ctx: &Context,
    using: &CloneSession<'_>,
    name: &str,
    is_heard: bool,
) -> Result<To, SnapshotError> {
    let target = ctx.target(ctx.server(name)?)?;
    let flavour = check_target(&target)?;
    let program = client::find_client(&flavour).map_err(|names| {
        SnapshotError::refused(
            format!("no client program is here ({names})"),
            "Install the client package of that server (mariadb-client, mysql-client).",
        )
    })?;
    let (_, work) = using.make_places((0, 0))?;
    let options = work.join("into");
    files::replace(&options, client::option_file(&flavour, &target).as_bytes())?;
    let name = name.to_owned();
    if !is_heard {
        let eater = Eater::start(&program, &client::client_args(&options))?;
        return Ok(To::Server {
            name,
            eater,
            heard: None,
        });
    }
    // No value of a row's that a warning quotes is like it.
    let end = format!("understudy: end of rows {}", id::random_hex(16));
    let heard = Arc::new(Mutex::new(Heard::until(&end)));
    let ear = Arc::clone(&heard);
    let hear = move |line: &str| {
        ear.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .line(line);
    };
    let eater = Eater::start_heard(&program, &client::heard_client_args(&options), hear)?;
    Ok(To::Server {
        name,
        eater,
        heard: Some(Listener { heard, end }),
    })
}

/// The server that is to be loaded can be written to.
pub fn check_target(target: &Target) -> Result<Flavour, SnapshotError> {
    let session = Session::connect(target)?;
    let flavour = session.flavour().clone();
    let (_, read_only) = session.value("SELECT @@GLOBAL.read_only", ASK_LIMIT)?;
    if matches!(read_only.as_deref(), Some("0" | "OFF")) {
        return Ok(flavour);
    }
    let at = match &target.address {
        Address::Tcp { .. } | Address::Socket(_) => target.address.to_string(),
    };
    Err(SnapshotError::refused(
        format!("{} at {at} is read-only, as replicas are", target.server),
        "Load into the source; its replicas follow.",
    ))
}

/// A file of that name isn't there.
pub fn refuse_present(path: &Path) -> Result<(), SnapshotError> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(SnapshotError::refused(
        format!("{} is there already", path.display()),
        "Give the name of a new file.",
    ))
}
