//! The pause itself. Order, and never another: stop the SQL threads, see them stopped, lock, record
//! the position, freeze, snapshot, thaw, check that the lock was never lost, unlock, start what was
//! stopped, see it run. Everything that could be done before or after is done there.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::journal::Guard;
use crate::journal::service::{self, ServiceError};
use crate::server::durability;
use crate::server::lock::{BackupLock, LockSession};
use crate::server::replication::{self, Channel, Position, ThreadState};
use crate::server::session::{READ_LIMIT, Session, SessionError};
use crate::snapshot::manifest::Timing;
use crate::snapshot::take::plan::Plan;
use crate::snapshot::take::quiet;
use crate::sys::cancel::Cancel;
use crate::sys::clock::now;
use crate::sys::failpoint;
use crate::sys::progress::Progress;
use crate::volume::freeze::Freezer;
use crate::volume::{Prepared, VolumeError};

/// Between two looks at something that takes its time.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long a stop command that returned early is given until the server is really gone.
const DOWN_LIMIT: Duration = Duration::from_secs(60);

/// Why the pause was broken off. The caller puts everything back.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    #[error("interrupted while {0}")]
    Cancelled(&'static str),
    #[error("max_pause is over while {0}")]
    Overrun(&'static str),
    #[error("{0}")]
    Session(#[from] SessionError),
    #[error("{0}")]
    Volume(#[from] VolumeError),
    #[error("the applier of the {channel} still runs after it was stopped")]
    StillRunning { channel: String },
    #[error("the applier of the {channel} was started by somebody else during the pause")]
    Disturbed { channel: String },
    #[error("the position moved from {before} to {after} during the pause")]
    Moved { before: String, after: String },
    #[error("{0} replicated temporary tables are open")]
    TempTables(u64),
    #[error(
        "commits aren't made durable: somebody set {} to 0 meanwhile",
        durability::COMMIT_FLUSH
    )]
    NotDurable,
    #[error("the files changed while they were copied: {0}")]
    NotQuiet(String),
    #[error("the applier of the {channel} doesn't run again: {reason}")]
    NotRunning { channel: String, reason: String },
    #[error("the lease was broken by another keeper")]
    LeaseBroken,
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// The connections of the pause, made before it.
pub struct Sessions {
    pub control: Session,
    /// For STOP, which may hang, and what is asked beside the rest once it has answered.
    pub stop: Session,
    pub lock: Option<LockSession>,
}

/// What the rest of the operation needs from the pause.
pub struct Held {
    /// When the moment was.
    pub at: Timestamp,
    pub position: Position,
    pub timing: Timing,
}

/// The hands that the pause works with.
pub struct Hands<'a> {
    pub plan: &'a Plan,
    pub guard: &'a Guard,
    pub prepared: &'a mut dyn Prepared,
    pub freezer: Option<Freezer>,
    pub progress: &'a Progress,
    pub cancel: &'a Cancel,
}

/// Pauses, takes, resumes. On error nothing is put back here.
pub fn hold(mut hands: Hands, sessions: Sessions) -> Result<Held, PauseError> {
    let clock = Clock::start(hands.plan.max_pause);
    let lock = sessions.lock;
    failpoint::hit("stopping");
    let aside = stop_appliers(&hands, sessions.stop, &clock)?;
    let stopped = Instant::now();
    failpoint::hit("stopped");
    let control = see_stopped(&hands, sessions.control)?;
    let control = close_gaps(&hands, control, &clock)?;
    let temp_tables = count_temp_tables(&hands, aside);
    let lock = take_lock(&hands, lock, &clock)?;
    failpoint::hit("locked");
    let control = see_commits_durable(&hands, control)?;
    let control = leave_binary_log(&hands, control, &clock)?;
    let (control, position) = replication::observe_position(control)?;
    failpoint::hit("positioned");
    let at = now();
    let settled = Instant::now();
    let taken;
    if let Some(its_service) = &hands.plan.service {
        refuse_temp_tables(temp_tables)?;
        let target = control.target().clone();
        let data_dir = PathBuf::from(&control.identity().data_dir);
        drop(control);
        // Files of a live server would be torn. It is started by putting the lease back.
        service::stop(its_service, &target, &data_dir, DOWN_LIMIT)?;
        take_frozen(&mut hands)?;
        clock.left("taking the snapshot", hands.cancel)?;
        taken = Instant::now();
        failpoint::hit("taken");
    } else {
        let control = take(&mut hands, control, &clock)?;
        taken = Instant::now();
        failpoint::hit("taken");
        refuse_temp_tables(temp_tables)?;
        let (control, lock) = check(&hands, control, lock, &position)?;
        failpoint::hit("checked");
        drop(lock.map(BackupLock::unlock).transpose()?);
        failpoint::hit("unlocked");
        start_appliers(&hands, control, &clock)?;
        failpoint::hit("started");
    }
    let started = Instant::now();
    if !hands.guard.is_intact() {
        return Err(PauseError::LeaseBroken);
    }
    let timing = Timing {
        pause_ms: ms(started - clock.started),
        pause_us: (started - clock.started).as_micros() as u64,
        stop_ms: ms(stopped - clock.started),
        settle_ms: ms(settled - stopped),
        snapshot_ms: ms(taken - settled),
        start_ms: ms(started - taken),
        total_ms: 0,
    };
    Ok(Held {
        at,
        position,
        timing,
    })
}

/// Milliseconds, rounded to the nearest.
pub fn ms(duration: Duration) -> u64 {
    (duration.as_micros() as u64 + 500) / 1000
}

/// The pause's own deadline; the lease's comes a little after it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    until: Instant,
}

impl Clock {
    pub fn start(length: Duration) -> Self {
        let started = Instant::now();
        Self {
            started,
            until: started + length,
        }
    }

    /// Time left for `step`, or the reason to break off.
    fn left(&self, step: &'static str, cancel: &Cancel) -> Result<Duration, PauseError> {
        if cancel.is_set() {
            return Err(PauseError::Cancelled(step));
        }
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(PauseError::Overrun(step));
        }
        Ok(left)
    }
}

/// Sends the STOPs on their own connection, on a thread: a transaction in hand can make them hang,
/// and then we must be able to leave.
fn stop_appliers(hands: &Hands, session: Session, clock: &Clock) -> Result<Session, PauseError> {
    const STEP: &str = "stopping the applier";
    let statements: Vec<String> = hands
        .plan
        .running()
        .map(|channel| session.flavour().stop_sql_thread(channel))
        .collect();
    if statements.is_empty() {
        return Ok(session);
    }
    let limit = clock.left(STEP, hands.cancel)? + Duration::from_secs(1);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let result = statements
            .iter()
            .try_fold(session, |session, sql| session.execute(sql, limit));
        drop(sender.send(result));
    });
    loop {
        let left = clock.left(STEP, hands.cancel)?;
        match receiver.recv_timeout(left.min(Duration::from_millis(20))) {
            Ok(Ok(session)) => {
                hands
                    .progress
                    .step("stop", "SQL threads stopped", clock.started);
                return Ok(session);
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(PauseError::Overrun(STEP)),
        }
    }
}

fn see_stopped(hands: &Hands, control: Session) -> Result<Session, PauseError> {
    let (control, channels) = replication::observe_channels(control)?;
    match still_running(hands.plan, &channels) {
        Some(channel) => Err(PauseError::StillRunning {
            channel: channel.name.to_string(),
        }),
        None => Ok(control),
    }
}

/// A channel whose applier isn't known to be stopped.
fn still_running<'a>(plan: &Plan, channels: &'a [Channel]) -> Option<&'a Channel> {
    channels
        .iter()
        .filter(|channel| {
            plan.channels
                .iter()
                .any(|before| before.name == channel.name)
        })
        .find(|channel| channel.sql != ThreadState::Stopped)
}

/// Lets each parallel applier fill its gaps; it stops by itself when there are none left.
fn close_gaps(hands: &Hands, mut control: Session, clock: &Clock) -> Result<Session, PauseError> {
    const STEP: &str = "closing the parallel applier's gaps";
    if !hands.plan.close_gaps {
        return Ok(control);
    }
    for channel in hands.plan.running() {
        let Some(statement) = control.flavour().start_until_no_gaps(channel) else {
            continue;
        };
        let limit = clock.left(STEP, hands.cancel)?;
        // Without gaps the server may refuse the statement; the applier is stopped either way.
        let (back, _) = control.attempt(&statement, limit)?;
        control = back;
    }
    loop {
        let (back, channels) = replication::observe_channels(control)?;
        control = back;
        if still_running(hands.plan, &channels).is_none() {
            return Ok(control);
        }
        clock.left(STEP, hands.cancel)?;
        thread::sleep(LOOK_AGAIN);
    }
}

/// An answer that is computed on a thread of its own, for a while that nothing can change it.
type Aside<T> = thread::JoinHandle<Result<T, SessionError>>;

/// Counts replicated temporary tables beside the rest of the pause: the server takes a millisecond
/// to sum up its status, and with the appliers stopped the number stands.
fn count_temp_tables(hands: &Hands, session: Session) -> Option<Aside<u64>> {
    if hands.plan.channels.is_empty() {
        return None;
    }
    Some(thread::spawn(move || {
        replication::observe_open_temp_tables(session).map(|(_, open)| open)
    }))
}

/// Temporary tables that a replicated session left open are in no snapshot: a restart from it
/// would break replication.
fn refuse_temp_tables(count: Option<Aside<u64>>) -> Result<(), PauseError> {
    match count.map(thread::JoinHandle::join) {
        None | Some(Ok(Ok(0))) => Ok(()),
        Some(Ok(Ok(open))) => Err(PauseError::TempTables(open)),
        Some(Ok(Err(error))) => Err(error.into()),
        Some(Err(_)) => Err(PauseError::Overrun("counting temporary tables")),
    }
}

fn take_lock(
    hands: &Hands,
    session: Option<LockSession>,
    clock: &Clock,
) -> Result<Option<BackupLock>, PauseError> {
    let (Some(scope), Some(session)) = (hands.plan.lock, session) else {
        return Ok(None);
    };
    clock.left("locking", hands.cancel)?;
    let since = Instant::now();
    let lock = session.lock(scope, &hands.plan.tables)?;
    hands.progress.step("lock", "backup lock taken", since);
    Ok(Some(lock))
}

/// Every commit up to here is where a snapshot sees it: written by itself, as it was made sure of
/// before the pause, and nobody has changed that since.
fn see_commits_durable(hands: &Hands, control: Session) -> Result<Session, PauseError> {
    if hands.plan.stops_server() || hands.plan.is_dump() {
        return Ok(control);
    }
    let statement = format!("SELECT @@GLOBAL.{}", durability::COMMIT_FLUSH);
    let (control, setting) = control.value(&statement, READ_LIMIT)?;
    match setting.as_deref() {
        Some("0") => Err(PauseError::NotDurable),
        Some(_) | None => Ok(control),
    }
}

/// Where the binary log isn't taken: whatever it holds is in the engines' own logs, and on disk.
fn leave_binary_log(hands: &Hands, control: Session, clock: &Clock) -> Result<Session, PauseError> {
    const STEP: &str = "settling what the binary log holds";
    if !hands.plan.leaves_binary_log {
        return Ok(control);
    }
    let since = Instant::now();
    let (mut control, begun) = durability::observe_redo(control)?;
    for statement in control.flavour().leave_binary_log().unwrap_or_default() {
        control = control.execute(statement, clock.left(STEP, hands.cancel)?)?;
    }
    for statement in control.flavour().flush_redo_early() {
        // Where it is refused, the wait below takes its second.
        let (back, done) = control.attempt(statement, clock.left(STEP, hands.cancel)?)?;
        if let Err(error) = done {
            tracing::debug!(%error, statement, "the redo log isn't flushed at once");
        }
        control = back;
    }
    let mut flushed = begun.flushed;
    while flushed < begun.current {
        clock.left(STEP, hands.cancel)?;
        let (back, now) = durability::observe_redo(control)?;
        (control, flushed) = (back, now.flushed);
        if flushed < begun.current {
            thread::sleep(LOOK_AGAIN);
        }
    }
    hands
        .progress
        .step("settle", "the redo log holds all of it", since);
    Ok(control)
}

/// The moment.
fn take(hands: &mut Hands, control: Session, clock: &Clock) -> Result<Session, PauseError> {
    const STEP: &str = "taking the snapshot";
    clock.left(STEP, hands.cancel)?;
    let since = Instant::now();
    let control = if hands.plan.needs_quiet() {
        take_quiet(hands, control, clock)?
    } else {
        take_frozen(hands)?;
        control
    };
    clock.left(STEP, hands.cancel)?;
    hands.progress.step("snapshot", "snapshot taken", since);
    Ok(control)
}

fn take_frozen(hands: &mut Hands) -> Result<(), PauseError> {
    if let Some(freezer) = &mut hands.freezer {
        freezer.freeze_all()?;
        failpoint::hit("frozen");
    }
    let progress = hands.progress;
    let taken = hands
        .prepared
        .take(&mut |done, total| progress.bytes(done, total));
    if let Some(freezer) = &mut hands.freezer {
        freezer.thaw_all()?;
        failpoint::hit("thawed");
    }
    Ok(taken?)
}

/// File by file from a live server: again and again, until the server's counters prove that it
/// wrote nothing from before the walk to after it, or the time is over.
fn take_quiet(
    hands: &mut Hands,
    mut control: Session,
    clock: &Clock,
) -> Result<Session, PauseError> {
    const STEP: &str = "copying while InnoDB is at rest";
    let cancel = hands.cancel;
    let cancelled = || cancel.is_set();
    loop {
        clock.left(STEP, cancel)?;
        let (back, before) = match quiet::wait_until_quiet(control, clock.until, &cancelled) {
            // It was told to write everything out, and didn't answer in the time that was left.
            Err(_) if Instant::now() >= clock.until => {
                let reason = "InnoDB was still writing when max_pause was over";
                return Err(PauseError::NotQuiet(reason.to_owned()));
            }
            quiet => quiet?,
        };
        let before = before.map_err(PauseError::NotQuiet)?;
        let progress = hands.progress;
        let torn = match hands
            .prepared
            .take(&mut |done, total| progress.bytes(done, total))
        {
            Ok(()) => None,
            Err(VolumeError::Torn { path, .. }) => Some(format!("{} changed", path.display())),
            Err(error) => return Err(error.into()),
        };
        let (back, after) = quiet::observe_counters(back)?;
        control = back;
        let moved = torn.or_else(|| before.difference(&after));
        let Some(moved) = moved else {
            return Ok(control);
        };
        tracing::debug!(%moved, "the copy is torn and is made again");
        if clock.left(STEP, cancel).is_err() {
            return Err(PauseError::NotQuiet(moved));
        }
    }
}

/// Proves that what held the moment together held all along: the lock's own connection answers, no
/// applier was started, nothing was applied.
fn check(
    hands: &Hands,
    control: Session,
    lock: Option<BackupLock>,
    position: &Position,
) -> Result<(Session, Option<BackupLock>), PauseError> {
    let lock = lock.map(BackupLock::check).transpose()?;
    let (control, channels) = replication::observe_channels(control)?;
    if let Some(channel) = still_running(hands.plan, &channels) {
        return Err(PauseError::Disturbed {
            channel: channel.name.to_string(),
        });
    }
    let (control, gtid) = replication::observe_gtid(control, !channels.is_empty())?;
    if gtid != position.gtid {
        return Err(PauseError::Moved {
            before: position.gtid.clone(),
            after: gtid,
        });
    }
    Ok((control, lock))
}

/// Starts exactly what was stopped, and sees it run.
fn start_appliers(hands: &Hands, mut control: Session, clock: &Clock) -> Result<(), PauseError> {
    let since = Instant::now();
    for channel in hands.plan.running() {
        let statement = control.flavour().start_sql_thread(channel);
        control = control.execute(&statement, READ_LIMIT)?;
    }
    loop {
        let (back, channels) = replication::observe_channels(control)?;
        control = back;
        let waiting = channels.iter().find(|channel| {
            hands.plan.running().any(|name| *name == channel.name)
                && channel.sql != ThreadState::Running
        });
        let Some(channel) = waiting else { break };
        if channel.sql == ThreadState::Stopped && !channel.sql_error.is_empty() {
            return Err(PauseError::NotRunning {
                channel: channel.name.to_string(),
                reason: channel.sql_error.clone(),
            });
        }
        if Instant::now() >= clock.until {
            return Err(PauseError::Overrun("starting the applier"));
        }
        thread::sleep(LOOK_AGAIN);
    }
    hands.progress.step("start", "SQL threads run again", since);
    Ok(())
}
