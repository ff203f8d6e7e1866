//! Moving roles, on real pairs and trios: each test is a story. Given, fault, when, expect.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod channels;
mod datajoint;
mod dead;
mod full;
mod hosts;
mod interrupted;
mod killed;
#[expect(
    dead_code,
    reason = "shared with the other integration tests, which use other parts"
)]
#[path = "../lab/mod.rs"]
mod lab;
mod look;
mod measured;
mod mha;
mod old;
mod planned;
mod refused;
mod rejoin;
mod salvage;
mod semi_sync;
mod steps;
mod stopped;
mod stories;
mod told;
mod two_tools;
