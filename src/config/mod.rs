//! Configuration: TOML and MySQL option files in, validated types out.
//!
//! Owns every message about a configuration error; must not talk to servers or volumes.

pub mod model;
pub mod secret;

pub use model::{
    Address, BackendChoice, Config, Consistency, CowSize, KeepRules, PairConfig, ServerConfig,
    ServiceConfig, ServiceControl, SnapshotConfig, TlsMode,
};
pub use secret::Secret;
