//! What each way to back up a server costs and gives, decided from what was observed. Pure.

use std::time::Duration;

use serde::Serialize;

use crate::config::{BackendChoice, Consistency};
use crate::snapshot::error::Refusal;
use crate::volume::BackendKind;

/// The ways, in the order in which they are told.
pub const WAYS: [BackendChoice; 6] = [
    BackendChoice::Zfs,
    BackendChoice::Lvm,
    BackendChoice::Btrfs,
    BackendChoice::Reflink,
    BackendChoice::Copy,
    BackendChoice::Dump,
];

/// Measurements count back so far, in snapshots of one way.
pub const MEASURED_MAX: usize = 10;

/// What was seen of one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub way: BackendChoice,
    /// `snapshot create` would take it as the server is configured now.
    pub is_configured: bool,
    /// The back-end that it would be here, or why it can't be.
    pub fits: Result<BackendKind, Refusal>,
    /// What is kept would lie on another filesystem than the data.
    pub is_elsewhere: bool,
    /// It is another machine's, or the data is, so that it outlives the server's host.
    pub is_off_host: bool,
    /// Of this server's snapshots taken so, newest first: at most [`MEASURED_MAX`].
    pub taken: Vec<Taken>,
}

/// One snapshot that was taken this way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    pub pause: Option<Duration>,
    /// What it holds of its own.
    pub bytes: Option<u64>,
    /// From the clone's beginning to a server's first answer, when it was proven last.
    pub back: Option<Duration>,
}

/// What counts for every way alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Common {
    pub is_replica: bool,
    pub consistency: Consistency,
    /// As the server counts its tables.
    pub data_bytes: Option<u64>,
}

/// One way, weighed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Weighed {
    /// As `backend` takes it.
    pub method: BackendChoice,
    pub configured: bool,
    pub possible: bool,
    pub reason: Option<String>,
    pub cure: Option<String>,
    /// Who stands still for how long, in words.
    pub pause: String,
    /// Median of what was measured here.
    pub pause_ms: Option<u64>,
    pub load: &'static str,
    pub size: String,
    /// Of the newest one.
    pub size_bytes: Option<u64>,
    pub restore: &'static str,
    /// Median of what proofs needed here until a server answered.
    pub restore_ms: Option<u64>,
    /// How many snapshots the figures come from.
    pub measured: usize,
    pub protects_from: Vec<&'static str>,
    pub not_from: Vec<&'static str>,
}

/// Weighs one way.
pub fn weigh(seen: &Seen, common: &Common) -> Weighed {
    let (reason, cure) = match &seen.fits {
        Ok(_) => (None, None),
        Err(refusal) => (Some(refusal.reason.clone()), Some(refusal.hint.clone())),
    };
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (protects_from, not_from) = protection(seen);
    Weighed {
        method: seen.way,
        configured: seen.is_configured,
        possible: seen.fits.is_ok(),
        reason,
        cure,
        pause: pause_words(seen.way, common),
        pause_ms: median(seen.taken.iter().filter_map(|taken| taken.pause).map(ms)),
        load: load_words(seen),
        size: size_words(seen.way, common),
        size_bytes: seen.taken.first().and_then(|taken| taken.bytes),
        restore: restore_words(seen.way),
        restore_ms: median(seen.taken.iter().filter_map(|taken| taken.back).map(ms)),
        measured: seen.taken.len(),
        protects_from,
        not_from,
    }
}

fn pause_words(way: BackendChoice, common: &Common) -> String {
    let who = match (common.consistency, common.is_replica) {
        (Consistency::Stop, _) => "the server is stopped",
        (Consistency::Pause, true) => "the appliers stand still",
        (Consistency::Pause, false) | (Consistency::Lock, _) => "writers wait",
    };
    let long = match way {
        BackendChoice::Copy => "while what changed since a first pass is copied",
        BackendChoice::Reflink => "while each file is cloned",
        BackendChoice::Dump => {
            "until the dump has begun, and tables without transactions are in it"
        }
        BackendChoice::Zfs | BackendChoice::Lvm | BackendChoice::Btrfs | BackendChoice::Auto => {
            "for the moment of the snapshot"
        }
    };
    format!("{who} {long}")
}

fn load_words(seen: &Seen) -> &'static str {
    match (seen.way, seen.fits.as_ref().ok()) {
        (BackendChoice::Lvm, Some(BackendKind::LvmThick)) => {
            "each first write to a block is done twice for as long as it is kept"
        }
        (BackendChoice::Copy, _) => "reads all of the data, and writes it again",
        (BackendChoice::Dump, _) => "the server reads all of its tables twice",
        _ => "none; changed blocks are kept, and files get scattered with time",
    }
}

fn size_words(way: BackendChoice, common: &Common) -> String {
    match (way, common.data_bytes) {
        (BackendChoice::Copy, Some(_)) => "as large as the data, each".to_owned(),
        (BackendChoice::Dump, _) => "all rows as compressed SQL, each".to_owned(),
        (BackendChoice::Copy, None) => "as large as the data, which isn't known".to_owned(),
        _ => "what changes while it is kept".to_owned(),
    }
}

fn restore_words(way: BackendChoice) -> &'static str {
    match way {
        BackendChoice::Copy => "copied back, then the server recovers",
        BackendChoice::Dump => "loaded, statement by statement",
        BackendChoice::Reflink => "cloned back, then the server recovers",
        _ => "a clone or a rollback, then the server recovers",
    }
}

const MISTAKES: &str = "rows or tables changed by mistake";
const UPGRADES: &str = "an upgrade that went wrong";
const DISK: &str = "the loss of the data's filesystem";
const HOST: &str = "the loss of the server's host";

/// What a snapshot kept there is good for, and what it isn't.
fn protection(seen: &Seen) -> (Vec<&'static str>, Vec<&'static str>) {
    let both = [(DISK, seen.is_elsewhere), (HOST, seen.is_off_host)];
    let of = |wanted: bool| {
        both.iter()
            .filter(move |(_, is)| *is == wanted)
            .map(|(words, _)| *words)
    };
    let from = [MISTAKES, UPGRADES].into_iter().chain(of(true));
    (from.collect(), of(false).collect())
}

/// The middle one, or the mean of the middle two.
fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(values[middle - 1].midpoint(values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(way: BackendChoice) -> Seen {
        Seen {
            way,
            is_configured: false,
            fits: Err(Refusal::new("no", "Do.")),
            is_elsewhere: false,
            is_off_host: false,
            taken: Vec::new(),
        }
    }

    const COMMON: Common = Common {
        is_replica: true,
        consistency: Consistency::Pause,
        data_bytes: Some(1),
    };

    #[test]
    fn what_lies_beside_the_data_goes_with_it() {
        for (is_elsewhere, is_off_host, lost) in [
            (false, false, vec![DISK, HOST]),
            (true, false, vec![HOST]),
            (true, true, vec![]),
        ] {
            let seen = Seen {
                is_elsewhere,
                is_off_host,
                ..seen(BackendChoice::Copy)
            };
            let weighed = weigh(&seen, &COMMON);
            assert_eq!(weighed.not_from, lost);
            assert_eq!(weighed.protects_from.len() + lost.len(), 4);
        }
    }

    #[test]
    fn who_stands_still_follows_role_and_consistency() {
        for (is_replica, consistency, wanted) in [
            (true, Consistency::Pause, "the appliers stand still"),
            (false, Consistency::Pause, "writers wait"),
            (true, Consistency::Lock, "writers wait"),
            (false, Consistency::Stop, "the server is stopped"),
        ] {
            let common = Common {
                is_replica,
                consistency,
                ..COMMON
            };
            let weighed = weigh(&seen(BackendChoice::Zfs), &common);
            assert!(weighed.pause.starts_with(wanted), "{}", weighed.pause);
        }
    }

    #[test]
    fn figures_come_from_what_was_measured_and_from_nothing_else() {
        let none = weigh(&seen(BackendChoice::Btrfs), &COMMON);
        assert_eq!(
            (none.pause_ms, none.size_bytes, none.restore_ms),
            (None, None, None)
        );
        let taken = |pause, bytes, back: Option<u64>| Taken {
            pause: Some(Duration::from_millis(pause)),
            bytes,
            back: back.map(Duration::from_millis),
        };
        let seen = Seen {
            fits: Ok(BackendKind::Btrfs),
            taken: vec![
                taken(10, Some(7), None),
                taken(90, Some(5), Some(3000)),
                taken(20, None, Some(1000)),
            ],
            ..seen(BackendChoice::Btrfs)
        };
        let some = weigh(&seen, &COMMON);
        assert_eq!(
            (
                some.pause_ms,
                some.size_bytes,
                some.restore_ms,
                some.measured
            ),
            (Some(20), Some(7), Some(2000), 3)
        );
    }
}
