//! Memory that must not be paged while a filesystem is frozen.

use std::io;

use nix::sys::mman::{MlockAllFlags, mlockall};

/// Locks all pages of this process, now and later: while a filesystem is frozen, a page fault that
/// needs it would hang us. Fails without CAP_IPC_LOCK when RLIMIT_MEMLOCK is too small.
pub fn lock_all() -> io::Result<()> {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).map_err(Into::into)
}
