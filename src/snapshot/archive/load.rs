//! A dump loaded into a private server of its own, on a new data directory: to be compared, or to be
//! kept.
//!
//! The server runs in a room (`sys::room`) as every private server does: without network, and with
//! nothing to write to but its own directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::index::{Index, Stream, Table};
use super::stream::{self, StreamError};
use crate::config::Secret;
use crate::journal::StateDir;
use crate::server::accounts::{self, Shown};
use crate::server::client::{self, Tool};
use crate::server::private::{self, BootFacts, Private};
use crate::server::session::READ_LIMIT;
use crate::server::{Flavour, Session, Target};
use crate::snapshot::error::SnapshotError;
use crate::snapshot::prove::boot_log::Flaw;
use crate::snapshot::prove::clone_session::CloneSession;
use crate::snapshot::prove::private_server::{self, Booted, Failure, Plan};
use crate::snapshot::prove::program::ServerProgram;
use crate::sys::bound;
use crate::sys::exec::{ExecError, Program};
use crate::sys::stream::Eater;
use crate::sys::{failpoint, files, parallel};
use crate::volume::clone::FULL_BYTES;
use crate::volume::view::Stand;
use crate::volume::{Mountable, kept};

/// How long making an empty data directory may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is loaded, and where to.
pub struct Load<'a> {
    pub using: &'a CloneSession<'a>,
    pub index: &'a Index,
    /// Of the dump.
    pub directory: &'a Path,
    /// An empty one of this host.
    pub data: &'a Path,
    pub binary: &'a ServerProgram,
    /// The data directory will be thrown away.
    pub is_throwaway: bool,
}

/// The settings with which the private server is made and started: those of the dump's own server, but
/// for directories that aren't here.
pub fn facts(index: &Index, data_dir: PathBuf) -> BootFacts {
    let mut facts = index.boot.clone();
    facts
        .settings
        .retain(|_, value| !value.starts_with('/') || Path::new(value).is_dir());
    facts.plugins = Vec::new();
    facts.data_dir = data_dir;
    facts
}

/// In the room: makes the data directory, starts a server on it, and loads everything but the accounts.
pub fn load(load: &Load<'_>) -> Result<(Booted, Session), Failure> {
    let since = Instant::now();
    let ctx = load.using.ctx;
    let owner = owner_for(load.data)?;
    files::own(load.data, owner)?;
    let (run, _) = load.using.make_places((0, 0))?;
    let at = run.join("data");
    files::make_private_dir(&at)?;
    private_server::arrange(
        load.using,
        &[Stand {
            clone: Mountable::Directory(load.data.to_owned()),
            at: at.clone(),
        }],
    )?;
    let plan = Plan {
        facts: facts(load.index, at),
        binary: load.binary.clone(),
        is_throwaway: load.is_throwaway,
    };
    install(load, &plan, owner)?;
    ctx.progress
        .step("install", "an empty data directory", since);
    failpoint::hit("installed");
    let (mut booted, session) = private_server::boot(load.using, &plan)?;
    let client = booted
        .find_tool(Tool::Client, load.binary.directory())
        .map_err(|names| {
            Failure::Other(SnapshotError::refused(
                format!("no client program is {} ({names})", load.binary.places()),
                "Install the client package of that server (mariadb-client, mysql-client).",
            ))
        })?;
    let options = booted.write_tool_options()?;
    let since = Instant::now();
    booted.answer(ctx, "loading the dump", || {
        load_all(load, &client, &options).map_err(|failure| blame(load, failure))
    })?;
    let raw: u64 = load.index.streams().map(|stream| stream.raw_bytes).sum();
    let rate = raw as f64 / since.elapsed().as_secs_f64().max(0.001) / 1_048_576.0;
    let words = format!(
        "{} tables, {} MiB of SQL, {rate:.0} MiB/s",
        load.index.tables.len(),
        raw >> 20
    );
    ctx.progress.step("load", words, since);
    failpoint::hit("loaded");
    Ok((booted, session))
}

/// Who the new files are for: whoever owns the directory, if that isn't root; else the account that
/// packages make.
fn owner_for(directory: &Path) -> Result<(u32, u32), SnapshotError> {
    let owner = files::owner_of(directory)?;
    if owner.0 != 0 {
        return Ok(owner);
    }
    let account = nix::unistd::User::from_name("mysql").ok().flatten();
    Ok(account.map_or(owner, |user| (user.uid.as_raw(), user.gid.as_raw())))
}

fn install(load: &Load<'_>, plan: &Plan, owner: (u32, u32)) -> Result<(), Failure> {
    let ServerProgram::Here(program) = load.binary else {
        return Err(Failure::Other(SnapshotError::refused(
            "a dump isn't loaded by a container's program",
            format!(
                "Name a server program of this host as server_binary in [server.{}.service].",
                load.index.server
            ),
        )));
    };
    let flavour = Flavour::of_version(&plan.facts.version);
    let place = StateDir::run_place(&load.using.id);
    let private = Private {
        data_dir: plan.facts.data_dir.clone(),
        server_id: 0,
        buffer_pool_bytes: 0,
        init_file: PathBuf::new(),
        is_throwaway: load.is_throwaway,
        as_root: owner.0 == 0,
        place: place.clone(),
    };
    let Some(installer) = private::installer(&flavour, &plan.facts, &private) else {
        return Err(Failure::Other(SnapshotError::refused(
            format!("{} makes no data directory by itself", flavour.text),
            "Load it by hand into a server that is there (`understudy snapshot extract`).",
        )));
    };
    let program = match installer.names {
        [] => program.clone(),
        names => find_installer(program, names)?,
    };
    for path in [&place, &private.tmp(), &private.data_dir] {
        files::own(path, owner)?;
    }
    let log = place.join("install");
    let args: Vec<std::ffi::OsString> = installer.args.iter().map(Into::into).collect();
    let mut child = bound::start(&program, &args, owner, &log).map_err(SnapshotError::from)?;
    let until = Instant::now() + INSTALL_LIMIT;
    loop {
        load.using
            .ctx
            .cancel
            .check("making a data directory")
            .map_err(SnapshotError::from)?;
        match child.wait(LOOK_EVERY) {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(not_installed(&log, &status.to_string())),
            None if Instant::now() >= until => {
                return Err(not_installed(&log, "it doesn't end"));
            }
            None => {}
        }
    }
}

fn find_installer(program: &Path, names: &[&str]) -> Result<PathBuf, Failure> {
    let directory = program.parent().unwrap_or(Path::new("/"));
    let beside = [
        directory,
        &directory.join("../scripts"),
        &directory.join("../bin"),
    ]
    .into_iter()
    .flat_map(|place| names.iter().map(move |name| place.join(name)))
    .find(|path| path.is_file());
    let usual = || names.iter().find_map(|name| Program::find(name).ok());
    beside
        .or_else(|| usual().map(|program| program.path().to_owned()))
        .ok_or_else(|| {
            Failure::Other(SnapshotError::refused(
                format!("no {} is beside {}", names.join(" or "), program.display()),
                "Install the server's package (mariadb-server-core).",
            ))
        })
}

fn not_installed(log: &Path, status: &str) -> Failure {
    let said = files::read_ends(log, 4096).unwrap_or_default();
    let last: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = last[last.len().saturating_sub(4)..].join("; ");
    Failure::Other(SnapshotError::Failed {
        step: "make a data directory",
        reason: format!("{status}: {last}"),
        hint: None,
    })
}

/// The dump's accounts in the place of those that a new server has; `own` is the one that we are in as.
pub fn make_accounts(load: &Load<'_>, session: Session, own: &Target) -> Result<Session, Failure> {
    let mut text = Vec::new();
    stream::read(load.directory, &load.index.accounts, &mut |piece| {
        text.extend_from_slice(piece);
        Ok(())
    })
    .map_err(|error| stream_flaw(&error))?;
    let wanted: Vec<Shown> = serde_json::from_slice(&text).map_err(|error| Failure::Flaw {
        flaw: Flaw::BrokenStream,
        detail: format!("{}: {error}", load.index.accounts.file),
    })?;
    inherit_proxies(own)?;
    let (mut session, present) = accounts::observe(session)?;
    let flavour = session.flavour().clone();
    for account in present.iter().filter(|account| account.user != own.user) {
        session = session.execute(&flavour.drop_account(account), READ_LIMIT)?;
    }
    let since = Instant::now();
    let session = accounts::make(session, &wanted)?;
    let words = format!("{} accounts", wanted.len());
    load.using.ctx.progress.step("accounts", words, since);
    Ok(session)
}

/// Who may stand in for whom isn't among ALL, and can't be handed on by who hasn't got it: a new
/// server's root has it, and hands it to us.
fn inherit_proxies(own: &Target) -> Result<(), Failure> {
    let root = Target {
        user: "root".to_owned(),
        password: Secret::new(""),
        ..own.clone()
    };
    let (mut session, rows) = Session::connect(&root)?.query("SHOW GRANTS", READ_LIMIT)?;
    let lines = rows.iter().filter_map(|row| row.at(0));
    for line in lines.filter(|line| line.starts_with("GRANT PROXY ")) {
        let Some((right, _)) = line.split_once(" TO ") else {
            continue;
        };
        let grant = format!("{right} TO '{}'@'localhost' WITH GRANT OPTION", own.user);
        session = session.execute(&grant, READ_LIMIT)?;
    }
    Ok(())
}

/// Why a stream didn't get in.
enum LoadFailure {
    Stream(StreamError),
    Client { what: String, error: ExecError },
    Interrupted,
}

/// Tables first, several at a time; then what refers to them.
fn load_all(load: &Load<'_>, client: &Program, options: &Path) -> Result<(), LoadFailure> {
    let total: u64 = load.index.streams().map(|stream| stream.raw_bytes).sum();
    let done = AtomicU64::new(0);
    let feed = |what: &str, stream: &Stream, is_forced: bool| {
        feed(
            load,
            (client, options),
            (what, stream),
            is_forced,
            &|bytes| {
                let done = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
                load.using.ctx.progress.bytes(done.min(total), total);
            },
        )
    };
    let mut tables: Vec<&Table> = load.index.tables.iter().collect();
    // The longest first, so that none is left alone at the end.
    tables.sort_by_key(|table| std::cmp::Reverse(table.stream.raw_bytes));
    let loaded = parallel::pool(&tables, WORKERS, |table| {
        feed(&table.full_name(), &table.stream, false)
    });
    loaded.into_iter().collect::<Result<(), _>>()?;
    let views = || {
        let schemas = load.index.schemas.iter();
        schemas.filter_map(|schema| Some((&schema.name, schema.views.as_ref()?)))
    };
    // Once to have something by each name, whatever they refer to; then as they are.
    for is_forced in [true, false] {
        for (schema, stream) in views() {
            feed(&format!("the views of {schema}"), stream, is_forced)?;
        }
    }
    for schema in &load.index.schemas {
        if let Some(stream) = &schema.routines {
            feed(&format!("the routines of {}", schema.name), stream, false)?;
        }
    }
    for table in &load.index.tables {
        if let Some(stream) = &table.triggers {
            let what = format!("the triggers of {}", table.full_name());
            feed(&what, stream, false)?;
        }
    }
    Ok(())
}

/// Tables that are loaded at a time.
const WORKERS: usize = 4;

fn feed(
    load: &Load<'_>,
    (client, options): (&Program, &Path),
    (what, stream): (&str, &Stream),
    is_forced: bool,
    tell: &(dyn Fn(u64) + Sync),
) -> Result<(), LoadFailure> {
    let cancel = &load.using.ctx.cancel;
    let failed = |error| LoadFailure::Client {
        what: what.to_owned(),
        error,
    };
    let mut args = client::pair_load_args(options);
    if is_forced {
        args.push("--force".into());
    }
    let mut eater = Eater::start(client, &args).map_err(failed)?;
    let mut went = Ok(());
    let read = stream::read(load.directory, stream, &mut |piece| {
        if cancel.is_set() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        went = eater.feed(piece);
        match &went {
            Ok(()) => {
                tell(piece.len() as u64);
                Ok(())
            }
            Err(error) => Err(error.kind().into()),
        }
    });
    if cancel.is_set() {
        return Err(LoadFailure::Interrupted);
    }
    if let Err(error) = read
        && went.is_ok()
    {
        return Err(LoadFailure::Stream(error));
    }
    match eater.finish() {
        Err(_) if is_forced => Ok(()),
        ended => ended.map_err(failed),
    }
}

/// A failure to load is the dump's only if its server had room and went on.
fn blame(load: &Load<'_>, failure: LoadFailure) -> Failure {
    let (what, error) = match failure {
        LoadFailure::Interrupted => {
            return Failure::Other(SnapshotError::Interrupted(
                crate::sys::cancel::Interrupted {
                    step: "loading the dump",
                },
            ));
        }
        LoadFailure::Stream(error @ StreamError::Read { .. }) => {
            return Failure::Other(SnapshotError::Failed {
                step: "read the dump",
                reason: error.to_string(),
                hint: None,
            });
        }
        LoadFailure::Stream(error) => return stream_flaw(&error),
        LoadFailure::Client { what, error } => (what, error),
    };
    let words = error.to_string();
    let is_full = kept::free_space(load.data).is_ok_and(|(free, _)| free < FULL_BYTES)
        || ["No space left", "is full", "Disk full"]
            .iter()
            .any(|sign| words.contains(sign));
    // 2006 and 2013: the server went away.
    let is_gone = ["ERROR 2002", "ERROR 2006", "ERROR 2013", "Lost connection"]
        .iter()
        .any(|sign| words.contains(sign));
    if is_full || is_gone || !matches!(error, ExecError::Failed { .. }) {
        return Failure::Other(SnapshotError::Failed {
            step: "load the dump",
            reason: format!("{what}: {words}"),
            hint: is_full.then(|| "Make room, and try again.".to_owned()),
        });
    }
    Failure::Flaw {
        flaw: Flaw::NotLoadable,
        detail: format!("{what}: {words}"),
    }
}

/// A file that is broken is the dump's own flaw.
pub fn stream_flaw(error: &StreamError) -> Failure {
    Failure::Flaw {
        flaw: match error {
            StreamError::Missing { .. } => Flaw::MissingFile,
            StreamError::Broken { .. } | StreamError::Read { .. } | StreamError::Sink(_) => {
                Flaw::BrokenStream
            }
        },
        detail: error.to_string(),
    }
}
