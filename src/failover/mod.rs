//! Changing which server of a pair is the source, and what follows from it.

pub mod reroute;
