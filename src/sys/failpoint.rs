//! Places where tests make the process die, hang or fail, for real.
//!
//! Only in builds with the feature `failpoints`; elsewhere `hit` is empty. Ours rather than a
//! crate's, since the actions that matter here are signals to oneself (SIGKILL, SIGSTOP), which
//! the crates in use don't offer.

/// Every place, in the order of a snapshot. Tests walk this list.
pub const PLACES: [&str; 18] = [
    "journal-begun",
    "prepared",
    "warmed-up",
    "watchdog-ready",
    "leased",
    "raised",
    "stopping",
    "stopped",
    "locked",
    "positioned",
    "frozen",
    "taken",
    "thawed",
    "checked",
    "unlocked",
    "started",
    "released",
    "sealed",
];

/// The places of a verification, in its order. Tests walk this list too.
pub const USE_PLACES: [&str; 8] = [
    "use-begun",
    "clone-planned",
    "cloned",
    "booting",
    "booted",
    "position-compared",
    "asked",
    "proven",
];

/// Places within steps of operations; those around each step, the commit and what comes after it are
/// named by the operation itself, `STEP:before` and so on.
pub const INSIDE_DELETE: [&str; 1] = ["volume-deleted"];
pub const INSIDE_RESTORE: [&str; 1] = ["put-one"];
pub const INSIDE_DUMP: [&str; 8] = [
    "setup-password",
    "setup-loading",
    "setup-flowing",
    "setup-loaded",
    "setup-accounts-copied",
    "setup-positioned",
    "setup-linking",
    "setup-marked",
];
pub const INSIDE_CLONE: [&str; 2] = ["setup-cloning", "setup-cloned"];
pub const INSIDE_EXCHANGE: [&str; 7] = [
    "setup-backing-up",
    "setup-backed-up",
    "setup-prepared",
    "setup-flowing",
    "setup-stopped",
    "setup-aside",
    "setup-exchanged",
];

/// Does what `UNDERSTUDY_FAILPOINT` says for this place: `place=kill`, `place=stop`,
/// `place=sleep:MS`; several are separated by commas.
#[cfg(feature = "failpoints")]
pub fn hit(place: &str) {
    use nix::sys::signal::{Signal, raise};
    let Ok(wanted) = std::env::var("UNDERSTUDY_FAILPOINT") else {
        return;
    };
    let actions = wanted
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| *name == place);
    for (_, action) in actions {
        // A test sees from outside where we are.
        eprintln!("failpoint: {place}");
        match action.split_once(':') {
            Some(("sleep", ms)) => {
                let ms = ms.parse().unwrap_or(0);
                std::thread::sleep(std::time::Duration::from_millis(ms));
            }
            Some(_) => {}
            None if action == "kill" => drop(raise(Signal::SIGKILL).is_ok()),
            None if action == "stop" => drop(raise(Signal::SIGSTOP).is_ok()),
            None => {}
        }
    }
}

/// Nothing, in the builds that people use.
#[cfg(not(feature = "failpoints"))]
pub fn hit(_place: &str) {}
