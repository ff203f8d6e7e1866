//! The state directory: one place for each kind of file, all of them for their owner only.

use std::path::{Path, PathBuf};

use crate::sys::files::{self, FileError};
use crate::sys::lock::{FileLock, LockError};

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    File(#[from] FileError),
    /// Another operation holds this server.
    #[error("another operation holds {server}: {holder}")]
    Busy { server: String, holder: String },
    #[error(transparent)]
    Lock(LockError),
}

/// `state_dir` of the configuration.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// Names the places; makes nothing.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Makes the directories where they are missing.
    pub fn create(&self) -> Result<(), FileError> {
        files::make_private_dir(&self.root)?;
        files::make_private(&self.root)?;
        for name in ["locks", "leases", "journal/done", "snapshots"] {
            files::make_private_dir(&self.root.join(name))?;
        }
        Ok(())
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn lease(&self, server: &str) -> PathBuf {
        self.root.join("leases").join(format!("{server}.json"))
    }

    pub fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// Held by whoever is putting a lease's effects back, so that two keepers never do it at once.
    pub fn putback_lock(&self, server: &str) -> PathBuf {
        self.root.join("locks").join(format!("{server}.putback"))
    }

    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub fn journal_done(&self) -> PathBuf {
        self.root.join("journal").join("done")
    }

    pub fn manifest(&self, id: &str) -> PathBuf {
        self.root.join("snapshots").join(format!("{id}.json"))
    }

    pub fn manifests(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Holds a server for one operation; `what` is shown to whoever comes second.
    pub fn lock_server(&self, server: &str, what: &str) -> Result<FileLock, StateError> {
        let path = self.root.join("locks").join(format!("{server}.lock"));
        let holder = format!("{what}, pid {}", std::process::id());
        FileLock::take(&path, &holder).map_err(|error| match error {
            LockError::Held { holder, .. } => StateError::Busy {
                server: server.to_owned(),
                holder,
            },
            LockError::Failed { .. } => StateError::Lock(error),
        })
    }
}
