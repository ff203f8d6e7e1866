//! Snapshots of a replica: plan, pause, take, manifest, catalogue, retention.
//!
//! The pure parts (`plan`, `retention`) stand beside the parts that perform.

pub mod boot_log;
pub mod catalog;
mod chain;
pub mod context;
pub mod create;
pub mod error;
pub mod essentials;
pub mod extract;
pub mod facts;
pub mod id;
pub mod inplace;
pub mod keep;
pub mod manifest;
pub mod manual;
pub mod moment;
pub mod mounts;
pub mod observe;
pub mod pause;
pub mod plan;
pub mod private;
pub mod progress;
pub mod quiet;
pub mod ready;
pub mod restore;
pub mod retention;
pub mod tables;
pub mod using;
pub mod verify;

pub use context::Context;
pub use error::SnapshotError;
pub use manifest::Manifest;
