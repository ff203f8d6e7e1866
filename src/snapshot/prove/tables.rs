//! Every table of a private server looked at: its files are there, and CHECK TABLE says OK.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::flavour::quote_name;
use crate::server::foreign_keys;
use crate::server::row::Row;
use crate::server::{Session, SessionError, Target};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::prove::boot_log::{self, Flaw};
use crate::snapshot::prove::links;
use crate::snapshot::prove::private_server::Failure;
use crate::sys::files;

/// A table of terabytes may take hours.
const CHECK_LIMIT: Duration = Duration::from_secs(48 * 3600);
const CATALOGUE_LIMIT: Duration = Duration::from_secs(600);
const TELL_EVERY: Duration = Duration::from_millis(500);
/// Each reads its pages one by one and waits for them: so many make a processor busy.
const WORKERS_PER_PROCESSOR: usize = 2;
/// More at once than this only fight over one disk.
const WORKERS_MAX: usize = 8;
/// So many bad tables are named; the rest is counted.
const NAMED_MAX: usize = 10;

/// What the checks came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    pub tables: u64,
    /// Their engine can't check them.
    pub unchecked: u64,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone)]
struct Table {
    schema: String,
    name: String,
    engine: String,
    bytes: u64,
    comment: String,
}

impl Table {
    fn of(row: &Row) -> Option<Self> {
        let text = |index| row.at(index).map(str::to_owned);
        Some(Self {
            schema: text(0)?,
            name: text(1)?,
            engine: text(2).unwrap_or_default(),
            bytes: row.at(3).and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
            comment: text(4).unwrap_or_default(),
        })
    }

    fn quoted(&self) -> String {
        format!("{}.{}", quote_name(&self.schema), quote_name(&self.name))
    }

    fn plain(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Every file that InnoDB's dictionary names is there and has something in it: a lost one shows in no
/// log line until its table is opened. And it lies in one of the `places`, as every table's file does:
/// through a link that leads elsewhere the server would have read, and would write to, files that aren't
/// the snapshot's. The
/// `places` may be called by a link themselves.
pub fn check_files(
    session: Session,
    data_dir: &Path,
    places: &[&Path],
) -> Result<Session, Failure> {
    let places: Vec<PathBuf> = places
        .iter()
        .filter_map(|place| files::real_path(place))
        .collect();
    let statement = session.flavour().table_files_query();
    let (session, rows) = session.query(statement, CATALOGUE_LIMIT)?;
    let (mut missing, mut empty, mut outside) = (Vec::new(), Vec::new(), Vec::new());
    for file in rows.iter().filter_map(|row| row.at(0)) {
        let path = data_dir.join(file);
        match files::length(&path) {
            // Tables with a DATA DIRECTORY have a link file in their place.
            None if path.with_extension("isl").exists() => {}
            None => missing.push(file),
            Some(0) => empty.push(file),
            Some(_) if is_within(&path, &places) => {}
            Some(_) => outside.push(file),
        }
    }
    let by_links = links::leading_out(data_dir, &places)
        .map_err(|error| Failure::Other(SnapshotError::from(error)))?;
    // InnoDB's dictionary names those on its own paths, too.
    let mut outside: Vec<String> = outside.into_iter().map(str::to_owned).collect();
    outside.extend(by_links);
    if !outside.is_empty() {
        return Err(Failure::Flaw {
            flaw: Flaw::MissingFile,
            detail: format!(
                "links lead out of the snapshot to {}: what they lead to must belong to the account of \
                 the data directory",
                some_of(&outside)
            ),
        });
    }
    let found = match (missing.is_empty(), empty.is_empty()) {
        (false, _) => Some((Flaw::MissingFile, missing)),
        (true, false) => Some((Flaw::TruncatedFile, empty)),
        (true, true) => None,
    };
    match found {
        None => Ok(session),
        Some((flaw, files)) => Err(Failure::Flaw {
            flaw,
            detail: some_of(&files),
        }),
    }
}

/// What can't be told is in none.
fn is_within(path: &Path, places: &[PathBuf]) -> bool {
    let real = files::real_path(path);
    real.is_some_and(|real| places.iter().any(|place| real.starts_with(place)))
}

/// CHECK TABLE of all tables, several at a time; stops at nothing, so that all bad ones are named.
pub fn check_tables(
    ctx: &Context,
    target: &Target,
    session: Session,
) -> Result<(Session, Checked), Failure> {
    let since = Instant::now();
    let statement = session.flavour().tables_query();
    let (session, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
    let tables: Vec<Table> = rows.iter().filter_map(Table::of).collect();
    let broken: Vec<String> = tables
        .iter()
        .filter(|table| table.engine.is_empty())
        .map(|table| format!("{} ({})", table.plain(), table.comment))
        .collect();
    if !broken.is_empty() {
        return Err(verdict_on(&broken));
    }
    let work = Work::new(tables);
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .saturating_mul(WORKERS_PER_PROCESSOR)
        .min(WORKERS_MAX)
        .min(work.tables_all.max(1));
    let sessions = (0..workers)
        .map(|_| Session::connect(target))
        .collect::<Result<Vec<_>, _>>()?;
    let lost: Option<SessionError> = std::thread::scope(|scope| {
        let handles: Vec<_> = sessions
            .into_iter()
            .map(|session| scope.spawn(|| work.run(session)))
            .collect();
        while handles.iter().any(|handle| !handle.is_finished()) {
            work.tell(ctx);
            let until = Instant::now() + TELL_EVERY;
            while Instant::now() < until && handles.iter().any(|handle| !handle.is_finished()) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        handles
            .into_iter()
            .filter_map(|handle| match handle.join() {
                Ok(result) => result.err(),
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .next()
    });
    if let Some(error) = lost {
        return Err(error.into());
    }
    let found = work
        .found
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if !found.bad.is_empty() {
        return Err(verdict_on(&found.bad));
    }
    ctx.progress.step(
        "check",
        format!("{} tables are good", found.checked.tables),
        since,
    );
    Ok((session, found.checked))
}

/// A queue of tables, the largest first, and what came of them.
struct Work {
    queue: Mutex<std::vec::IntoIter<Table>>,
    tables_all: usize,
    bytes_all: u64,
    found: Mutex<Found>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Found {
    checked: Checked,
    bytes: u64,
    bad: Vec<String>,
}

impl Work {
    fn new(tables: Vec<Table>) -> Self {
        Self {
            tables_all: tables.len(),
            bytes_all: tables.iter().map(|table| table.bytes).sum(),
            queue: Mutex::new(tables.into_iter()),
            found: Mutex::new(Found::default()),
            stop: AtomicBool::new(false),
        }
    }

    fn tell(&self, ctx: &Context) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let words = format!("{} of {} tables", found.checked.tables, self.tables_all);
        let (done, all) = (found.bytes, self.bytes_all);
        ctx.progress.moved("check", &words, done, Some(all));
    }

    fn run(&self, mut session: Session) -> Result<(), SessionError> {
        loop {
            let next = self
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next();
            let Some(table) = next.filter(|_| !self.stop.load(Ordering::SeqCst)) else {
                return Ok(());
            };
            let statement = format!("CHECK TABLE {}", table.quoted());
            let (back, answer) = match session.attempt(&statement, CHECK_LIMIT) {
                Ok(answered) => answered,
                Err(error) => {
                    // The others would only find the server gone, too.
                    self.stop.store(true, Ordering::SeqCst);
                    return Err(error);
                }
            };
            session = back;
            let verdict = match &answer {
                Ok(rows) => judge(rows),
                Err(error) => Verdict::Bad(error.to_string()),
            };
            self.note(&table, verdict);
        }
    }

    fn note(&self, table: &Table, verdict: Verdict) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.bytes += table.bytes;
        found.checked.tables += 1;
        match verdict {
            Verdict::Good => {}
            Verdict::Warned(text) => {
                found
                    .checked
                    .warnings
                    .push(format!("{}: {text}", table.plain()));
            }
            Verdict::Unsupported => found.checked.unchecked += 1,
            Verdict::Bad(text) => found.bad.push(format!("{}: {text}", table.plain())),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Good,
    Warned(String),
    Unsupported,
    Bad(String),
}

/// The rows of CHECK TABLE: the last one is the verdict, those before it say why.
fn judge(rows: &[Row]) -> Verdict {
    let kind = |row: &Row| row.get("Msg_type").unwrap_or_default().to_ascii_lowercase();
    let text = |row: &Row| row.get("Msg_text").unwrap_or_default().to_owned();
    if let Some(row) = rows.iter().find(|row| kind(row) == "error") {
        return Verdict::Bad(text(row));
    }
    match rows.last() {
        None => Verdict::Bad("CHECK TABLE gave no answer".to_owned()),
        Some(row) if kind(row) == "note" => Verdict::Unsupported,
        Some(row) if kind(row) == "status" && is_good(&text(row)) => {
            match rows.iter().find(|row| kind(row) == "warning") {
                Some(row) => Verdict::Warned(text(row)),
                None => Verdict::Good,
            }
        }
        Some(row) => Verdict::Bad(text(row)),
    }
}

fn is_good(text: &str) -> bool {
    text == "OK" || text == "Table is already up to date"
}

/// What the bad tables have in common.
fn verdict_on(bad: &[String]) -> Failure {
    let lacks = bad.iter().find_map(|text| boot_log::lack_in(text));
    if let Some(lack) = lacks {
        return Failure::Other(SnapshotError::Failed {
            step: "check the tables",
            reason: some_of(bad),
            hint: Some(lack.hint().to_owned()),
        });
    }
    let is_missing = |text: &String| {
        let text = text.to_ascii_lowercase();
        MISSING.iter().any(|sign| text.contains(sign))
    };
    Failure::Flaw {
        flaw: match bad.iter().all(is_missing) {
            true => Flaw::MissingFile,
            false => Flaw::CorruptTable,
        },
        detail: some_of(bad),
    }
}

/// How CHECK TABLE of MySQL 5.6, 9.7 and MariaDB 10.11 says that a file isn't there.
const MISSING: [&str; 4] = [
    "doesn't exist",
    "tablespace is missing",
    "can't find file",
    "no such file",
];

fn some_of<T: AsRef<str>>(all: &[T]) -> String {
    let named: Vec<&str> = all.iter().take(NAMED_MAX).map(AsRef::as_ref).collect();
    let rest = all.len().saturating_sub(NAMED_MAX);
    match rest {
        0 => named.join(", "),
        rest => format!("{} and {rest} more", named.join(", ")),
    }
}

/// Rows whose parents are missing, in any foreign key: InnoDB doesn't check those loaded with
/// foreign_key_checks off.
pub fn check_foreign_keys(ctx: &Context, session: Session) -> Result<Session, Failure> {
    let since = Instant::now();
    let statement = session.flavour().foreign_keys_query();
    let (mut session, rows) = session.query(statement, CATALOGUE_LIMIT)?;
    let keys = foreign_keys::group(&rows);
    let mut bad = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        ctx.cancel.check("checking foreign keys")?;
        let words = format!("{index} of {} foreign keys", keys.len());
        ctx.progress.still("check", &words, since);
        let count = format!("SELECT COUNT(*) FROM ({}) o", key.orphans_query());
        let (back, count) = session.value(&count, CHECK_LIMIT)?;
        session = back;
        let count = count.unwrap_or_default();
        if count != "0" {
            bad.push(format!(
                "{} of {}: {count} rows",
                key.name,
                key.child.quoted()
            ));
        }
    }
    if !bad.is_empty() {
        return Err(Failure::Flaw {
            flaw: Flaw::ForeignKeyOrphans,
            detail: some_of(&bad),
        });
    }
    let words = format!("{} foreign keys are whole", keys.len());
    ctx.progress.step("check", words, since);
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, text: &str) -> Row {
        Row::of([("Msg_type", Some(kind)), ("Msg_text", Some(text))])
    }

    #[test]
    fn verdicts_follow_the_last_row_and_any_error() {
        let cases = [
            (vec![row("status", "OK")], Verdict::Good),
            (
                vec![
                    row(
                        "warning",
                        "1 client is using or hasn't closed the table properly",
                    ),
                    row("status", "OK"),
                ],
                Verdict::Warned("1 client is using or hasn't closed the table properly".to_owned()),
            ),
            (
                vec![row(
                    "note",
                    "The storage engine for the table doesn't support check",
                )],
                Verdict::Unsupported,
            ),
            (
                vec![row("Warning", "x"), row("error", "Corrupt")],
                Verdict::Bad("Corrupt".to_owned()),
            ),
            (
                vec![
                    row("Error", "Table 'a.b' doesn't exist"),
                    row("status", "Operation failed"),
                ],
                Verdict::Bad("Table 'a.b' doesn't exist".to_owned()),
            ),
        ];
        for (rows, verdict) in cases {
            assert_eq!(judge(&rows), verdict);
        }
        assert!(matches!(judge(&[]), Verdict::Bad(_)));
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        assert!(some_of(&names).ends_with("and 2 more"));
    }
}
