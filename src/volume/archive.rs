//! Dumps as they are kept: `PLACE/ID/dump`, with the note beside it that every kept directory has.
//!
//! How one is made, read and loaded belongs to the room of snapshots, which knows servers; here it is a
//! directory that is found, recognised and removed. What identifies it is what its index says, since it
//! may have been copied to another disk or host.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::copy::{mark_deleting, remove_kept, remove_tree};
use super::kept::{self, Kept, Note, NotedVolume, Stage};
use super::mount::refuse_mounted;
use super::{
    Backend, BackendKind, CloneRequest, FoundVolume, Mountable, PlannedVolume, Prepared,
    PutRequest, Renamed, Scan, Tags, TakeRequest, VolumeError, VolumeRecord, VolumeState,
};
use crate::sys::{Fact, files, transfer};

/// The dump within its kept directory.
const NAME: &str = "dump";

/// What it holds, within the dump; written last.
pub const INDEX: &str = "archive.json";

/// The back-end of dumps.
pub struct Archive;

impl Backend for Archive {
    fn kind(&self) -> BackendKind {
        BackendKind::Dump
    }

    fn prepare(&self, _request: &TakeRequest) -> Result<Box<dyn Prepared>, VolumeError> {
        Err(no_files())
    }

    fn discover_in(&self, scan: &Scan) -> Result<Vec<FoundVolume>, VolumeError> {
        let mut found = Vec::new();
        for place in scan.places() {
            let kept = scan.kept_in(place)?;
            for (kept, note) in kept.iter().filter(|(_, note)| note.backend == self.kind()) {
                for volume in &note.volumes {
                    found.push(FoundVolume {
                        id: note.id.clone(),
                        record: volume.record(kept),
                        tags: note.tags.clone(),
                        state: observe_state(note, volume, kept)?,
                    });
                }
            }
        }
        Ok(found)
    }

    fn probe(&self, volume: &VolumeRecord) -> Fact<VolumeState> {
        match probe(volume) {
            Ok(state) => Fact::Known(state),
            Err(error) => Fact::unknown(error),
        }
    }

    fn delete(&self, id: &str, volume: &VolumeRecord) -> Result<bool, VolumeError> {
        let path = Path::new(&volume.name);
        let not_ours = |reason: &str| VolumeError::NotOurs {
            name: volume.name.clone(),
            reason: reason.to_owned(),
        };
        let Some(kept) = Kept::of_volume(id, &volume.name) else {
            return Err(not_ours("it isn't in a directory with the snapshot's id"));
        };
        let Some(mut note) = kept.read()? else {
            return match path.symlink_metadata() {
                Ok(_) => Err(not_ours("there is no note beside it that says whose it is")),
                Err(_) => Ok(false),
            };
        };
        let mut noted = note.volumes.iter();
        if note.backend != self.kind() || !noted.any(|own| kept.dir.join(&own.name) == path) {
            return Err(not_ours("the note beside it doesn't name it"));
        }
        let was_there = path.symlink_metadata().is_ok();
        refuse_mounted(&kept.dir)?;
        mark_deleting(&kept, &mut note)?;
        remove_tree(path)?;
        kept.remove_emptied()?;
        Ok(was_there)
    }

    fn sweep(&self, id: &str, planned: &[PlannedVolume]) -> Result<Vec<String>, VolumeError> {
        let mut lines = Vec::new();
        for kept in kept::kept_of_planned(id, planned) {
            if remove_kept(&kept, self.kind())? {
                lines.push(format!("removed the directory {}", kept.dir.display()));
            }
        }
        Ok(lines)
    }

    fn plan_clone(&self, _request: &CloneRequest) -> Result<PlannedVolume, VolumeError> {
        Err(no_files())
    }

    fn make_clone(
        &self,
        _request: &CloneRequest,
        _planned: &PlannedVolume,
        _progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Mountable, VolumeError> {
        Err(no_files())
    }

    fn readable(&self, _volume: &VolumeRecord) -> Result<Option<Mountable>, VolumeError> {
        Err(no_files())
    }

    fn probe_clone(&self, planned: &PlannedVolume) -> Fact<VolumeState> {
        Fact::unknown(format!("{}: dumps have no clones", planned.name))
    }

    fn drop_clones(
        &self,
        _use_id: &str,
        _planned: &[PlannedVolume],
    ) -> Result<Vec<String>, VolumeError> {
        Ok(Vec::new())
    }

    fn plan_put(&self, _request: &PutRequest) -> Result<Vec<PlannedVolume>, VolumeError> {
        Err(no_files())
    }

    fn put(
        &self,
        _request: &PutRequest,
        _progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<Renamed>, VolumeError> {
        Err(no_files())
    }
}

/// What only a snapshot of files can do.
pub fn no_files() -> VolumeError {
    VolumeError::refused(
        "a dump holds SQL, and no files of a server",
        "Use `understudy snapshot restore ID --to DIR`, which loads it into a data directory of its own, \
         or `understudy snapshot extract ID`.",
    )
}

/// The directory of a dump that is being made.
#[derive(Debug)]
pub struct Making {
    kept: Kept,
    note: Note,
    is_made: bool,
}

impl Making {
    /// Plans it; makes nothing.
    pub fn plan(place: &Path, id: &str, server: &str) -> Result<Self, VolumeError> {
        let kept = Kept::at(place, id)?;
        let volume = NotedVolume {
            origin: server.to_owned(),
            name: NAME.to_owned(),
            path: kept.dir.join(NAME),
            uuid: String::new(),
            bytes_used: None,
            origin_uuid: None,
            is_part: None,
        };
        let note = Note::new(id, server, BackendKind::Dump, vec![volume]);
        Ok(Self {
            kept,
            note,
            is_made: false,
        })
    }

    /// Where its files go.
    pub fn directory(&self) -> PathBuf {
        self.kept.dir.join(NAME)
    }

    pub fn planned(&self) -> Vec<PlannedVolume> {
        vec![PlannedVolume {
            origin: self.note.server.clone(),
            name: self.directory().display().to_string(),
        }]
    }

    /// Makes the directory, with a note that it isn't whole yet.
    pub fn make(&mut self) -> Result<(), VolumeError> {
        if self.is_made {
            return Ok(());
        }
        self.kept.create(&self.note)?;
        self.is_made = true;
        let directory = self.directory();
        transfer::make_new_private_dir(&directory)
            .map_err(|error| VolumeError::call("make directory", &directory, error))
    }

    /// Says that it is whole, now that all of it, its index last, is on disk.
    pub fn seal(&mut self, bytes: u64, tags: &Tags) -> Result<Vec<VolumeRecord>, VolumeError> {
        let directory = self.directory();
        let identity = identity(&directory)?.ok_or_else(|| VolumeError::NotFound {
            name: directory.join(INDEX).display().to_string(),
        })?;
        for volume in &mut self.note.volumes {
            volume.uuid.clone_from(&identity);
            volume.bytes_used = Some(bytes);
        }
        self.note.tags = tags.clone();
        self.note.stage = Stage::Complete;
        self.kept.write(&self.note)?;
        let volumes = self.note.volumes.iter();
        Ok(volumes.map(|volume| volume.record(&self.kept)).collect())
    }

    /// Removes all of it.
    pub fn discard(&mut self) -> Result<(), VolumeError> {
        if self.is_made {
            remove_kept(&self.kept, BackendKind::Dump)?;
            self.is_made = false;
        }
        Ok(())
    }
}

/// The checksum of its index; `None` where that isn't there.
fn identity(directory: &Path) -> Result<Option<String>, VolumeError> {
    let text = files::read_text(&directory.join(INDEX))?;
    Ok(text.map(|text| format!("sha256-{}", hex(&Sha256::digest(text.as_bytes())))))
}

/// As it is written in an index.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn observe_state(
    note: &Note,
    volume: &NotedVolume,
    kept: &Kept,
) -> Result<VolumeState, VolumeError> {
    if let Some(reason) = note.stage.unfinished() {
        return Ok(VolumeState::Invalid(reason.to_owned()));
    }
    let directory = kept.dir.join(&volume.name);
    state_of(&directory, &volume.uuid, volume.bytes_used)
}

fn state_of(
    directory: &Path,
    uuid: &str,
    bytes_used: Option<u64>,
) -> Result<VolumeState, VolumeError> {
    if !directory.is_dir() {
        return Ok(VolumeState::Missing);
    }
    Ok(match identity(directory)? {
        None => VolumeState::Invalid(format!("its {INDEX} is gone")),
        Some(found) if found != uuid => {
            VolumeState::Invalid(format!("its {INDEX} isn't the one that was written"))
        }
        Some(_) => VolumeState::Good { bytes_used },
    })
}

fn probe(record: &VolumeRecord) -> Result<VolumeState, VolumeError> {
    let path = Path::new(&record.name);
    let of_note = || -> Result<Option<Note>, VolumeError> {
        let Some((place, id)) = path
            .parent()
            .and_then(|dir| Some((dir.parent()?, dir.file_name()?.to_str()?)))
        else {
            return Ok(None);
        };
        Kept::at(place, id)?.read()
    };
    match of_note()? {
        Some(note) => match note.stage.unfinished() {
            Some(reason) => Ok(VolumeState::Invalid(reason.to_owned())),
            None => state_of(path, &record.uuid, record.bytes_used),
        },
        None if path.is_dir() => Ok(VolumeState::Invalid(
            "its note is gone, so it may not be whole".to_owned(),
        )),
        None => Ok(VolumeState::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_counts_once_its_note_says_so_and_as_long_as_its_index_is_the_same() {
        let place = tempfile::tempdir().unwrap();
        let mut making = Making::plan(place.path(), "id-1", "db2").unwrap();
        making.make().unwrap();
        let index = making.directory().join(INDEX);
        let list = || {
            let scan = Scan::of(&[place.path().to_owned()]);
            Archive.discover_in(&scan).unwrap().remove(0)
        };
        assert!(matches!(list().state, VolumeState::Invalid(_)));
        std::fs::write(&index, "{}").unwrap();
        assert!(matches!(list().state, VolumeState::Invalid(_)));
        let record = making.seal(7, &Tags::new()).unwrap().remove(0);
        let good = VolumeState::Good {
            bytes_used: Some(7),
        };
        assert_eq!(list().state, good);
        assert_eq!(probe(&record).unwrap(), good);

        // On another disk it is the same.
        let other = tempfile::tempdir().unwrap();
        let moved = other.path().join("id-1");
        std::fs::rename(place.path().join("id-1"), &moved).unwrap();
        let record = VolumeRecord {
            name: moved.join(NAME).display().to_string(),
            ..record
        };
        assert_eq!(probe(&record).unwrap(), good);
        std::fs::write(moved.join(NAME).join(INDEX), "{ }").unwrap();
        assert!(matches!(probe(&record).unwrap(), VolumeState::Invalid(_)));

        assert!(Archive.delete("id-1", &record).unwrap());
        assert!(!moved.exists());
        assert!(!Archive.delete("id-1", &record).unwrap());
    }
}
