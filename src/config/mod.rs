//! Configuration: TOML and MySQL option files in, validated types out.
//!
//! Owns every message about a configuration error; must not talk to servers or volumes.

mod address;
pub mod credentials;
mod example;
mod failover;
mod failover_table;
mod files;
mod issue;
mod load;
pub mod model;
mod notify;
mod notify_table;
pub mod option_file;
mod parse;
pub mod reference;
mod reroute;
mod reroute_table;
mod reroute_values;
pub mod secret;
mod server_table;
mod snapshot_table;
mod table;
pub mod values;

pub use credentials::Credentials;
pub use example::example;
pub use failover::FailoverConfig;
pub use files::{check_key_file, validate_files};
pub use issue::{Complaint, ConfigError, ConfigErrors, ConfigIssue};
pub use load::{CONFIG_PATHS, CONFIG_VARIABLE, load};
pub use option_file::CredentialsError;

pub use model::{
    Address, BackendChoice, Config, Consistency, CowSize, KeepRules, PairConfig, Runtime,
    ServerBinary, ServerConfig, ServiceConfig, ServiceControl, SnapshotConfig, TlsMode,
    VerifyChoice,
};
pub use notify::{NotifyConfig, NotifyEvent};
pub use parse::{STATE_DIR_DEFAULT, parse};
pub use reroute::{FileFormat, HaproxyEntries, Reroute, RerouteConfig};
pub use secret::Secret;
pub use snapshot_table::BACKENDS;
