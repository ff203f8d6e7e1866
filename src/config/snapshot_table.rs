//! `[server.NAME.snapshot]` and its retention rules.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::issue::{Complaint, Issues};
use super::model::{BackendChoice, Consistency, KeepRules, SnapshotConfig, VerifyChoice};
use super::table::{At, Table, parse_at};
use super::values::{parse_absolute_path, parse_cow_size, parse_word};

/// As the configuration and `snapshot create --backend` name them.
pub const BACKENDS: [(&str, BackendChoice); 7] = [
    ("auto", BackendChoice::Auto),
    ("zfs", BackendChoice::Zfs),
    ("lvm", BackendChoice::Lvm),
    ("btrfs", BackendChoice::Btrfs),
    ("reflink", BackendChoice::Reflink),
    ("copy", BackendChoice::Copy),
    ("dump", BackendChoice::Dump),
];
const CONSISTENCIES: [(&str, Consistency); 3] = [
    ("pause", Consistency::Pause),
    ("lock", Consistency::Lock),
    ("stop", Consistency::Stop),
];
const VERIFY: [(&str, VerifyChoice); 4] = [
    ("nothing", VerifyChoice::Nothing),
    ("boot", VerifyChoice::Boot),
    ("tables", VerifyChoice::Tables),
    ("rows", VerifyChoice::Rows),
];

/// A replica that stands still for longer isn't paused, it is stopped.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Far more than any retention keeps; a larger number is a slip.
const KEEP_COUNT_MAX: u32 = 100_000;

/// Reads the table; keys that aren't there keep the model's defaults.
pub(super) fn read_snapshot(mut table: Table<'_, '_>, issues: &mut Issues<'_>) -> SnapshotConfig {
    let mut snapshot = SnapshotConfig::default();
    let words = table.parsed("backend", issues, |text| parse_word(text, &BACKENDS));
    if let Some(backend) = words {
        snapshot.backend = backend.value;
    }
    let words = table.parsed("consistency", issues, |text| {
        parse_word(text, &CONSISTENCIES)
    });
    if let Some(consistency) = words {
        snapshot.consistency = consistency.value;
    }
    read_times(&mut table, &mut snapshot, issues);
    if let Some(size) = table.parsed("cow_size", issues, parse_cow_size) {
        snapshot.cow_size = size.value;
    }
    let directory = table.parsed("directory", issues, parse_absolute_path);
    snapshot.directory = directory.map(|at| at.value);
    if let Some(map) = table.table("path_map", issues) {
        snapshot.path_map = read_path_map(map, issues);
    }
    if let Some(keep) = table.table("keep", issues) {
        snapshot.keep = read_keep(keep, issues);
    }
    read_verify(&mut table, &mut snapshot, issues);
    check_directory(&table, &snapshot, issues);
    table.finish(issues);
    snapshot
}

fn read_times(table: &mut Table<'_, '_>, snapshot: &mut SnapshotConfig, issues: &mut Issues<'_>) {
    let max_pause = bounded(table, "max_pause", issues);
    let lock_wait = bounded(table, "lock_wait", issues);
    if let Some(max_pause) = &max_pause {
        snapshot.max_pause = max_pause.value;
    }
    // The default bows to a short max_pause; what was written must fit.
    snapshot.lock_wait = snapshot.lock_wait.min(snapshot.max_pause);
    let pause_is_known = max_pause.is_some() || !table.has("max_pause");
    if let Some(lock_wait) = lock_wait {
        snapshot.lock_wait = lock_wait.value;
        if pause_is_known && lock_wait.value > snapshot.max_pause {
            let limit = humantime::format_duration(snapshot.max_pause);
            let message = format!("lock_wait is longer than max_pause ({limit})");
            let hint = "Make lock_wait shorter, or max_pause longer.";
            issues.report(lock_wait.span, Complaint::new(message).hint(hint));
        }
    }
    if let Some(lag) = table.duration("max_lag", issues) {
        snapshot.max_lag = lag.value;
    }
    if let Some(wait) = table.duration("temp_table_wait", issues) {
        snapshot.temp_table_wait = wait.value;
    }
}

fn read_verify(table: &mut Table<'_, '_>, snapshot: &mut SnapshotConfig, issues: &mut Issues<'_>) {
    let word = table.parsed("verify", issues, |text| parse_word(text, &VERIFY));
    if let Some(verify) = word {
        snapshot.verify = verify.value;
    }
    let mut every = |key| {
        let every = table.duration(key, issues)?;
        if every.value.is_zero() {
            let message = format!("{key} must be longer than zero");
            let hint = "For every night, set verify instead.";
            issues.report(every.span, Complaint::new(message).hint(hint));
            return None;
        }
        Some(every.value)
    };
    snapshot.verify_tables_every = every("verify_tables_every");
    snapshot.verify_rows_every = every("verify_rows_every");
}

/// A time during which the replica may stand still: more than nothing, at most a day.
fn bounded(
    table: &mut Table<'_, '_>,
    key: &'static str,
    issues: &mut Issues<'_>,
) -> Option<At<Duration>> {
    let time = table.duration(key, issues)?;
    let wrong = if time.value.is_zero() {
        "must be longer than zero"
    } else if time.value > PAUSE_MAX {
        "must be at most a day"
    } else {
        return Some(time);
    };
    issues.report(time.span, Complaint::new(format!("{key} {wrong}")));
    None
}

fn check_directory(table: &Table<'_, '_>, snapshot: &SnapshotConfig, issues: &mut Issues<'_>) {
    let needs_one = match snapshot.backend {
        BackendChoice::Reflink | BackendChoice::Copy | BackendChoice::Dump => true,
        BackendChoice::Auto | BackendChoice::Zfs | BackendChoice::Lvm | BackendChoice::Btrfs => {
            false
        }
    };
    if needs_one && !table.has("directory") {
        let message = "this back-end needs a directory for its copies";
        let hint = "Add directory = \"/…\"; for reflink on the same file system as the data.";
        issues.missing(
            table.key_span("backend"),
            Complaint::new(message).hint(hint),
        );
    }
}

fn read_keep(mut table: Table<'_, '_>, issues: &mut Issues<'_>) -> KeepRules {
    let mut count = |key| table.count(key, KEEP_COUNT_MAX, issues).unwrap_or(0);
    let mut keep = KeepRules {
        last: count("last"),
        hourly: count("hourly"),
        daily: count("daily"),
        weekly: count("weekly"),
        monthly: count("monthly"),
        yearly: count("yearly"),
        verified: count("verified"),
        within_ms: None,
    };
    if let Some(within) = table.duration("within", issues) {
        match u64::try_from(within.value.as_millis()) {
            Ok(ms @ 1..) => keep.within_ms = Some(ms),
            Ok(_) | Err(_) => {
                let message = "within must be longer than zero, and of this world";
                issues.report(within.span, Complaint::new(message));
            }
        }
    }
    table.finish(issues);
    keep
}

/// A table of paths on the server to paths on this host.
fn read_path_map(table: Table<'_, '_>, issues: &mut Issues<'_>) -> BTreeMap<PathBuf, PathBuf> {
    let mut map = BTreeMap::new();
    for (key, value) in table.entries() {
        let span = value.span();
        let Some(host_path) = value.as_ref().as_str() else {
            let message = format!("{}: expected a path for {:?}", table.title, key.value);
            issues.report(span, Complaint::new(message));
            continue;
        };
        let host = At {
            value: host_path,
            span,
        };
        let server = parse_at("path_map", key, issues, parse_absolute_path);
        let host = parse_at("path_map", host, issues, parse_absolute_path);
        if let (Some(server), Some(host)) = (server, host) {
            map.insert(server.value, host.value);
        }
    }
    map
}
