//! Whether a snapshot is good: a private server on a clone of it, its log, its tables, its rows.

pub mod boot_log;
pub mod chain;
pub mod checksums;
pub mod clone_session;
pub mod essentials;
pub mod facts;
mod links;
pub mod private_server;
pub mod program;
pub mod tables;
pub mod verify;
