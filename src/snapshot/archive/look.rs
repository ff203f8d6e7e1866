//! What a dump will bring, and what it would stumble over: looked at before anything is paused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::index::Method;
use super::obstacle::{Obstacle, Stumbles, some_of};
use super::split::TableName;
use super::stumbles;
use crate::config::ServerConfig;
use crate::server::facts::ServerFacts;
use crate::server::flavour::quote_name;
use crate::server::private::BootFacts;
use crate::server::session::READ_LIMIT;
use crate::server::{Session, SessionError, burden, client};
use crate::snapshot::context::Context;
use crate::snapshot::error::{Refusal, SnapshotError};
use crate::snapshot::prove::{checksums, program};
use crate::sys::exec::Program;
use crate::volume::kept;

/// Enough for information_schema of a server with very many tables.
const LIMIT: Duration = Duration::from_secs(600);

/// What a dump program writes in a second at the very least, of tables that are small or nothing but
/// numbers; those without transactions are dumped within the pause.
const SLOWEST_BYTES_S: u64 = 10 << 20;

/// A table as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: TableName,
    pub engine: String,
    pub is_sequence: bool,
    pub is_transactional: bool,
    /// About.
    pub bytes: u64,
    /// `None` where its engine keeps nothing that could be summed.
    pub method: Option<Method>,
}

/// Everything on the server that has no transaction, to be compared with what is there later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Name and engine.
    tables: Vec<(TableName, String)>,
    schemas: Vec<String>,
    /// Kind, schema, name, a trigger's table, and a sum of the rest.
    objects: BTreeSet<[String; 5]>,
}

impl Standing {
    /// The first thing that differs, for people.
    pub fn difference(&self, later: &Self) -> Option<String> {
        let tables = |of: &Self| of.tables.iter().cloned().collect::<BTreeSet<_>>();
        let (before, after) = (tables(self), tables(later));
        if let Some(((schema, name), _)) = before.symmetric_difference(&after).next() {
            return Some(format!("the table {schema}.{name}"));
        }
        if self.schemas != later.schemas {
            return Some("the list of schemas".to_owned());
        }
        let mut objects = self.objects.symmetric_difference(&later.objects);
        let [kind, schema, name, ..] = objects.next()?;
        Some(format!("the {kind} {schema}.{name}"))
    }

    fn named<'a>(
        &'a self,
        kind: &'a str,
        schema: &'a str,
    ) -> impl Iterator<Item = &'a [String; 5]> {
        let own = self.objects.iter();
        own.filter(move |object| object[0] == kind && object[1] == schema)
    }

    pub fn views(&self, schema: &str) -> Vec<String> {
        let views = self.named("view", schema);
        views.map(|object| object[2].clone()).collect()
    }

    pub fn has_routines_or_events(&self, schema: &str) -> bool {
        let mut kinds = ["routine", "event"].into_iter();
        kinds.any(|kind| self.named(kind, schema).next().is_some())
    }

    pub fn has_triggers(&self, (schema, table): &TableName) -> bool {
        self.named("trigger", schema)
            .any(|object| object[3] == *table)
    }
}

/// All that was looked at.
#[derive(Debug, Clone)]
pub struct Look {
    pub tables: Vec<Table>,
    /// Name and the statement that makes it.
    pub schemas: Vec<(String, String)>,
    pub standing: Standing,
    pub views_left_out: Vec<TableName>,
    pub program: Program,
    /// Where dumps are kept.
    pub place: PathBuf,
    pub warnings: Vec<String>,
}

impl Look {
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }
}

/// What is there now.
pub fn standing(session: Session) -> Result<(Session, Standing, Vec<Table>), SessionError> {
    let (session, tables) = tables(session)?;
    let statement = session.flavour().dumped_schemas_query();
    let (session, rows) = session.query(&statement, LIMIT)?;
    let schemas = rows.iter().filter_map(|row| row.at(0)).map(str::to_owned);
    let schemas = schemas.collect();
    let statement = session.flavour().definitions_query();
    let (session, rows) = session.query(&statement, LIMIT)?;
    let objects = rows
        .iter()
        .map(|row| [0, 1, 2, 3, 4].map(|at| row.at(at).unwrap_or_default().to_owned()))
        .collect();
    let standing = Standing {
        tables: tables
            .iter()
            .map(|table| (table.name.clone(), table.engine.clone()))
            .collect(),
        schemas,
        objects,
    };
    Ok((session, standing, tables))
}

fn tables(session: Session) -> Result<(Session, Vec<Table>), SessionError> {
    let names = |session: Session, statement: &str| -> Result<_, SessionError> {
        let (session, rows) = session.query(statement, LIMIT)?;
        let names = rows
            .iter()
            .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())));
        Ok((session, names.collect::<BTreeSet<TableName>>()))
    };
    let statement = session.flavour().rounded_tables_query();
    let (session, rounded) = names(session, &statement)?;
    let (session, by_rows) = match session.flavour().computed_keys_query() {
        Some(statement) => names(session, statement)?,
        None => (session, BTreeSet::new()),
    };
    let statement = session.flavour().dumped_tables_query();
    let (session, rows) = session.query(&statement, LIMIT)?;
    let table = |row: &crate::server::row::Row| {
        let name = (row.at(0)?.to_owned(), row.at(1)?.to_owned());
        let is_sequence = row.at(2)? == "SEQUENCE";
        let engine = row.at(3)?.to_owned();
        let is_unknown = is_sequence
            || checksums::ENGINES_WITHOUT.contains(&engine.to_ascii_uppercase().as_str());
        Some(Table {
            method: match is_unknown {
                true => None,
                false if rounded.contains(&name) => Some(Method::Texts),
                false if by_rows.contains(&name) => Some(Method::Rows),
                false => Some(Method::Server),
            },
            // What a sequence gives next isn't a part of anybody's transaction.
            is_transactional: row.at(4)? == "YES" && !is_sequence,
            bytes: row.at(5)?.parse().unwrap_or(0),
            name,
            engine,
            is_sequence,
        })
    };
    let tables = rows.iter().filter_map(table).collect();
    Ok((session, tables))
}

/// What matters of its server to who loads the dump: how names and pages are, not where files are.
pub fn facts_to_keep(mut boot: BootFacts) -> BootFacts {
    const KEPT: [&str; 12] = [
        "basedir",
        "character_set_server",
        "character_sets_dir",
        "collation_server",
        "enforce_gtid_consistency",
        "gtid_mode",
        "innodb_buffer_pool_size",
        "innodb_page_size",
        "lc_messages_dir",
        "log_slave_updates",
        "lower_case_table_names",
        "plugin_dir",
    ];
    boot.settings
        .retain(|name, _| KEPT.contains(&name.as_str()));
    boot.binary_log = None;
    boot.relay_log = None;
    boot.outside_files = Vec::new();
    boot.links_apart = Vec::new();
    boot
}

/// Looks at all of it, or refuses.
pub fn look(
    ctx: &Context,
    session: Session,
    server: &ServerConfig,
    facts: &ServerFacts,
    boot: &BootFacts,
) -> Result<(Session, Look), SnapshotError> {
    let place = place(server)?;
    let flavour = session.flavour().clone();
    // Beside the server's own program, where that is on this host.
    let beside = program::find(ctx, &server.name, boot).ok();
    let beside = beside.as_ref().and_then(|program| program.directory());
    let program = client::find_dump(&flavour, beside).map_err(|names| {
        SnapshotError::refused(
            format!(
                "no dump program for {} ({}) is on this host ({names})",
                server.name, flavour.text
            ),
            "Install the client package of that server (mariadb-client, mysql-client), or name its server \
             program in [server.X.service] server_binary.",
        )
    })?;
    let session = refuse_blind(session, &server.name)?;
    let (session, found) = stumbles::observe(session, None, &facts.non_transactional)?;
    let (session, standing, tables) = standing_of(session)?;
    let views_left_out: Vec<TableName> = found.views.iter().map(|(name, _)| name.clone()).collect();
    let mut refusals = Vec::new();
    let mut warnings = judge(&server.name, &found, &mut refusals);
    judge_pause(server, &tables, &mut refusals);
    if !refusals.is_empty() {
        return Err(SnapshotError::Refused { refusals });
    }
    warnings.extend(rounded(&tables));
    kept::check_free_space(&place, 0)?;
    let (session, schemas) = schemas(session, &standing.schemas)?;
    let look = Look {
        tables,
        schemas,
        standing,
        views_left_out,
        program,
        place,
        warnings,
    };
    Ok((session, look))
}

/// What an account may not see isn't listed to it: a dump would lack it without a word.
fn refuse_blind(session: Session, server: &str) -> Result<Session, SnapshotError> {
    const NEEDED: [&str; 4] = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"];
    let user = session.target().user.clone();
    let (session, held) = burden::observe_privileges(session, READ_LIMIT)?;
    let lacking: Vec<&str> = match held.known() {
        Some(held) => NEEDED
            .into_iter()
            .filter(|name| !held.holds(name, "*.*"))
            .collect(),
        None => {
            let reason = held.reason().map(ToString::to_string).unwrap_or_default();
            return Err(SnapshotError::refused(
                format!("what {user} may see on {server} isn't known: {reason}"),
                "Let the account run SHOW GRANTS for itself.",
            ));
        }
    };
    if lacking.is_empty() {
        return Ok(session);
    }
    let lacking = lacking.join(", ");
    Err(SnapshotError::refused(
        format!(
            "{user} lacks {lacking} on {server}: what it may not see would be missing in the dump"
        ),
        format!("GRANT {lacking} ON *.* to the account of {server}."),
    ))
}

fn standing_of(session: Session) -> Result<(Session, Standing, Vec<Table>), SnapshotError> {
    Ok(standing(session)?)
}

/// The configured directory.
fn place(server: &ServerConfig) -> Result<PathBuf, SnapshotError> {
    let Some(directory) = &server.snapshot.directory else {
        return Err(SnapshotError::refused(
            format!("there is no directory for dumps of {}", server.name),
            format!(
                "Set directory in [server.{}.snapshot], on a disk with room for them.",
                server.name
            ),
        ));
    };
    let is_there = |path: &Path| path.canonicalize().ok().filter(|path| path.is_dir());
    is_there(directory).ok_or_else(|| {
        SnapshotError::refused(
            format!("the snapshot directory {} isn't there", directory.display()),
            format!(
                "Mount its disk, or make it with `install -d -m 0700 {}`.",
                directory.display()
            ),
        )
    })
}

/// What a dump can't bring as it is, is refused; what it can do without is told.
fn judge(server: &str, found: &Stumbles, refusals: &mut Vec<Refusal>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, words) in &found.tables {
        refusals.push(Refusal::new(
            format!("{name} of {server} can't be read ({words}), and a dump would end at it"),
            "`REPAIR TABLE` mends a crashed one of MyISAM or Aria; others want a backup, or DROP TABLE.",
        ));
    }
    for (obstacle, names) in found
        .obstacles
        .iter()
        .filter(|(_, names)| !names.is_empty())
    {
        let (what, cure) = obstacle.words();
        match obstacle {
            Obstacle::Tablespace => warnings.push(format!(
                "these lie in general tablespaces, which have to be made before they are loaded: {}",
                some_of(names)
            )),
            Obstacle::TimeZone => warnings.push(format!(
                "these are events in time zones, which whoever loads them has to know: {}",
                some_of(names)
            )),
            Obstacle::SchemaName
            | Obstacle::ForeignKeyName
            | Obstacle::EndlessEvent
            | Obstacle::EventDefiner
            | Obstacle::Text
            | Obstacle::History => refusals.push(Refusal::new(
                format!("these of {server} {what}: {}", some_of(names)),
                format!("A back-end that keeps files has no such trouble. Else: {cure}"),
            )),
        }
    }
    let named = |list: &[(String, String)]| -> Vec<String> {
        list.iter()
            .map(|(what, words)| format!("{what} ({words})"))
            .collect()
    };
    if !found.views.is_empty() {
        let views = found.views.iter();
        let views: Vec<(String, String)> = views
            .map(|((schema, name), words)| (format!("{schema}.{name}"), words.clone()))
            .collect();
        warnings.push(format!(
            "views that can't be read are left out: {}",
            some_of(&named(&views))
        ));
    }
    if !found.definers.is_empty() {
        warnings.push(format!(
            "these run as accounts that {server} doesn't have: {}",
            some_of(&named(&found.definers))
        ));
    }
    warnings
}

/// Tables without transactions are dumped while the appliers stand still.
fn judge_pause(server: &ServerConfig, tables: &[Table], refusals: &mut Vec<Refusal>) {
    let held = tables.iter().filter(|table| !table.is_transactional);
    let bytes: u64 = held.clone().map(|table| table.bytes).sum();
    let needs = Duration::from_secs(bytes / SLOWEST_BYTES_S);
    let limit = server.snapshot.max_pause;
    if needs <= limit {
        return;
    }
    refusals.push(Refusal::new(
        format!(
            "{} tables of {} without transactions hold {} MiB, and are dumped within the pause: that may \
             take {}, more than max_pause {}",
            held.count(),
            server.name,
            bytes >> 20,
            humantime::format_duration(needs),
            humantime::format_duration(limit)
        ),
        "Raise max_pause, convert them to InnoDB (ALTER TABLE … ENGINE = InnoDB), or use another back-end.",
    ));
}

fn rounded(tables: &[Table]) -> Option<String> {
    let rounded: Vec<String> = tables
        .iter()
        .filter(|table| table.method == Some(Method::Texts))
        .map(|table| format!("{}.{}", table.name.0, table.name.1))
        .collect();
    (!rounded.is_empty()).then(|| {
        format!(
            "FLOAT columns are in a dump with six digits, which may be fewer than they hold: {}",
            some_of(&rounded)
        )
    })
}

/// How each schema is made.
fn schemas(
    session: Session,
    names: &[String],
) -> Result<(Session, Vec<(String, String)>), SessionError> {
    let mut session = session;
    let mut schemas = Vec::new();
    for name in names {
        let statement = format!("SHOW CREATE DATABASE IF NOT EXISTS {}", quote_name(name));
        let (back, rows) = session.query(&statement, LIMIT)?;
        session = back;
        let create = rows.first().and_then(|row| row.at(1)).unwrap_or_default();
        schemas.push((name.clone(), create.to_owned()));
    }
    Ok((session, schemas))
}

/// Names of tables without transactions, by schema.
pub fn by_schema(tables: &[Table]) -> BTreeMap<&str, Vec<String>> {
    let mut schemas: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for table in tables.iter().filter(|table| !table.is_transactional) {
        let names = schemas.entry(&table.name.0).or_default();
        names.push(table.name.1.clone());
    }
    schemas
}
