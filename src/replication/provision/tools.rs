//! The programs and the snapshot that bring the data.

use crate::snapshot::Manifest;
use crate::sys::exec::Program;

/// What a provisioning needs, found before anything is changed.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    pub dump: Option<(Program, Program)>,
    pub backup: Option<(Program, Program)>,
    pub snapshot: Option<Manifest>,
}
