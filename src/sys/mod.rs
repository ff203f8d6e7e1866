//! The machine: programs, files, locks, clocks.
//!
//! The only room that starts programs, reads the wall clock or writes files by hand; it knows
//! nothing of databases or snapshots.

pub mod ask;
pub mod bound;
pub mod cancel;
pub mod clock;
pub mod contained;
pub mod dialogue;
pub mod edit;
pub mod exec;
pub mod fact;
pub mod failpoint;
pub mod files;
pub mod flow;

pub mod http;
pub mod ioctl;
pub mod lock;
pub mod memory;
#[cfg(test)]
pub mod pages;
pub mod parallel;
pub mod process;
pub mod progress;
pub mod random;
pub mod room;
pub mod socket;
pub mod stream;
pub mod terminal;
pub mod transfer;
pub mod trust;
pub mod words;

pub use fact::Fact;
