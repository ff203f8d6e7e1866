//! Time limits on sockets that a library opened.
//!
//! One of the few places with `unsafe`: the driver gives only the number of its descriptor.

use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

/// Sets how long one read on `fd` may take. `fd` must stay open for the length of this call.
pub fn set_receive_limit(fd: RawFd, limit: Duration) -> Result<(), String> {
    if fd < 0 {
        return Err("not connected".to_owned());
    }
    // SAFETY: the caller owns `fd` and keeps it open while we are in here; it isn't closed or kept.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let limit_ms = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1);
    let value = TimeVal::new(limit_ms / 1000, limit_ms % 1000 * 1000);
    setsockopt(&fd, sockopt::ReceiveTimeout, &value).map_err(|errno| errno.to_string())
}
