//! The time that a way has: whatever it asks, it asks within what is left.

use std::time::{Duration, Instant};

use super::act::Fault;

#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    until: Instant,
    whole: Duration,
}

impl Budget {
    pub fn of(whole: Duration) -> Self {
        Self {
            until: Instant::now() + whole,
            whole,
        }
    }

    /// What is left; nothing may begin when that is nothing.
    pub fn left(&self) -> Result<Duration, Fault> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(Fault::new(
                format!(
                    "it took longer than {}",
                    humantime::format_duration(self.whole)
                ),
                "See what holds it up, or give it a longer timeout.",
            )),
            false => Ok(left),
        }
    }

    /// At most a share of the whole, for what may fail without the way failing.
    pub fn share(&self, of: u32) -> Result<Duration, Fault> {
        Ok(self.left()?.min(self.whole / of))
    }

    pub fn is_over(&self) -> bool {
        self.left().is_err()
    }
}
