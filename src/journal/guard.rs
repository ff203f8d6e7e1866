//! A lease in force together with its watchdog: what an operation holds while a replica is paused.
//!
//! Dropped without `release` or `put_back`, it leaves the watchdog to put things back.

use std::time::Duration;

use super::lease::{self, Found, Lease};
use super::putback::{self, PutBackError};
use super::state::StateDir;
use super::watchdog::{Watchdog, WatchdogError};
use crate::server::session::Target;
use crate::sys::clock;
use crate::sys::files::FileError;
use crate::sys::lock::FileLock;

/// The watchdog acts this much after the operation should have given up by itself.
const GRACE: Duration = Duration::from_secs(1);

/// How long the operation itself tries to put things back before it leaves it to the watchdog.
const PUT_BACK_FOR: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error(transparent)]
    Watchdog(#[from] WatchdogError),
    #[error(transparent)]
    File(#[from] FileError),
}

pub struct Guard {
    state: StateDir,
    target: Target,
    lease: Lease,
    watchdog: Watchdog,
}

impl Guard {
    /// Writes the lease durably and hands it to the watchdog. Nothing may be changed before this.
    pub fn arm(
        state: &StateDir,
        target: &Target,
        mut watchdog: Watchdog,
        mut lease: Lease,
    ) -> Result<Self, GuardError> {
        lease.watchdog = Some(watchdog.process.clone());
        lease::write(state, &lease)?;
        let armed = watchdog.arm(&lease);
        let guard = Self {
            state: state.clone(),
            target: target.clone(),
            lease,
            watchdog,
        };
        match armed {
            Ok(()) => Ok(guard),
            Err(error) => {
                lease::remove(&guard.state, &guard.lease)?;
                Err(error.into())
            }
        }
    }

    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Starts the deadline anew, `length` from now, with what else has to be put back.
    pub fn renew(
        &mut self,
        length: Duration,
        change: impl FnOnce(&mut Lease),
    ) -> Result<(), GuardError> {
        change(&mut self.lease);
        let (taken, deadline) = (clock::since_boot(), clock::since_boot() + length + GRACE);
        self.lease.taken = clock::now();
        self.lease.deadline = clock::now() + (length + GRACE);
        self.lease.taken_boot_ms = taken.as_millis() as u64;
        self.lease.deadline_boot_ms = deadline.as_millis() as u64;
        lease::write(&self.state, &self.lease)?;
        Ok(self.watchdog.arm(&self.lease)?)
    }

    /// True while no other keeper has stepped in and the deadline isn't past.
    pub fn is_intact(&self) -> bool {
        let ours = match lease::read(&self.state, &self.lease.server) {
            Ok(Found::Lease(found)) => found.operation == self.lease.operation && !found.broken,
            Ok(Found::None | Found::Unreadable(_)) | Err(_) => false,
        };
        ours && !self.lease.time_left().is_zero()
    }

    /// Everything was seen to be back: the lease goes, then the watchdog.
    pub fn release(self) -> Result<(), GuardError> {
        lease::remove(&self.state, &self.lease)?;
        // A watchdog that died has nothing left to do either.
        drop(self.watchdog.release());
        Ok(())
    }

    /// Puts things back over fresh connections. When that fails the lease stays and the watchdog
    /// goes on trying.
    pub fn put_back(self) -> Result<Vec<String>, PutBackError> {
        let alone = FileLock::take_within(
            &self.state.putback_lock(&self.lease.server),
            "operation",
            PUT_BACK_FOR,
        );
        let result = putback::put_back(&self.target, &self.lease, PUT_BACK_FOR);
        drop(alone);
        match result {
            Ok(actions) => {
                drop(lease::remove(&self.state, &self.lease));
                drop(self.watchdog.release());
                Ok(actions)
            }
            Err(error) => {
                self.watchdog.leave();
                Err(error)
            }
        }
    }

    /// Leaves the lease in force, kept by the watchdog alone.
    pub fn leave(self) {
        self.watchdog.leave();
    }
}
