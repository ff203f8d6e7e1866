//! `pause` and `resume`: the same lease and watchdog, without a snapshot between them.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::journal::lease::{self, ChannelBefore, Found, Lease, Purpose};
use crate::journal::watchdog::Watchdog;
use crate::journal::{Beginning, Guard, OperationKind, recover};
use crate::server::replication::{self, ThreadState};
use crate::server::session::Session;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::id;
use crate::snapshot::keep::lifecycle::lock_recovered;
use crate::sys::clock;
use crate::sys::process::ProcessRef;

/// Without --for.
pub const DEFAULT_LENGTH: Duration = Duration::from_secs(3600);

/// How long a STOP may take here.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What `pause` and `resume` say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PauseReport {
    pub server: String,
    /// The channels whose applier was stopped, or started again.
    pub channels: Vec<String>,
    /// When the watchdog resumes by itself.
    pub deadline: Option<String>,
    pub changed: bool,
    pub actions: Vec<String>,
}

/// Stops the appliers that run, until `resume` or the end of `length`.
pub fn pause(
    ctx: &Context,
    name: &str,
    length: Duration,
    dry_run: bool,
) -> Result<PauseReport, SnapshotError> {
    let target = ctx.target(ctx.server(name)?)?;
    let _lock = if dry_run {
        None
    } else {
        ctx.state.create()?;
        Some(lock_recovered(ctx, name, "pause")?)
    };
    let session = Session::connect(&target)?;
    let identity = session.identity().clone();
    let (session, channels) = replication::observe_channels(session)?;
    if channels.is_empty() {
        return Err(SnapshotError::refused(
            format!("{name} is no replica: there is nothing to pause"),
            "Name the replica.",
        ));
    }
    let before: Vec<ChannelBefore> = channels.iter().map(ChannelBefore::from).collect();
    let running: Vec<&ChannelBefore> = before.iter().filter(|c| c.sql_running).collect();
    let mut report = PauseReport {
        server: name.to_owned(),
        channels: running.iter().map(|c| c.name.to_string()).collect(),
        deadline: None,
        changed: false,
        actions: running
            .iter()
            .map(|c| session.flavour().stop_sql_thread(&c.name))
            .collect(),
    };
    if dry_run || running.is_empty() {
        return Ok(report);
    }
    let now = clock::now();
    let operation = id::new(&format!("pause-{name}"), now);
    let in_hand = ctx.begin(Beginning {
        operation: &operation,
        kind: OperationKind::Pause,
        parties: &[name],
        settled_by: None,
    })?;
    let watchdog = Watchdog::start(&target, &identity, &ctx.state)?;
    let boot = clock::since_boot();
    let lease = Lease {
        operation,
        purpose: Purpose::Manual,
        server: name.to_owned(),
        identity,
        channels: before.clone(),
        globals: Vec::new(),
        freezes: Vec::new(),
        connections: vec![session.connection_id()],
        service: None,
        taken: now,
        deadline: now + length,
        taken_boot_ms: boot.as_millis() as u64,
        deadline_boot_ms: (boot + length).as_millis() as u64,
        owner: ProcessRef::current(),
        watchdog: None,
        broken: false,
    };
    report.deadline = Some(clock::rfc3339(lease.deadline));
    let guard = Guard::arm(&ctx.state, &target, watchdog, lease).map_err(armed)?;
    let since = Instant::now();
    match stop(session, &report.actions) {
        Ok(()) => {
            ctx.progress.step("stop", "SQL threads stopped", since);
            guard.leave();
            in_hand.end("paused")?;
            report.changed = true;
            Ok(report)
        }
        Err(error) => match guard.put_back() {
            Ok(_) => {
                in_hand.end(&format!("failed: {error}"))?;
                Err(error)
            }
            Err(left) => Err(SnapshotError::left(name, &left, Some(&error))),
        },
    }
}

fn armed(error: crate::journal::GuardError) -> SnapshotError {
    SnapshotError::Failed {
        step: "arm the watchdog",
        reason: error.to_string(),
        hint: None,
    }
}

fn stop(mut session: Session, statements: &[String]) -> Result<(), SnapshotError> {
    for statement in statements {
        session = session.execute(statement, STOP_LIMIT)?;
    }
    let (_, channels) = replication::observe_channels(session)?;
    match channels.iter().find(|c| c.sql != ThreadState::Stopped) {
        Some(channel) => Err(SnapshotError::Failed {
            step: "stop the SQL threads",
            reason: format!("the applier of the {} still runs", channel.name),
            hint: None,
        }),
        None => Ok(()),
    }
}

/// Ends a pause on purpose, and anything else that a lease still holds.
pub fn resume(ctx: &Context, name: &str, dry_run: bool) -> Result<PauseReport, SnapshotError> {
    let target = ctx.target(ctx.server(name)?)?;
    let mut report = PauseReport {
        server: name.to_owned(),
        channels: Vec::new(),
        deadline: None,
        changed: false,
        actions: Vec::new(),
    };
    let _lock = if dry_run {
        None
    } else {
        ctx.state.create()?;
        Some(ctx.state.lock_server(name, "resume")?)
    };
    let lease = match lease::read(&ctx.state, name)? {
        Found::Lease(lease) => lease,
        Found::None => return Ok(report),
        Found::Unreadable(reason) => {
            return Err(SnapshotError::NeedsOperator {
                reason: format!("the lease of {name} can't be read: {reason}"),
                hint: format!(
                    "Start the SQL threads by hand, then remove {}.",
                    ctx.state.lease(name).display()
                ),
            });
        }
    };
    report.channels = lease
        .channels
        .iter()
        .filter(|channel| channel.sql_running)
        .map(|channel| channel.name.to_string())
        .collect();
    if dry_run {
        report.actions = report
            .channels
            .iter()
            .map(|c| format!("start the {c}"))
            .collect();
        return Ok(report);
    }
    report.actions = recover::put_back_alone(&ctx.state, &target, &lease)?;
    report.changed = true;
    Ok(report)
}
