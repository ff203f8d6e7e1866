//! `snapshot extract`: tables as they were, or rows and what hangs on them, as SQL, out of a private server
//! on a clone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::journal::OperationKind;
use crate::server::client::{self, Existing, Tool};
use crate::server::flavour::{quote_name, quote_text};
use crate::server::foreign_keys::{ForeignKey, TableName};
use crate::server::{Flavour, Session};
use crate::snapshot::archive;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::keep::catalog;
use crate::snapshot::prove::clone_session::CloneSession;
use crate::snapshot::prove::private_server::{self, Booted, Failure, Plan};
use crate::snapshot::prove::verify;
use crate::sys::cancel::Interrupted;
use crate::sys::edit::Editor;
use crate::sys::exec::Program;
use crate::sys::stream::{self, StreamError};
use crate::sys::{failpoint, room};

use choose::{Chosen, ChosenTable};
use sink::Sink;
use wanted::{Destination, Options, TableRows};

mod archived;
mod choice;
pub mod choose;
mod count;
pub mod expression;
mod graph;
mod heard;
mod sink;
pub mod wanted;

const CATALOGUE_LIMIT: Duration = Duration::from_secs(600);

/// What was extracted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Extracted {
    pub snapshot: String,
    /// Of a lineage, in the order in which they load.
    pub tables: Vec<String>,
    pub schemas: Vec<String>,
    /// Of a lineage and of a dry run; `None` where whole tables were dumped, which nobody has counted.
    pub rows: Option<Vec<TableRows>>,
    /// Of `rows`, how many were left out where they were loaded, since their keys are there; `None` where
    /// none may be, or where somebody else loads them.
    pub there_already: Option<u64>,
    /// Triggers, as of the snapshot, that fire where rows are added to tables that are there.
    pub triggers: Vec<String>,
    /// Of SQL.
    pub bytes: u64,
    pub to: Option<PathBuf>,
    pub into: Option<String>,
}

/// Which tables of which schema; `None` is all of it.
type Wanted = BTreeMap<String, Option<Vec<String>>>;

/// What one run of the dump program is to give.
struct Part {
    schema: String,
    tables: Option<Vec<String>>,
    condition: Option<String>,
    /// The server that loads it looks at foreign keys.
    is_held_to_keys: bool,
}

/// All that is to be dumped.
struct Portion {
    parts: Vec<Part>,
    /// About so much SQL.
    about_bytes: Option<u64>,
    rows: Option<Vec<TableRows>>,
    triggers: Vec<String>,
    cyclic_keys: Vec<ForeignKey>,
}

/// Boots a private server on a clone and dumps.
pub fn extract(ctx: &Context, wanted: &str, options: &Options) -> Result<Extracted, SnapshotError> {
    ctx.state.create()?;
    let manifest = catalog::find(ctx, wanted)?;
    if let Some((directory, index)) = archive::index_of(&manifest)? {
        return archived::extract(ctx, &manifest, (&directory, &index), options);
    }
    let plan = verify::plan(ctx, &manifest)?;
    if !plan.binary.is_contained() && options.destination != Destination::Nowhere {
        let flavour = Flavour::of_version(&plan.facts.version);
        client::find_dump(&flavour, plan.binary.directory())
            .map_err(|names| no_program(&names, &plan))?;
    }
    if let Destination::File(path) = &options.destination {
        sink::refuse_present(path)?;
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

/// In the room.
fn dump_all(
    using: &CloneSession<'_>,
    plan: &Plan,
    options: &Options,
    sink: &mut Sink,
) -> Result<Extracted, Failure> {
    let (mut booted, session) = private_server::boot(using, plan)?;
    let (session, wanted) = resolve(session, options)?;
    let (session, portion) = portion(using.ctx, &mut booted, session, &wanted, options)?;
    failpoint::hit("chosen");
    if options.destination != Destination::Nowhere {
        dump_portion(using, plan, &booted, session, &portion, options, sink)?;
    }
    let extracted = Extracted {
        snapshot: using.manifest.id.clone(),
        tables: match (&options.lineage, &portion.rows) {
            (Some(_), Some(rows)) => rows.iter().map(|row| row.table.clone()).collect(),
            _ => tables_of(&wanted),
        },
        schemas: wanted
            .iter()
            .filter(|(_, tables)| tables.is_none())
            .map(|(schema, _)| schema.clone())
            .collect(),
        rows: portion.rows,
        there_already: sink.there_already(),
        triggers: portion.triggers,
        bytes: sink.bytes,
        to: match &options.destination {
            Destination::File(path) => Some(path.clone()),
            Destination::Output | Destination::Server(_) | Destination::Nowhere => None,
        },
        into: match &options.destination {
            Destination::Server(name) => Some(name.clone()),
            Destination::Output | Destination::File(_) | Destination::Nowhere => None,
        },
    };
    booted.shut_down(using.ctx)?;
    Ok(extracted)
}

fn tables_of(wanted: &Wanted) -> Vec<String> {
    wanted
        .iter()
        .filter_map(|(schema, tables)| Some((schema, tables.as_ref()?)))
        .flat_map(|(schema, tables)| tables.iter().map(move |t| format!("{schema}.{t}")))
        .collect()
}

/// What is to be dumped: whole tables, or the rows that are chosen now.
fn portion(
    ctx: &Context,
    booted: &mut Booted,
    session: Session,
    wanted: &Wanted,
    options: &Options,
) -> Result<(Session, Portion), Failure> {
    let is_dry = options.destination == Destination::Nowhere;
    if let Some(lineage) = &options.lineage {
        let table = only_table(wanted)?;
        let (session, chosen) = booted.answer(ctx, "choosing rows", || {
            choose::choose(ctx, session, &table, lineage)
        })?;
        return Ok((session, portion_of_rows(chosen, options.existing)));
    }
    let (session, rows) = match is_dry {
        false => (session, None),
        true => booted.answer(ctx, "counting rows", || {
            let (session, rows) = count::rows(ctx, session, wanted)?;
            Ok((session, Some(rows)))
        })?,
    };
    let (session, about_bytes) = about(session, wanted)?;
    let parts = wanted.iter().map(|(schema, tables)| Part {
        schema: schema.clone(),
        tables: tables.clone(),
        condition: None,
        is_held_to_keys: false,
    });
    let portion = Portion {
        parts: parts.collect(),
        about_bytes,
        rows,
        triggers: Vec::new(),
        cyclic_keys: Vec::new(),
    };
    Ok((session, portion))
}

/// That of a lineage.
fn only_table(wanted: &Wanted) -> Result<TableName, Failure> {
    let named: Vec<TableName> = wanted
        .iter()
        .flat_map(|(schema, tables)| {
            let tables = tables.iter().flatten();
            tables.map(|table| TableName::new(schema.clone(), table.clone()))
        })
        .collect();
    match named.as_slice() {
        [table] => Ok(table.clone()),
        _ => Err(Failure::Other(SnapshotError::refused(
            "a lineage begins with the rows of one table",
            "Name it with --table.",
        ))),
    }
}

fn portion_of_rows(chosen: Chosen, existing: Existing) -> Portion {
    let adds = existing == Existing::AddRows;
    // Where the tables are there, those without rows have nothing to bring.
    let tables = chosen.tables.iter().filter(|table| !adds || table.rows > 0);
    let (parts, rows): (Vec<Part>, Vec<TableRows>) =
        tables.map(|table| (part_of(table), rows_of(table))).unzip();
    let bytes: u64 = rows.iter().map(|row| row.bytes_estimated).sum();
    Portion {
        parts,
        about_bytes: Some(bytes).filter(|bytes| *bytes > 0),
        rows: Some(rows),
        triggers: match adds {
            true => chosen.triggers,
            false => Vec::new(),
        },
        cyclic_keys: chosen.cyclic_keys,
    }
}

fn part_of(table: &ChosenTable) -> Part {
    Part {
        schema: table.table.schema.clone(),
        tables: Some(vec![table.table.table.clone()]),
        condition: Some(table.condition.clone()),
        is_held_to_keys: !table.in_cycle,
    }
}

fn rows_of(table: &ChosenTable) -> TableRows {
    TableRows {
        table: table.table.to_string(),
        rows: table.rows,
        bytes_estimated: table.bytes_estimated,
    }
}

/// Dumps it, part by part.
fn dump_portion(
    using: &CloneSession<'_>,
    plan: &Plan,
    booted: &Booted,
    session: Session,
    portion: &Portion,
    options: &Options,
    sink: &mut Sink,
) -> Result<(), Failure> {
    let dump = booted
        .find_tool(Tool::Dump, plan.binary.directory())
        .map_err(|names| Failure::Other(no_program(&names, plan)))?;
    let since = Instant::now();
    let options_file = booted.write_tool_options()?;
    let mut session = session;
    let mut made = BTreeSet::new();
    let adds = options.existing == Existing::AddRows;
    if options.lineage.is_some() && adds {
        write(sink, client::BEGIN_ROWS)?;
    }
    for part in &portion.parts {
        if !adds && made.insert(&part.schema) {
            let (back, create) = create_schema(session, &part.schema)?;
            session = back;
            write(sink, &create)?;
        }
        write(sink, &format!("USE {};\n", quote_name(&part.schema)))?;
        let args = client::dump_args(
            booted.flavour(),
            &options_file,
            &part.schema,
            part.tables.as_deref(),
            options.existing,
            part.condition.as_deref(),
        );
        run_dump(using, &dump, &args, part, sink, portion.about_bytes)?;
        failpoint::hit("dumped");
    }
    if options.lineage.is_some() {
        let questions: String = portion.cyclic_keys.iter().map(orphans_question).collect();
        sink.end_rows(using.ctx, &questions)?;
    }
    let words = format!("{} bytes of SQL", sink.bytes);
    using.ctx.progress.step("extract", words, since);
    drop(session);
    Ok(())
}

/// Prints a line where rows of the table refer to nothing: its rows are loaded without a look at keys.
fn orphans_question(key: &ForeignKey) -> String {
    let name = format!("{}: {} ({})", heard::ORPHANS, key.child, key.name);
    format!(
        "SELECT {}, COUNT(*) FROM ({}) o HAVING COUNT(*) > 0;\n",
        quote_text(&name),
        key.orphans_query()
    )
}

fn write(sink: &mut Sink, text: &str) -> Result<(), Failure> {
    sink.take(text.as_bytes())
        .map_err(|error| sink_failed(&error))
}

fn run_dump(
    using: &CloneSession<'_>,
    dump: &Program,
    args: &[OsString],
    part: &Part,
    sink: &mut Sink,
    total: Option<u64>,
) -> Result<(), Failure> {
    let cancel = &using.ctx.cancel;
    let progress = &using.ctx.progress;
    let mut told = Instant::now();
    let (mode, unique) = (client::DUMP_MODE, client::UNIQUE_KEYS_ON);
    let keys = part.is_held_to_keys.then_some(client::FOREIGN_KEYS_ON);
    let mut editors = [Some(mode), part.condition.as_ref().map(|_| unique), keys].map(Editor::new);
    let read = stream::read(dump, args, &|| cancel.is_set(), &mut |piece| {
        if told.elapsed() > Duration::from_millis(500) {
            told = Instant::now();
            progress.moved("extract", "", sink.bytes, total.map(|t| t.max(sink.bytes)));
        }
        let edited = editors
            .iter_mut()
            .fold(piece.to_vec(), |piece, editor| editor.pass(&piece));
        sink.take(&edited)
    });
    match read {
        Ok(()) => {}
        Err(StreamError::Stopped) => {
            return Err(Failure::Other(SnapshotError::Interrupted(Interrupted {
                step: "extracting",
            })));
        }
        Err(StreamError::Sink(error)) => return Err(sink_failed(&error)),
        Err(StreamError::Exec(error)) => {
            return Err(dump_failed(error.to_string()));
        }
    }
    let rest = editors.iter_mut().fold(Vec::new(), |rest, editor| {
        [editor.pass(&rest), editor.finish()].concat()
    });
    sink.take(&rest).map_err(|error| sink_failed(&error))?;
    let [_, _, keys] = editors;
    match keys.has_edited() || !part.is_held_to_keys {
        true => Ok(()),
        false => Err(dump_failed(
            "its SQL doesn't begin as that of other versions: rows wouldn't be held to foreign keys"
                .to_owned(),
        )),
    }
}

fn dump_failed(reason: String) -> Failure {
    Failure::Other(SnapshotError::Failed {
        step: "dump",
        reason,
        hint: None,
    })
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

/// The wanted tables as the snapshot has them. A name with several dots may be read in several ways.
fn resolve(session: Session, options: &Options) -> Result<(Session, Wanted), Failure> {
    let mut session = session;
    let mut wanted = Wanted::new();
    let (mut unknown, mut views) = (Vec::new(), Vec::new());
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
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES \
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
        let kind = rows.first().and_then(|row| row.at(2)).unwrap_or_default();
        if options.lineage.is_some() && !kind.starts_with("BASE") && kind != "SYSTEM VERSIONED" {
            views.push(format!("{name} ({})", kind.to_lowercase()));
        }
        if let Some(tables) = wanted.entry(schema).or_insert_with(|| Some(Vec::new())) {
            tables.push(table);
        }
    }
    if let Some(view) = views.first() {
        return Err(Failure::Other(SnapshotError::refused(
            format!("{view} has no rows of its own"),
            "Name the table that the rows are in.",
        )));
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
fn create_schema(session: Session, schema: &str) -> Result<(Session, String), Failure> {
    let name = quote_name(schema);
    let statement = format!("SHOW CREATE DATABASE IF NOT EXISTS {name}");
    let (session, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
    let create = rows.first().and_then(|row| row.at(1)).map_or_else(
        || format!("CREATE DATABASE IF NOT EXISTS {name}"),
        str::to_owned,
    );
    Ok((session, format!("{create};\n")))
}
