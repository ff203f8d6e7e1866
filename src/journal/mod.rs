//! What makes an operation survivable: its lock, its durable step log, the lease on a paused
//! replica, the watchdog that keeps it, and `recover` that puts back what was left.
//!
//! Knows how to put things back, not how to take a snapshot.

pub mod act;
pub mod guard;
pub mod lease;
pub mod log;
pub mod operation;
pub mod putback;
pub mod receipt;
pub mod recover;
pub mod service;
pub mod state;
pub mod watchdog;

pub use guard::{Guard, GuardError};
pub use lease::{ChannelBefore, Lease, Purpose};
pub use log::{Beginning, OperationKind};
pub use operation::{InHand, Operation, Party};
pub use state::StateDir;
