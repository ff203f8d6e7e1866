//! The machine: programs, files, locks, clocks.
//!
//! The only room that starts programs, reads the wall clock or writes files by hand; it knows
//! nothing of databases or snapshots.

pub mod clock;
pub mod dialogue;
pub mod exec;
pub mod fact;
pub mod files;
pub mod lock;
pub mod process;

pub use fact::Fact;
