//! Everything that speaks SQL: sessions, flavours, GTID sets, replication statements.
//!
//! Differences between MySQL and MariaDB, and between their versions, are met in `flavour`, `pair`,
//! `durability` and `engine_files`, and nowhere else.

pub mod accounts;
pub mod burden;
pub mod channel;
pub mod client;
pub mod condition;
pub mod dumpable;
pub mod durability;
pub mod engine_files;
pub mod facts;
pub mod flavour;
pub mod foreign_keys;
pub mod globals;
pub mod grants;
pub mod gtid;
pub mod heartbeat;
pub mod held;
pub mod identity;
pub mod lock;
pub mod log_files;
pub mod neighbours;
pub mod pair;
pub mod pair_lock;
pub mod parity;
pub mod position;
pub mod private;
pub mod privileges;
pub mod promotion;
pub mod replication;
pub mod row;
pub mod semi_sync;
pub mod session;

pub use flavour::{Family, Flavour};
pub use identity::Identity;
pub use session::{Session, SessionError, Target};
