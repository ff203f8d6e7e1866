//! From the last preparation to the replica applying again: connections, watchdog, lease, pause; and
//! the way back when any of that fails.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::journal::lease::{ChannelBefore, Lease, Purpose};
use crate::journal::watchdog::Watchdog;
use crate::journal::{Guard, GuardError};
use crate::server::durability;
use crate::server::lock::LockSession;
use crate::server::replication;
use crate::server::session::{READ_LIMIT, ServerError, Session, SessionError};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::manifest::Timing;
use crate::snapshot::take::pause::{self, Held, PauseError, Sessions};
use crate::snapshot::take::plan;
use crate::snapshot::take::preflight::Preflight;
use crate::sys::cancel::Interrupted;
use crate::sys::process::ProcessRef;
use crate::sys::{clock, failpoint};
use crate::volume::Prepared;
use crate::volume::freeze::Freezer;

/// How long the part between arming the lease and the pause may take (InnoDB flushing ahead).
const SETTLE_AHEAD: Duration = Duration::from_secs(10);

/// Everything between the last preparation and the replica applying again.
pub fn take(
    ctx: &Context,
    preflight: &mut Preflight,
    prepared: &mut dyn Prepared,
    id: &str,
) -> Result<Held, SnapshotError> {
    failpoint::hit("prepared");
    let since = Instant::now();
    let progress = ctx.progress.clone();
    prepared.warm_up(&mut |done, total| progress.bytes(done, total))?;
    ctx.progress.step("prepare", "storage is ready", since);
    failpoint::hit("warmed-up");
    ctx.cancel.check("preparing")?;

    let sessions = connect(preflight)?;
    let watchdog = Watchdog::start(&preflight.target, &preflight.identity, &ctx.state)?;
    failpoint::hit("watchdog-ready");
    let lease = lease(preflight, &sessions, id);
    let mut guard =
        Guard::arm(&ctx.state, &preflight.target, watchdog, lease).map_err(lease_failed)?;
    failpoint::hit("leased");
    match pause_and_take(ctx, preflight, prepared, &mut guard, sessions) {
        Ok(held) if preflight.plan.stops_server() => restart(ctx, preflight, guard, held),
        Ok(held) if !preflight.plan.globals.is_empty() => {
            // The appliers run again; what is left are commits' durability and dirty pages' limits.
            let back = guard.put_back();
            back.map_err(|error| SnapshotError::left(&preflight.server.name, &error, None))?;
            failpoint::hit("released");
            Ok(held)
        }
        Ok(held) => {
            guard.release().map_err(lease_failed)?;
            failpoint::hit("released");
            Ok(held)
        }
        Err(error) => Err(give_up(preflight, guard, error)),
    }
}

/// Puts things back after a failure; where another keeper did so already, that is the reason that
/// counts, whatever its stepping in broke here.
fn give_up(preflight: &Preflight, guard: Guard, error: SnapshotError) -> SnapshotError {
    let error = if guard.is_intact() {
        error
    } else {
        SnapshotError::Failed {
            step: "pause",
            reason: format!(
                "held up past max_pause, so the watchdog resumed replication ({error})"
            ),
            hint: Some("Find out what stopped this process, and run it again.".to_owned()),
        }
    };
    match guard.put_back() {
        Ok(_) => error,
        Err(left) => SnapshotError::left(&preflight.server.name, &left, Some(&error)),
    }
}

/// Starts the server that was stopped for the moment, and its threads as they were.
fn restart(
    ctx: &Context,
    preflight: &Preflight,
    guard: Guard,
    held: Held,
) -> Result<Held, SnapshotError> {
    let since = Instant::now();
    let name = &preflight.server.name;
    guard
        .put_back()
        .map_err(|error| SnapshotError::left(name, &error, None))?;
    ctx.progress
        .step("start", format!("{name} is up and as it was"), since);
    let start_ms = pause::ms(since.elapsed());
    let timing = Timing {
        start_ms,
        pause_ms: held.timing.pause_ms + start_ms,
        pause_us: held.timing.pause_us + start_ms * 1000,
        ..held.timing
    };
    Ok(Held { timing, ..held })
}

fn pause_and_take(
    ctx: &Context,
    preflight: &Preflight,
    prepared: &mut dyn Prepared,
    guard: &mut Guard,
    mut sessions: Sessions,
) -> Result<Held, SnapshotError> {
    let plan = &preflight.plan;
    if !plan.stops_server() {
        sessions.control = raise_globals(preflight, sessions.control)?;
    }
    if plan.needs_quiet() {
        sessions.control = flush_ahead(ctx, sessions.control)?;
    }
    if plan.leaves_binary_log {
        // Nothing that it waits for may hold up the pause.
        let limits = sessions.control.flavour().session_limits(1);
        sessions.control = sessions.control.execute(&limits, READ_LIMIT)?;
    }
    if plan.raises_commits() {
        sessions.control = commits_ahead(ctx, sessions.control)?;
    }
    let freezer = match plan.freeze.as_slice() {
        [] => None,
        points => Some(Freezer::prepare(points)?),
    };
    guard
        .renew(plan.max_pause, |lease| {
            lease.freezes = plan.freeze.clone();
            lease.service = plan.service.clone();
        })
        .map_err(lease_failed)?;
    let hands = pause::Hands {
        plan,
        guard,
        prepared,
        freezer,
        progress: &ctx.progress,
        cancel: &ctx.cancel,
    };
    pause::hold(hands, sessions).map_err(|error| explain(preflight, error))
}

/// The three connections of the pause, and the channels as they are *now*: a pre-copy can take
/// hours.
fn connect(preflight: &mut Preflight) -> Result<Sessions, SnapshotError> {
    let new = || Session::connect_to(&preflight.target, &preflight.identity);
    let (control, channels) = replication::observe_channels(new()?)?;
    let stop = new()?;
    let lock = match preflight.plan.lock {
        Some(_) => Some(LockSession::prepare(
            new()?,
            preflight.server.snapshot.lock_wait,
        )?),
        None => None,
    };
    preflight.plan.channels = channels.iter().map(ChannelBefore::from).collect();
    Ok(Sessions {
        control,
        stop,
        lock,
    })
}

fn lease(preflight: &Preflight, sessions: &Sessions, id: &str) -> Lease {
    let mut connections = vec![
        sessions.stop.connection_id(),
        sessions.control.connection_id(),
    ];
    connections.extend(sessions.lock.as_ref().map(LockSession::connection_id));
    let (now, boot) = (clock::now(), clock::since_boot());
    Lease {
        operation: id.to_owned(),
        purpose: Purpose::Snapshot,
        server: preflight.server.name.clone(),
        identity: preflight.identity.clone(),
        channels: preflight.plan.channels.clone(),
        globals: preflight.plan.globals.clone(),
        freezes: Vec::new(),
        connections,
        service: None,
        taken: now,
        deadline: now + SETTLE_AHEAD * 2,
        taken_boot_ms: boot.as_millis() as u64,
        deadline_boot_ms: (boot + SETTLE_AHEAD * 2).as_millis() as u64,
        owner: ProcessRef::current(),
        watchdog: None,
        broken: false,
    }
}

fn lease_failed(error: GuardError) -> SnapshotError {
    match error {
        GuardError::Watchdog(error) => error.into(),
        GuardError::File(error) => error.into(),
    }
}

/// Sets what keeps commits and pages in the server's memory. It is set back with the lease.
fn raise_globals(preflight: &Preflight, mut control: Session) -> Result<Session, SnapshotError> {
    for statement in plan::flush_statements(&preflight.plan) {
        let (back, done) = control.attempt(&statement, READ_LIMIT)?;
        control = back;
        match done {
            Ok(_) => {}
            Err(error) if error.code == ServerError::ACCESS_DENIED => {
                let name = &preflight.server.name;
                return Err(SnapshotError::refused(
                    format!("the account may not run `{statement}` on {name}: {error}"),
                    format!("Run what `understudy grants {name}` prints, or set it for good."),
                ));
            }
            Err(error) => {
                return Err(SessionError::Server {
                    server: preflight.server.name.clone(),
                    statement,
                    error,
                }
                .into());
            }
        }
    }
    failpoint::hit("raised");
    Ok(control)
}

/// Waits until the redo log is flushed to its end of now, while replication still runs. Every commit
/// after it writes its own.
fn commits_ahead(ctx: &Context, control: Session) -> Result<Session, SnapshotError> {
    let since = Instant::now();
    let mut control = control;
    if let Some(flush) = control.flavour().flush_engine_logs() {
        control = control.execute(flush, READ_LIMIT)?;
    }
    let (mut control, begun) = durability::observe_redo(control)?;
    let mut flushed = begun.flushed;
    while flushed < begun.current {
        ctx.cancel.check("flushing the redo log")?;
        if since.elapsed() >= SETTLE_AHEAD {
            return Err(SnapshotError::Failed {
                step: "flush the redo log",
                reason: format!(
                    "it isn't flushed after 10 s: {flushed} of {}",
                    begun.current
                ),
                hint: Some("Look at the disk, and at the server's log.".to_owned()),
            });
        }
        sleep(Duration::from_millis(5));
        let (back, now) = durability::observe_redo(control)?;
        (control, flushed) = (back, now.flushed);
    }
    ctx.progress
        .step("durable", "every commit writes its own redo log", since);
    Ok(control)
}

/// Lets InnoDB write out its dirty pages while replication still runs, so that little is left for
/// the pause.
fn flush_ahead(ctx: &Context, mut control: Session) -> Result<Session, SnapshotError> {
    let since = Instant::now();
    let mut last = u64::MAX;
    while since.elapsed() < SETTLE_AHEAD {
        ctx.cancel.check("flushing dirty pages")?;
        let statement = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'";
        let (back, rows) = control.query(statement, READ_LIMIT)?;
        control = back;
        let dirty = rows
            .first()
            .and_then(|row| row.at(1)?.parse().ok())
            .unwrap_or(0);
        if dirty == 0 || (dirty >= last && since.elapsed() > Duration::from_secs(2)) {
            break;
        }
        last = dirty;
        sleep(Duration::from_millis(200));
    }
    ctx.progress
        .step("flush", "dirty pages written ahead", since);
    Ok(control)
}

/// What a broken pause means to the user.
fn explain(preflight: &Preflight, error: PauseError) -> SnapshotError {
    let name = &preflight.server.name;
    let reason = error.to_string();
    let hint = match error {
        PauseError::Cancelled(step) => return Interrupted { step }.into(),
        PauseError::Session(error) => return SnapshotError::Session(error),
        PauseError::Volume(error) => return SnapshotError::Volume(error),
        PauseError::TempTables(_) => {
            "Let the sessions on the source drop them, or raise temp_table_wait.".to_owned()
        }
        PauseError::Overrun(_) => format!(
            "Raise max_pause of {name} (now {}), or find the transaction that takes so long.",
            humantime::format_duration(preflight.plan.max_pause)
        ),
        PauseError::NotDurable => format!(
            "Find out who sets {} on {name} while a snapshot is taken.",
            durability::COMMIT_FLUSH
        ),
        PauseError::NotQuiet(_) => format!(
            "Keep clients off {name}, raise max_pause, use consistency = \"stop\", or a back-end \
             that snapshots in one moment (zfs, lvm, btrfs)."
        ),
        PauseError::Moved { .. } => {
            format!("Somebody writes to {name}: find out who, and set read_only.")
        }
        PauseError::StillRunning { .. } | PauseError::Disturbed { .. } => {
            "Find out who else starts replication on this server.".to_owned()
        }
        PauseError::NotRunning { .. } => "Look at the replica's last SQL error.".to_owned(),
        PauseError::LeaseBroken => {
            "The operation was held up past max_pause; run it again.".to_owned()
        }
        PauseError::Service(_) => {
            format!("Look at the service of {name}: its stop command must end the server.")
        }
    };
    SnapshotError::Failed {
        step: "pause",
        reason,
        hint: Some(hint),
    }
}
