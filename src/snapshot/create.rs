//! `snapshot create`: observe, decide, prepare, pause and take, make lasting, report.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::context::Context;
use super::error::SnapshotError;
use super::manifest::{Manifest, Proof, State, Timing};
use super::pause::{self, Held, PauseError, Sessions};
use super::plan::{self, Observed, Plan};
use super::{catalog, id, observe};
use crate::config::{Consistency, ServerConfig, SnapshotConfig};
use crate::journal::lease::{ChannelBefore, Lease, Purpose};
use crate::journal::recover::{self, Paused};
use crate::journal::watchdog::Watchdog;
use crate::journal::{Guard, GuardError, Log, OperationKind};
use crate::server::facts::ServerFacts;
use crate::server::flavour::quote_name;
use crate::server::lock::LockSession;
use crate::server::replication;
use crate::server::session::{READ_LIMIT, Session};
use crate::server::{Identity, Target};
use crate::sys::process::ProcessRef;
use crate::sys::{clock, failpoint};
use crate::volume::freeze::Freezer;
use crate::volume::layout::Layout;
use crate::volume::{self, Backend, Prepared, Stillness, TakeRequest};

/// What the user may say about one snapshot.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub label: Option<String>,
    pub tags: std::collections::BTreeMap<String, String>,
    pub hold: bool,
    pub allow_source: bool,
}

/// How long the part between arming the lease and the pause may take (InnoDB flushing ahead).
const SETTLE_AHEAD: Duration = Duration::from_secs(10);

/// How long one storage command may take.
const STORAGE_LIMIT: Duration = Duration::from_secs(120);

/// What stands before anything is changed.
pub struct Ready {
    pub plan: Plan,
    server: ServerConfig,
    target: Target,
    identity: Identity,
    facts: ServerFacts,
    layout: Layout,
    backend: Box<dyn Backend>,
}

impl Ready {
    /// Where the volumes are mounted that the snapshot is taken of.
    pub fn mount_points(&self) -> Vec<&Path> {
        self.layout
            .volumes
            .iter()
            .map(|volume| volume.mount.mount_point.as_path())
            .collect()
    }
}

/// Takes one snapshot of a server and returns its manifest.
pub fn create(ctx: &Context, name: &str, options: &Options) -> Result<Manifest, SnapshotError> {
    let begun = Instant::now();
    let server = ctx.server(name)?;
    let target = ctx.target(server)?;
    ctx.state.create()?;
    let _lock = ctx.state.lock_server(name, "snapshot create")?;
    recover_first(ctx, &target)?;

    let mut ready = observe_and_plan(ctx, name, options)?;
    wait_for_temp_tables(ctx, &ready)?;
    let id = id::new(name, clock::now());
    let request = request(&ready, &id);
    let mut prepared = ready.backend.prepare(&request)?;
    let mut log = Log::begin(&ctx.state, &id, OperationKind::SnapshotCreate, name)?;
    log.volumes(ready.plan.backend, prepared.plan())?;
    failpoint::hit("journal-begun");

    let made = take(ctx, &mut ready, prepared.as_mut(), &id)
        .and_then(|held| keep(ctx, &ready, prepared.as_mut(), &id, options, held, begun));
    match made {
        Ok(manifest) => {
            log.end("done")?;
            Ok(manifest)
        }
        Err(error) => Err(discard(prepared.as_mut(), log, name, error)),
    }
}

/// The plan alone, for --dry-run; changes nothing.
pub fn plan_only(ctx: &Context, name: &str, options: &Options) -> Result<Ready, SnapshotError> {
    observe_and_plan(ctx, name, options)
}

/// Puts back what an earlier operation left; a pause on purpose isn't ours to end.
pub fn recover_first(ctx: &Context, target: &Target) -> Result<(), SnapshotError> {
    let (recovered, paused) = recover::recover(&ctx.state, target)?;
    for operation in recovered {
        tracing::warn!(operation = %operation.operation, actions = ?operation.actions, "recovered");
    }
    match paused {
        Paused::No => Ok(()),
        Paused::OnPurpose(lease) => Err(SnapshotError::Busy {
            server: target.server.clone(),
            holder: format!("paused on purpose until {}", clock::rfc3339(lease.deadline)),
            hint: format!("Run `understudy resume {}` first.", target.server),
        }),
    }
}

fn observe_and_plan(ctx: &Context, name: &str, options: &Options) -> Result<Ready, SnapshotError> {
    let since = Instant::now();
    let server = ctx.server(name)?.clone();
    let target = ctx.target(&server)?;
    let session = Session::connect(&target)?;
    refuse_unsupported(&session, name)?;
    let identity = session.identity().clone();
    let (session, facts) = crate::server::facts::observe_server(session)?;
    let refusals = plan::refusals(&server, &facts, options.allow_source);
    if !refusals.is_empty() {
        return Err(SnapshotError::Refused { refusals });
    }
    let settings = &server.snapshot;
    let layout = observe::layout(&session, &facts, &settings.path_map)?;
    drop(session);
    let kind = volume::choose(settings.backend, &layout, settings.directory.as_deref())?;
    let freeze = freeze_points(ctx, settings, kind, &layout)?;
    let plan = plan::plan_create(&Observed {
        config: &server,
        facts: &facts,
        backend: kind,
        freeze,
    });
    let backend = volume::open(kind)?;
    ctx.progress.step(
        "check",
        format!(
            "{} {}, {} snapshot",
            name,
            facts.version,
            plan::kind_word(kind)
        ),
        since,
    );
    Ok(Ready {
        plan,
        server,
        target,
        identity,
        facts,
        layout,
        backend,
    })
}

fn refuse_unsupported(session: &Session, name: &str) -> Result<(), SnapshotError> {
    if session.flavour().is_supported() {
        return Ok(());
    }
    Err(SnapshotError::refused(
        format!(
            "{name} is {}, a version this tool doesn't know",
            session.flavour().text
        ),
        "Use MySQL 5.6 or later, or MariaDB 10.5 or later.",
    ))
}

/// The mount points that have to stand still together, or why they can't.
fn freeze_points(
    ctx: &Context,
    settings: &SnapshotConfig,
    kind: volume::BackendKind,
    layout: &Layout,
) -> Result<Vec<PathBuf>, SnapshotError> {
    let is_stopped = settings.consistency == Consistency::Stop;
    if is_stopped || !volume::needs_freeze(kind, layout) {
        return Ok(Vec::new());
    }
    if let Some(problem) = volume::freeze_problem(kind, layout, ctx.state.root())? {
        return Err(problem.into());
    }
    let mut points: Vec<PathBuf> = layout
        .volumes
        .iter()
        .map(|volume| volume.mount.mount_point.clone())
        .collect();
    points.dedup();
    Ok(points)
}

/// Replicated temporary tables are waited out before anything is paused.
fn wait_for_temp_tables(ctx: &Context, ready: &Ready) -> Result<(), SnapshotError> {
    if ready.facts.open_temp_tables == 0 || !ready.facts.is_replica() {
        return Ok(());
    }
    let since = Instant::now();
    let until = since + ready.server.snapshot.temp_table_wait;
    let mut session = Session::connect_to(&ready.target, &ready.identity)?;
    loop {
        ctx.cancel.check("waiting for temporary tables")?;
        let (back, open) = replication::observe_open_temp_tables(session)?;
        session = back;
        if open == 0 {
            ctx.progress
                .step("wait", "replicated temporary tables closed", since);
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(SnapshotError::refused(
                format!(
                    "{open} replicated temporary tables are open on {}",
                    ready.server.name
                ),
                "Let the sessions on the source drop them, or raise temp_table_wait.",
            ));
        }
        sleep(Duration::from_millis(100));
    }
}

fn request(ready: &Ready, id: &str) -> TakeRequest {
    TakeRequest {
        id: id.to_owned(),
        server: ready.server.name.clone(),
        layout: ready.layout.clone(),
        directory: ready.server.snapshot.directory.clone(),
        cow_size: ready.server.snapshot.cow_size,
        limit: STORAGE_LIMIT.min(ready.server.snapshot.max_pause),
        stillness: stillness(&ready.plan),
    }
}

fn stillness(plan: &Plan) -> Stillness {
    if plan.stops_server() {
        Stillness::Stopped
    } else if plan.freeze.is_empty() {
        Stillness::Live
    } else {
        Stillness::Frozen
    }
}

/// Everything between the last preparation and the replica applying again.
fn take(
    ctx: &Context,
    ready: &mut Ready,
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

    let sessions = connect(ready)?;
    let watchdog = Watchdog::start(&ready.target, &ready.identity, &ctx.state)?;
    failpoint::hit("watchdog-ready");
    let lease = lease(ready, &sessions, id);
    let mut guard = Guard::arm(&ctx.state, &ready.target, watchdog, lease).map_err(lease_failed)?;
    failpoint::hit("leased");
    match pause_and_take(ctx, ready, prepared, &mut guard, sessions) {
        Ok(held) if ready.plan.stops_server() => restart(ctx, ready, guard, held),
        Ok(held) if ready.plan.needs_quiet() => {
            // The appliers run again; what is left are the limits on dirty pages.
            let back = guard.put_back();
            back.map_err(|error| SnapshotError::left(&ready.server.name, &error, None))?;
            failpoint::hit("released");
            Ok(held)
        }
        Ok(held) => {
            guard.release().map_err(lease_failed)?;
            failpoint::hit("released");
            Ok(held)
        }
        Err(error) => Err(give_up(ready, guard, error)),
    }
}

/// Puts things back after a failure; where another keeper did so already, that is the reason that
/// counts, whatever its stepping in broke here.
fn give_up(ready: &Ready, guard: Guard, error: SnapshotError) -> SnapshotError {
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
        Err(left) => SnapshotError::left(&ready.server.name, &left, Some(&error)),
    }
}

/// Starts the server that was stopped for the moment, and its threads as they were.
fn restart(ctx: &Context, ready: &Ready, guard: Guard, held: Held) -> Result<Held, SnapshotError> {
    let since = Instant::now();
    let name = &ready.server.name;
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

/// The three connections of the pause, and the channels as they are *now*: a pre-copy can take
/// hours.
fn connect(ready: &mut Ready) -> Result<Sessions, SnapshotError> {
    let new = || Session::connect_to(&ready.target, &ready.identity);
    let (control, channels) = replication::observe_channels(new()?)?;
    let stop = new()?;
    let lock = match ready.plan.lock {
        Some(_) => Some(LockSession::prepare(
            new()?,
            ready.server.snapshot.lock_wait,
        )?),
        None => None,
    };
    ready.plan.channels = channels.iter().map(ChannelBefore::from).collect();
    Ok(Sessions {
        control,
        stop,
        lock,
    })
}

fn lease(ready: &Ready, sessions: &Sessions, id: &str) -> Lease {
    let mut connections = vec![
        sessions.stop.connection_id(),
        sessions.control.connection_id(),
    ];
    connections.extend(sessions.lock.as_ref().map(LockSession::connection_id));
    let (now, boot) = (clock::now(), clock::since_boot());
    Lease {
        operation: id.to_owned(),
        purpose: Purpose::Snapshot,
        server: ready.server.name.clone(),
        identity: ready.identity.clone(),
        channels: ready.plan.channels.clone(),
        globals: ready.plan.globals.clone(),
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

fn pause_and_take(
    ctx: &Context,
    ready: &Ready,
    prepared: &mut dyn Prepared,
    guard: &mut Guard,
    mut sessions: Sessions,
) -> Result<Held, SnapshotError> {
    let plan = &ready.plan;
    if plan.needs_quiet() {
        sessions.control = flush_ahead(ctx, plan, sessions.control)?;
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
    pause::hold(hands, sessions).map_err(|error| explain(ready, error))
}

fn lease_failed(error: GuardError) -> SnapshotError {
    match error {
        GuardError::Watchdog(error) => error.into(),
        GuardError::File(error) => error.into(),
    }
}

/// Lets InnoDB write out its dirty pages while replication still runs, so that little is left for
/// the pause. The limits are set back with the lease.
fn flush_ahead(ctx: &Context, plan: &Plan, mut control: Session) -> Result<Session, SnapshotError> {
    let since = Instant::now();
    // The low-water mark first: it may not exceed the percentage.
    for global in plan.globals.iter().rev() {
        let statement = format!("SET GLOBAL {} = 0", quote_name(&global.name));
        control = control.execute(&statement, READ_LIMIT)?;
    }
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

/// Seals what was taken and writes the manifest: from here on the snapshot counts.
fn keep(
    ctx: &Context,
    ready: &Ready,
    prepared: &mut dyn Prepared,
    id: &str,
    options: &Options,
    held: Held,
    begun: Instant,
) -> Result<Manifest, SnapshotError> {
    // From the signal on, nothing new is kept, also when it came after the snapshot was taken.
    ctx.cancel.check("keeping the snapshot")?;
    let since = Instant::now();
    let mut manifest = manifest(ctx, ready, id, options, held);
    manifest.volumes = prepared.seal(&catalog::travelling_tags(&manifest))?;
    failpoint::hit("sealed");
    manifest.timing = manifest.timing.map(|timing| Timing {
        total_ms: pause::ms(begun.elapsed()),
        ..timing
    });
    catalog::write(&ctx.state, &manifest)?;
    ctx.progress
        .step("keep", format!("catalogued as {id}"), since);
    Ok(manifest)
}

fn manifest(ctx: &Context, ready: &Ready, id: &str, options: &Options, held: Held) -> Manifest {
    let name = &ready.server.name;
    let mut warnings = ready.plan.warnings.clone();
    warnings.extend(ready.layout.warnings.clone());
    Manifest {
        id: id.to_owned(),
        server: name.clone(),
        pair: ctx.config.pair_of(name).map(|pair| pair.name.clone()),
        created: held.at,
        backend: ready.plan.backend.choice(),
        backend_kind: ready.plan.backend,
        consistency: Some(ready.plan.consistency),
        label: options.label.clone(),
        tags: options.tags.clone(),
        held: options.hold,
        proof: Proof::Taken,
        proof_time: None,
        state: State::Complete,
        state_reason: None,
        position: Some(held.position),
        server_version: Some(ready.facts.version.clone()),
        server_identity: Some(ready.identity.to_string()),
        volumes: Vec::new(),
        timing: Some(held.timing),
        warnings,
    }
}

/// Removes what was made, after a failure that put replication back; what can't be removed is left
/// to `recover`.
fn discard(
    prepared: &mut dyn Prepared,
    log: Log,
    server: &str,
    error: SnapshotError,
) -> SnapshotError {
    let discarded = prepared.discard();
    let left = matches!(error, SnapshotError::NeedsOperator { .. });
    match discarded {
        Ok(()) if left => error,
        Ok(()) => {
            drop(log.end(&format!("failed: {error}")));
            error
        }
        Err(left) => SnapshotError::NeedsOperator {
            reason: format!("{error}; and what was made couldn't be removed: {left}"),
            hint: format!("Cure what the storage says, then run `understudy recover {server}`."),
        },
    }
}

/// What a broken pause means to the user.
fn explain(ready: &Ready, error: PauseError) -> SnapshotError {
    let name = &ready.server.name;
    let reason = error.to_string();
    let hint = match error {
        PauseError::Cancelled(step) => return SnapshotError::Interrupted { step },
        PauseError::Session(error) => return SnapshotError::Session(error),
        PauseError::Volume(error) => return SnapshotError::Volume(error),
        PauseError::TempTables(_) => {
            "Let the sessions on the source drop them, or raise temp_table_wait.".to_owned()
        }
        PauseError::Overrun(_) => format!(
            "Raise max_pause of {name} (now {}), or find the transaction that takes so long.",
            humantime::format_duration(ready.plan.max_pause)
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
        PauseError::Service(_) | PauseError::StillUp => {
            format!("Look at the service of {name}: its stop command must end the server.")
        }
    };
    SnapshotError::Failed {
        step: "pause",
        reason,
        hint: Some(hint),
    }
}
