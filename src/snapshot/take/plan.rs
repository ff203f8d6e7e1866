//! What a snapshot will do, decided from what was observed. Pure: no server, no volume, no clock.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::config::{Consistency, ServerConfig, ServiceControl};
use crate::journal::ChannelBefore;
use crate::server::durability::{COMMIT_FLUSH, FLUSH_TIMEOUT};
use crate::server::facts::ServerFacts;
use crate::server::flavour::{LockScope, quote_name};
use crate::server::globals::{FORGOTTEN, GlobalBefore};
use crate::server::replication::{Channel, ChannelName, ThreadState};
use crate::snapshot::error::Refusal;
use crate::volume::BackendKind;
use crate::volume::layout::Place;

/// More non-transactional tables than this are locked all together, not by name.
const NAMED_TABLES_MAX: usize = 500;

/// Frozen filesystems hang everybody who writes to them: never for longer than this.
const FREEZE_MAX: Duration = Duration::from_secs(15);

/// All that the decision rests on.
pub struct Observed<'a> {
    pub config: &'a ServerConfig,
    pub facts: &'a ServerFacts,
    pub backend: BackendKind,
    /// Mount points that must be frozen together for one moment; empty when none.
    pub freeze: Vec<PathBuf>,
    /// Logs of replication that aren't taken; a binary log that the server writes among them.
    pub logs_apart: &'a [Place],
    pub log_apart: bool,
}

/// What will be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the user asked for, made concrete: `pause` of a source becomes `lock`.
    pub consistency: Consistency,
    pub backend: BackendKind,
    /// Every channel as it was; those that run are stopped and started again.
    pub channels: Vec<ChannelBefore>,
    pub close_gaps: bool,
    /// `None` with `stop`: there is nobody left to lock out.
    pub lock: Option<LockScope>,
    /// (schema, table), locked by name where the scope is non-transactional.
    pub tables: Vec<(String, String)>,
    /// Global variables that the operation changes, or that its restart of the server forgets, in
    /// the order in which they are set back.
    pub globals: Vec<GlobalBefore>,
    pub freeze: Vec<PathBuf>,
    /// Everything committed must be recovered without the binary log, which isn't taken.
    pub leaves_binary_log: bool,
    /// How the server is stopped and started, with `stop`.
    pub service: Option<ServiceControl>,
    pub max_pause: Duration,
    pub warnings: Vec<String>,
}

impl Plan {
    pub fn running(&self) -> impl Iterator<Item = &ChannelName> {
        self.channels
            .iter()
            .filter(|channel| channel.sql_running)
            .map(|channel| &channel.name)
    }

    /// SQL alone: what is on disk doesn't matter.
    pub fn is_dump(&self) -> bool {
        self.backend == BackendKind::Dump
    }

    pub fn stops_server(&self) -> bool {
        self.service.is_some()
    }

    /// Commits stay in the server's own log buffer, and are made to flush themselves for the moment.
    pub fn raises_commits(&self) -> bool {
        self.globals
            .iter()
            .any(|global| global.name == COMMIT_FLUSH)
    }

    /// The server lives on while its files are read one by one.
    pub fn needs_quiet(&self) -> bool {
        self.backend.is_file_by_file() && !self.stops_server()
    }
}

/// One line of a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedStep {
    pub step: &'static str,
    pub detail: String,
}

/// Every rule that speaks against a snapshot of this server now, wherever its data is.
pub fn refusals(config: &ServerConfig, facts: &ServerFacts, allow_source: bool) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    refuse_source(config, facts, allow_source, &mut refusals);
    refuse_lag(config, facts, &mut refusals);
    refuse_unknown_threads(&facts.channels, &mut refusals);
    let stops = config.snapshot.consistency == Consistency::Stop;
    if facts.redo_is_off && !stops {
        refusals.push(Refusal::new(
            format!(
                "InnoDB of {} writes no redo log, so that no server could recover from a snapshot",
                config.name
            ),
            "Run ALTER INSTANCE ENABLE INNODB REDO_LOG, or use consistency = \"stop\".",
        ));
    }
    if stops && control(config).is_none() {
        refusals.push(Refusal::new(
            format!("{} has no service to stop it with", config.name),
            format!(
                "Set unit, or start and stop, in [server.{}.service].",
                config.name
            ),
        ));
    }
    refusals
}

/// What will be done with a server that no rule speaks against.
pub fn plan_create(observed: &Observed) -> Plan {
    let facts = observed.facts;
    let settings = &observed.config.snapshot;
    let consistency = effective_consistency(observed);
    let service = match consistency {
        Consistency::Stop => control(observed.config).cloned(),
        Consistency::Pause | Consistency::Lock => None,
    };
    let lock = lock_scope(consistency, facts);
    let mut plan = Plan {
        consistency,
        backend: observed.backend,
        channels: facts.channels.iter().map(ChannelBefore::from).collect(),
        close_gaps: facts.can_leave_gaps,
        tables: match lock {
            Some(LockScope::NonTransactional) => facts.non_transactional.clone(),
            Some(LockScope::Ddl | LockScope::Everything) | None => Vec::new(),
        },
        lock,
        globals: Vec::new(),
        freeze: observed.freeze.clone(),
        leaves_binary_log: observed.log_apart && service.is_none(),
        service,
        max_pause: match observed.freeze.as_slice() {
            [] => settings.max_pause,
            _ => settings.max_pause.min(FREEZE_MAX),
        },
        warnings: warnings(observed),
    };
    if plan.stops_server() {
        plan.globals = globals(facts, &FORGOTTEN);
    } else if !plan.is_dump() {
        plan.globals = commit_globals(facts, observed.log_apart);
    }
    if plan.needs_quiet() {
        plan.globals.extend(globals(facts, &FLUSH_LIMITS));
    }
    plan
}

/// A server that is no replica has nothing to pause: with --allow-source its writes are locked.
fn effective_consistency(observed: &Observed) -> Consistency {
    match observed.config.snapshot.consistency {
        Consistency::Pause if !observed.facts.is_replica() => Consistency::Lock,
        consistency => consistency,
    }
}

fn refuse_source(
    config: &ServerConfig,
    facts: &ServerFacts,
    allow_source: bool,
    refusals: &mut Vec<Refusal>,
) {
    if facts.is_replica() || allow_source {
        return;
    }
    refusals.push(Refusal::new(
        format!(
            "{} is no replica: a snapshot of it would hold up its clients",
            config.name
        ),
        "Take the snapshot on the replica, or give --allow-source to lock writes for its moment.",
    ));
}

/// Refuses what is known to be too far behind; what can't be told is warned of.
fn refuse_lag(config: &ServerConfig, facts: &ServerFacts, refusals: &mut Vec<Refusal>) {
    let limit = config.snapshot.max_lag;
    for channel in &facts.channels {
        let Some(age_s) = channel.lag_s else { continue };
        // What it is kept behind on purpose is no lag.
        let lag_s = age_s.saturating_sub(channel.delay_s);
        let beyond = match channel.delay_s {
            0 => String::new(),
            delay_s => format!(
                " its delay of {}",
                humantime::format_duration(Duration::from_secs(delay_s))
            ),
        };
        if Duration::from_secs(lag_s) > limit {
            refusals.push(Refusal::new(
                format!(
                    "the {} of {} is {} behind{beyond}, more than max_lag {}",
                    channel.name,
                    config.name,
                    humantime::format_duration(Duration::from_secs(lag_s)),
                    humantime::format_duration(limit)
                ),
                "Wait until the replica has caught up, or raise max_lag.",
            ));
        }
    }
}

fn refuse_unknown_threads(channels: &[Channel], refusals: &mut Vec<Refusal>) {
    for channel in channels {
        if matches!(channel.sql, ThreadState::Unknown | ThreadState::Connecting) {
            refusals.push(Refusal::new(
                format!(
                    "the server doesn't say whether the applier of the {} runs",
                    channel.name
                ),
                "Look at the replica's status; the account may lack REPLICA MONITOR.",
            ));
        }
    }
}

fn control(config: &ServerConfig) -> Option<&ServiceControl> {
    config.service.as_ref().and_then(|s| s.control.as_ref())
}

fn lock_scope(consistency: Consistency, facts: &ServerFacts) -> Option<LockScope> {
    match consistency {
        Consistency::Stop => None,
        Consistency::Lock => Some(LockScope::Everything),
        // Clients may write to it: nothing less keeps the recorded position true.
        Consistency::Pause if facts.variable("read_only") != Some("ON") => {
            Some(LockScope::Everything)
        }
        Consistency::Pause => Some(match facts.non_transactional.len() {
            0 => LockScope::Ddl,
            count if count <= NAMED_TABLES_MAX => LockScope::NonTransactional,
            _ => LockScope::Everything,
        }),
    }
}

/// What keeps dirty pages in memory, in the order in which it is set back. The percentage goes before
/// its low-water mark, and the capacity before its maximum: the server bends the one to the other.
const FLUSH_LIMITS: [&str; 4] = [
    "innodb_max_dirty_pages_pct",
    "innodb_max_dirty_pages_pct_lwm",
    "innodb_io_capacity",
    "innodb_io_capacity_max",
];

/// Pages that the server may write per second while it is driven to rest. Its default of 200 makes
/// a pause wait seconds for a disk that has nothing to do.
const FLUSH_CAPACITY: f64 = 20_000.0;

/// What keeps a commit in the server's memory, where no snapshot sees it: nothing, unless the setting
/// is 0. It is set back first, the time after which the log is flushed anyway behind it.
/// Where the binary log isn't taken, what it holds must be in the redo log, on disk.
fn commit_globals(facts: &ServerFacts, log_apart: bool) -> Vec<GlobalBefore> {
    match facts.variable(COMMIT_FLUSH) {
        Some(setting) if log_apart && setting != "1" => {
            globals(facts, &[COMMIT_FLUSH, FLUSH_TIMEOUT])
        }
        Some(_) if log_apart => globals(facts, &[FLUSH_TIMEOUT]),
        Some("0") => globals(facts, &[COMMIT_FLUSH, FLUSH_TIMEOUT]),
        Some(_) | None => Vec::new(),
    }
}

/// The value that lets commits, and all dirty pages, go as fast as the disk takes them.
fn flushing_value(plan: &Plan, global: &GlobalBefore) -> f64 {
    if global.name == COMMIT_FLUSH && !plan.leaves_binary_log {
        // Written to the kernel, where a snapshot takes it from; a sync for each commit would slow the
        // applier, and its own STOP.
        2.0
    } else if global.name == COMMIT_FLUSH || global.name == FLUSH_TIMEOUT {
        1.0
    } else if global.name.contains("io_capacity") {
        let before = global.value.parse().unwrap_or(FLUSH_CAPACITY);
        FLUSH_CAPACITY.max(before)
    } else {
        0.0
    }
}

/// The statements that let InnoDB write out everything, in order: the maximum before the capacity,
/// the low-water mark before the percentage, since the one may not exceed the other.
pub fn flush_statements(plan: &Plan) -> Vec<String> {
    plan.globals
        .iter()
        .rev()
        .map(|global| {
            let (name, value) = (quote_name(&global.name), flushing_value(plan, global));
            format!("SET GLOBAL {name} = {value}")
        })
        .collect()
}

/// As they are now.
fn globals(facts: &ServerFacts, names: &[&str]) -> Vec<GlobalBefore> {
    names
        .iter()
        .filter_map(|name| GlobalBefore::of(name, facts.variable(name)?))
        .collect()
}

fn warnings(observed: &Observed) -> Vec<String> {
    let mut warnings = Vec::new();
    for channel in &observed.facts.channels {
        if channel.sql == ThreadState::Stopped {
            let why = match channel.sql_error.as_str() {
                "" => String::new(),
                error => format!(" ({error})"),
            };
            warnings.push(format!(
                "the applier of the {} was stopped before and stays stopped{why}",
                channel.name
            ));
        } else if channel.lag_s.is_none() {
            warnings.push(format!(
                "how far the {} is behind isn't known: its receiver {}",
                channel.name,
                match channel.io {
                    ThreadState::Running => "just started",
                    ThreadState::Connecting => "is trying to reach its source",
                    ThreadState::Stopped => "is stopped",
                    ThreadState::Unknown => "has an unknown state",
                }
            ));
        }
    }
    for place in observed.logs_apart {
        warnings.push(format!(
            "{}… isn't in the snapshot, since it lies on another volume than the data; nothing of it \
             is needed to recover",
            place.path.display()
        ));
    }
    if !observed.facts.other_engines.is_empty()
        && observed.backend != BackendKind::Dump
        && consistency_keeps_it_up(observed)
    {
        warnings.push(format!(
            "whether the last commits of {} tables are in the snapshot isn't known: only InnoDB's are \
             made durable and seen to be",
            observed.facts.other_engines.join(", ")
        ));
    }
    warnings
}

fn consistency_keeps_it_up(observed: &Observed) -> bool {
    effective_consistency(observed) != Consistency::Stop
}

/// The plan in words, for --dry-run.
pub fn describe(plan: &Plan) -> Vec<PlannedStep> {
    let mut steps = Vec::new();
    let mut add = |step, detail: String| steps.push(PlannedStep { step, detail });
    if plan.raises_commits() {
        add(
            "durable",
            format!(
                "let each commit write its redo log until the replica applies again ({COMMIT_FLUSH}), and wait until the log is flushed"
            ),
        );
    }
    for name in plan.running() {
        add(
            "stop",
            format!("stop the SQL thread of the {name}; its IO thread goes on receiving"),
        );
    }
    if plan.close_gaps {
        add("gaps", "let the parallel applier close its gaps".to_owned());
    }
    match plan.lock {
        Some(LockScope::Ddl) => add("lock", "keep DDL out".to_owned()),
        Some(LockScope::NonTransactional) => add(
            "lock",
            format!(
                "keep DDL out, flush and lock {} non-transactional tables",
                plan.tables.len()
            ),
        ),
        Some(LockScope::Everything) => add("lock", "flush and lock all tables".to_owned()),
        None => {}
    }
    if plan.leaves_binary_log {
        add(
            "settle",
            "bring all that is committed from the binary log into the redo log".to_owned(),
        );
    }
    add("position", "record the position".to_owned());
    if plan.stops_server() {
        add(
            "stop-server",
            "stop the server through its service".to_owned(),
        );
    }
    if plan.needs_quiet() {
        add(
            "quiet",
            "flush InnoDB's dirty pages and prove that it writes nothing".to_owned(),
        );
    }
    for path in &plan.freeze {
        add("freeze", format!("freeze {}", path.display()));
    }
    add(
        "snapshot",
        format!("take the {} snapshot", kind_word(plan.backend)),
    );
    if plan.stops_server() {
        add(
            "start-server",
            "start the server and wait until it answers".to_owned(),
        );
    }
    for name in plan.running() {
        add(
            "start",
            format!("start the SQL thread of the {name} and see it run"),
        );
    }
    steps
}

/// A back-end as people say it.
pub fn kind_word(kind: BackendKind) -> &'static str {
    match kind {
        BackendKind::Zfs => "zfs",
        BackendKind::LvmThick => "thick lvm",
        BackendKind::LvmThin => "thin lvm",
        BackendKind::Btrfs => "btrfs",
        BackendKind::Reflink => "reflink",
        BackendKind::Copy => "copy",
        BackendKind::Dump => "dump",
    }
}
