//! How far tonight's snapshot is proven. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::{SnapshotConfig, VerifyChoice};
use crate::snapshot::manifest::{Level, Manifest};

/// When a server's tables were last all looked at, and its rows all compared, with a good outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Last {
    pub tables: Option<Timestamp>,
    pub rows: Option<Timestamp>,
}

impl Last {
    /// Takes one more proof into account.
    pub fn add(&mut self, at: Timestamp, level: Level, rows_were_compared: bool) {
        if matches!(level, Level::Tables | Level::Rows) {
            self.tables = self.tables.max(Some(at));
        }
        if rows_were_compared {
            self.rows = self.rows.max(Some(at));
        }
    }

    /// As `add`, of a snapshot that is kept.
    pub fn add_manifest(&mut self, manifest: &Manifest) {
        let proven = manifest.verification.as_ref();
        if let Some(proof) = proven.filter(|proof| proof.flaw.is_none()) {
            self.add(manifest.created, proof.level, proof.compared_with.is_some());
        }
    }
}

/// The level, and why it is that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tonight {
    /// `None`: nothing is proven.
    pub level: Option<Level>,
    pub why: String,
}

/// Timers don't fire to the second: what would be due within this is due now.
const SLACK_MAX: Duration = Duration::from_secs(2 * 3600);

/// Never less than every night's, and more where that is due.
pub fn tonight(config: &SnapshotConfig, last: &Last, now: Timestamp) -> Tonight {
    let nightly = match config.verify {
        VerifyChoice::Nothing => None,
        VerifyChoice::Boot => Some(Level::Boot),
        VerifyChoice::Tables => Some(Level::Tables),
        VerifyChoice::Rows => Some(Level::Rows),
    };
    let rarer = [
        (config.verify_rows_every, last.rows, Level::Rows, "rows"),
        (
            config.verify_tables_every,
            last.tables,
            Level::Tables,
            "tables",
        ),
    ];
    for (every, last, level, what) in rarer {
        if Some(rank(level)) <= nightly.map(rank) {
            break;
        }
        if let Some(why) = every.and_then(|every| due(every, last, now, what)) {
            return Tonight {
                level: Some(level),
                why,
            };
        }
    }
    let why = match nightly {
        Some(_) => "as every night".to_owned(),
        None => "verify = \"nothing\"".to_owned(),
    };
    Tonight {
        level: nightly,
        why,
    }
}

fn rank(level: Level) -> u8 {
    match level {
        Level::Read | Level::Boot => 0,
        Level::Tables => 1,
        Level::Rows => 2,
    }
}

/// Why it is due, if it is.
fn due(every: Duration, last: Option<Timestamp>, now: Timestamp, what: &str) -> Option<String> {
    let Some(last) = last else {
        return Some(format!("{what} are due: the first time"));
    };
    let since = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    let slack = (every / 10).min(SLACK_MAX);
    let every_words = humantime::format_duration(every);
    (since + slack >= every).then(|| format!("{what} are due every {every_words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn config(
        verify: VerifyChoice,
        tables_days: Option<u32>,
        rows_days: Option<u32>,
    ) -> SnapshotConfig {
        SnapshotConfig {
            verify,
            verify_tables_every: tables_days.map(|days| DAY * days),
            verify_rows_every: rows_days.map(|days| DAY * days),
            ..SnapshotConfig::default()
        }
    }

    #[test]
    fn the_level_follows_the_rhythm() {
        use VerifyChoice::{Boot, Nothing, Rows, Tables};
        let now: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        let ago = |hours: i64| Some(now - jiff::SignedDuration::from_hours(hours));
        for (config, tables, rows, wanted) in [
            (config(Boot, None, None), None, None, Some(Level::Boot)),
            (config(Nothing, None, None), None, None, None),
            (
                config(Tables, None, None),
                ago(1),
                None,
                Some(Level::Tables),
            ),
            // Never done: now.
            (config(Boot, Some(7), None), None, None, Some(Level::Tables)),
            (
                config(Nothing, None, Some(30)),
                ago(1),
                None,
                Some(Level::Rows),
            ),
            // Within the slack of a timer, and not.
            (
                config(Boot, Some(7), None),
                ago(7 * 24 - 1),
                None,
                Some(Level::Tables),
            ),
            (
                config(Boot, Some(7), None),
                ago(7 * 24 - 3),
                None,
                Some(Level::Boot),
            ),
            (
                config(Boot, Some(1), None),
                ago(20),
                None,
                Some(Level::Boot),
            ),
            // The higher of two that are due; the lower where only it is.
            (
                config(Boot, Some(7), Some(30)),
                ago(200),
                ago(800),
                Some(Level::Rows),
            ),
            (
                config(Boot, Some(7), Some(30)),
                ago(200),
                ago(200),
                Some(Level::Tables),
            ),
            // Never less than every night's.
            (config(Rows, Some(7), None), None, ago(1), Some(Level::Rows)),
            // A clock that was set back.
            (
                config(Boot, Some(7), None),
                ago(-5),
                None,
                Some(Level::Boot),
            ),
        ] {
            let last = Last { tables, rows };
            let found = tonight(&config, &last, now);
            assert_eq!(found.level, wanted, "{config:?} {last:?} {}", found.why);
        }
    }

    #[test]
    fn a_look_at_rows_is_one_at_tables_too() {
        let at: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        let mut last = Last::default();
        last.add(at, Level::Rows, false);
        let tables_only = Last {
            tables: Some(at),
            rows: None,
        };
        assert_eq!(last, tables_only);
        last.add(at, Level::Boot, false);
        assert_eq!(last, tables_only);
        last.add(at, Level::Rows, true);
        assert_eq!(last.rows, Some(at));
    }
}
