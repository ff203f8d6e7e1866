//! `snapshot mount` and `unmount`: a snapshot to look into, read-only or as a writable clone.
//!
//! What is mounted outlives the command, so each mount has a record in the state directory; the
//! snapshot can't be deleted while one speaks of it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::journal::OperationKind;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::keep::catalog;
use crate::snapshot::keep::mount_record::{MountRecord, is_mounted, of_snapshot, recorded};
use crate::snapshot::manifest::Manifest;
use crate::snapshot::prove::clone_session::{CloneFailure, CloneSession};
use crate::sys::{clock, failpoint, files};
use crate::volume::layout::observe_mounts;
use crate::volume::mount::{self, Access};
use crate::volume::view::Stand;
use crate::volume::{self, BackendKind};

/// Mounts a snapshot on an empty directory. `Ok((record, false))` when it was so already.
pub fn mount(
    ctx: &Context,
    wanted: &str,
    directory: &Path,
    writable: bool,
    dry_run: bool,
) -> Result<(MountRecord, bool), SnapshotError> {
    ctx.state.create()?;
    let manifest = catalog::find(ctx, wanted)?;
    if manifest.backend_kind == BackendKind::Dump {
        return Err(volume::archive::no_files().into());
    }
    let directory = check_directory(directory)?;
    let same = of_snapshot(&ctx.state, &manifest.id)?
        .into_iter()
        .find(|record| record.directory == directory && is_mounted(record));
    match same {
        Some(record) if record.writable == writable => return Ok((record, false)),
        Some(_) => {
            return Err(SnapshotError::refused(
                format!("{} is mounted there the other way", manifest.id),
                format!("Run `understudy snapshot unmount {}` first.", manifest.id),
            ));
        }
        None => refuse_used(&directory)?,
    }
    let places = places(&manifest, &directory);
    if dry_run {
        return Ok((
            planned_record(&manifest, &directory, writable, &places),
            true,
        ));
    }
    let mut using = CloneSession::begin(ctx, &manifest, OperationKind::Mount, "mount")?;
    let since = Instant::now();
    let (stands, access) = stands(&mut using, writable)?;
    let mut record = planned_record(&using.manifest, &directory, writable, &places);
    record.use_id.clone_from(&using.id);
    for (stand, place) in stands.iter().zip(&places) {
        if *place != directory {
            using.make_directory(place)?;
            record.made.push(place.clone());
        }
        using.note_mount_point(place)?;
        failpoint::hit("mounting");
        mount::mount(&stand.clone, place, access)?;
    }
    record.clones = using.planned().to_vec();
    failpoint::hit("mounted");
    let text = serde_json::to_vec_pretty(&record).expect("a record holds only plain data");
    files::replace(&ctx.state.mount_record(&record.use_id), &text)?;
    failpoint::hit("mount-recorded");
    using.keep()?;
    ctx.progress
        .step("mount", directory.display().to_string(), since);
    Ok((record, true))
}

/// Unmounts all that is mounted of a snapshot, or only what is on `directory`, and removes the
/// clones, with what was written to them. The records of what ended.
pub fn unmount(
    ctx: &Context,
    wanted: &str,
    directory: Option<&Path>,
    dry_run: bool,
) -> Result<Vec<MountRecord>, SnapshotError> {
    ctx.state.create()?;
    let records = find_records(ctx, wanted, directory)?;
    if dry_run {
        return Ok(records);
    }
    for record in &records {
        let since = Instant::now();
        for path in record.mount_points.iter().rev() {
            if mount::is_ours_at(path, &[&record.use_id, &record.snapshot])? {
                mount::unmount(path)?;
            }
        }
        failpoint::hit("unmounted");
        volume::open(record.backend)?.drop_clones(&record.use_id, &record.clones)?;
        for path in record.made.iter().rev() {
            files::remove_empty_dir(path)?;
        }
        files::remove(&ctx.state.mount_record(&record.use_id))?;
        ctx.progress
            .step("unmount", record.directory.display().to_string(), since);
    }
    Ok(records)
}

/// By the records alone, so that the mounts of a snapshot whose volume is gone end too.
fn find_records(
    ctx: &Context,
    wanted: &str,
    directory: Option<&Path>,
) -> Result<Vec<MountRecord>, SnapshotError> {
    let mut records = recorded(&ctx.state)?;
    let id = match wanted.starts_with("latest:") {
        true => catalog::find(ctx, wanted)?.id,
        false => wanted.to_owned(),
    };
    let ids: std::collections::BTreeSet<String> = records
        .iter()
        .map(|record| record.snapshot.clone())
        .filter(|known| !id.is_empty() && known.starts_with(&id))
        .collect();
    match ids.len() {
        // It says so when there is no such snapshot; one that isn't mounted is already so.
        0 => {
            catalog::find(ctx, wanted)?;
        }
        1 => {}
        _ => {
            return Err(SnapshotError::UnknownId {
                reason: format!("{wanted} means {} snapshots", ids.len()),
                hint: format!(
                    "Say one of: {}.",
                    ids.into_iter().collect::<Vec<_>>().join(", ")
                ),
            });
        }
    }
    let directory = directory.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    records.retain(|record| {
        ids.contains(&record.snapshot)
            && directory
                .as_ref()
                .is_none_or(|path| record.directory == *path)
    });
    Ok(records)
}

/// What will be mounted, and how.
fn stands(
    using: &mut CloneSession<'_>,
    writable: bool,
) -> Result<(Vec<Stand>, Access), SnapshotError> {
    let stands = match (writable, using.readable()?) {
        (false, Some(stands)) => using.check_volumes().map(|()| stands),
        // A block device's journal is replayed on a clone, never on what is kept.
        (false, None) | (true, _) => using.clone_volumes(),
    };
    let stands = stands.map_err(|failure| match failure {
        CloneFailure::Spoilt { volume, reason } => SnapshotError::refused(
            format!("{volume} isn't good any more: {reason}"),
            "Choose another snapshot.",
        ),
        CloneFailure::Other(error) => error,
    })?;
    let access = match writable {
        true => Access::ReadWrite,
        false => Access::ReadOnly,
    };
    Ok((stands, access))
}

/// The directory as it is called without links; it must be there.
fn check_directory(directory: &Path) -> Result<PathBuf, SnapshotError> {
    directory
        .canonicalize()
        .ok()
        .filter(|path| path.is_dir())
        .ok_or_else(|| {
            SnapshotError::refused(
                format!("{} is no directory", directory.display()),
                format!("Make it with `install -d -m 0700 {}`.", directory.display()),
            )
        })
}

fn refuse_used(directory: &Path) -> Result<(), SnapshotError> {
    let is_mount_point = observe_mounts()?
        .iter()
        .any(|mount| mount.mount_point == directory);
    if !is_mount_point && files::list(directory)?.is_empty() {
        return Ok(());
    }
    Err(SnapshotError::refused(
        format!(
            "{} isn't empty, or something is mounted on it",
            directory.display()
        ),
        "Give an empty directory.",
    ))
}

/// One volume goes on the directory itself, several go in it, named after what they are of.
fn places(manifest: &Manifest, directory: &Path) -> Vec<PathBuf> {
    if manifest.volumes.len() == 1 {
        return vec![directory.to_owned()];
    }
    manifest
        .volumes
        .iter()
        .enumerate()
        .map(|(index, volume)| {
            let name = volume
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            directory.join(format!("{}-{name}", index + 1))
        })
        .collect()
}

fn planned_record(
    manifest: &Manifest,
    directory: &Path,
    writable: bool,
    places: &[PathBuf],
) -> MountRecord {
    MountRecord {
        use_id: String::new(),
        snapshot: manifest.id.clone(),
        server: manifest.server.clone(),
        at: clock::rfc3339(clock::now()),
        directory: directory.to_owned(),
        writable,
        mount_points: places.to_vec(),
        data_dir: data_dir_in(manifest, places),
        made: Vec::new(),
        backend: manifest.backend_kind,
        clones: Vec::new(),
    }
}

/// Where the server's data directory is when the volumes are on `places`.
fn data_dir_in(manifest: &Manifest, places: &[PathBuf]) -> Option<PathBuf> {
    let data_dir = &manifest.boot.as_ref()?.data_dir;
    manifest
        .volumes
        .iter()
        .zip(places)
        .filter_map(|(volume, place)| {
            let rest = data_dir.strip_prefix(&volume.path).ok()?;
            Some((volume.path.components().count(), place.join(rest)))
        })
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, path)| path.components().collect())
}
