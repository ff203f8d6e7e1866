//! understudy: paused-replica snapshots for MySQL and MariaDB, proved by booting them.
//!
//! Rooms and their arrows are in docs/ARCHITECTURE.md; `tests/architecture.rs` holds them.

pub mod cli;
pub mod config;
pub mod discovery;
pub mod failover;
pub mod health;
pub mod journal;
pub mod nightly;
pub mod notify;
pub mod replication;
pub mod reroute;
pub mod server;
pub mod snapshot;
pub mod sys;
pub mod volume;
