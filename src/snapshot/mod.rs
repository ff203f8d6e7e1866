//! Snapshots of a replica, from the pause to the file that came back. `take/` makes one, `keep/` knows
//! and ends them, `prove/` boots them, `restore/` gives their data back; what all four speak of stands
//! here.

pub mod archive;
pub mod context;
pub mod error;
pub mod id;
pub mod keep;
pub mod manifest;
pub mod methods;
pub mod observe;
pub mod prove;
pub mod restore;
pub mod take;

pub use context::Context;
pub use error::SnapshotError;
pub use manifest::Manifest;
