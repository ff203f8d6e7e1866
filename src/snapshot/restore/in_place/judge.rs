//! What an in-place restore would do, what it would lose, and what stands against it. No effects.

use std::time::Duration;

use crate::config::{CowSize, ServerConfig};
use crate::journal::act::Resume;
use crate::server::globals::GlobalBefore;
use crate::server::replication::{Channel, ThreadState};
use crate::server::{Flavour, Identity};
use crate::snapshot::error::Refusal;
use crate::snapshot::keep::fit::Fit;
use crate::snapshot::manifest::{Manifest, Proof, State};
use crate::volume::{BackendKind, PutRequest};

/// How long one storage command may run; copying has no limit.
const STORAGE_LIMIT: Duration = Duration::from_secs(300);
const UNDO_AREA_MORE_BYTES: u64 = 128 << 20;

/// The server as it is before.
#[derive(Debug)]
pub struct Observed {
    pub identity: Identity,
    pub flavour: Flavour,
    pub channels: Vec<Channel>,
    /// Applied from its sources; all of its own, when it is no replica.
    pub gtid: String,
    /// Everything, what was written here as well.
    pub has: String,
    pub read_only: bool,
    /// What a restart forgets.
    pub globals: Vec<GlobalBefore>,
}

/// What the source has, and has no more.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub has: String,
    pub purged: String,
}

pub fn refusals_of_manifest(manifest: &Manifest) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if manifest.backend_kind == BackendKind::Dump {
        return vec![Refusal::new(
            format!(
                "{} is a dump: it holds SQL, and no files to be put in place",
                manifest.id
            ),
            format!(
                "Use `understudy snapshot restore {} --to DIR` and start the server on DIR; or set the \
                 replica up from it (`understudy setup PAIR --provision snapshot:{}`).",
                manifest.id, manifest.id
            ),
        )];
    }
    match manifest.state {
        State::Complete => {}
        State::Invalid | State::Orphan => refusals.push(Refusal::new(
            format!(
                "{} isn't whole: {}",
                manifest.id,
                manifest
                    .state_reason
                    .as_deref()
                    .unwrap_or("its state is bad")
            ),
            "Choose another snapshot.",
        )),
    }
    if manifest.proof == Proof::Failed {
        refusals.push(Refusal::new(
            format!("the proof of {} failed", manifest.id),
            "Choose another snapshot, or verify it again.",
        ));
    }
    if !manifest.mounts.is_empty() {
        refusals.push(Refusal::new(
            format!("{} is mounted", manifest.id),
            format!("Run `understudy snapshot unmount {}` first.", manifest.id),
        ));
    }
    if manifest.boot.is_none() {
        refusals.push(Refusal::new(
            format!("{} has no record of its data directory", manifest.id),
            "Use `understudy snapshot restore --to DIR`.",
        ));
    }
    refusals
}

/// A restored server begins to replicate by itself when it starts: only with GTIDs it then knows
/// where.
pub fn refusals_of_channels(manifest: &Manifest, before: &Observed) -> Vec<Refusal> {
    before
        .channels
        .iter()
        .filter(|channel| channel.uses_gtid != Some(true))
        .map(|channel| {
            Refusal::new(
                format!(
                    "the {} of {} replicates by file and position, from which it would go on wrongly",
                    channel.name, manifest.server
                ),
                "Switch it to GTIDs (MASTER_USE_GTID, SOURCE_AUTO_POSITION), or use `snapshot \
                 restore --to DIR`.",
            )
        })
        .collect()
}

/// What is on this server alone, and would be in the undo snapshot only, unless it `is_kept` elsewhere;
/// and what it couldn't fetch again.
pub fn losses(
    manifest: &Manifest,
    before: &Observed,
    source: &Result<Source, String>,
    is_kept: bool,
) -> Vec<Refusal> {
    const ACCEPT: &str = "--accept-loss goes on; all of it stays in the undo snapshot.";
    let recorded = manifest.position.as_ref().map_or("", |p| p.gtid.as_str());
    if before.channels.is_empty() && !is_kept {
        if is_same(&before.flavour, &before.gtid, recorded) {
            return Vec::new();
        }
        return vec![Refusal::new(
            format!(
                "{} replicates from nobody: what was written since {} is only there",
                manifest.server,
                manifest.created_at()
            ),
            ACCEPT,
        )];
    }
    let source = match source {
        Ok(source) => source,
        Err(reason) => {
            return vec![Refusal::new(
                format!(
                    "whether the source of {} still has what it would have to fetch isn't known: \
                     {reason}",
                    manifest.server
                ),
                ACCEPT,
            )];
        }
    };
    let mut refusals = Vec::new();
    let Source { name, has, purged } = source;
    if !is_kept && !is_subset(&before.flavour, &before.has, has) {
        refusals.push(Refusal::new(
            format!(
                "{} has transactions that its source {name} hasn't (here {}, there {has})",
                manifest.server, before.has
            ),
            ACCEPT,
        ));
    }
    if !is_subset(&before.flavour, purged, recorded) {
        refusals.push(Refusal::new(
            format!(
                "{name} has purged binary logs that {} would need from {recorded} on (purged: \
                 {purged})",
                manifest.server
            ),
            format!("Choose a newer snapshot. {ACCEPT}"),
        ));
    }
    refusals
}

/// A snapshot with transactions that the source never had: the server would have a history of its own.
pub fn refusal_of_fit(manifest: &Manifest, source: &str, fit: &Fit) -> Option<Refusal> {
    let Fit::Ahead(ahead) = fit else { return None };
    Some(Refusal::new(
        format!(
            "{} is ahead of the present source {source} by {}",
            manifest.id,
            ahead.words()
        ),
        format!(
            "Choose one that fits: see `understudy snapshot list {}`; or use `snapshot restore --to \
             DIR`. --accept-loss goes on: then {} has transactions that {source} hasn't, and can't \
             follow it.",
            manifest.server, manifest.server
        ),
    ))
}

/// What can't be compared isn't within.
pub fn is_subset(flavour: &Flavour, one: &str, other: &str) -> bool {
    match (flavour.parse_gtid(one), flavour.parse_gtid(other)) {
        (Ok(one), Ok(other)) => one.is_subset_of(&other).unwrap_or(false),
        _ => false,
    }
}

fn is_same(flavour: &Flavour, one: &str, other: &str) -> bool {
    is_subset(flavour, one, other) && is_subset(flavour, other, one)
}

/// For people.
pub fn steps(manifest: &Manifest, server: &ServerConfig, before: &Observed) -> Vec<String> {
    let name = &server.name;
    let mut steps = Vec::new();
    if manifest.proof < Proof::Booted {
        steps.push(format!(
            "prove {}: a private server must come up on it",
            manifest.id
        ));
    }
    steps.push(format!(
        "keep the present state of {name} as a snapshot (the undo)"
    ));
    steps.push(format!("stop {name} through its service"));
    for volume in &manifest.volumes {
        steps.push(format!(
            "make {} what it was at {}",
            volume.path.display(),
            manifest.created_at()
        ));
    }
    steps.push(format!("start {name}"));
    if !before.channels.is_empty() {
        let gtid = manifest.position.as_ref().map_or("", |p| p.gtid.as_str());
        steps.push(format!("replicate from {gtid} on, and see it catch up"));
    }
    steps
}

/// A thick undo must hold all that the restore overwrites: at most what the restored snapshot's own
/// area has of the time since. And some more, since the server writes on.
pub fn undo_area(manifest: &Manifest) -> CowSize {
    let used = manifest
        .volumes
        .iter()
        .filter_map(|volume| volume.bytes_used);
    CowSize::Bytes(used.max().unwrap_or(0) / 4 * 5 + UNDO_AREA_MORE_BYTES)
}

pub fn requests(manifest: &Manifest, use_id: &str) -> Vec<PutRequest> {
    manifest
        .volumes
        .iter()
        .enumerate()
        .map(|(index, volume)| PutRequest {
            use_id: use_id.to_owned(),
            id: manifest.id.clone(),
            volume: volume.clone(),
            number: index + 1,
            limit: STORAGE_LIMIT,
        })
        .collect()
}

/// Of the channels that ran. File-by-file copies hold no relay logs, which MySQL misses.
pub fn resumes(manifest: &Manifest, before: &Observed) -> Vec<Resume> {
    let flavour = &before.flavour;
    before
        .channels
        .iter()
        .filter(|channel| channel.sql == ThreadState::Running)
        .map(|channel| Resume {
            channel: channel.name.as_str().to_owned(),
            statements: flavour.go_on(&channel.name, manifest.backend_kind.is_file_by_file()),
        })
        .collect()
}

#[cfg(test)]
mod tests;
