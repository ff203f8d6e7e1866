//! (being written)
pub mod gtid;
