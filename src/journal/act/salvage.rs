//! Bringing in what only a dead source's binary logs hold, before the server that takes its place is
//! opened.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::server::{self, LOOK_EVERY, REACH_FOR, target};
use super::{ActError, Means, Reach};
use crate::journal::state::StateDir;
use crate::server::gtid::GtidSet;
use crate::server::log_files::{self, LogPlace};
use crate::server::replication::observe_gtid;
use crate::server::session::{READ_LIMIT, Session};
use crate::server::{Flavour, client};
use crate::sys::files::FileError;
use crate::sys::flow::{End, FlowError, Told, flow};
use crate::sys::{files, process};

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// Nothing is taken in for so long: a lock, a full disk, a server that was stopped.
const STILL_MAX: Duration = Duration::from_secs(120);

/// What a lock may hold up.
const LOCK_WAIT_S: u32 = 60;

/// Applies what `on` lacks of those logs, with its GTIDs. It goes on from what `on` has now, so that
/// it may be done twice; never to a server that clients may write to.
pub fn bring(
    means: &Means<'_>,
    on: &Reach,
    logs: &LogPlace,
    work: &Path,
) -> Result<String, ActError> {
    let target = target(means, on)?;
    let session = server::reach(&target, &on.identity, REACH_FOR, LOOK_EVERY)?;
    let flavour = session.flavour().clone();
    let (session, is_closed) = session.value("SELECT @@GLOBAL.read_only", READ_LIMIT)?;
    if is_closed.as_deref() != Some("1") {
        return Ok(format!(
            "{} takes writes: nothing more of the dead source's binary logs is brought in",
            on.server
        ));
    }
    let (session, has) = has(session)?;
    let reader = beside(&on.identity.data_dir, &flavour, client::find_log_reader)?;
    let loader = beside(&on.identity.data_dir, &flavour, client::find_client_of)?;
    let all = logs.logs().map_err(ActError::Salvage)?;
    let needed = log_files::needed(&reader, &flavour, &all, &has);
    // It would hold out the one that brings them in; read_only keeps everybody else out.
    if let Some(statement) = flavour.lift_super_read_only() {
        session.execute(statement, STATEMENT_LIMIT)?;
    }
    let options = options(work, &client::option_file(&flavour, &target))?;
    let mut load = client::client_args(&options);
    load.extend(
        [
            "--binary-mode".to_owned(),
            format!("--init-command=SET SESSION lock_wait_timeout = {LOCK_WAIT_S}"),
        ]
        .map(OsString::from),
    );
    let read = log_files::reader_args(&has, &needed);
    let (from, into) = (
        End {
            program: &reader,
            args: &read,
        },
        End {
            program: &loader,
            args: &load,
        },
    );
    let moved = flow(&from, &into, &mut until_still());
    files::remove(&options)?;
    if let Some(directory) = options.parent().filter(|directory| *directory != work) {
        files::remove_empty_dir(directory)?;
    }
    match moved {
        Ok(_) => {}
        Err(FlowError::From(error)) if log_files::is_at_the_end(&error) => {}
        Err(FlowError::Stopped) => {
            return Err(ActError::Salvage(format!(
                "{} took nothing in for {} s",
                on.server,
                STILL_MAX.as_secs()
            )));
        }
        Err(error) => return Err(ActError::Salvage(error.to_string())),
    }
    Ok(format!(
        "{} has what only the dead source's binary logs had",
        on.server
    ))
}

/// How the server is logged in to. Where the state directory has no room for it, elsewhere: nothing is
/// lost for the sake of a page.
fn options(work: &Path, text: &str) -> Result<PathBuf, FileError> {
    let write = |directory: &Path| {
        files::make_private_dir(directory)?;
        let options = directory.join("client");
        files::replace(&options, text.as_bytes())?;
        Ok(options)
    };
    let name = work.file_name().map(|name| name.to_string_lossy());
    write(work).or_else(|error: FileError| match name {
        // `recover` clears that away, too.
        Some(name) => write(&StateDir::run_place(&name)).map_err(|_| error),
        None => Err(error),
    })
}

/// What it has applied and what was brought in, which its binary log alone tells of.
fn has(session: Session) -> Result<(Session, GtidSet), ActError> {
    let (session, text) = observe_gtid(session, false)?;
    let parsed = session.flavour().parse_gtid(&text);
    let has = parsed.map_err(|error| ActError::Salvage(error.to_string()))?;
    Ok((session, has))
}

/// A program of the server's own package, if the server runs here.
fn beside<P>(
    data_dir: &str,
    flavour: &Flavour,
    find: fn(&Flavour, Option<&Path>) -> Result<P, String>,
) -> Result<P, ActError> {
    let directory = process::program_directory(Path::new(data_dir));
    find(flavour, directory.as_deref())
        .map_err(|name| ActError::Salvage(format!("{name} isn't there to read binary logs")))
}

/// Goes on for as long as something moves.
fn until_still() -> impl FnMut(Told<'_>) -> bool {
    let (mut most, mut since) = (0, Instant::now());
    move |told| {
        if let Told::Moved(bytes) = told
            && bytes > most
        {
            (most, since) = (bytes, Instant::now());
        }
        since.elapsed() < STILL_MAX
    }
}
