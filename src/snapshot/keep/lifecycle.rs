//! What happens to a snapshot later: delete, hold, release, prune.

use serde::Serialize;

use crate::journal::act::{Act, Rest};
use crate::journal::{Beginning, OperationKind, recover};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::keep::fit::Fit;
use crate::snapshot::keep::retention::{self, Candidate, ProofRank};
use crate::snapshot::keep::{catalog, mount_record, present};
use crate::snapshot::manifest::{Manifest, Proof, State};
use crate::snapshot::take::create::recover_first;
use crate::sys::clock;
use crate::sys::failpoint;
use crate::sys::files;
use crate::volume::kept::Kept;
use crate::volume::{self, PlannedVolume};

/// Deletes one snapshot; held ones are refused. With `dry_run` only says what would go.
pub fn delete(ctx: &Context, wanted: &str, dry_run: bool) -> Result<Manifest, SnapshotError> {
    ctx.state.create()?;
    let manifest = catalog::find(ctx, wanted)?;
    refuse_held(&manifest)?;
    if dry_run {
        return Ok(manifest);
    }
    let _lock = lock(ctx, &manifest.server, "snapshot delete")?;
    // Again, now that nobody else can change it.
    let manifest = catalog::find(ctx, &manifest.id)?;
    refuse_held(&manifest)?;
    remove(ctx, &manifest)?;
    Ok(manifest)
}

fn refuse_held(manifest: &Manifest) -> Result<(), SnapshotError> {
    if !manifest.held {
        return Ok(());
    }
    Err(SnapshotError::refused(
        format!("{} is held", manifest.id),
        format!("Run `understudy snapshot release {}` first.", manifest.id),
    ))
}

fn refuse_mounted(ctx: &Context, manifest: &Manifest) -> Result<(), SnapshotError> {
    let mounts = mount_record::of_snapshot(&ctx.state, &manifest.id)?;
    match mounts.first() {
        None => Ok(()),
        Some(record) => Err(SnapshotError::refused(
            format!("{} is mounted: {}", manifest.id, record.words()),
            format!("Run `understudy snapshot unmount {}` first.", manifest.id),
        )),
    }
}

/// The server's lock; leftovers of interrupted operations are swept first where the server is
/// still configured and can be asked.
fn lock(
    ctx: &Context,
    server: &str,
    what: &str,
) -> Result<crate::sys::lock::FileLock, SnapshotError> {
    let lock = ctx.state.lock_server(server, what)?;
    if let Ok(config) = ctx.server(server) {
        let target = ctx.target(config)?;
        // Storage can be tidied while the server is away or paused on purpose.
        recover::recover(&ctx.state, &target)?;
    }
    Ok(lock)
}

/// Journalled: killed half-way, `recover` finishes it. What is in use (verified, mounted, restored)
/// stays.
fn remove(ctx: &Context, manifest: &Manifest) -> Result<(), SnapshotError> {
    let _alone = ctx.state.own_snapshot(&manifest.id, "snapshot delete")?;
    refuse_mounted(ctx, manifest)?;
    let volumes = manifest
        .volumes
        .iter()
        .map(|volume| PlannedVolume {
            origin: volume.origin.clone(),
            name: volume.name.clone(),
        })
        .collect();
    let backend = volume::open(manifest.backend_kind)?;
    let mut operation = ctx.begin(Beginning {
        operation: &format!("delete-{}", manifest.id),
        kind: OperationKind::SnapshotDelete,
        parties: &[&manifest.server],
        settled_by: None,
    })?;
    let volumes = Act::Volumes {
        id: manifest.id.clone(),
        backend: manifest.backend_kind,
        volumes,
    };
    let record = Act::File {
        path: ctx.state.manifest(&manifest.id),
    };
    // Before anything goes: killed from here on, the rest is for `recover`.
    operation.commit([volumes, record].map(|act| Rest { act, gate: true }).into())?;
    for (index, volume) in manifest.volumes.iter().enumerate() {
        match backend.delete(&manifest.id, volume) {
            Ok(_) => {}
            Err(error) if index == 0 => {
                operation.end(&format!("refused: {error}"))?;
                return Err(error.into());
            }
            Err(error) => return Err(half_deleted(manifest, &error)),
        }
    }
    see_gone(manifest)?;
    failpoint::hit("volume-deleted");
    files::remove(&ctx.state.manifest(&manifest.id))?;
    ctx.state.forget_snapshot_lock(&manifest.id);
    operation.end("done")?;
    Ok(())
}

/// Nothing is called deleted that is still listed.
fn see_gone(manifest: &Manifest) -> Result<(), SnapshotError> {
    let kept = manifest.volumes.iter();
    for kept in kept.filter_map(|volume| Kept::of_volume(&manifest.id, &volume.name)) {
        if kept.read()?.is_some() {
            let reason = format!("{} holds more than the snapshot", kept.dir.display());
            let hint = "See what it is and move it elsewhere.";
            return Err(half_deleted(
                manifest,
                &volume::VolumeError::refused(reason, hint),
            ));
        }
    }
    Ok(())
}

fn half_deleted(manifest: &Manifest, error: &volume::VolumeError) -> SnapshotError {
    SnapshotError::NeedsOperator {
        reason: format!("{} is deleted in part: {error}", manifest.id),
        hint: format!(
            "Cure that, then run `understudy recover {}`.",
            manifest.server
        ),
    }
}

/// Protects a snapshot from delete and prune, or ends that. True when something changed.
pub fn set_held(
    ctx: &Context,
    wanted: &str,
    held: bool,
    dry_run: bool,
) -> Result<(Manifest, bool), SnapshotError> {
    ctx.state.create()?;
    let mut manifest = catalog::find(ctx, wanted)?;
    if manifest.state == State::Orphan {
        return Err(SnapshotError::refused(
            format!("{} has no manifest to keep a hold in", manifest.id),
            "Delete it, or keep its volume with the storage's own means.",
        ));
    }
    let changed = manifest.held != held;
    manifest.held = held;
    if changed && !dry_run {
        let _lock = ctx.state.lock_server(&manifest.server, "snapshot hold")?;
        catalog::update(&ctx.state, &manifest.id, |stored| stored.held = held)?;
    }
    Ok((manifest, changed))
}

/// One line of a prune: what is kept or removed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pruned {
    pub id: String,
    pub server: String,
    pub keep: bool,
    pub reasons: Vec<String>,
    /// It could not be removed, and why.
    pub error: Option<String>,
}

/// Removes what no rule keeps, server by server; `dry_run` only says it.
pub fn prune(
    ctx: &Context,
    server: Option<&str>,
    dry_run: bool,
) -> Result<Vec<Pruned>, SnapshotError> {
    ctx.state.create()?;
    let names: Vec<String> = match server {
        Some(name) => vec![ctx.server(name)?.name.clone()],
        None => ctx.config.servers.keys().cloned().collect(),
    };
    let mut pruned = Vec::new();
    for name in names {
        pruned.extend(prune_server(ctx, &name, dry_run)?);
    }
    Ok(pruned)
}

fn prune_server(ctx: &Context, name: &str, dry_run: bool) -> Result<Vec<Pruned>, SnapshotError> {
    let _lock = match dry_run {
        true => None,
        false => Some(lock(ctx, name, "snapshot prune")?),
    };
    let snapshots = catalog::list(&ctx.config, &ctx.state, Some(name))?;
    let known: Vec<&Manifest> = snapshots
        .iter()
        .filter(|manifest| manifest.state != State::Orphan)
        .collect();
    let fits = present::fits(ctx, &snapshots);
    let fits = snapshots.iter().zip(&fits);
    let fitting: Vec<&str> = fits
        .filter(|(_, fit)| **fit == Some(Fit::Fits))
        .map(|(manifest, _)| manifest.id.as_str())
        .collect();
    let candidates: Vec<Candidate> = known
        .iter()
        .map(|manifest| candidate(manifest, fitting.contains(&manifest.id.as_str())))
        .collect();
    let rules = &ctx.server(name)?.snapshot.keep;
    let zone = jiff::tz::TimeZone::system();
    let mut pruned = Vec::new();
    for decision in retention::plan_prune(&candidates, rules, clock::now(), &zone) {
        ctx.cancel.check("pruning")?;
        let manifest = known.iter().find(|manifest| manifest.id == decision.id);
        let removed = match manifest {
            Some(manifest) if !decision.keep && !dry_run => remove(ctx, manifest),
            Some(_) | None => Ok(()),
        };
        pruned.push(Pruned {
            id: decision.id,
            server: name.to_owned(),
            keep: decision.keep,
            reasons: decision.reasons.iter().map(ToString::to_string).collect(),
            error: match removed {
                Ok(()) => None,
                Err(error @ SnapshotError::NeedsOperator { .. }) => return Err(error),
                Err(error) => Some(error.to_string()),
            },
        });
    }
    Ok(pruned)
}

fn candidate(manifest: &Manifest, fits: bool) -> Candidate {
    Candidate {
        id: manifest.id.clone(),
        created: manifest.created,
        proof: match manifest.proof {
            Proof::Failed => ProofRank::Failed,
            Proof::Taken => ProofRank::Taken,
            Proof::Read => ProofRank::Read,
            Proof::Booted => ProofRank::Booted,
            Proof::Checked | Proof::Rows => ProofRank::Checked,
        },
        held: manifest.held,
        complete: manifest.is_whole() && manifest.proof != Proof::Failed,
        fits,
    }
}

/// Puts back what interrupted operations left, for one server or for all that are configured.
pub fn recover_servers(
    ctx: &Context,
    server: Option<&str>,
) -> Result<Vec<recover::Recovered>, SnapshotError> {
    ctx.state.create()?;
    let names: Vec<String> = match server {
        Some(name) => vec![ctx.server(name)?.name.clone()],
        None => ctx.config.servers.keys().cloned().collect(),
    };
    let mut recovered = Vec::new();
    for name in names {
        let target = ctx.target(ctx.server(&name)?)?;
        let _lock = ctx.state.lock_server(&name, "recover")?;
        recovered.extend(recover::recover(&ctx.state, &target)?.0);
    }
    Ok(recovered)
}

/// What `recover` would look at; changes nothing and asks no server.
pub fn left_over(
    ctx: &Context,
    server: Option<&str>,
) -> Result<Vec<recover::Recovered>, SnapshotError> {
    let mut left = Vec::new();
    for name in ctx.config.servers.keys() {
        if server.is_some_and(|server| server != name) {
            continue;
        }
        left.extend(recover::left_over(&ctx.state, name)?);
    }
    Ok(left)
}

/// For commands that change a server: its lock, with nothing left over from before.
pub fn lock_recovered(
    ctx: &Context,
    server: &str,
    what: &str,
) -> Result<crate::sys::lock::FileLock, SnapshotError> {
    let target = ctx.target(ctx.server(server)?)?;
    let lock = ctx.state.lock_server(server, what)?;
    recover_first(ctx, &target)?;
    Ok(lock)
}
