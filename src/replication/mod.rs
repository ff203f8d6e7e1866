//! Making a replica follow its source: check, account, data, link, proof.
//!
//! `plan` decides and has no effects; `setup` reads as the steps go.

pub mod account;
pub mod error;
mod link;
pub mod marker;
pub mod observe;
mod option_file;
pub mod plan;
pub mod provision;
pub mod request;
mod semi_sync;
mod setting;
pub mod setup;
pub mod warning;
mod work;

pub use error::SetupError;
