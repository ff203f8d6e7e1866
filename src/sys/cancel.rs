//! Whether it is time to stop and put things back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// SIGINT or SIGTERM came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted while {step}")]
pub struct Interrupted {
    pub step: &'static str,
}

/// Set by a signal; looked at between steps and in every wait.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// An error when it is time to put things back.
    pub fn check(&self, step: &'static str) -> Result<(), Interrupted> {
        match self.is_set() {
            true => Err(Interrupted { step }),
            false => Ok(()),
        }
    }
}
