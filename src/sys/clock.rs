//! The clocks: wall time for people, boot time for deadlines.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// The wall clock, UTC.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Time since this machine booted, sleep included. Deadlines that another process must agree on
/// are kept in it, since nobody can set it.
pub fn since_boot() -> Duration {
    match clock_gettime(ClockId::CLOCK_BOOTTIME) {
        Ok(time) => time.into(),
        Err(_) => Duration::ZERO,
    }
}

/// Identifies this boot of the machine; a process id or boot time means nothing in another one.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// RFC 3339 in UTC with milliseconds, as every time in our JSON.
pub fn rfc3339(time: Timestamp) -> String {
    format!("{time:.3}")
}
