//! Finding out what there is, for the first configuration: the servers around one whose address and
//! account are known, and the text that says so.
//!
//! Nothing is believed that the servers don't confirm by their identity; what can't be reached or
//! confirmed is told. Changes nothing.

pub mod find;
pub mod text;

pub use find::{Found, Member, find};
