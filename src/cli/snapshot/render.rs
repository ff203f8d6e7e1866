//! Snapshots as people read them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::page::{Cell, Column, Page, Table, prose_table};
use crate::cli::ui;
use crate::health::Severity;
use crate::snapshot::Manifest;
use crate::snapshot::keep::fit::Fit;
use crate::snapshot::manifest::{Level, Proof, State, Timing, Verification};

/// One line that says it all, to paste into a ticket.
pub fn ticket_line(manifest: &Manifest) -> String {
    let timing = manifest.timing.unwrap_or_default();
    let gtid = manifest.position.as_ref().map_or("", |p| p.gtid.as_str());
    let mut line = format!(
        "{}: {} snapshot of {} ({}), {}, in {} ms",
        manifest.id,
        backend(manifest),
        manifest.server,
        manifest
            .server_version
            .as_deref()
            .unwrap_or("unknown version"),
        pause(&timing),
        timing.total_ms,
    );
    if !gtid.is_empty() {
        line.push_str(&format!(", at GTID {gtid}"));
    }
    for warning in &manifest.warnings {
        line.push_str(&format!("\n  warning: {warning}"));
    }
    line
}

/// As JSON, with how it stands to its pair's present source; null where that wasn't asked.
pub fn document(manifest: &Manifest, fit: Option<&Fit>) -> Value {
    let mut document = json!(manifest);
    let ahead = match fit {
        Some(Fit::Ahead(ahead)) => Some(ahead),
        Some(Fit::Fits | Fit::Unknown(_)) | None => None,
    };
    let (word, reason) = match fit {
        None => (None, None),
        Some(Fit::Fits) => (Some("fits"), None),
        Some(Fit::Ahead(_)) => (Some("ahead"), None),
        Some(Fit::Unknown(reason)) => (Some("unknown"), Some(reason)),
    };
    document["fit"] = json!(word);
    document["fit_reason"] = json!(reason);
    document["ahead_gtid"] = json!(ahead.map(|ahead| &ahead.gtid));
    document["ahead_transactions"] = json!(ahead.map(|ahead| ahead.transactions));
    let lost_in = ahead.and_then(|ahead| ahead.lost_in.as_ref());
    document["lost_in"] = json!(lost_in.map(|lost| &lost.operation));
    document
}

/// One line about a proof that succeeded.
pub fn proof_line(manifest: &Manifest) -> String {
    let Some(record) = &manifest.verification else {
        return format!("{}: {}", manifest.id, proof(manifest));
    };
    if record.level == Level::Read {
        return format!(
            "{}: {}, all of it is what was written ({}), at GTID {}",
            manifest.id,
            proof(manifest),
            ui::ms(record.total_ms),
            manifest
                .position
                .as_ref()
                .map_or("unknown", |position| position.gtid.as_str())
        );
    }
    let mut line = format!(
        "{}: {}, {} came up in {} (clone {}, boot {})",
        manifest.id,
        proof(manifest),
        record.server_version.as_deref().unwrap_or("a server"),
        ui::duration(Duration::from_millis(
            record.clone_ms + record.boot_ms.unwrap_or_default()
        )),
        ui::duration(Duration::from_millis(record.clone_ms)),
        ui::duration(Duration::from_millis(record.boot_ms.unwrap_or_default())),
    );
    if let Some(tables) = record.tables {
        line.push_str(&format!(", {tables} tables checked"));
    }
    if let Some(older) = &record.compared_with {
        line.push_str(&format!(", rows equal to {older} and the logs since"));
    }
    if let Some(position) = manifest.position.as_ref().filter(|p| !p.gtid.is_empty()) {
        line.push_str(&format!(", at GTID {}", position.gtid));
    }
    for warning in &record.warnings {
        line.push_str(&format!("\n  warning: {warning}"));
    }
    line
}

fn pause(timing: &Timing) -> String {
    format!(
        "paused {} ms (stop {}, settle {}, snapshot {}, start {})",
        timing.pause_ms, timing.stop_ms, timing.settle_ms, timing.snapshot_ms, timing.start_ms
    )
}

pub fn backend(manifest: &Manifest) -> &'static str {
    crate::snapshot::take::plan::kind_word(manifest.backend_kind)
}

pub fn state(manifest: &Manifest) -> &'static str {
    match manifest.state {
        State::Complete => "complete",
        State::Invalid => "invalid",
        State::Orphan => "orphan",
    }
}

pub fn proof(manifest: &Manifest) -> &'static str {
    match manifest.proof {
        Proof::Failed => "failed",
        Proof::Taken => "taken",
        Proof::Read => "read",
        Proof::Booted => "booted",
        Proof::Checked => "checked",
        Proof::Rows => "rows",
    }
}

/// `checked on 2026-11-22T02:10:00.000Z`
fn proof_words(manifest: &Manifest) -> String {
    match &manifest.proof_time {
        Some(time) => format!("{} on {time}", proof(manifest)),
        None => proof(manifest).to_owned(),
    }
}

/// What the last verification measured: how long getting the data back takes.
fn verification(record: &Verification) -> String {
    let took = |ms| ui::duration(Duration::from_millis(ms));
    let Some(boot_ms) = record.boot_ms.filter(|_| record.flaw.is_none()) else {
        let flaw = record.flaw.map_or("no verdict", |flaw| flaw.words());
        return format!("failed at {}: {flaw}", record.at);
    };
    let tables = record.tables.map_or(String::new(), |tables| {
        let unchecked = record.unchecked_tables.unwrap_or(0);
        let rest = match unchecked {
            0 => String::new(),
            some => format!(" ({some} of an engine that can't check)"),
        };
        format!(", {tables} tables checked{rest}")
    });
    let rows = record
        .compared_with
        .as_ref()
        .map_or(String::new(), |older| {
            format!(", rows equal to {older} and the logs since")
        });
    format!(
        "a server was up in {} (clone {}, boot {}){tables}{rows}, {} in all",
        took(record.clone_ms + boot_ms),
        took(record.clone_ms),
        took(boot_ms),
        took(record.total_ms)
    )
}

/// `snapshot show` has all of it, too: what is left out first is what changes least.
const COLUMNS: [Column; 9] = [
    Column::new("ID"),
    Column::spare("AGE", 4),
    Column::spare("BACKEND", 1),
    Column::new("STATE"),
    Column::new("PROOF"),
    Column::new("FIT"),
    Column::spare("PAUSE", 2),
    Column::spare("USED", 3),
    Column::new("LABEL"),
];

/// A table, newest first.
pub fn list(manifests: &[Manifest], fits: &[Option<Fit>], page: &Page) -> String {
    let mut table = Table::new(&COLUMNS);
    let now = crate::sys::clock::now();
    for (manifest, fit) in manifests.iter().zip(fits) {
        table.row(row(manifest, fit.as_ref(), now));
    }
    table.render(page, 0).join("\n")
}

fn row(manifest: &Manifest, fit: Option<&Fit>, now: jiff::Timestamp) -> Vec<Cell> {
    let age_s = now.duration_since(manifest.created).as_secs().max(0) as u64;
    let volumes = manifest.volumes.iter();
    let used: Option<u64> = volumes.map(|volume| volume.bytes_used).sum();
    let held = if manifest.held { " (held)" } else { "" };
    let mounted = if manifest.mounts.is_empty() {
        ""
    } else {
        " (mounted)"
    };
    let judged = match manifest.state {
        State::Complete => None,
        State::Orphan => Some(Severity::Warning),
        State::Invalid => Some(Severity::Critical),
    };
    let state = Cell::judged(format!("{}{held}{mounted}", state(manifest)), judged);
    let pause = manifest.timing.map(|t| format!("{} ms", t.pause_ms));
    let proven = match manifest.proof {
        Proof::Taken | Proof::Read => Cell::from(proof_age(manifest, now)),
        Proof::Failed => Cell::judged(proof_age(manifest, now), Some(Severity::Critical)),
        Proof::Booted | Proof::Checked | Proof::Rows => {
            Cell::judged(proof_age(manifest, now), None)
        }
    };
    let fit = match fit {
        None => "-".into(),
        Some(fit @ Fit::Fits) => Cell::judged(fit.words(), None),
        Some(fit @ Fit::Ahead(_)) => Cell::judged(fit.words(), Some(Severity::Warning)),
        Some(fit @ Fit::Unknown(_)) => Cell::judged(fit.words(), Some(Severity::Unknown)),
    };
    vec![
        manifest.id.as_str().into(),
        ui::age(age_s).into(),
        backend(manifest).into(),
        state,
        proven,
        fit,
        pause.unwrap_or_else(|| "-".to_owned()).into(),
        used.map_or("-".to_owned(), ui::bytes).into(),
        manifest.label.clone().unwrap_or_default().into(),
    ]
}

/// `booted 3h 5m ago`
fn proof_age(manifest: &Manifest, now: jiff::Timestamp) -> String {
    let time = manifest
        .proof_time
        .as_ref()
        .and_then(|time| time.parse::<jiff::Timestamp>().ok());
    match time {
        None => proof(manifest).to_owned(),
        Some(time) => {
            let age_s = now.duration_since(time).as_secs().max(0) as u64;
            format!("{} {} ago", proof(manifest), ui::age(age_s))
        }
    }
}

fn fit_words(fit: &Fit) -> String {
    match fit {
        Fit::Fits => "the present source has all of it".to_owned(),
        Fit::Ahead(ahead) => format!("ahead of the present source by {}", ahead.words()),
        Fit::Unknown(reason) => format!("unknown: {reason}"),
    }
}

/// Everything about one snapshot.
pub fn show(manifest: &Manifest, fit: Option<&Fit>, page: &Page) -> String {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut add = |name: &str, value: String| {
        rows.push(vec![format!("{name}:").into(), value.into()]);
    };
    add("id", manifest.id.clone());
    add("server", manifest.server.clone());
    add("created", manifest.created_at());
    let reason = manifest.state_reason.as_deref().unwrap_or_default();
    add(
        "state",
        format!("{} {reason}", state(manifest)).trim().to_owned(),
    );
    add("proof", proof_words(manifest));
    if let Some(record) = &manifest.verification {
        add("last proof", verification(record));
    }
    add("held", if manifest.held { "yes" } else { "no" }.to_owned());
    add("backend", backend(manifest).to_owned());
    if let Some(label) = &manifest.label {
        add("label", label.clone());
    }
    for (key, value) in &manifest.tags {
        add("tag", format!("{key}={value}"));
    }
    if let Some(version) = &manifest.server_version {
        add("version", version.clone());
    }
    if let Some(position) = &manifest.position {
        add("gtid", position.gtid.clone());
        for channel in &position.channels {
            add(
                "source",
                format!(
                    "{}:{} at {} {}{}",
                    channel.source_host,
                    channel.source_port,
                    channel.source_log_file,
                    channel.source_log_pos,
                    if channel.name.is_empty() {
                        String::new()
                    } else {
                        format!(" (channel {})", channel.name)
                    }
                ),
            );
        }
    }
    if let Some(fit) = fit {
        add("fit", fit_words(fit));
    }
    if let Some(timing) = &manifest.timing {
        add(
            "timing",
            format!("{}, {} ms in all", pause(timing), timing.total_ms),
        );
    }
    for volume in &manifest.volumes {
        let used = volume
            .bytes_used
            .map_or(String::new(), |b| format!(", {} used", ui::bytes(b)));
        add(
            "volume",
            format!("{} of {}{used}", volume.name, volume.origin),
        );
    }
    for mounted in &manifest.mounts {
        let how = if mounted.writable {
            "writable clone"
        } else {
            "read-only"
        };
        let gone = if mounted.mounted {
            ""
        } else {
            ", not since the reboot"
        };
        add(
            "mounted",
            format!("{} ({how}{gone})", mounted.directory.display()),
        );
    }
    for warning in &manifest.warnings {
        add("warning", warning.clone());
    }
    prose_table(page, 0, &rows).join("\n")
}
