//! The state directory: one place for each kind of file, all of them for their owner only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys::files::{self, FileError};
use crate::sys::lock::{FileLock, LockError};
use crate::sys::process;

/// Sockets of private servers; short, since a socket's path may have 107 bytes.
const RUN: &str = "/run/understudy";

/// Writing a manifest takes a moment.
const MANIFEST_PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    File(#[from] FileError),
    /// Another operation holds this server.
    #[error("another operation holds {server}: {holder}")]
    Busy {
        server: String,
        holder: String,
        hint: String,
    },
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
        for name in [
            "locks",
            "leases",
            "journal/done",
            "snapshots",
            "mounts",
            "work",
            "known",
            "history",
        ] {
            files::make_private_dir(&self.root.join(name))?;
        }
        Ok(())
    }

    /// Removes what killed replacements of its files have left.
    pub fn sweep(&self) -> Result<(), FileError> {
        for name in [
            "accounts",
            "history",
            "journal",
            "journal/done",
            "known",
            "leases",
            "locks",
            "mounts",
            "receipts",
            "snapshots",
        ] {
            files::sweep_replacements(&self.root.join(name))?;
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

    /// What the private server of a use said, kept beside the use's own log.
    pub fn kept_log(&self, use_id: &str) -> PathBuf {
        self.journal_done().join(format!("{use_id}.log"))
    }

    pub fn manifest(&self, id: &str) -> PathBuf {
        self.root.join("snapshots").join(format!("{id}.json"))
    }

    pub fn manifests(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// What is known of the uses that outlive their command: one file per mount.
    pub fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }

    pub fn mount_record(&self, use_id: &str) -> PathBuf {
        self.mounts().join(format!("{use_id}.json"))
    }

    /// What earlier looks at a server have left.
    pub fn known(&self, server: &str) -> PathBuf {
        self.root.join("known").join(format!("{server}.json"))
    }

    /// What ran every night, a line per run.
    pub fn history(&self, server: &str) -> PathBuf {
        self.root.join("history").join(format!("{server}.jsonl"))
    }

    /// There while a server's run goes on, and after one that was killed.
    pub fn run_begun(&self, server: &str) -> PathBuf {
        self.root.join("history").join(format!("{server}.begun"))
    }

    /// Held for the moment in which a line is added to a history.
    pub fn lock_history(&self) -> Result<FileLock, StateError> {
        let path = self.root.join("locks").join("history");
        FileLock::take_within(&path, "writing the history", MANIFEST_PATIENCE)
            .map_err(StateError::Lock)
    }

    /// Held for the whole of a server's `run`, its proof included, during which the server itself is
    /// free.
    pub fn lock_run(&self, server: &str) -> Result<FileLock, StateError> {
        let path = self.root.join("locks").join(format!("{server}.run"));
        let holder = format!("run, pid {}", std::process::id());
        FileLock::take(&path, &holder).map_err(|error| busy(error, server))
    }

    /// Receipts of failovers whose old source hasn't rejoined yet.
    pub fn receipts(&self) -> PathBuf {
        self.root.join("receipts")
    }

    pub fn receipt(&self, operation: &str) -> PathBuf {
        self.receipts().join(format!("{operation}.json"))
    }

    /// Receipts of failovers whose old source follows again.
    pub fn settled_receipts(&self) -> PathBuf {
        self.receipts().join("settled")
    }

    pub fn settled_receipt(&self, operation: &str) -> PathBuf {
        self.settled_receipts().join(format!("{operation}.json"))
    }

    /// What was found in a dead source's binary logs and nowhere else, as SQL.
    pub fn export(&self, operation: &str) -> PathBuf {
        self.receipts().join(format!("{operation}.sql"))
    }

    /// Room on disk for one use's temporary files.
    pub fn work(&self, use_id: &str) -> PathBuf {
        self.root.join("work").join(use_id)
    }

    /// Where one use's private server has its socket and log.
    pub fn run_place(use_id: &str) -> PathBuf {
        Path::new(RUN).join(use_id)
    }

    fn snapshot_lock(&self, id: &str) -> PathBuf {
        self.root.join("locks").join(format!("{id}.snapshot"))
    }

    /// Uses a snapshot beside others who do; while anyone does, it can't be deleted.
    pub fn share_snapshot(&self, id: &str) -> Result<FileLock, StateError> {
        FileLock::share(&self.snapshot_lock(id)).map_err(|error| busy(error, id))
    }

    /// Has a snapshot alone, to delete it.
    pub fn own_snapshot(&self, id: &str, what: &str) -> Result<FileLock, StateError> {
        let holder = format!("{what}, pid {}", std::process::id());
        FileLock::take(&self.snapshot_lock(id), &holder).map_err(|error| match error {
            LockError::Held { .. } => StateError::Busy {
                server: id.to_owned(),
                holder: "it is being verified, mounted, extracted from or restored".to_owned(),
                hint: "Wait until that ends.".to_owned(),
            },
            LockError::Failed { .. } => StateError::Lock(error),
        })
    }

    /// When the snapshot is gone for good.
    pub fn forget_snapshot_lock(&self, id: &str) {
        drop(files::remove(&self.snapshot_lock(id)));
    }

    /// Held by whoever clears away what killed uses left.
    pub fn uses_lock(&self) -> PathBuf {
        self.root.join("locks").join("uses")
    }

    /// Held for the moment in which a manifest is read, changed and written back.
    pub fn lock_manifests(&self) -> Result<FileLock, StateError> {
        let path = self.root.join("locks").join("manifests");
        FileLock::take_within(&path, "writing a manifest", MANIFEST_PATIENCE)
            .map_err(StateError::Lock)
    }

    /// Holds a server for one operation; `what` is shown to whoever comes second.
    pub fn lock_server(&self, server: &str, what: &str) -> Result<FileLock, StateError> {
        let path = self.root.join("locks").join(format!("{server}.lock"));
        let holder = format!("{what}, pid {}", std::process::id());
        FileLock::take(&path, &holder).map_err(|error| busy(error, server))
    }
}

/// For whoever comes second.
pub fn held(server: &str, holder: &str) -> StateError {
    let pid = holder
        .rsplit_once("pid ")
        .and_then(|(_, pid)| pid.parse().ok());
    let is_stopped = pid.is_some_and(process::is_stopped);
    StateError::Busy {
        server: server.to_owned(),
        hint: match (pid, is_stopped) {
            (Some(pid), true) => format!(
                "It is stopped (SIGSTOP): `kill -CONT {pid}` lets it go on. To give it up, `kill -KILL \
                 {pid}`, then `understudy recover`."
            ),
            _ => "Wait until it ends, or end it with SIGTERM; it puts things back.".to_owned(),
        },
        holder: holder.to_owned(),
    }
}

fn busy(error: LockError, what: &str) -> StateError {
    match error {
        LockError::Held { holder, .. } => held(what, &holder),
        LockError::Failed { .. } => StateError::Lock(error),
    }
}
