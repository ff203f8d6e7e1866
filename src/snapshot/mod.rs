//! (being written)
pub mod retention;
