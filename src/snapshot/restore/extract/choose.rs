//! Chooses the rows of a lineage in a private server. Its files are a clone's, thrown away afterwards, so
//! our tables of chosen keys may lie among them; the statements of the user's harm nothing either.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::server::flavour::quote_name;
use crate::server::foreign_keys::{self, ForeignKey, TableName};
use crate::server::{Session, SessionError};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::id;
use crate::snapshot::prove::private_server::Failure;

use super::choice::{self, Held, Identity};
use super::graph::{Graph, Placed, Step};
use super::wanted::Lineage;

const CATALOGUE_LIMIT: Duration = Duration::from_secs(600);
/// All rows of a table of terabytes may have to be looked at.
const ROWS_LIMIT: Duration = Duration::from_secs(48 * 3600);

/// Of a table, the rows that were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenTable {
    pub table: TableName,
    pub rows: u64,
    /// By the mean row of the table.
    pub bytes_estimated: u64,
    /// As of `graph::Placed`.
    pub in_cycle: bool,
    /// Which rows these are, for `--where` of the dump program and for any other question to the private
    /// server.
    pub condition: String,
}

/// The chosen rows, in the order in which their tables load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    pub tables: Vec<ChosenTable>,
    /// `schema.table: trigger`, of those that an INSERT fires.
    pub triggers: Vec<String>,
    /// Of tables that refer to themselves, directly or by others.
    pub cyclic_keys: Vec<ForeignKey>,
}

/// Rows of `table`, and what hangs on them.
pub fn choose(
    ctx: &Context,
    session: Session,
    table: &TableName,
    lineage: &Lineage,
) -> Result<(Session, Chosen), Failure> {
    let since = Instant::now();
    let statement = session.flavour().foreign_keys_query();
    let (session, rows) = session.query(statement, CATALOGUE_LIMIT)?;
    let graph = Graph::of(foreign_keys::group(&rows));
    let mut work = Work::begin(ctx, session, since)?;
    work.start(table, lineage)?;
    if lineage.with_children {
        work.close(&graph.steps_to_children(), false)?;
    }
    if lineage.with_parents {
        work.close(&graph.steps_to_parents(), true)?;
        work.refuse_dangling(&graph)?;
    }
    let chosen = work.chosen(&graph, lineage)?;
    let rows: u64 = chosen.tables.iter().map(|table| table.rows).sum();
    let words = format!("{rows} rows of {} tables", chosen.tables.len());
    ctx.progress.step("choose", words, since);
    Ok((work.into_session()?, chosen))
}

struct Work<'a> {
    ctx: &'a Context,
    /// `None` only within a question.
    session: Option<Session>,
    /// Ours, quoted.
    schema: String,
    held: BTreeMap<TableName, Held>,
    round: u32,
    rows: u64,
    since: Instant,
}

impl<'a> Work<'a> {
    fn begin(ctx: &'a Context, session: Session, since: Instant) -> Result<Self, Failure> {
        let schema = quote_name(&format!("understudy_{}", id::random_hex(8)));
        let mut session = session
            .execute("SET SESSION sql_log_bin = 0", CATALOGUE_LIMIT)?
            // As the dump program has it, whose --where people know; and any date is a key.
            .execute(
                "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'",
                CATALOGUE_LIMIT,
            )?
            // Rows that are only read needn't be locked, of which there may be millions.
            .execute(
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
                CATALOGUE_LIMIT,
            )?
            .execute(&format!("CREATE DATABASE {schema}"), CATALOGUE_LIMIT)?;
        // MySQL 8 and later keep an old length of each table for a day.
        let fresh = "SET SESSION information_schema_stats_expiry = 0";
        (session, _) = session.attempt(fresh, CATALOGUE_LIMIT)?;
        Ok(Self {
            ctx,
            session: Some(session),
            schema,
            held: BTreeMap::new(),
            round: 0,
            rows: 0,
            since,
        })
    }

    fn into_session(self) -> Result<Session, Failure> {
        self.session.ok_or_else(lost)
    }

    fn ask<T>(
        &mut self,
        question: impl FnOnce(Session) -> Result<(Session, T), SessionError>,
    ) -> Result<T, Failure> {
        let session = self.session.take().ok_or_else(lost)?;
        let (session, answer) = question(session)?;
        self.session = Some(session);
        Ok(answer)
    }

    fn execute(&mut self, statement: &str) -> Result<(), Failure> {
        self.ask(|session| Ok((session.execute(statement, ROWS_LIMIT)?, ())))
    }

    fn number(&mut self, statement: &str) -> Result<u64, Failure> {
        self.ask(|session| {
            let (session, value) = session.value(statement, ROWS_LIMIT)?;
            match value.as_deref().unwrap_or("0").parse() {
                Ok(number) => Ok((session, number)),
                Err(_) => Err(session.unexpected(statement, "no number")),
            }
        })
    }

    /// The table, with one of ours for its rows.
    fn hold(&mut self, table: &TableName) -> Result<Held, Failure> {
        if let Some(held) = self.held.get(table) {
            return Ok(held.clone());
        }
        let keys = choice::keys_query(table);
        let rows = self.ask(|session| session.query(&keys, CATALOGUE_LIMIT))?;
        let identity = match Identity::key_of(&rows) {
            Some(identity) => identity,
            None => self.all_of(table)?,
        };
        let held = Held {
            table: table.clone(),
            identity,
            chosen: format!("{}.t{}", self.schema, self.held.len() + 1),
        };
        self.execute(&held.create())?;
        self.held.insert(table.clone(), held.clone());
        Ok(held)
    }

    fn all_of(&mut self, table: &TableName) -> Result<Identity, Failure> {
        let rows = self.ask(|session| {
            let statement = session.flavour().columns_query(&table.schema, &table.table);
            session.query(&statement, CATALOGUE_LIMIT)
        })?;
        let columns = rows
            .iter()
            .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())));
        Ok(Identity::All(columns.collect()))
    }

    /// The rows that were asked for.
    fn start(&mut self, table: &TableName, lineage: &Lineage) -> Result<(), Failure> {
        let held = self.hold(table)?;
        self.execute(&format!("USE {}", quote_name(&table.schema)))?;
        let statement = held.begin(lineage.condition.as_deref());
        let answer = self.ask(|session| session.attempt(&statement, ROWS_LIMIT))?;
        let condition = lineage.condition.as_deref().unwrap_or_default();
        if let Err(error) = answer {
            return Err(Failure::Other(SnapshotError::refused(
                format!("--where {condition:?} for {table}: {error}"),
                format!(
                    "Give a condition on the columns of {table}, as it stands after WHERE in SQL; \
                     `--where \"subject_id = 5\"`."
                ),
            )));
        }
        self.rows = self.number(&held.count())?;
        if self.rows > 0 {
            return Ok(());
        }
        let (reason, hint) = match &lineage.condition {
            None => (
                format!("{table} has no row in the snapshot"),
                "Choose another snapshot.",
            ),
            Some(condition) => (
                format!("no row of {table} in the snapshot has {condition}"),
                "See whether an earlier snapshot has it: `understudy snapshot list`.",
            ),
        };
        Err(Failure::Other(SnapshotError::refused(reason, hint)))
    }

    /// Follows the steps until they lead to nothing new, at first from all rows, or from the first ones.
    fn close(&mut self, steps: &[Step], from_all: bool) -> Result<(), Failure> {
        let mut new: BTreeSet<TableName> = self.held.keys().cloned().collect();
        let mut since = if from_all { 0 } else { self.round };
        while !new.is_empty() {
            self.round += 1;
            let mut found = BTreeSet::new();
            for step in steps.iter().filter(|step| new.contains(&step.from)) {
                self.ctx.cancel.check("choosing rows")?;
                let from = self.hold(&step.from)?;
                let to = self.hold(&step.to)?;
                self.execute(&choice::follow(step, &from, &to, since, self.round))?;
                let more = self.number("SELECT ROW_COUNT()")?;
                if more > 0 {
                    self.rows += more;
                    found.insert(step.to.clone());
                }
                let words = format!("{} rows of {} tables", self.rows, self.held.len());
                self.ctx.progress.still("choose", &words, self.since);
            }
            new = found;
            since = self.round;
        }
        Ok(())
    }

    /// What came out has to load with foreign keys looked at: this is what is looked at there.
    fn refuse_dangling(&mut self, graph: &Graph) -> Result<(), Failure> {
        let mut bad = Vec::new();
        for key in graph.keys() {
            if !self.held.contains_key(&key.child) {
                continue;
            }
            self.ctx.cancel.check("choosing rows")?;
            let child = self.hold(&key.child)?;
            let parent = self.hold(&key.parent)?;
            let statement = format!(
                "SELECT COUNT(*) FROM ({}) o",
                choice::dangling(key, &child, &parent)
            );
            let count = self.number(&statement)?;
            if count > 0 {
                bad.push(format!(
                    "{count} rows of {} refer to rows of {} that aren't there ({})",
                    key.child, key.parent, key.name
                ));
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        Err(Failure::Other(SnapshotError::refused(
            format!("the snapshot's foreign keys don't hold: {}", bad.join("; ")),
            "`understudy snapshot verify ID --foreign-keys` lists all of them. Leave those rows out by \
             --where, or extract the whole tables.",
        )))
    }

    fn chosen(&mut self, graph: &Graph, lineage: &Lineage) -> Result<Chosen, Failure> {
        let mut rows = BTreeMap::new();
        for held in self.held.clone().into_values() {
            self.execute(&format!("ANALYZE TABLE {}", held.chosen))?;
            let count = self.number(&held.count())?;
            if count > 0 {
                rows.insert(held.table, count);
            }
        }
        let mut tables: BTreeSet<TableName> = rows.keys().cloned().collect();
        if lineage.with_parents {
            // A table to which no row refers must be there nevertheless, for the key.
            tables = graph.with_parents(&tables);
        }
        let mut chosen = Chosen {
            triggers: self.triggers(&tables)?,
            ..Chosen::default()
        };
        for Placed { table, in_cycle } in graph.order(&tables) {
            let held = self.hold(&table)?;
            let rows = rows.get(&table).copied().unwrap_or_default();
            let mean = format!(
                "SELECT COALESCE(AVG_ROW_LENGTH, 0) FROM information_schema.TABLES WHERE {}",
                choice::of_table(&table, "TABLE_SCHEMA", "TABLE_NAME")
            );
            let bytes_estimated = self.number(&mean)?.saturating_mul(rows);
            if in_cycle {
                let own = graph.keys().iter().filter(|key| key.child == table);
                chosen.cyclic_keys.extend(own.cloned());
            }
            chosen.tables.push(ChosenTable {
                condition: held.condition(),
                table,
                rows,
                bytes_estimated,
                in_cycle,
            });
        }
        Ok(chosen)
    }

    fn triggers(&mut self, tables: &BTreeSet<TableName>) -> Result<Vec<String>, Failure> {
        let statement = "SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME \
             FROM information_schema.TRIGGERS WHERE EVENT_MANIPULATION = 'INSERT' ORDER BY 1, 2, 3";
        let rows = self.ask(|session| session.query(statement, CATALOGUE_LIMIT))?;
        let named = rows.iter().filter_map(|row| {
            let table = TableName::new(row.at(0)?, row.at(1)?);
            tables
                .contains(&table)
                .then(|| format!("{table}: {}", row.at(2).unwrap_or_default()))
        });
        Ok(named.collect())
    }
}

fn lost() -> Failure {
    Failure::Other(SnapshotError::Failed {
        step: "choose rows",
        reason: "the private server is lost".to_owned(),
        hint: None,
    })
}
