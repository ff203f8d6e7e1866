//! The backup lock: taken after the appliers were stopped, given back before they are started.
//!
//! A lock lives and dies with its connection. STOP inside MariaDB's BLOCK_COMMIT wedges the server
//! and MySQL answers error 3857, so this module knows no replication statement.

use std::time::Duration;

use super::flavour::LockScope;
use super::session::{READ_LIMIT, Session, SessionError};

/// A lock in force, with the one connection that holds it.
pub struct BackupLock {
    session: Session,
}

/// A session that is ready to lock: its waits are bounded on the server.
pub struct LockSession {
    session: Session,
    wait: Duration,
}

impl LockSession {
    /// Does what can be done of the lock before the pause. Bounds every lock wait of this session on
    /// the server itself, so that a statement we gave up on can't go on queueing everybody behind it.
    pub fn prepare(session: Session, wait: Duration) -> Result<Self, SessionError> {
        let statement = session.flavour().session_limits(wait.as_secs());
        let mut session = session.execute(&statement, READ_LIMIT)?;
        for statement in session.flavour().lock_preparation() {
            session = session.execute(statement, limit(wait))?;
        }
        Ok(Self { session, wait })
    }

    pub fn connection_id(&self) -> u64 {
        self.session.connection_id()
    }

    /// Takes the lock. On failure the connection is closed and with it whatever was locked.
    pub fn lock(
        self,
        scope: LockScope,
        tables: &[(String, String)],
    ) -> Result<BackupLock, SessionError> {
        let limit = limit(self.wait);
        let mut session = self.session;
        for statement in session.flavour().lock_statements(scope, tables) {
            session = session.execute(&statement, limit)?;
        }
        Ok(BackupLock { session })
    }
}

/// The server gives up first; a little more on our side tells a hang from a wait.
fn limit(wait: Duration) -> Duration {
    wait.max(Duration::from_secs(1)) + Duration::from_secs(2)
}

impl BackupLock {
    /// Asks over the lock's own connection: an answer proves that the lock was never lost.
    pub fn check(self) -> Result<Self, SessionError> {
        let session = self.session.execute("DO 1", READ_LIMIT)?;
        Ok(Self { session })
    }

    pub fn connection_id(&self) -> u64 {
        self.session.connection_id()
    }

    /// Gives it back and returns the session.
    pub fn unlock(self) -> Result<Session, SessionError> {
        let mut session = self.session;
        for statement in session.flavour().unlock_statements() {
            session = session.execute(statement, READ_LIMIT)?;
        }
        Ok(session)
    }
}
