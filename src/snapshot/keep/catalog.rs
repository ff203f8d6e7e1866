//! The catalogue: manifests in the state directory, held against what the volumes themselves say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::config::{BackendChoice, Config};
use crate::journal::StateDir;
use crate::server::replication::Position;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::id;
use crate::snapshot::keep::fit::Fit;
use crate::snapshot::keep::{mount_record, present};
use crate::snapshot::manifest::{Manifest, Mounted, Proof, State};
use crate::sys::files::{self, FileError};
use crate::sys::parallel;
use crate::volume::{self, BackendKind, FoundVolume, Scan, Tags, VolumeError, VolumeState};

/// Writes a manifest durably.
pub fn write(state: &StateDir, manifest: &Manifest) -> Result<(), FileError> {
    let kept = Manifest {
        mounts: Vec::new(),
        ..manifest.clone()
    };
    let text = serde_json::to_vec_pretty(&kept).expect("a manifest holds only plain data");
    files::replace(&state.manifest(&manifest.id), &text)
}

/// What was found in the state directory.
#[derive(Debug, Default)]
pub struct Stored {
    pub manifests: Vec<Manifest>,
    /// Files that are no manifest: the path and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// All manifests, unordered.
pub fn stored(state: &StateDir) -> Result<Stored, FileError> {
    let mut stored = Stored::default();
    let mut paths = files::list(&state.manifests())?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    let read = parallel::map(&paths, |path| {
        let text = files::read_text(path).map_err(|error| error.to_string())?;
        serde_json::from_str(&text.unwrap_or_default()).map_err(|error| error.to_string())
    });
    for (path, manifest) in paths.into_iter().zip(read) {
        match manifest {
            Ok(manifest) => stored.manifests.push(manifest),
            Err(error) => stored.unreadable.push((path, error)),
        }
    }
    Ok(stored)
}

/// All snapshots, newest first: those with a manifest as their volumes are now, and volumes of ours
/// without one.
pub fn list(
    config: &Config,
    state: &StateDir,
    server: Option<&str>,
) -> Result<Vec<Manifest>, SnapshotError> {
    list_with(config, state, server, Storage::All)
}

/// Which storage is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// All that a configuration or manifest may speak of.
    All,
    /// Where asking takes a program to run, only what is configured by name or has a snapshot:
    /// orphans of another kind stay unseen.
    Known,
}

/// As `list`, of less storage.
pub fn list_with(
    config: &Config,
    state: &StateDir,
    server: Option<&str>,
    storage: Storage,
) -> Result<Vec<Manifest>, SnapshotError> {
    let Stored {
        mut manifests,
        unreadable,
    } = stored(state)?;
    let found = discover(config, &manifests, storage);
    for discovered in &found {
        let by_name = discovered.by_name();
        let of_kind = manifests
            .iter_mut()
            .filter(|m| m.backend_kind == discovered.kind);
        of_kind.for_each(|manifest| judge(manifest, &by_name));
    }
    manifests.extend(orphans(state, &manifests, &found));
    for (path, reason) in unreadable {
        mark_unreadable(&mut manifests, &path, &reason);
    }
    for record in mount_record::recorded(state)? {
        if let Some(manifest) = manifests.iter_mut().find(|m| m.id == record.snapshot) {
            manifest.mounts.push(Mounted {
                mounted: mount_record::is_mounted(&record),
                directory: record.directory,
                writable: record.writable,
            });
        }
    }
    manifests.retain(|manifest| server.is_none_or(|server| manifest.server == server));
    manifests.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
    Ok(manifests)
}

/// One back-end's answer about all its volumes.
struct Discovered {
    kind: BackendKind,
    volumes: Result<Vec<FoundVolume>, String>,
}

impl Discovered {
    fn by_name(&self) -> Result<HashMap<&str, &FoundVolume>, &str> {
        let volumes = self.volumes.as_ref().map_err(String::as_str)?;
        Ok(volumes
            .iter()
            .map(|found| (found.record.name.as_str(), found))
            .collect())
    }
}

/// Asks once per back-end, not once per snapshot. A back-end that neither a server's configuration
/// nor a manifest speaks of isn't asked.
fn discover(config: &Config, manifests: &[Manifest], storage: Storage) -> Vec<Discovered> {
    let scan = Scan::of(&places(config, manifests));
    let kinds = BackendKind::ALL.into_iter();
    let kinds = kinds.filter(|kind| is_of_interest(*kind, config, manifests, storage));
    let ask = |kind: BackendKind| volume::open(kind).and_then(|backend| backend.discover_in(&scan));
    // Side by side where they wait for programs.
    let (by_program, by_file): (Vec<_>, Vec<_>) = kinds.partition(|kind| runs_programs(*kind));
    std::thread::scope(|scope| {
        let asked: Vec<_> = by_program
            .into_iter()
            .map(|kind| (kind, scope.spawn(move || ask(kind))))
            .collect();
        let by_file: Vec<_> = by_file.into_iter().map(|kind| (kind, ask(kind))).collect();
        let by_program = asked.into_iter().map(|(kind, asked)| match asked.join() {
            Ok(found) => (kind, found),
            Err(panic) => std::panic::resume_unwind(panic),
        });
        by_program
            .chain(by_file)
            .filter_map(|(kind, found)| discovered(kind, found, manifests))
            .collect()
    })
}

fn runs_programs(kind: BackendKind) -> bool {
    match kind {
        BackendKind::Zfs | BackendKind::LvmThick | BackendKind::LvmThin => true,
        BackendKind::Btrfs | BackendKind::Reflink | BackendKind::Copy | BackendKind::Dump => false,
    }
}

fn discovered(
    kind: BackendKind,
    found: Result<Vec<FoundVolume>, VolumeError>,
    manifests: &[Manifest],
) -> Option<Discovered> {
    let known = manifests.iter().any(|m| m.backend_kind == kind);
    match found {
        // Without its programs and without a snapshot of that kind there is nothing to miss.
        Err(_) if !known => None,
        found => Some(Discovered {
            kind,
            volumes: found.map_err(|error| error.to_string()),
        }),
    }
}

/// Every directory that may hold snapshots of ours: the configured ones, those that the manifests
/// speak of, and the usual place on every btrfs that is mounted.
fn places(config: &Config, manifests: &[Manifest]) -> Vec<PathBuf> {
    let configured = config
        .servers
        .values()
        .filter_map(|server| server.snapshot.directory.clone());
    let recorded = manifests
        .iter()
        .flat_map(|manifest| &manifest.volumes)
        .filter_map(|volume| place_of(&volume.name));
    let mounts = volume::layout::observe_mounts().unwrap_or_default();
    let usual = mounts
        .iter()
        .filter(|mount| mount.fs_type == "btrfs")
        .flat_map(|mount| volume::btrfs::places_near(&mount.mount_point));
    let mut places: Vec<PathBuf> = configured.chain(recorded).chain(usual).collect();
    places.sort();
    places.dedup();
    places
}

/// `PLACE` of a volume named `PLACE/ID/…`; other back-ends' names are no paths.
fn place_of(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    path.is_absolute()
        .then(|| path.parent()?.parent().map(Path::to_owned))
        .flatten()
}

fn is_of_interest(
    kind: BackendKind,
    config: &Config,
    manifests: &[Manifest],
    storage: Storage,
) -> bool {
    let configured = config.servers.values().any(|server| {
        let choice = server.snapshot.backend;
        let may_be =
            choice == BackendChoice::Auto && (storage == Storage::All || !runs_programs(kind));
        may_be || choice == kind.choice()
    });
    configured
        || manifests
            .iter()
            .any(|manifest| manifest.backend_kind == kind)
}

/// Compares a manifest with what its volumes are now. What can't be asked is said, not guessed.
fn judge(manifest: &mut Manifest, found: &Result<HashMap<&str, &FoundVolume>, &str>) {
    let volumes = match found {
        Ok(volumes) => volumes,
        Err(reason) => {
            manifest.state_reason = Some(format!("the storage can't be asked: {reason}"));
            return;
        }
    };
    for record in &mut manifest.volumes {
        let now = volumes.get(record.name.as_str());
        let state = match now {
            None => VolumeState::Missing,
            Some(found) if found.record.uuid != record.uuid => {
                VolumeState::Invalid("another volume has its name".to_owned())
            }
            Some(found) => found.state.clone(),
        };
        match state {
            VolumeState::Good { bytes_used } => {
                record.bytes_used = bytes_used.or(record.bytes_used);
            }
            VolumeState::Invalid(reason) => {
                manifest.state = State::Invalid;
                manifest.state_reason = Some(format!("{}: {reason}", record.name));
            }
            VolumeState::Missing => {
                manifest.state = State::Invalid;
                manifest.state_reason = Some(format!("{} is gone", record.name));
            }
        }
    }
}

/// Volumes that bear our mark and belong to no manifest, one entry per id.
fn orphans(state: &StateDir, manifests: &[Manifest], found: &[Discovered]) -> Vec<Manifest> {
    let known: HashSet<&str> = manifests
        .iter()
        .map(|manifest| manifest.id.as_str())
        .collect();
    let mut orphans: BTreeMap<&str, Manifest> = BTreeMap::new();
    for discovered in found {
        for volume in discovered.volumes.iter().flatten() {
            if known.contains(volume.id.as_str()) || is_catalogued_elsewhere(state, volume) {
                continue;
            }
            let Some((server, created)) = id::parse(&volume.id) else {
                continue;
            };
            let orphan = orphans.entry(&volume.id).or_insert_with(|| Manifest {
                server: volume
                    .tags
                    .get("server")
                    .map_or(server, String::as_str)
                    .to_owned(),
                created: volume
                    .tags
                    .get("created")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(created),
                ..orphan(volume, discovered.kind)
            });
            orphan.volumes.push(volume.record.clone());
        }
    }
    orphans.into_values().collect()
}

/// Another configuration on this host, with a state directory of its own, has its manifest.
fn is_catalogued_elsewhere(state: &StateDir, volume: &FoundVolume) -> bool {
    volume.tags.get("state_dir").is_some_and(|other| {
        let other = StateDir::at(Path::new(other));
        other.root() != state.root() && other.manifest(&volume.id).exists()
    })
}

/// A manifest that can't be read keeps none of the others from being listed. What it said isn't known,
/// whether its snapshot is held among it: so nothing deletes it.
fn mark_unreadable(manifests: &mut Vec<Manifest>, path: &Path, reason: &str) {
    let id = path.file_stem().unwrap_or_default().to_string_lossy();
    let at = match manifests.iter().position(|manifest| manifest.id == id) {
        Some(at) => at,
        None => {
            let (server, created) = id::parse(&id).unwrap_or(("", jiff::Timestamp::UNIX_EPOCH));
            manifests.push(Manifest {
                server: server.to_owned(),
                created,
                ..bare(&id, BackendKind::Copy, &Tags::new())
            });
            manifests.len() - 1
        }
    };
    let manifest = &mut manifests[at];
    manifest.state = State::Invalid;
    manifest.held = true;
    manifest.state_reason = Some(format!(
        "its manifest {} can't be read ({reason}), so it counts as held; without that file it is \
         listed by what its volume knows",
        path.display()
    ));
}

fn orphan(volume: &FoundVolume, kind: BackendKind) -> Manifest {
    bare(&volume.id, kind, &volume.tags)
}

/// What the tags of its volume tell of a snapshot.
fn bare(id: &str, kind: BackendKind, tags: &Tags) -> Manifest {
    let tag = |name: &str| tags.get(name).cloned();
    Manifest {
        id: id.to_owned(),
        server: String::new(),
        pair: tag("pair"),
        created: jiff::Timestamp::UNIX_EPOCH,
        backend: kind.choice(),
        backend_kind: kind,
        consistency: None,
        label: tag("label"),
        tags: BTreeMap::new(),
        held: false,
        proof: Proof::Taken,
        proof_time: None,
        state: State::Orphan,
        state_reason: Some("a volume of ours without a manifest".to_owned()),
        position: tag("gtid").map(|gtid| Position {
            gtid,
            ..Position::default()
        }),
        server_version: tag("version"),
        server_identity: tag("identity"),
        volumes: Vec::new(),
        archive: None,
        timing: None,
        warnings: Vec::new(),
        boot: None,
        verification: None,
        mounts: Vec::new(),
        failure: None,
    }
}

/// The essential part of a manifest, to travel with the volumes.
pub fn travelling_tags(state: &StateDir, manifest: &Manifest) -> Tags {
    let mut tags = Tags::new();
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            tags.insert(name.to_owned(), value.to_owned());
        }
    };
    put("server", Some(&manifest.server));
    put("state_dir", state.root().to_str());
    put("pair", manifest.pair.as_deref());
    put("created", Some(&manifest.created_at()));
    put("label", manifest.label.as_deref());
    put("version", manifest.server_version.as_deref());
    put("identity", manifest.server_identity.as_deref());
    put("gtid", manifest.position.as_ref().map(|p| p.gtid.as_str()));
    tags
}

/// As it is now, by id, prefix or `latest:SERVER`.
pub fn find(ctx: &Context, wanted: &str) -> Result<Manifest, SnapshotError> {
    let snapshots = list(&ctx.config, &ctx.state, None)?;
    match wanted.strip_prefix("latest:") {
        None => resolve(&snapshots, wanted),
        Some(server) => latest(ctx, snapshots, server),
    }
}

/// The newest complete one that fits the pair's present source.
fn latest(
    ctx: &Context,
    mut snapshots: Vec<Manifest>,
    server: &str,
) -> Result<Manifest, SnapshotError> {
    snapshots.retain(|manifest| manifest.server == server);
    match present::newest_that_fits(ctx, &snapshots) {
        Ok(Some(at)) => Ok(snapshots.swap_remove(at)),
        Ok(None) => Err(SnapshotError::UnknownId {
            reason: format!("{server} has no complete snapshot"),
            hint: "See `understudy snapshot list`.".to_owned(),
        }),
        Err(fit) => {
            let words = match &fit {
                Fit::Ahead(ahead) => ahead.words(),
                Fit::Fits | Fit::Unknown(_) => String::new(),
            };
            Err(SnapshotError::refused(
                format!(
                    "no snapshot of {server} fits the present source: the newest is ahead of it by \
                     {words}"
                ),
                format!(
                    "See `understudy snapshot list {server}`, and name one by its id; or take a new \
                     one once {server} follows the source again."
                ),
            ))
        }
    }
}

/// Changes a manifest as it is on disk now; `None` when it has none (any more).
pub fn update(
    state: &StateDir,
    id: &str,
    change: impl FnOnce(&mut Manifest),
) -> Result<Option<Manifest>, SnapshotError> {
    let _alone = state.lock_manifests()?;
    let Some(text) = files::read_text(&state.manifest(id))? else {
        return Ok(None);
    };
    let mut manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| SnapshotError::Failed {
            step: "read the manifest",
            reason: format!("{}: {error}", state.manifest(id).display()),
            hint: None,
        })?;
    change(&mut manifest);
    write(state, &manifest)?;
    Ok(Some(manifest))
}

/// The one snapshot that `ID` or a prefix of one means.
fn resolve(snapshots: &[Manifest], wanted: &str) -> Result<Manifest, SnapshotError> {
    if let Some(exact) = snapshots.iter().find(|manifest| manifest.id == wanted) {
        return Ok(exact.clone());
    }
    let matching: Vec<&Manifest> = snapshots
        .iter()
        .filter(|manifest| !wanted.is_empty() && manifest.id.starts_with(wanted))
        .collect();
    match matching.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(SnapshotError::UnknownId {
            reason: format!("no snapshot is named {wanted}"),
            hint: "See `understudy snapshot list`.".to_owned(),
        }),
        several => Err(SnapshotError::UnknownId {
            reason: format!("{wanted} means {} snapshots", several.len()),
            hint: format!(
                "Say one of: {}.",
                several
                    .iter()
                    .map(|m| m.id.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }),
    }
}
