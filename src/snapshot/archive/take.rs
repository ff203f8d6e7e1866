//! The taking of a dump, with the pause of every other snapshot around its moment: the dump program is
//! started there and seen to have begun, a transaction of our own beside it, and what has no transactions
//! is dumped whole. Everything else is brought after the replica applies again.
//!
//! The dump program locks nothing and stops nobody. What it can't hold still by its transaction (names,
//! views, routines, accounts) is looked at before and after: where that differs, nothing is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::index::{self, Index, Method, Stream};
use super::look::{self, Look, Table};
use super::split::{Part, SplitError, Splitter, TableName};
use super::stream::{self, Writer};
use crate::server::accounts::{self, Shown};
use crate::server::client::{self, Part as Wanted};
use crate::server::flavour::quote_name;
use crate::server::private::BootFacts;
use crate::server::replication;
use crate::server::session::READ_LIMIT;
use crate::server::{Identity, Session, SessionError, Target};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::prove::checksums;
use crate::sys::cancel::Cancel;
use crate::sys::exec::Program;
use crate::sys::progress::Progress;
use crate::sys::stream::{self as program, StreamError};
use crate::sys::{failpoint, files};
use crate::volume::archive::{INDEX, Making};
use crate::volume::{PlannedVolume, Prepared, Tags, VolumeError, VolumeRecord};

const LOOK_AGAIN: Duration = Duration::from_millis(2);
const TELL_EVERY: Duration = Duration::from_millis(500);

/// What a table holds, as of the moment: rows and checksum.
type Sum = (Option<u64>, Option<String>);
type Sums = BTreeMap<TableName, Sum>;
type Kept = Vec<(TableName, Stream)>;

/// A dump that is ready to be taken.
pub struct Taker {
    look: Look,
    making: Making,
    id: String,
    server: String,
    target: Target,
    identity: Identity,
    boot: BootFacts,
    /// For the dump program's options; nobody else may look into it.
    work: PathBuf,
    limit: Duration,
    progress: Progress,
    cancel: Cancel,
    ready: Option<Ready>,
    taken: Option<Taken>,
}

/// What is opened before the pause.
struct Ready {
    /// Will see the moment.
    within: Session,
    /// For what has no transactions.
    aside: Session,
    accounts: Vec<Shown>,
}

/// What the moment leaves.
struct Taken {
    within: Session,
    accounts: Vec<Shown>,
    running: Option<Running>,
    position: crate::server::replication::Position,
    held: Kept,
    held_sums: Sums,
}

/// The dump program, writing.
struct Running {
    thread: JoinHandle<Result<Kept, VolumeError>>,
    moved: Arc<Moved>,
}

/// How far it has come.
#[derive(Default)]
struct Moved {
    has_begun: AtomicBool,
    /// To be ended.
    stop: AtomicBool,
    raw_bytes: AtomicU64,
    /// About how many bytes of tables are done, by the sizes that the server gave.
    weight: AtomicU64,
}

/// What one call of the dump program brings.
struct Job {
    program: Program,
    args: Vec<OsString>,
    schema: Option<String>,
    directory: PathBuf,
    /// File, what it begins with behind the program's own beginning, and size.
    tables: BTreeMap<TableName, (String, String, u64)>,
    moved: Arc<Moved>,
    cancel: Cancel,
    until: Option<Instant>,
}

/// Makes it ready; makes nothing yet.
pub fn prepare(
    ctx: &Context,
    id: &str,
    (target, identity): (&Target, &Identity),
    (look, boot): (&Look, &BootFacts),
    limit: Duration,
) -> Result<Taker, SnapshotError> {
    Ok(Taker {
        making: Making::plan(&look.place, id, &target.server)?,
        look: look.clone(),
        id: id.to_owned(),
        server: target.server.clone(),
        target: target.clone(),
        identity: identity.clone(),
        boot: boot.clone(),
        work: ctx.state.work(id),
        limit,
        progress: ctx.progress.clone(),
        cancel: ctx.cancel.clone(),
        ready: None,
        taken: None,
    })
}

impl Prepared for Taker {
    fn plan(&self) -> Vec<PlannedVolume> {
        self.making.planned()
    }

    fn warm_up(&mut self, _progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        self.making.make()?;
        failpoint::hit("dump-made");
        self.write_options()?;
        let (session, own) = accounts::observe(self.session()?).map_err(asked)?;
        let (aside, shown) = accounts::show(session, &own).map_err(asked)?;
        self.ready = Some(Ready {
            within: self.session()?,
            aside,
            accounts: shown,
        });
        Ok(())
    }

    fn take(&mut self, _progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        let until = Instant::now() + self.limit;
        let Some(ready) = self.ready.take() else {
            return Err(failed("it isn't ready", None));
        };
        let running = self.start()?;
        let (aside, position) = replication::observe_position(ready.aside).map_err(asked)?;
        let within = begin(ready.within).map_err(asked)?;
        let done = self
            .dump_held(until)
            .and_then(|held| Ok((held, self.sum_held(aside)?)))
            .and_then(|held| self.see_begun(running.as_ref(), until).map(|()| held));
        let (held, held_sums) = match done {
            Ok(held) => held,
            Err(error) => return Err(self.ended_by(running, error)),
        };
        failpoint::hit("dump-begun");
        self.taken = Some(Taken {
            within,
            accounts: ready.accounts,
            running,
            position,
            held,
            held_sums,
        });
        Ok(())
    }

    fn seal(&mut self, tags: &Tags) -> Result<Vec<VolumeRecord>, VolumeError> {
        let Some(taken) = self.taken.take() else {
            return Err(failed("it wasn't taken", None));
        };
        failpoint::hit("dumping");
        let Taken {
            within,
            accounts,
            running,
            position,
            held,
            held_sums,
        } = taken;
        let objects = match self.dump_objects(&accounts) {
            Ok(objects) => objects,
            Err(error) => return Err(self.ended_by(running, error)),
        };
        let (kept, sums) = self.finish(running, within)?;
        self.see_same(&accounts)?;
        failpoint::hit("dumped");
        let kept = kept.into_iter().chain(held).collect();
        let sums = sums.into_iter().chain(held_sums).collect();
        let index = self.index(position, kept, sums, objects, &accounts)?;
        self.write(&index, tags)
    }

    fn discard(&mut self) -> Result<(), VolumeError> {
        if let Some(taken) = self.taken.take() {
            end(taken.running);
        }
        files::remove_tree(&self.work)?;
        self.making.discard()
    }
}

impl Taker {
    fn session(&self) -> Result<Session, VolumeError> {
        Session::connect_to(&self.target, &self.identity).map_err(asked)
    }

    fn options(&self) -> PathBuf {
        self.work.join("dump.cnf")
    }

    /// The password stands in a file that only we may read, never in arguments.
    fn write_options(&self) -> Result<(), VolumeError> {
        if let Some(parent) = self.work.parent() {
            files::make_private_dir(parent)?;
        }
        files::make_private_dir(&self.work)?;
        let flavour = crate::server::Flavour::of_version(&self.boot.version);
        let text = client::option_file(&flavour, &self.target);
        Ok(files::replace(&self.options(), text.as_bytes())?)
    }

    fn args(&self, wanted: Wanted<'_>) -> Vec<OsString> {
        let flavour = crate::server::Flavour::of_version(&self.boot.version);
        client::archive_args(&flavour, &self.options(), wanted)
    }

    fn create(&self, schema: &str) -> String {
        let mut own = self.look.schemas.iter();
        own.find(|(name, _)| name == schema)
            .map(|(_, create)| create.clone())
            .unwrap_or_else(|| format!("CREATE DATABASE IF NOT EXISTS {}", quote_name(schema)))
    }

    fn job(
        &self,
        wanted: Wanted<'_>,
        schema: Option<&str>,
        is_wanted: impl Fn(&Table) -> bool,
        until: Option<Instant>,
    ) -> Job {
        let tables = self.look.tables.iter().enumerate();
        let tables = tables
            .filter(|(_, table)| is_wanted(table))
            .map(|(number, table)| {
                let schema = &table.name.0;
                let file = format!("table-{:06}.sql.zst", number + 1);
                let before = format!("\n{};\nUSE {};\n", self.create(schema), quote_name(schema));
                (table.name.clone(), (file, before, table.bytes))
            });
        Job {
            program: self.look.program.clone(),
            args: self.args(wanted),
            schema: schema.map(str::to_owned),
            directory: self.making.directory(),
            tables: tables.collect(),
            moved: Arc::default(),
            cancel: self.cancel.clone(),
            until,
        }
    }

    /// Starts the dump of everything that has transactions; `None` where nothing has.
    fn start(&self) -> Result<Option<Running>, VolumeError> {
        let but: Vec<TableName> = self
            .look
            .tables
            .iter()
            .filter(|table| !table.is_transactional)
            .map(|table| table.name.clone())
            .chain(self.all_views())
            .collect();
        let own = self
            .look
            .tables
            .iter()
            .filter(|table| table.is_transactional);
        let schemas: BTreeSet<String> = own.map(|table| table.name.0.clone()).collect();
        let schemas: Vec<String> = schemas.into_iter().collect();
        if schemas.is_empty() {
            return Ok(None);
        }
        let wanted = Wanted::AllTables {
            schemas: &schemas,
            but: &but,
        };
        let job = self.job(wanted, None, |table| table.is_transactional, None);
        let moved = job.moved.clone();
        let thread = thread::Builder::new()
            .name("dump".to_owned())
            .spawn(move || keep_tables(&job))
            .map_err(|error| failed(&error.to_string(), None))?;
        Ok(Some(Running { thread, moved }))
    }

    fn all_views(&self) -> Vec<TableName> {
        let schemas = self.look.schemas.iter();
        schemas
            .flat_map(|(schema, _)| {
                let views = self.look.standing.views(schema);
                views.into_iter().map(move |view| (schema.clone(), view))
            })
            .collect()
    }

    /// Whole, while nothing writes to them.
    fn dump_held(&self, until: Instant) -> Result<Kept, VolumeError> {
        let mut kept = Kept::new();
        for (schema, names) in look::by_schema(&self.look.tables) {
            let wanted = Wanted::Tables {
                schema,
                names: &names,
            };
            let is_wanted = |table: &Table| !table.is_transactional && table.name.0 == schema;
            let job = self.job(wanted, Some(schema), is_wanted, Some(until));
            kept.extend(keep_tables(&job)?);
            failpoint::hit("dump-held");
        }
        Ok(kept)
    }

    fn sum_held(&self, aside: Session) -> Result<Sums, VolumeError> {
        let held = self
            .look
            .tables
            .iter()
            .filter(|table| !table.is_transactional);
        let mut session = aside;
        let mut sums = Sums::new();
        for table in held {
            let (back, sum) = sum(session, table)?;
            session = back;
            sums.insert(table.name.clone(), sum);
        }
        Ok(sums)
    }

    /// Its first table is there: so its transaction has begun.
    fn see_begun(&self, running: Option<&Running>, until: Instant) -> Result<(), VolumeError> {
        let Some(running) = running else {
            return Ok(());
        };
        loop {
            if running.moved.has_begun.load(Ordering::SeqCst) {
                return Ok(());
            }
            if running.thread.is_finished() {
                return Err(failed(
                    "the dump program ended before its first table",
                    None,
                ));
            }
            if self.cancel.is_set() {
                return Err(failed("interrupted", None));
            }
            if Instant::now() >= until {
                let hint = "Raise max_pause, and look at what else the server is busy with.";
                return Err(failed(
                    "the dump program didn't come to its first table within max_pause",
                    Some(hint),
                ));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Ends the dump program; its own words go before what only followed.
    fn ended_by(&self, running: Option<Running>, error: VolumeError) -> VolumeError {
        let was_over = running.as_ref().is_some_and(|r| r.thread.is_finished());
        match end(running) {
            Some(Err(own)) if was_over => own,
            Some(_) | None => error,
        }
    }

    /// Views, routines, events and triggers, each part in a call of its own.
    fn dump_objects(&self, shown: &[Shown]) -> Result<Objects, VolumeError> {
        let since = Instant::now();
        let standing = &self.look.standing;
        let mut objects = Objects::default();
        for (number, (schema, _)) in self.look.schemas.iter().enumerate() {
            let mut views = standing.views(schema);
            let is_left_out = |view: &String| {
                let mut left_out = self.look.views_left_out.iter();
                left_out.any(|(of, name)| of == schema && name == view)
            };
            views.retain(|view| !is_left_out(view));
            if !views.is_empty() {
                let wanted = Wanted::Views {
                    schema,
                    names: &views,
                };
                let file = format!("views-{:06}.sql.zst", number + 1);
                let stream = self.dump_whole(wanted, schema, file)?;
                objects.views.insert(schema.clone(), stream);
            }
            if standing.has_routines_or_events(schema) {
                let file = format!("routines-{:06}.sql.zst", number + 1);
                let stream = self.dump_whole(Wanted::RoutinesAndEvents { schema }, schema, file)?;
                objects.routines.insert(schema.clone(), stream);
            }
        }
        for (number, table) in self.look.tables.iter().enumerate() {
            if standing.has_triggers(&table.name) {
                let (schema, name) = &table.name;
                let wanted = Wanted::Triggers {
                    schema,
                    table: name,
                };
                let file = format!("triggers-{:06}.sql.zst", number + 1);
                let stream = self.dump_whole(wanted, schema, file)?;
                objects.triggers.insert(table.name.clone(), stream);
            }
        }
        failpoint::hit("dump-objects");
        self.see_same(shown)?;
        let count = objects.views.len() + objects.routines.len() + objects.triggers.len();
        let words = format!("views, routines, events, triggers ({count} streams)");
        self.progress.step("objects", words, since);
        Ok(objects)
    }

    /// One that isn't cut.
    fn dump_whole(
        &self,
        wanted: Wanted<'_>,
        schema: &str,
        file: String,
    ) -> Result<Stream, VolumeError> {
        let directory = self.making.directory();
        let mut writer = Writer::create(&directory, &file).map_err(|e| wrote(&directory, &e))?;
        let before = format!("{};\nUSE {};\n", self.create(schema), quote_name(schema));
        writer
            .write(before.as_bytes())
            .map_err(|e| wrote(&directory, &e))?;
        let args = self.args(wanted);
        let is_stopped = || self.cancel.is_set();
        let mut sink = |piece: &[u8]| writer.write(piece);
        program::read(&self.look.program, &args, &is_stopped, &mut sink)
            .map_err(|error| ran(&directory, error))?;
        writer.finish().map_err(|error| wrote(&directory, &error))
    }

    /// What no transaction holds still is as it was before the moment.
    fn see_same(&self, shown: &[Shown]) -> Result<(), VolumeError> {
        let changed = |what: &str| {
            failed(
                &format!("{what} of {} changed while it was dumped", self.server),
                Some("Take it again, at a time when nobody makes, alters or drops anything."),
            )
        };
        let (session, now, _) = look::standing(self.session()?).map_err(asked)?;
        if let Some(what) = self.look.standing.difference(&now) {
            return Err(changed(&what));
        }
        let (session, own) = accounts::observe(session).map_err(asked)?;
        let (_, now) = accounts::show(session, &own).map_err(asked)?;
        match now == shown {
            true => Ok(()),
            false => Err(changed("an account")),
        }
    }

    /// Waits for the dump, and sums all tables beside it.
    fn finish(
        &self,
        running: Option<Running>,
        within: Session,
    ) -> Result<(Kept, Sums), VolumeError> {
        let Some(running) = running else {
            return Ok((Kept::new(), Sums::new()));
        };
        let since = Instant::now();
        let connection = within.connection_id();
        let tables = self
            .look
            .tables
            .iter()
            .filter(|table| table.is_transactional);
        let tables: Vec<Table> = tables.cloned().collect();
        let stop = running.moved.clone();
        let summing = thread::spawn(move || sum_all(within, &tables, &stop));
        let (mut told, mut killed) = (Instant::now(), false);
        while !(running.thread.is_finished() && summing.is_finished()) {
            let is_broken = self.cancel.is_set()
                || running.thread.is_finished() && running.moved.stop.load(Ordering::SeqCst);
            if is_broken {
                running.moved.stop.store(true, Ordering::SeqCst);
                if !std::mem::replace(&mut killed, true) {
                    self.kill(connection);
                }
            }
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                self.tell(&running, since);
            }
            thread::sleep(LOOK_AGAIN * 10);
        }
        let raw = running.moved.raw_bytes.load(Ordering::SeqCst);
        let kept = joined(running.thread);
        let sums = joined(summing);
        let rate = raw as f64 / since.elapsed().as_secs_f64().max(0.001) / 1_048_576.0;
        let (kept, sums) = match (kept, sums) {
            // Asked to stop, because of the other one.
            (Err(stopped), Err(cause)) if stopped.to_string() == STOPPED => return Err(cause),
            (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
            (Ok(kept), Ok(sums)) => (kept, sums),
        };
        let words = format!(
            "{} tables, {} MiB of SQL, {rate:.0} MiB/s",
            kept.len(),
            raw >> 20
        );
        self.progress.step("dump", words, since);
        Ok((kept, sums))
    }

    /// Throughput and time left, by the sizes that the server gives.
    fn tell(&self, running: &Running, since: Instant) {
        let raw = running.moved.raw_bytes.load(Ordering::Relaxed);
        let done = running.moved.weight.load(Ordering::Relaxed);
        let seconds = since.elapsed().as_secs_f64().max(0.001);
        let total = self.look.bytes().max(done).max(1);
        let left = match done {
            0 => String::new(),
            done => {
                let left = seconds * (total - done) as f64 / done as f64;
                let left = Duration::from_secs(left as u64);
                format!(", about {} left", humantime::format_duration(left))
            }
        };
        let words = format!(
            "{} MiB of SQL, {:.0} MiB/s, {} %{left}",
            raw >> 20,
            raw as f64 / seconds / 1_048_576.0,
            done * 100 / total
        );
        self.progress.still("dump", &words, since);
    }

    /// A checksum of hours isn't waited for once nothing comes of it.
    fn kill(&self, connection: u64) {
        if let Ok(session) = self.session() {
            drop(session.attempt(&format!("KILL {connection}"), READ_LIMIT));
        }
    }

    fn index(
        &self,
        position: crate::server::replication::Position,
        kept: Kept,
        mut sums: Sums,
        mut objects: Objects,
        shown: &[Shown],
    ) -> Result<Index, VolumeError> {
        let directory = self.making.directory();
        let text = serde_json::to_vec(shown).map_err(|error| failed(&error.to_string(), None))?;
        let accounts = stream::write_whole(&directory, "accounts.json.zst", &text)
            .map_err(|error| wrote(&directory, &error))?;
        let mut kept: BTreeMap<TableName, Stream> = kept.into_iter().collect();
        let mut tables = Vec::new();
        for table in &self.look.tables {
            let (schema, name) = &table.name;
            let stream = kept
                .remove(&table.name)
                .ok_or_else(|| failed(&format!("{schema}.{name} is missing in it"), None))?;
            let (rows, checksum) = sums.remove(&table.name).unwrap_or_default();
            tables.push(index::Table {
                schema: schema.clone(),
                name: name.clone(),
                engine: table.engine.clone(),
                is_transactional: table.is_transactional,
                stream,
                triggers: objects.triggers.remove(&table.name),
                rows,
                checksum,
                checksum_by: table.method.unwrap_or(Method::Server),
            });
        }
        let schemas = self.look.schemas.iter();
        Ok(Index {
            format: index::FORMAT,
            id: self.id.clone(),
            server: self.server.clone(),
            position: Some(position),
            boot: self.boot.clone(),
            program: self.look.program.path().display().to_string(),
            schemas: schemas
                .map(|(name, create)| index::Schema {
                    name: name.clone(),
                    create: create.clone(),
                    views: objects.views.remove(name),
                    routines: objects.routines.remove(name),
                })
                .collect(),
            tables,
            accounts,
            account_names: shown.iter().map(|shown| shown.account.clone()).collect(),
            views_left_out: self.look.views_left_out.clone(),
        })
    }

    /// The index goes last, when all else is on disk.
    fn write(&mut self, index: &Index, tags: &Tags) -> Result<Vec<VolumeRecord>, VolumeError> {
        let directory = self.making.directory();
        stream::sync(&directory).map_err(|error| wrote(&directory, &error))?;
        failpoint::hit("dump-synced");
        let text =
            serde_json::to_vec_pretty(index).map_err(|error| failed(&error.to_string(), None))?;
        files::replace(&directory.join(INDEX), &text)?;
        failpoint::hit("dump-indexed");
        files::remove_tree(&self.work)?;
        let bytes = index.files().map(|stream| stream.bytes).sum::<u64>() + text.len() as u64;
        self.making.seal(bytes, tags)
    }
}

#[derive(Default)]
struct Objects {
    views: BTreeMap<String, Stream>,
    routines: BTreeMap<String, Stream>,
    triggers: BTreeMap<TableName, Stream>,
}

/// In the moment: from here on this session sees what is there now, and nothing else.
fn begin(session: Session) -> Result<Session, SessionError> {
    let mut session = session;
    // Those of one flavour each.
    for statement in [
        "SET SESSION max_statement_time = 0",
        "SET SESSION max_execution_time = 0",
    ] {
        (session, _) = session.attempt(statement, READ_LIMIT)?;
    }
    for statement in [
        "SET SESSION wait_timeout = 86400",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        // To go back to after each table, which lets go of its definition (MySQL; MariaDB 10.11 holds
        // on to it until the end, and so does its dump program).
        "SAVEPOINT understudy",
    ] {
        session = session.execute(statement, READ_LIMIT)?;
    }
    Ok(session)
}

fn sum(session: Session, table: &Table) -> Result<(Session, Sum), VolumeError> {
    let Some(method) = table.method else {
        return Ok((session, (None, None)));
    };
    let (session, found) = checksums::sum(session, &table.name, method).map_err(asked)?;
    let Some(found) = found else {
        let (schema, name) = &table.name;
        return Err(failed(
            &format!("{schema}.{name} can't be read as it was: it was altered meanwhile"),
            Some(ALTERED),
        ));
    };
    let (session, rows) = checksums::count(session, &table.name).map_err(asked)?;
    Ok((session, (Some(rows), Some(found))))
}

const STOPPED: &str = "the dump was stopped";

const ALTERED: &str = "Take it again, at a time when nobody alters, truncates or drops tables (ALTER, TRUNCATE, DROP).";

/// In the transaction of the moment. Asks the dump to end where it can't go on.
fn sum_all(within: Session, tables: &[Table], moved: &Moved) -> Result<Sums, VolumeError> {
    let mut session = within;
    let mut sums = Sums::new();
    for table in tables {
        if moved.stop.load(Ordering::SeqCst) {
            return Err(failed("interrupted", None));
        }
        let summed = sum(session, table).and_then(|(session, sum)| {
            let back = session.execute("ROLLBACK TO SAVEPOINT understudy", READ_LIMIT);
            Ok((back.map_err(asked)?, sum))
        });
        let (back, sum) = summed.inspect_err(|_| moved.stop.store(true, Ordering::SeqCst))?;
        session = back;
        sums.insert(table.name.clone(), sum);
    }
    Ok(sums)
}

fn end(running: Option<Running>) -> Option<Result<Kept, VolumeError>> {
    let running = running?;
    running.moved.stop.store(true, Ordering::SeqCst);
    Some(joined(running.thread))
}

fn joined<T>(thread: JoinHandle<Result<T, VolumeError>>) -> Result<T, VolumeError> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs the dump program to its end, and keeps a stream of each table.
fn keep_tables(job: &Job) -> Result<Kept, VolumeError> {
    let kept = run(job);
    if kept.is_err() {
        // Whoever works beside it needn't go on.
        job.moved.stop.store(true, Ordering::SeqCst);
    }
    kept
}

fn run(job: &Job) -> Result<Kept, VolumeError> {
    let names = job.tables.keys().cloned();
    let mut splitter = Splitter::new(job.schema.as_deref(), names);
    let mut keeper = Keeper {
        job,
        open: None,
        kept: Kept::new(),
        broken: None,
    };
    let is_stopped = || {
        let is_over = job.until.is_some_and(|until| Instant::now() >= until);
        is_over || job.cancel.is_set() || job.moved.stop.load(Ordering::SeqCst)
    };
    let mut split_failed = None;
    let read = program::read(&job.program, &job.args, &is_stopped, &mut |piece| {
        job.moved
            .raw_bytes
            .fetch_add(piece.len() as u64, Ordering::Relaxed);
        let fed = splitter.feed(piece, &mut |part| keeper.take(part));
        job.moved
            .has_begun
            .store(splitter.has_begun(), Ordering::SeqCst);
        fed.map_err(|error| {
            split_failed = Some(error);
            std::io::Error::other("its output can't be kept")
        })
    });
    let finished = match (read, split_failed) {
        (_, Some(error)) => Err(error),
        (Ok(()), None) => splitter.finish(&mut |part| keeper.take(part)),
        (Err(StreamError::Stopped), None) if is_past(job.until) => {
            return Err(failed(
                "tables without transactions weren't dumped within max_pause",
                Some("Raise max_pause, or convert them to InnoDB (ALTER TABLE … ENGINE = InnoDB)."),
            ));
        }
        (Err(error), None) => return Err(ran(&job.directory, error)),
    };
    if let Some(error) = keeper.broken {
        return Err(wrote(&job.directory, &error));
    }
    job.moved.has_begun.store(true, Ordering::SeqCst);
    match finished {
        Ok(()) => Ok(keeper.kept),
        Err(error @ (SplitError::Unexpected(_) | SplitError::Missing(_))) => {
            Err(failed(&format!("the dump: {error}"), Some(ALTERED)))
        }
        Err(error) => Err(failed(&format!("the dump: {error}"), None)),
    }
}

fn is_past(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() >= until)
}

/// Writes what the splitter hands on.
struct Keeper<'a> {
    job: &'a Job,
    open: Option<(TableName, Writer, u64)>,
    kept: Kept,
    broken: Option<std::io::Error>,
}

impl Keeper<'_> {
    fn take(&mut self, part: Part<'_>) -> Result<(), SplitError> {
        self.try_take(part).map_err(|error| {
            self.broken = Some(error);
            SplitError::Gone
        })
    }

    fn try_take(&mut self, part: Part<'_>) -> std::io::Result<()> {
        match part {
            Part::Open { table, before } => {
                let Some((file, preamble, size)) = self.job.tables.get(&table) else {
                    return Err(std::io::Error::other("a table that nobody wants"));
                };
                let mut writer = Writer::create(&self.job.directory, file)?;
                writer.write(before.as_bytes())?;
                writer.write(preamble.as_bytes())?;
                self.open = Some((table, writer, *size));
                Ok(())
            }
            Part::Bytes(bytes) => match &mut self.open {
                Some((_, writer, _)) => writer.write(bytes),
                None => Ok(()),
            },
            Part::Close { after } => {
                let Some((table, mut writer, size)) = self.open.take() else {
                    return Ok(());
                };
                writer.write(after.as_bytes())?;
                self.kept.push((table, writer.finish()?));
                self.job.moved.weight.fetch_add(size, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

fn failed(reason: &str, hint: Option<&str>) -> VolumeError {
    VolumeError::Dump {
        reason: reason.to_owned(),
        hint: hint.map(str::to_owned),
    }
}

fn asked(error: SessionError) -> VolumeError {
    failed(&error.to_string(), None)
}

fn wrote(directory: &Path, error: &std::io::Error) -> VolumeError {
    let hint = match error.kind() {
        std::io::ErrorKind::StorageFull => {
            Some("Free space there, or remove snapshots with `understudy snapshot prune`.")
        }
        _ => None,
    };
    failed(&format!("write to {}: {error}", directory.display()), hint)
}

fn ran(directory: &Path, error: StreamError) -> VolumeError {
    match error {
        StreamError::Sink(error) => wrote(directory, &error),
        StreamError::Stopped => failed(STOPPED, None),
        StreamError::Exec(error) => {
            let words = error.to_string();
            // MySQL's words for a table that isn't as it was when the transaction began.
            let is_altered = ["1412", "1146", "definition has changed"]
                .iter()
                .any(|sign| words.contains(sign));
            failed(&words, is_altered.then_some(ALTERED))
        }
    }
}
