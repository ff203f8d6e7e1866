//! The directory of one kept snapshot (`PLACE/ID`) and the note in it that says whose it is.
//!
//! Nothing is removed that such a note doesn't claim; a directory that only has a likely name is
//! somebody else's. The note is written before anything else is made in the directory, and goes
//! last when the snapshot is removed, so that an interrupted removal can be taken up again.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::statfs::statfs;
use serde::{Deserialize, Serialize};

use super::layout::{Layout, Mount, mount_of};
use super::{BackendKind, PlannedVolume, Tags, VolumeError, VolumeRecord};
use crate::sys::{files, parallel, transfer};

/// The note's name.
pub const NOTE: &str = "understudy.json";
const FORMAT: u32 = 1;
/// Below either of these a filesystem counts as full.
pub const FREE_PERCENT_MIN: u64 = 2;
pub const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// Where a snapshot's life has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Taking,
    Complete,
    Deleting,
}

impl Stage {
    /// Why a snapshot in this stage isn't whole.
    pub fn unfinished(self) -> Option<&'static str> {
        match self {
            Self::Complete => None,
            Self::Taking => Some("it was never finished"),
            Self::Deleting => Some("its removal was interrupted"),
        }
    }
}

/// The note: what the kept directory knows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub format: u32,
    pub id: String,
    pub server: String,
    pub backend: BackendKind,
    pub stage: Stage,
    pub tags: Tags,
    pub volumes: Vec<NotedVolume>,
    /// Files that were left out on purpose, a few of them by name.
    pub left_out: Vec<String>,
}

/// One volume of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotedVolume {
    pub origin: String,
    /// Relative to the kept directory: `data`, `places/1`.
    pub name: String,
    pub path: PathBuf,
    /// The storage's identity; empty until it is made.
    pub uuid: String,
    pub bytes_used: Option<u64>,
    /// btrfs: of the subvolume that it was taken of.
    pub origin_uuid: Option<String>,
    /// Copies: only some files of the origin directory. Older notes don't tell.
    #[serde(default)]
    pub is_part: Option<bool>,
}

impl NotedVolume {
    pub fn record(&self, kept: &Kept) -> VolumeRecord {
        VolumeRecord {
            origin: self.origin.clone(),
            name: kept.dir.join(&self.name).display().to_string(),
            path: self.path.clone(),
            bytes_used: self.bytes_used,
            uuid: self.uuid.clone(),
        }
    }
}

impl Note {
    pub fn new(id: &str, server: &str, backend: BackendKind, volumes: Vec<NotedVolume>) -> Self {
        Self {
            format: FORMAT,
            id: id.to_owned(),
            server: server.to_owned(),
            backend,
            stage: Stage::Taking,
            tags: Tags::new(),
            volumes,
            left_out: Vec::new(),
        }
    }
}

/// `PLACE/ID`, which may or may not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: String,
    pub dir: PathBuf,
}

impl Kept {
    /// Refuses an id that isn't one file name.
    pub fn at(place: &Path, id: &str) -> Result<Self, VolumeError> {
        if id.is_empty() || id.starts_with('.') || id.contains(['/', '\0']) {
            return Err(VolumeError::refused(
                format!("{id:?} can't name a directory"),
                "Give the id of a snapshot as `understudy snapshot list` shows it.",
            ));
        }
        Ok(Self {
            id: id.to_owned(),
            dir: place.join(id),
        })
    }

    /// The kept directory that `name`, the path of a volume in it, belongs to.
    pub fn of_volume(id: &str, name: &str) -> Option<Self> {
        let dir = Path::new(name)
            .ancestors()
            .skip(1)
            .find(|dir| dir.file_name().is_some_and(|last| last == id))?;
        Some(Self {
            id: id.to_owned(),
            dir: dir.to_owned(),
        })
    }

    fn note_path(&self) -> PathBuf {
        self.dir.join(NOTE)
    }

    /// Makes the directory (0700), which must be new, and writes the note.
    pub fn create(&self, note: &Note) -> Result<(), VolumeError> {
        if let Some(place) = self.dir.parent() {
            files::make_private_dir(place)?;
        }
        transfer::make_new_private_dir(&self.dir).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => VolumeError::refused(
                format!("{} exists", self.dir.display()),
                "Run `understudy recover` if it was left by an interrupted snapshot.",
            ),
            _ => VolumeError::call("make directory", &self.dir, error),
        })?;
        self.write(note)
    }

    pub fn write(&self, note: &Note) -> Result<(), VolumeError> {
        let text = serde_json::to_vec_pretty(note)
            .map_err(|error| VolumeError::call("write", &self.note_path(), error))?;
        Ok(files::replace(&self.note_path(), &text)?)
    }

    /// The note if this directory is ours: it names this id. `Ok(None)` when there is none.
    pub fn read(&self) -> Result<Option<Note>, VolumeError> {
        let path = self.note_path();
        let Some(text) = files::read_text(&path)? else {
            return Ok(None);
        };
        let not_ours = |reason: String| VolumeError::NotOurs {
            name: self.dir.display().to_string(),
            reason,
        };
        let note: Note = serde_json::from_str(&text)
            .map_err(|error| not_ours(format!("its {NOTE} can't be read: {error}")))?;
        if note.id != self.id || note.format != FORMAT {
            return Err(not_ours(format!("its {NOTE} is of {}", note.id)));
        }
        Ok(Some(note))
    }

    /// Removes the note and the directory once nothing else is in it.
    pub fn remove_emptied(&self) -> Result<(), VolumeError> {
        let failed = |error| VolumeError::call("remove", &self.dir, error);
        transfer::remove_empty_dir(&self.dir.join("places")).map_err(failed)?;
        files::sweep_replacements(&self.dir)?;
        let others = files::list(&self.dir)?
            .into_iter()
            .any(|path| path != self.note_path());
        if !others {
            files::remove(&self.note_path())?;
            transfer::remove_empty_dir(&self.dir).map_err(failed)?;
        }
        Ok(())
    }

    /// The directory without a note that a crash right after its making leaves: empty but for the
    /// beginnings of one. Returns whether it was such, and removes it.
    pub fn remove_unclaimed(&self) -> Result<bool, VolumeError> {
        let is_beginning = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!(".{NOTE}.")) && files::is_left_by_replace(path)
        };
        let entries = files::list(&self.dir)?;
        if !entries.iter().all(|path| is_beginning(path)) {
            return Ok(false);
        }
        files::sweep_replacements(&self.dir)?;
        transfer::remove_empty_dir(&self.dir)
            .map_err(|error| VolumeError::call("remove", &self.dir, error))
    }
}

/// What lies in one place, shared by those who asked for it.
type Found = Arc<Vec<(Kept, Note)>>;

/// The kept directories of some places, read once for all back-ends that ask.
#[derive(Debug, Default)]
pub struct Scan {
    places: Vec<PathBuf>,
    read: Mutex<HashMap<PathBuf, Found>>,
}

impl Scan {
    pub fn of(places: &[PathBuf]) -> Self {
        Self {
            places: places.to_vec(),
            ..Self::default()
        }
    }

    pub fn places(&self) -> &[PathBuf] {
        &self.places
    }

    /// All in `place` with a note of ours. Whatever isn't readable as ours is somebody else's.
    pub fn kept_in(&self, place: &Path) -> Result<Found, VolumeError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(place) {
            return Ok(known.clone());
        }
        let directories = match place.is_dir() {
            true => files::list(place)?,
            false => Vec::new(),
        };
        let found = parallel::map(&directories, |dir| {
            let kept = Kept::at(place, dir.file_name()?.to_str()?).ok()?;
            let note = kept.read().ok().flatten()?;
            // Not through a link, which could lead to another's.
            let is_dir = dir.symlink_metadata().is_ok_and(|own| own.is_dir());
            is_dir.then_some((kept, note))
        });
        let found = Arc::new(found.into_iter().flatten().collect::<Vec<_>>());
        read.insert(place.to_owned(), found.clone());
        Ok(found)
    }
}

/// The kept directories that these planned volumes would lie in, each once.
pub fn kept_of_planned(id: &str, planned: &[PlannedVolume]) -> Vec<Kept> {
    let mut list: Vec<Kept> = Vec::new();
    for kept in planned
        .iter()
        .filter_map(|volume| Kept::of_volume(id, &volume.name))
    {
        if !list.contains(&kept) {
            list.push(kept);
        }
    }
    list
}

/// The configured directory, links resolved; refused when it isn't there or lies in the data.
pub fn check_directory(directory: &Path, layout: &Layout) -> Result<PathBuf, VolumeError> {
    let resolved = directory
        .canonicalize()
        .ok()
        .filter(|path| path.is_dir())
        .ok_or_else(|| {
            VolumeError::refused(
                format!("the snapshot directory {} isn't there", directory.display()),
                format!(
                    "Mount its disk, or make it with `install -d -m 0700 {}`.",
                    directory.display()
                ),
            )
        })?;
    match layout.places().find(|place| place.covers(&resolved)) {
        None => Ok(resolved),
        Some(place) => Err(VolumeError::refused(
            format!(
                "the snapshot directory {} lies in {}, which the server uses",
                directory.display(),
                place.path.display()
            ),
            "Choose a [snapshot] directory outside of the server's directories.",
        )),
    }
}

/// Refuses when the filesystem of `path` hasn't `needed` bytes and the margin free.
pub fn check_free_space(path: &Path, needed: u64) -> Result<(), VolumeError> {
    let (free, size) = free_space(path)?;
    let margin = FREE_BYTES_MIN.max(size / 100 * FREE_PERCENT_MIN);
    if free >= needed.saturating_add(margin) {
        return Ok(());
    }
    Err(VolumeError::refused(
        format!(
            "{} has {} MiB free and needs {} MiB, {} of them as margin",
            path.display(),
            free >> 20,
            (needed.saturating_add(margin)) >> 20,
            margin >> 20
        ),
        "Free space there, or remove snapshots with `understudy snapshot prune`.",
    ))
}

/// Refuses when the filesystem of `path` hasn't `needed` inodes free. Those that make inodes as they
/// go (btrfs) name none in all, and are never short of them.
pub fn check_free_inodes(path: &Path, needed: u64) -> Result<(), VolumeError> {
    let stat = statfs(path).map_err(|errno| VolumeError::call("statfs", path, errno))?;
    if stat.files() == 0 || stat.files_free() >= needed {
        return Ok(());
    }
    Err(VolumeError::refused(
        format!(
            "{} has {} inodes free and needs {needed}",
            path.display(),
            stat.files_free()
        ),
        "Remove snapshots with `understudy snapshot prune`, or make that filesystem with more inodes.",
    ))
}

/// Bytes that an ordinary writer may still use, and bytes in all.
pub fn free_space(path: &Path) -> Result<(u64, u64), VolumeError> {
    let stat = statfs(path).map_err(|errno| VolumeError::call("statfs", path, errno))?;
    let block = stat.block_size().unsigned_abs();
    Ok((
        stat.blocks_available().saturating_mul(block),
        stat.blocks().saturating_mul(block),
    ))
}

/// Bytes on disk of all that is in `dir`; what vanishes meanwhile counts as none.
pub fn disk_usage(dir: &Path) -> Result<u64, VolumeError> {
    let mut bytes = 0;
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let failed = |error| VolumeError::call("look at", &path, error);
        for entry in path.read_dir().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let own = entry.metadata().map_err(failed)?;
            bytes += own.blocks() * 512;
            if own.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

/// Whether both paths are on one filesystem, as far as sharing blocks between them goes. For btrfs
/// all subvolumes count as one.
pub fn same_filesystem(one: &Path, other: &Path, mounts: &[Mount]) -> bool {
    match (mount_of(one, mounts), mount_of(other, mounts)) {
        (Some(one), Some(other)) => one.device == other.device,
        (Some(_) | None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_names_lead_to_their_kept_directory() {
        let of = |name: &str| Kept::of_volume("id-1", name).map(|kept| kept.dir);
        assert_eq!(of("/srv/id-1/data"), Some("/srv/id-1".into()));
        assert_eq!(of("/srv/id-1/places/2"), Some("/srv/id-1".into()));
        assert_eq!(of("/srv/id-1"), None);
        assert_eq!(of("/srv/id-11/data"), None);
    }

    #[test]
    fn ids_that_are_paths_are_refused() {
        for id in ["", ".", "..", "a/b", ".hidden"] {
            assert!(Kept::at(Path::new("/srv"), id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn only_what_bears_the_id_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(dir.path(), "id-1").unwrap();
        let note = Note::new("id-1", "db2", BackendKind::Copy, Vec::new());
        kept.create(&note).unwrap();
        assert_eq!(kept.read().unwrap(), Some(note.clone()));
        assert!(matches!(
            kept.create(&note),
            Err(VolumeError::Refused { .. })
        ));

        let other = Kept::at(dir.path(), "id-2").unwrap();
        std::fs::create_dir(&other.dir).unwrap();
        std::fs::copy(kept.note_path(), other.note_path()).unwrap();
        assert!(matches!(other.read(), Err(VolumeError::NotOurs { .. })));
        assert!(!other.remove_unclaimed().unwrap());
        let found = Scan::of(&[]).kept_in(dir.path()).unwrap();
        assert_eq!(*found, [(kept.clone(), note)]);

        kept.remove_emptied().unwrap();
        assert!(!kept.dir.exists() && other.dir.exists());
    }

    #[test]
    fn directory_of_a_crash_before_the_note_is_removed_and_a_full_one_not() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(dir.path(), "id-1").unwrap();
        std::fs::create_dir(&kept.dir).unwrap();
        std::fs::write(kept.dir.join(".understudy.json.new"), "{").unwrap();
        assert!(kept.remove_unclaimed().unwrap());
        std::fs::create_dir(&kept.dir).unwrap();
        std::fs::write(kept.dir.join("mine"), "").unwrap();
        assert!(!kept.remove_unclaimed().unwrap());
        assert!(kept.dir.join("mine").exists());
    }
}
