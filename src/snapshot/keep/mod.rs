//! The snapshots that there are: the catalogue, what people look into, how long each stays, its end.

pub mod catalog;
pub mod fit;
pub mod lifecycle;
pub mod mount_record;
pub mod mounts;
pub mod present;
pub mod retention;
