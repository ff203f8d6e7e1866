//! What makes an operation survivable: its lock, its durable step log, the lease on a paused
//! replica, the watchdog that keeps it, and `recover` that puts back what was left.
//!
//! Knows how to put things back, not how to take a snapshot.

pub mod guard;
pub mod in_place;
pub mod lease;
pub mod log;
pub mod putback;
pub mod recover;
pub mod service;
pub mod state;
pub mod undo;
pub mod watchdog;

pub use guard::{Guard, GuardError};
pub use lease::{ChannelBefore, Lease, Purpose};
pub use log::{Log, OperationKind};
pub use state::StateDir;
