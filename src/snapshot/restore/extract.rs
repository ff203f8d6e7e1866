//! `snapshot extract`: tables as they were, as SQL, out of a private server on a clone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::Address;
use crate::journal::OperationKind;
use crate::server::client::{self, Existing, Tool};
use crate::server::flavour::{quote_name, quote_text};
use crate::server::{Flavour, Session, Target};
use crate::snapshot::archive;
use crate::snapshot::archive::index::{Index, Schema, Stream, Table};
use crate::snapshot::archive::refit::{self, Refit};
use crate::snapshot::archive::stream::StreamError;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::keep::catalog;
use crate::snapshot::manifest::Manifest;
use crate::snapshot::prove::clone_session::CloneSession;
use crate::snapshot::prove::private_server::{self, Booted, Failure, Plan};
use crate::snapshot::prove::verify;
use crate::sys::cancel::Interrupted;
use crate::sys::edit::Editor;
use crate::sys::exec::Program;
use crate::sys::stream::{self, Eater, StreamError as ProgramError};
use crate::sys::{failpoint, files, room};

const CATALOGUE_LIMIT: Duration = Duration::from_secs(600);

/// Where the SQL goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A new file, 0600.
    File(PathBuf),
    /// Standard output.
    Output,
    /// A server of the configuration, by its client program.
    Server(String),
}

impl Destination {
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Output | Self::Server(_) => None,
        }
    }

    fn server(&self) -> Option<String> {
        match self {
            Self::Server(name) => Some(name.clone()),
            Self::Output | Self::File(_) => None,
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    /// `SCHEMA.TABLE`; the schema ends at the first dot that gives a table of the snapshot.
    pub tables: Vec<String>,
    /// Whole schemas, with routines and events.
    pub schemas: Vec<String>,
    pub destination: Destination,
    pub existing: Existing,
}

/// What was extracted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Extracted {
    pub snapshot: String,
    pub tables: Vec<String>,
    pub schemas: Vec<String>,
    pub bytes: u64,
    pub to: Option<PathBuf>,
    pub into: Option<String>,
}

/// Which tables of which schema; `None` is all of it.
type Wanted = BTreeMap<String, Option<Vec<String>>>;

/// Boots a private server on a clone and dumps.
pub fn extract(ctx: &Context, wanted: &str, options: &Options) -> Result<Extracted, SnapshotError> {
    ctx.state.create()?;
    let manifest = catalog::find(ctx, wanted)?;
    if let Some((directory, index)) = archive::index_of(&manifest)? {
        return extract_dump(ctx, &manifest, (&directory, &index), options);
    }
    let plan = verify::plan(ctx, &manifest)?;
    if !plan.binary.is_contained() {
        let flavour = Flavour::of_version(&plan.facts.version);
        client::find_dump(&flavour, plan.binary.directory())
            .map_err(|names| no_program(&names, &plan))?;
    }
    if let Destination::File(path) = &options.destination {
        refuse_present(path)?;
    }
    let mut using = CloneSession::begin(ctx, &manifest, OperationKind::Extract, "extract")?;
    // Outside of the room, which has no network.
    let mut sink = Sink::open(ctx, &mut using, options)?;
    let done = (|| -> Result<Extracted, Failure> {
        let stands = using.clone_volumes().map_err(Failure::from)?;
        using.make_missing_directories(&stands)?;
        room::within(|| {
            private_server::arrange(&using, &stands)?;
            dump_all(&using, &plan, options, &mut sink)
        })
        .map_err(SnapshotError::from)?
    })();
    let done = done.map_err(|failure| match failure {
        Failure::Other(error) => error,
        Failure::Flaw { flaw, detail } => SnapshotError::Failed {
            step: "bring up a server on the clone",
            reason: format!("{}: {detail}", flaw.words()),
            hint: Some(flaw.hint().to_owned()),
        },
    });
    let done = sink.close(done)?;
    using.end("done")?;
    Ok(done)
}

/// Out of a dump: the streams that are wanted, and no others. No server is started.
fn extract_dump(
    ctx: &Context,
    manifest: &Manifest,
    (directory, index): (&Path, &Index),
    options: &Options,
) -> Result<Extracted, SnapshotError> {
    let parts = wanted_of(index, options)?;
    if let Destination::File(path) = &options.destination {
        refuse_present(path)?;
    }
    let mut using = CloneSession::begin(ctx, manifest, OperationKind::Extract, "extract")?;
    let broken = |error: StreamError| SnapshotError::Failed {
        step: "read the dump",
        reason: error.to_string(),
        hint: Some("Choose another snapshot.".to_owned()),
    };
    let since = Instant::now();
    // All of them before the first byte goes on: half a table is worse than none.
    for (stream, _) in &parts {
        ctx.cancel.check("reading the dump")?;
        archive::stream::check(directory, stream, &mut |_| Ok(())).map_err(broken)?;
    }
    let mut sink = Sink::open(ctx, &mut using, options)?;
    let mut done = Ok(());
    for (stream, is_table) in parts {
        let mut refit = Refit::new(match is_table {
            true => options.existing,
            false => Existing::Replace,
        });
        let mut state = refit::State::default();
        done = archive::stream::unpack(directory, stream, &mut |piece| {
            if ctx.cancel.is_set() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match is_table {
                true => sink.take(&refit.pass(piece, &mut state).map_err(io::Error::other)?),
                false => sink.take(piece),
            }
        })
        .map_err(broken);
        failpoint::hit("dumped");
        if done.is_err() {
            break;
        }
    }
    let words = format!("{} bytes of SQL", sink.bytes);
    ctx.progress.step("extract", words, since);
    let done = ctx
        .cancel
        .check("extracting")
        .map_err(SnapshotError::from)
        .and(done)
        .map(|()| Extracted {
            snapshot: using.manifest.id.clone(),
            tables: options.tables.clone(),
            schemas: options.schemas.clone(),
            bytes: sink.bytes,
            to: options.destination.path(),
            into: options.destination.server(),
        });
    let done = sink.close(done)?;
    using.end("done")?;
    Ok(done)
}

/// Streams, and whether each is a table's.
fn wanted_of<'a>(
    index: &'a Index,
    options: &Options,
) -> Result<Vec<(&'a Stream, bool)>, SnapshotError> {
    let mut unknown = Vec::new();
    let mut tables: Vec<&Table> = Vec::new();
    let mut schemas: Vec<&Schema> = Vec::new();
    for name in &options.schemas {
        match index.schemas.iter().find(|schema| schema.name == *name) {
            Some(schema) => schemas.push(schema),
            None => unknown.push(name.clone()),
        }
    }
    tables.extend(
        index
            .tables
            .iter()
            .filter(|table| schemas.iter().any(|schema| schema.name == table.schema)),
    );
    for name in &options.tables {
        match index.table(name) {
            Some(table) if tables.contains(&table) => {}
            Some(table) => tables.push(table),
            None => unknown.push(name.clone()),
        }
    }
    if !unknown.is_empty() {
        return Err(SnapshotError::refused(
            format!("the snapshot has no {}", unknown.join(", ")),
            "Name tables as SCHEMA.TABLE and schemas as they were called then.",
        ));
    }
    let rows_only = options.existing == Existing::AddRows;
    let mut parts: Vec<(&Stream, bool)> =
        tables.iter().map(|table| (&table.stream, true)).collect();
    if !rows_only {
        let views = schemas.iter().filter_map(|schema| schema.views.as_ref());
        let routines = schemas.iter().filter_map(|schema| schema.routines.as_ref());
        let triggers = tables.iter().filter_map(|table| table.triggers.as_ref());
        parts.extend(
            views
                .chain(routines)
                .chain(triggers)
                .map(|part| (part, false)),
        );
    }
    Ok(parts)
}

/// In the room.
fn dump_all(
    using: &CloneSession<'_>,
    plan: &Plan,
    options: &Options,
    sink: &mut Sink,
) -> Result<Extracted, Failure> {
    let (booted, session) = private_server::boot(using, plan)?;
    let dump = booted
        .find_tool(Tool::Dump, plan.binary.directory())
        .map_err(|names| Failure::Other(no_program(&names, plan)))?;
    let (session, wanted) = resolve(session, options)?;
    let (mut session, total) = about(session, &wanted)?;
    let since = Instant::now();
    let options_file = booted.write_tool_options()?;
    for (schema, tables) in &wanted {
        if options.existing != Existing::AddRows {
            let (back, preamble) = preamble(session, schema)?;
            session = back;
            sink.take(preamble.as_bytes())
                .map_err(|error| sink_failed(&error))?;
        } else {
            let line = format!("USE {};\n", quote_name(schema));
            sink.take(line.as_bytes())
                .map_err(|error| sink_failed(&error))?;
        }
        let args = client::dump_args(
            booted.flavour(),
            &options_file,
            schema,
            tables.as_deref(),
            options.existing,
        );
        run_dump(using, &dump, &args, sink, total)?;
        failpoint::hit("dumped");
    }
    using
        .ctx
        .progress
        .step("extract", format!("{} bytes of SQL", sink.bytes), since);
    let extracted = Extracted {
        snapshot: using.manifest.id.clone(),
        tables: wanted
            .iter()
            .filter_map(|(schema, tables)| Some((schema, tables.as_ref()?)))
            .flat_map(|(schema, tables)| tables.iter().map(move |t| format!("{schema}.{t}")))
            .collect(),
        schemas: wanted
            .iter()
            .filter(|(_, tables)| tables.is_none())
            .map(|(schema, _)| schema.clone())
            .collect(),
        bytes: sink.bytes,
        to: options.destination.path(),
        into: options.destination.server(),
    };
    drop(session);
    end(booted, using.ctx)?;
    Ok(extracted)
}

fn end(booted: Booted, ctx: &Context) -> Result<(), Failure> {
    booted.shut_down(ctx)
}

fn run_dump(
    using: &CloneSession<'_>,
    dump: &Program,
    args: &[OsString],
    sink: &mut Sink,
    total: Option<u64>,
) -> Result<(), Failure> {
    let cancel = &using.ctx.cancel;
    let progress = &using.ctx.progress;
    let mut told = Instant::now();
    let mut editor = Editor::new(Some(client::DUMP_MODE));
    let read = stream::read(dump, args, &|| cancel.is_set(), &mut |piece| {
        if told.elapsed() > Duration::from_millis(500) {
            told = Instant::now();
            progress.moved("extract", "", sink.bytes, total.map(|t| t.max(sink.bytes)));
        }
        sink.take(&editor.pass(piece))
    });
    match read {
        Ok(()) => sink
            .take(&editor.finish())
            .map_err(|error| sink_failed(&error)),
        Err(ProgramError::Stopped) => {
            Err(Failure::Other(SnapshotError::Interrupted(Interrupted {
                step: "extracting",
            })))
        }
        Err(ProgramError::Sink(error)) => Err(sink_failed(&error)),
        Err(ProgramError::Exec(error)) => Err(Failure::Other(SnapshotError::Failed {
            step: "dump",
            reason: error.to_string(),
            hint: None,
        })),
    }
}

fn sink_failed(error: &io::Error) -> Failure {
    Failure::Other(SnapshotError::Failed {
        step: "write the SQL",
        reason: error.to_string(),
        hint: None,
    })
}

fn no_program(names: &str, plan: &Plan) -> SnapshotError {
    SnapshotError::refused(
        format!("no dump program is {} ({names})", plan.binary.places()),
        "Install the client package of that server (mariadb-client, mysql-client).",
    )
}

fn refuse_present(path: &Path) -> Result<(), SnapshotError> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(SnapshotError::refused(
        format!("{} is there already", path.display()),
        "Give the name of a new file.",
    ))
}

/// The wanted tables as the snapshot has them. A name with several dots may be read in several ways.
fn resolve(session: Session, options: &Options) -> Result<(Session, Wanted), Failure> {
    let mut session = session;
    let mut wanted = Wanted::new();
    let mut unknown = Vec::new();
    for schema in &options.schemas {
        let statement = format!(
            "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE {}",
            is_name("SCHEMA_NAME", schema)
        );
        let (back, count) = session.value(&statement, CATALOGUE_LIMIT)?;
        session = back;
        match count.as_deref() {
            Some("1") => drop(wanted.insert(schema.clone(), None)),
            _ => unknown.push(schema.clone()),
        }
    }
    for name in &options.tables {
        let statement = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
             WHERE {}",
            is_name("CONCAT(TABLE_SCHEMA, '.', TABLE_NAME)", name)
        );
        let (back, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
        session = back;
        let found = rows
            .first()
            .and_then(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())));
        let Some((schema, table)) = found else {
            unknown.push(name.clone());
            continue;
        };
        if let Some(tables) = wanted.entry(schema).or_insert_with(|| Some(Vec::new())) {
            tables.push(table);
        }
    }
    if unknown.is_empty() {
        return Ok((session, wanted));
    }
    Err(Failure::Other(SnapshotError::refused(
        format!("the snapshot has no {}", unknown.join(", ")),
        "Name tables as SCHEMA.TABLE and schemas as they were called then; `understudy snapshot \
         mount` shows their files.",
    )))
}

/// About as much SQL as there is data, which is what the dictionary believes.
fn about(mut session: Session, wanted: &Wanted) -> Result<(Session, Option<u64>), Failure> {
    let mut all: Option<u64> = None;
    for (schema, tables) in wanted {
        let mut statement = format!(
            "SELECT CAST(COALESCE(SUM(DATA_LENGTH), 0) AS UNSIGNED) FROM information_schema.TABLES \
             WHERE {}",
            is_name("TABLE_SCHEMA", schema)
        );
        if let Some(tables) = tables {
            let names: Vec<String> = tables.iter().map(|t| is_name("TABLE_NAME", t)).collect();
            statement.push_str(&format!(" AND ({})", names.join(" OR ")));
        }
        let (back, bytes) = session.value(&statement, CATALOGUE_LIMIT)?;
        session = back;
        let bytes = bytes.and_then(|bytes| bytes.parse::<u64>().ok());
        all = bytes
            .map(|bytes| all.unwrap_or(0).saturating_add(bytes))
            .or(all);
    }
    Ok((session, all.filter(|all| *all > 0)))
}

/// A condition. MariaDB compares the names of its catalogue without case, also where it tells them apart.
fn is_name(what: &str, name: &str) -> String {
    let name = quote_text(name);
    format!(
        "{what} = {name} AND (@@lower_case_table_names <> 0 \
         OR CAST({what} AS BINARY) = CAST({name} AS BINARY))"
    )
}

/// Makes the schema where it is missing, with the character set that it had.
fn preamble(session: Session, schema: &str) -> Result<(Session, String), Failure> {
    let name = quote_name(schema);
    let statement = format!("SHOW CREATE DATABASE IF NOT EXISTS {name}");
    let (session, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
    let create = rows.first().and_then(|row| row.at(1)).map_or_else(
        || format!("CREATE DATABASE IF NOT EXISTS {name}"),
        str::to_owned,
    );
    Ok((session, format!("{create};\nUSE {name};\n")))
}

/// Takes the SQL.
struct Sink {
    to: To,
    bytes: u64,
}

enum To {
    File {
        partial: PathBuf,
        path: PathBuf,
        file: std::fs::File,
    },
    Output,
    Server {
        name: String,
        eater: Eater,
    },
}

impl Sink {
    fn open(
        ctx: &Context,
        using: &mut CloneSession<'_>,
        options: &Options,
    ) -> Result<Self, SnapshotError> {
        let to = match &options.destination {
            Destination::Output => To::Output,
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
            Destination::Server(name) => To::Server {
                name: name.clone(),
                eater: start_client(ctx, using, name)?,
            },
        };
        Ok(Self { to, bytes: 0 })
    }

    fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        use io::Write;
        self.bytes += piece.len() as u64;
        match &mut self.to {
            To::File { file, .. } => file.write_all(piece),
            To::Output => io::stdout().lock().write_all(piece),
            To::Server { eater, .. } => eater.feed(piece),
        }
    }

    /// Makes the file lasting under its name, or removes it after a failure.
    fn close(self, done: Result<Extracted, SnapshotError>) -> Result<Extracted, SnapshotError> {
        match self.to {
            To::Output => done,
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
            To::Server { name, eater } => match (eater.finish(), done) {
                (Ok(()), done) => done,
                // The client's own words are the cause; that it took no more is only what followed.
                (Err(error), _) => Err(SnapshotError::Failed {
                    step: "load the SQL",
                    reason: format!("{name}: {error}"),
                    hint: Some(
                        "What was loaded before the error stays. Where a table exists already, \
                         choose --replace or --missing-rows."
                            .to_owned(),
                    ),
                }),
            },
        }
    }
}

/// The client program of the target's flavour, with its credentials in a private file.
fn start_client(
    ctx: &Context,
    using: &CloneSession<'_>,
    name: &str,
) -> Result<Eater, SnapshotError> {
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
    Ok(Eater::start(&program, &client::client_args(&options))?)
}

/// The server that is to be loaded can be written to.
pub fn check_target(target: &Target) -> Result<Flavour, SnapshotError> {
    let session = Session::connect(target)?;
    let flavour = session.flavour().clone();
    let (_, read_only) = session.value("SELECT @@GLOBAL.read_only", CATALOGUE_LIMIT)?;
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
