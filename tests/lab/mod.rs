//! The lab of the integration tests: real servers on real volumes, and the real binary.
//!
//! Everything made here is private (own directory, own names, loopback only) and goes when its
//! value is dropped, also on a panic. What a killed run left is swept by the next one.

pub mod contract;
pub mod couple;
pub mod kept;
pub mod key_ring;
pub mod left;
pub mod load;
pub mod network;
pub mod pair;
pub mod private;
pub mod program;
pub mod restored;
pub mod runner;
pub mod scratch;
pub mod server;
pub mod small_state;
pub mod storage;
pub mod strikes;
pub mod tool;
pub mod trio;
pub mod walk;

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// True in the emulated machine of scripts/lab/guest, where everything takes ten times as long.
pub fn in_guest() -> bool {
    std::env::var_os("UNDERSTUDY_LAB_DISKS").is_some()
}

/// A limit for something that takes `seconds` on an ordinary machine.
pub fn limit(seconds: u64) -> Duration {
    Duration::from_secs(if in_guest() { seconds * 6 } else { seconds })
}

/// Waits until `look` is true, or panics with what was waited for.
pub fn eventually(limit: Duration, what: &str, mut look: impl FnMut() -> bool) {
    let until = Instant::now() + limit;
    while !look() {
        assert!(Instant::now() < until, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Runs a program to its end; its standard output, or what went wrong.
pub fn try_sh(argv: &[&str]) -> Result<String, String> {
    let (program, args) = argv.split_first().unwrap();
    let output = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| format!("{argv:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("{argv:?}: {}: {stderr}", output.status))
    }
}

/// As `try_sh`, and nothing may go wrong.
pub fn sh(argv: &[&str]) -> String {
    try_sh(argv).unwrap()
}

/// With UNDERSTUDY_TEST_TRACE set, says how long something took.
pub fn trace(what: &str, since: Instant) {
    if std::env::var_os("UNDERSTUDY_TEST_TRACE").is_some() {
        eprintln!("  {:>7} ms {what}", since.elapsed().as_millis());
    }
}
