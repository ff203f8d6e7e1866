//! That a run has begun: a file beside the history, until all that a run does is done, telling included.
//! Who finds one while nobody holds the server's run finds a run that was killed. It is written, looked
//! for and removed only by whoever holds that lock.

use jiff::Timestamp;

use crate::journal::StateDir;
use crate::sys::clock;
use crate::sys::files::{self, FileError};

/// A run has begun.
pub fn note(state: &StateDir, server: &str, began: Timestamp) -> Result<(), FileError> {
    files::replace(&state.run_begun(server), clock::rfc3339(began).as_bytes())
}

/// When the run began that never ended.
pub fn left(state: &StateDir, server: &str) -> Result<Option<String>, FileError> {
    let text = files::read_lossy(&state.run_begun(server))?;
    // A power cut may have left it empty: that a run began is known all the same.
    Ok(text.map(|text| text.trim().to_owned()))
}

/// All of it is done.
pub fn clear(state: &StateDir, server: &str) -> Result<(), FileError> {
    files::remove(&state.run_begun(server)).map(drop)
}
