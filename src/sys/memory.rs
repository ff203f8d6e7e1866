//! How much memory there is, and memory that must not be paged while a filesystem is frozen.

use std::io;

use nix::sys::mman::{MlockAllFlags, mlockall};

/// What could be used without swapping; 0 when it can't be told.
pub fn available_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Locks all pages of this process, now and later: while a filesystem is frozen, a page fault that
/// needs it would hang us. Fails without CAP_IPC_LOCK when RLIMIT_MEMLOCK is too small.
pub fn lock_all() -> io::Result<()> {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE).map_err(Into::into)
}
