//! Making a snapshot: what will be done (pure), what stands before it, the pause, and the moment in it.

pub mod capture;
pub mod create;
pub mod manual;
pub mod pause;
pub mod plan;
pub mod preflight;
pub mod quiet;
