//! One operation per server at a time: an flock that dies with its holder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Between two tries for a lock that somebody has.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it; `holder` is what they wrote about themselves.
    #[error("{} is held by {holder}", path.display())]
    Held { path: PathBuf, holder: String },
    #[error("lock {}: {source}", path.display())]
    Failed {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: Flock<File>,
}

impl FileLock {
    /// Takes the lock or says at once who has it. `holder` is shown to the next one who asks.
    pub fn take(path: &Path, holder: &str) -> Result<Self, LockError> {
        let failed = |source: std::io::Error| LockError::Failed {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let mut before = String::new();
        file.read_to_string(&mut before).map_err(failed)?;
        let mut locked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => locked,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(LockError::Held {
                    path: path.to_owned(),
                    holder: before.trim().to_owned(),
                });
            }
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        locked.set_len(0).map_err(failed)?;
        locked.seek(SeekFrom::Start(0)).map_err(failed)?;
        writeln!(locked, "{holder}").map_err(failed)?;
        Ok(Self { _file: locked })
    }

    /// Shares the lock with others who do, or says at once who has it alone.
    pub fn share(path: &Path) -> Result<Self, LockError> {
        let failed = |source: std::io::Error| LockError::Failed {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let mut holder = String::new();
        file.read_to_string(&mut holder).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(locked) => Ok(Self { _file: locked }),
            Err((_, Errno::EWOULDBLOCK)) => Err(LockError::Held {
                path: path.to_owned(),
                holder: holder.trim().to_owned(),
            }),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    /// As `take`, but waits for whoever has it, `patience` at most.
    pub fn take_within(path: &Path, holder: &str, patience: Duration) -> Result<Self, LockError> {
        let until = Instant::now() + patience;
        loop {
            match Self::take(path, holder) {
                Err(LockError::Held { .. }) if Instant::now() < until => sleep(LOOK_AGAIN),
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_taker_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db2.lock");
        let first = FileLock::take(&path, "snapshot create, pid 7").unwrap();
        match FileLock::take(&path, "other") {
            Err(LockError::Held { holder, .. }) => assert_eq!(holder, "snapshot create, pid 7"),
            other => panic!("expected Held, got {other:?}"),
        }
        drop(first);
        FileLock::take(&path, "other").unwrap();
    }

    #[test]
    fn sharers_keep_out_only_who_wants_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let shared = [
            FileLock::share(&path).unwrap(),
            FileLock::share(&path).unwrap(),
        ];
        assert!(FileLock::take(&path, "delete").is_err());
        drop(shared);
        let alone = FileLock::take(&path, "delete").unwrap();
        assert!(FileLock::share(&path).is_err());
        drop(alone);
    }
}
