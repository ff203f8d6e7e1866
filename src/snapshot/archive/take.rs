//! The taking of a dump, with the pause of every other snapshot around its moment: the dump program is
//! started there and seen to have begun, a transaction of our own beside it, and what has no transactions
//! is dumped whole. Everything else is brought after the replica applies again.
//!
//! The dump program locks nothing and stops nobody. What it can't hold still by its transaction (names,
//! views, routines, accounts) is looked at before and after: where that differs, nothing is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::index::{self, Index, Method, Stream};
use super::look::{self, Look, Table};
use super::split::TableName;
use super::stream::{self, Writer};
use super::sums::{self, Sums};
use super::writing::{Job, Kept, Moved, STOPPED, asked, failed, keep_tables, ran, wrote};
use crate::server::accounts::{self, Shown};
use crate::server::client::{self, Part as Wanted};
use crate::server::flavour::quote_name;
use crate::server::private::BootFacts;
use crate::server::replication::{self, Position};
use crate::server::session::READ_LIMIT;
use crate::server::{Identity, Session, Target};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::sys::cancel::Cancel;
use crate::sys::progress::Progress;
use crate::sys::stream as program;
use crate::sys::{failpoint, files};
use crate::volume::archive::{INDEX, Making};
use crate::volume::{PlannedVolume, Prepared, Tags, VolumeError, VolumeRecord};

const LOOK_AGAIN: Duration = Duration::from_millis(2);
const TELL_EVERY: Duration = Duration::from_millis(500);

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
    position: Position,
    held: Kept,
    held_sums: Sums,
}

/// The dump program, writing.
struct Running {
    thread: JoinHandle<Result<Kept, VolumeError>>,
    moved: Arc<Moved>,
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
        let within = sums::begin(ready.within).map_err(asked)?;
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
            let (back, sum) = sums::sum(session, table)?;
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
        let summing = thread::spawn(move || sums::sum_all(within, &tables, &stop));
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
        position: Position,
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
