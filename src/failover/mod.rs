//! Moving roles: switchover, failover, repoint, rejoin.
//!
//! One sentence: close the source first, see that nothing moves any more, bring the candidate to that
//! very point, open it, and only then tell the world. Before the opening everything can be undone;
//! after it everything is carried through. Each is an operation (`journal/operation.rs`).

mod against;
mod approach;
pub mod assess;
mod back;
mod drain;
pub mod evidence;
mod fence;
pub mod hold;
mod lift;
pub mod look;
mod losses;
mod moment;
pub mod origin;
mod program;
pub mod rehearse;
pub mod rejoin;
mod renew;
pub mod repoint;
pub mod report;
mod rest;
mod salvage;
mod scene;
mod semi_sync;
pub mod steps;
mod surplus;
pub mod switchover;
pub mod takeover;
#[cfg(test)]
mod tests;
