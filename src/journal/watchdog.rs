//! The second keeper of the lease: a process of its own, connected before the pause begins.
//!
//! It hears of the operation through a pipe. End-of-file without a release, or the deadline, makes
//! it put things back. It never takes anything away from an operation that is in time.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::lease::{self, Found, Lease, Purpose};
use super::putback;
use super::state::StateDir;
use crate::server::session::{Session, Target};
use crate::sys::exec;
use crate::sys::files;
use crate::sys::lock::{FileLock, LockError};
use crate::sys::process::{self, ProcessRef};

/// The hidden command under which the binary starts itself.
pub const COMMAND: &str = "__watchdog";

/// How long the watchdog may take to start and connect.
const READY_LIMIT: Duration = Duration::from_secs(15);

/// How long one try to put things back may take, and how long there are tries.
const TRY_FOR: Duration = Duration::from_secs(60);
const KEEP_TRYING_FOR: Duration = Duration::from_secs(24 * 3600);
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// How long a watchdog stays that was never armed.
const UNARMED_FOR: Duration = Duration::from_secs(3600);

/// How often a watchdog without anything to do looks whether it is still needed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    #[error("start the watchdog: {0}")]
    Start(#[from] exec::ExecError),
    #[error("the watchdog isn't ready: {0}")]
    NotReady(String),
    #[error("the watchdog is gone")]
    Gone,
}

/// What the operation tells its watchdog, one JSON document a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Connect {
        target: Box<Target>,
        state_dir: std::path::PathBuf,
        identity: Box<crate::server::Identity>,
    },
    Arm(Box<Lease>),
    Release,
}

/// The operation's end of the pipe.
pub struct Watchdog {
    child: Child,
    pipe: Option<ChildStdin>,
    pub process: ProcessRef,
}

impl Watchdog {
    /// Starts it and waits until it has connected to the very server that we mean.
    pub fn start(
        target: &Target,
        identity: &crate::server::Identity,
        state: &StateDir,
    ) -> Result<Self, WatchdogError> {
        let mut child = exec::spawn_self(COMMAND)?;
        let gone = || WatchdogError::NotReady("it has no process".to_owned());
        let mut watchdog = Self {
            process: ProcessRef::of(child.id()).ok_or_else(gone)?,
            pipe: child.stdin.take(),
            child,
        };
        watchdog.say(&Message::Connect {
            target: Box::new(target.clone()),
            state_dir: state.root().to_owned(),
            identity: Box::new(identity.clone()),
        })?;
        match watchdog.hear(READY_LIMIT) {
            Some(line) if line == "ready" => Ok(watchdog),
            Some(line) => Err(WatchdogError::NotReady(line)),
            None => Err(WatchdogError::NotReady("no answer".to_owned())),
        }
    }

    /// Hands over the lease; from now on its deadline counts.
    pub fn arm(&mut self, lease: &Lease) -> Result<(), WatchdogError> {
        self.say(&Message::Arm(Box::new(lease.clone())))
    }

    /// Everything is back: the watchdog may go, and is waited for briefly.
    pub fn release(mut self) -> Result<(), WatchdogError> {
        self.say(&Message::Release)?;
        self.pipe = None;
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Ok(Some(_)) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Leaves it alone with its lease: a manual pause, or a server that will resume later.
    pub fn leave(mut self) {
        self.pipe = None;
    }

    fn say(&mut self, message: &Message) -> Result<(), WatchdogError> {
        let pipe = self.pipe.as_mut().ok_or(WatchdogError::Gone)?;
        let mut line = serde_json::to_vec(message).expect("a message holds only plain data");
        line.push(b'\n');
        pipe.write_all(&line).map_err(|_| WatchdogError::Gone)
    }

    fn hear(&mut self, limit: Duration) -> Option<String> {
        let stdout = self.child.stdout.take()?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            drop(BufReader::new(stdout).read_line(&mut line));
            drop(sender.send(line));
        });
        let line = receiver.recv_timeout(limit).ok()?;
        Some(line.trim().to_owned())
    }
}

/// The watchdog's own life. Returns when it isn't needed any more.
pub fn run() {
    process::leave_session();
    let messages = listen();
    let Ok(Message::Connect {
        target,
        state_dir,
        identity,
    }) = messages.recv_timeout(READY_LIMIT)
    else {
        return;
    };
    let state = StateDir::at(&state_dir);
    // The connection proves that putting back will be possible; a fresh one is used for it, since
    // this one may have gone stale by then.
    let session = match Session::connect_to(&target, &identity) {
        Ok(session) => session,
        Err(error) => {
            println!("{error}");
            return;
        }
    };
    println!("ready");
    let end = keep(&messages);
    drop(session);
    match end {
        End::Released => {}
        End::Deadline(lease) => guard(&state, &target, &lease, Some(&messages)),
        End::Alone(lease) => guard(&state, &target, &lease, None),
    }
}

/// How the watching ended.
enum End {
    Released,
    /// The operation overran; it may be a stopped process that wakes up later.
    Deadline(Lease),
    /// The operation is gone, or has left the lease to us.
    Alone(Lease),
}

/// Reads the pipe on a thread; its end closes the channel.
fn listen() -> Receiver<Message> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let message = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(message) = message else { return };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits while the operation is in time.
fn keep(messages: &Receiver<Message>) -> End {
    let mut armed: Option<Lease> = None;
    loop {
        let left = armed.as_ref().map_or(UNARMED_FOR, Lease::time_left);
        if left.is_zero()
            && let Some(lease) = armed
        {
            return End::Deadline(lease);
        }
        match (messages.recv_timeout(left), armed.take()) {
            (Ok(Message::Arm(lease)), _) => armed = Some(*lease),
            (Ok(Message::Release), _) => return End::Released,
            (Err(RecvTimeoutError::Disconnected), Some(lease)) => return End::Alone(lease),
            (Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout), None) => {
                return End::Released;
            }
            (Ok(Message::Connect { .. }) | Err(RecvTimeoutError::Timeout), lease) => armed = lease,
        }
    }
}

/// Puts back, until it has succeeded. While the operation that overran is alive it goes on guarding:
/// a stopped process may wake up and send its next statement.
fn guard(state: &StateDir, target: &Target, lease: &Lease, owner: Option<&Receiver<Message>>) {
    if lease.purpose == Purpose::Manual {
        wait_for_deadline(state, lease);
    }
    let until = Instant::now() + KEEP_TRYING_FOR;
    let mut owner = owner;
    while Instant::now() < until && is_ours(state, lease) {
        if put_back_once(state, target, lease, owner.is_some()) && owner.is_none() {
            return;
        }
        match owner.map(|messages| messages.recv_timeout(TRY_AGAIN)) {
            Some(Ok(Message::Release)) => return,
            Some(Err(RecvTimeoutError::Disconnected)) => owner = None,
            Some(Ok(_) | Err(RecvTimeoutError::Timeout)) => {}
            None => thread::sleep(TRY_AGAIN),
        }
    }
}

fn wait_for_deadline(state: &StateDir, lease: &Lease) {
    while !lease.time_left().is_zero() && is_ours(state, lease) {
        thread::sleep(LOOK_AGAIN.min(lease.time_left()));
    }
}

/// The lease on disk is still that of our operation: nobody else has put back and gone on. A state
/// directory that is gone or unreadable is no reason to leave a replica stopped.
fn is_ours(state: &StateDir, lease: &Lease) -> bool {
    match lease::read(state, &lease.server) {
        Ok(Found::Lease(found)) => found.operation == lease.operation,
        Ok(Found::None) => !state.leases().is_dir(),
        Ok(Found::Unreadable(_)) | Err(_) => true,
    }
}

/// One try, alone. On success the lease goes, or is marked broken while its owner lives.
fn put_back_once(state: &StateDir, target: &Target, lease: &Lease, owner_alive: bool) -> bool {
    let _alone = match FileLock::take(&state.putback_lock(&lease.server), "watchdog") {
        Ok(lock) => Some(lock),
        Err(LockError::Held { .. }) => return false,
        // Without a usable state directory nobody else can be at it under the lock either.
        Err(LockError::Failed { .. }) => None,
    };
    if !is_ours(state, lease) {
        return true;
    }
    if owner_alive {
        let broken = Lease {
            broken: true,
            ..lease.clone()
        };
        drop(lease::write(state, &broken));
    }
    let result = putback::put_back(target, lease, TRY_FOR);
    note(state, lease, &result);
    if result.is_ok() && !owner_alive {
        drop(lease::remove(state, lease));
    }
    result.is_ok()
}

/// A line in the operation's own log; a full disk must not keep us from our work.
fn note(state: &StateDir, lease: &Lease, result: &Result<Vec<String>, putback::PutBackError>) {
    let path = state.journal().join(format!("{}.jsonl", lease.operation));
    let text = match result {
        Ok(actions) if actions.is_empty() => return,
        Ok(actions) => actions.join("; "),
        Err(error) => format!("failed: {error}"),
    };
    if matches!(files::read_text(&path), Ok(Some(_)))
        && let Ok(mut log) = super::log::Log::reopen(state, &path)
    {
        drop(log.outcome("watchdog", &text));
    }
}
