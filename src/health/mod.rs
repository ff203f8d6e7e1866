//! How servers and pairs are: observe, then judge by rules; see docs/RULES.md.
//!
//! `observe` asks, everything else here is pure: a `PairView` becomes a `Picture` (roles, lag,
//! errant transactions), the rules make findings of it.

pub mod check;
pub mod doctor;
pub mod errant;
pub mod failover;
pub mod finding;
pub mod heartbeat;
pub mod known;
pub mod lag;
pub mod observe;
pub mod picture;
pub mod report;
pub mod roles;
pub mod rules;
#[cfg(test)]
mod tests;
pub mod view;

pub use finding::{Finding, Severity};
pub use observe::{Look, observe};
pub use picture::Picture;
pub use view::{Known, Limits, PairView};
