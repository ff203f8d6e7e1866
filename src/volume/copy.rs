//! Copies file by file, plain or by reflink: `directory/ID/data`, and `places/N` for what the
//! server keeps elsewhere.
//!
//! Such a copy is of one moment only if the server was quiet for the whole of `take`, which the
//! caller proves by the server's counters; what the files' times show is checked here too.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::kept::{self, Kept, Note, NotedVolume, Stage};
use super::mirror::{Method, Mirror, Strangers};
use super::mount::refuse_mounted;
use super::walk::{Take, plan_roots};
use super::{
    Backend, BackendKind, CloneRequest, FoundVolume, Mountable, PlannedVolume, Prepared,
    PutRequest, Renamed, Scan, Tags, TakeRequest, VolumeError, VolumeRecord, VolumeState,
};
use super::{clone, put, reflink};
use crate::sys::{Fact, transfer};

/// The back-end for both ways of copying files; needs no program.
#[derive(Debug, Clone, Copy)]
pub struct FileByFile {
    method: Method,
}

impl FileByFile {
    pub fn new(method: Method) -> Self {
        Self { method }
    }
}

impl Backend for FileByFile {
    fn kind(&self) -> BackendKind {
        match self.method {
            Method::Copy => BackendKind::Copy,
            Method::Reflink => BackendKind::Reflink,
        }
    }

    fn prepare(&self, request: &TakeRequest) -> Result<Box<dyn Prepared>, VolumeError> {
        let directory = request.directory.as_ref().ok_or_else(no_directory)?;
        let place = kept::check_directory(directory, &request.layout)?;
        let kept = Kept::at(&place, &request.id)?;
        let roots = plan_roots(&request.layout, &Path::is_dir)?;
        let mut mirror = Mirror::open(roots, kept.dir.clone(), self.method)?;
        let (bytes, inodes) = mirror.measure()?;
        kept::check_free_inodes(&place, inodes)?;
        match self.method {
            Method::Copy => kept::check_free_space(&place, bytes)?,
            Method::Reflink => {
                reflink::check(&request.layout, &place)?;
                kept::check_free_space(&place, 0)?;
            }
        }
        let volumes = mirror.roots().roots.iter().map(|root| NotedVolume {
            origin: root.from.display().to_string(),
            name: root.name.clone(),
            path: root.from.clone(),
            uuid: String::new(),
            bytes_used: None,
            origin_uuid: None,
            is_part: Some(root.take != Take::All),
        });
        let note = Note::new(&request.id, &request.server, self.kind(), volumes.collect());
        Ok(Box::new(PreparedFiles {
            kept,
            note,
            mirror,
            limit: request.limit,
            is_made: false,
        }))
    }

    fn discover_in(&self, scan: &Scan) -> Result<Vec<FoundVolume>, VolumeError> {
        let mut found = Vec::new();
        for place in scan.places() {
            for (kept, note) in scan.kept_in(place)?.iter() {
                if note.backend != self.kind() {
                    continue;
                }
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
            return match identity(path)? {
                Some(_) => Err(not_ours("there is no note beside it that says whose it is")),
                None => Ok(false),
            };
        };
        let is_noted = note.backend == self.kind()
            && note
                .volumes
                .iter()
                .any(|own| kept.dir.join(&own.name) == path);
        if !is_noted {
            return Err(not_ours("the note beside it doesn't name it"));
        }
        let found = identity(path)?;
        if found.as_ref().is_some_and(|found| *found != volume.uuid) {
            return Err(not_ours("another directory has its name"));
        }
        refuse_mounted(&kept.dir)?;
        mark_deleting(&kept, &mut note)?;
        remove_tree(path)?;
        kept.remove_emptied()?;
        Ok(found.is_some())
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

    fn plan_clone(&self, request: &CloneRequest) -> Result<PlannedVolume, VolumeError> {
        clone::plan(request, clone::Manner::Files)
    }

    fn make_clone(
        &self,
        request: &CloneRequest,
        planned: &PlannedVolume,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Mountable, VolumeError> {
        clone::make(request, planned, clone::Manner::Files, progress).map(Mountable::Directory)
    }

    fn readable(&self, volume: &VolumeRecord) -> Result<Option<Mountable>, VolumeError> {
        Ok(Some(Mountable::Directory(volume.name.clone().into())))
    }

    fn probe_clone(&self, planned: &PlannedVolume) -> Fact<VolumeState> {
        clone::probe(planned)
    }

    fn drop_clones(
        &self,
        use_id: &str,
        planned: &[PlannedVolume],
    ) -> Result<Vec<String>, VolumeError> {
        clone::remove(use_id, planned, &clone::remove_files)
    }

    fn plan_put(&self, request: &PutRequest) -> Result<Vec<PlannedVolume>, VolumeError> {
        check_good(&request.volume)?;
        put::plan(&files_put(request)?)?;
        Ok(Vec::new())
    }

    /// Relay logs weren't copied, and so go from the origin.
    fn put(
        &self,
        request: &PutRequest,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<Renamed>, VolumeError> {
        check_good(&request.volume)?;
        put::put(&files_put(request)?, progress)?;
        Ok(Vec::new())
    }
}

struct PreparedFiles {
    kept: Kept,
    note: Note,
    mirror: Mirror,
    /// How long `take` may take.
    limit: Duration,
    is_made: bool,
}

impl PreparedFiles {
    fn make_ready(&mut self) -> Result<(), VolumeError> {
        if !self.is_made {
            self.kept.create(&self.note)?;
            self.is_made = true;
            if self.note.volumes.len() > 1 {
                let places = self.kept.dir.join("places");
                transfer::make_new_private_dir(&places)
                    .map_err(|error| VolumeError::call("make directory", &places, error))?;
            }
        }
        Ok(())
    }
}

impl Prepared for PreparedFiles {
    fn plan(&self) -> Vec<PlannedVolume> {
        let plan = |volume: &NotedVolume| PlannedVolume {
            origin: volume.origin.clone(),
            name: self.kept.dir.join(&volume.name).display().to_string(),
        };
        self.note.volumes.iter().map(plan).collect()
    }

    fn warm_up(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        self.make_ready()?;
        self.mirror.pre_copy(progress)
    }

    fn take(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        self.make_ready()?;
        self.mirror.final_copy(self.limit, progress).map(drop)
    }

    fn seal(&mut self, tags: &Tags) -> Result<Vec<VolumeRecord>, VolumeError> {
        self.mirror.finish()?;
        // What a clone has of its own can't be told from its blocks, which it shares.
        let used = match self.note.backend.shares_blocks() {
            false => self.mirror.bytes_used()?.into_iter().map(Some).collect(),
            true => vec![None; self.note.volumes.len()],
        };
        for (volume, bytes) in std::iter::zip(&mut self.note.volumes, used) {
            let path = self.kept.dir.join(&volume.name);
            volume.bytes_used = bytes;
            volume.uuid = identity(&path)?.ok_or_else(|| VolumeError::NotFound {
                name: path.display().to_string(),
            })?;
        }
        self.note.left_out = self.mirror.left_out().to_vec();
        self.note.tags = tags.clone();
        self.note.stage = Stage::Complete;
        self.kept.write(&self.note)?;
        let record = |volume: &NotedVolume| volume.record(&self.kept);
        Ok(self.note.volumes.iter().map(record).collect())
    }

    fn discard(&mut self) -> Result<(), VolumeError> {
        if self.is_made {
            remove_kept(&self.kept, self.note.backend)?;
            self.is_made = false;
        }
        Ok(())
    }
}

/// The refusal of a file-by-file back-end without a place to copy to.
pub(super) fn no_directory() -> VolumeError {
    VolumeError::refused(
        "there is no directory to copy to",
        "Set directory in the server's [snapshot] table, on a disk with room for the data.",
    )
}

/// Removes a kept directory with all in it, if its note says that it is ours.
pub(super) fn remove_kept(kept: &Kept, kind: BackendKind) -> Result<bool, VolumeError> {
    let mut note = match kept.read() {
        Ok(Some(note)) if note.backend == kind => note,
        Ok(None) => return kept.remove_unclaimed(),
        Ok(Some(_)) | Err(VolumeError::NotOurs { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    refuse_mounted(&kept.dir)?;
    mark_deleting(kept, &mut note)?;
    for volume in &note.volumes {
        remove_tree(&kept.dir.join(&volume.name))?;
    }
    kept.remove_emptied()?;
    Ok(true)
}

/// On a full disk the mark may fail, and removing is the cure: `remove_tree` is safe without it.
pub(super) fn mark_deleting(kept: &Kept, note: &mut Note) -> Result<(), VolumeError> {
    note.stage = Stage::Deleting;
    match kept.write(note) {
        Err(VolumeError::File(error)) if error.source.kind() == io::ErrorKind::StorageFull => {
            Ok(())
        }
        other => other,
    }
}

pub(super) fn remove_tree(path: &Path) -> Result<(), VolumeError> {
    transfer::remove_tree(path).map_err(|error| VolumeError::call("remove", path, error))
}

/// Inode and birth time: a directory made later under the same name differs. `Ok(None)` when
/// nothing is there.
fn identity(path: &Path) -> Result<Option<String>, VolumeError> {
    let failed = |error| VolumeError::call("look at", path, error);
    let own = match path.symlink_metadata() {
        Ok(own) => own,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let born = own
        .created()
        .ok()
        .and_then(|born| born.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |born| born.as_nanos());
    Ok(Some(format!("inode-{}-{born}", own.ino())))
}

fn observe_state(
    note: &Note,
    volume: &NotedVolume,
    kept: &Kept,
) -> Result<VolumeState, VolumeError> {
    let found = identity(&kept.dir.join(&volume.name))?;
    Ok(match (note.stage.unfinished(), found) {
        (Some(reason), _) => VolumeState::Invalid(reason.to_owned()),
        (None, None) => VolumeState::Missing,
        (None, Some(found)) if found != volume.uuid => {
            VolumeState::Invalid("another directory has its name".to_owned())
        }
        (None, Some(_)) => VolumeState::Good {
            bytes_used: volume.bytes_used,
        },
    })
}

fn check_good(volume: &VolumeRecord) -> Result<(), VolumeError> {
    match probe(volume)? {
        VolumeState::Good { .. } => Ok(()),
        VolumeState::Missing => Err(VolumeError::NotFound {
            name: volume.name.clone(),
        }),
        VolumeState::Invalid(reason) => Err(VolumeError::refused(
            format!("{} can't be used: {reason}", volume.name),
            "Use another snapshot.",
        )),
    }
}

/// Of a part of a directory, its other files stay; where the note doesn't tell, only the data
/// directory is known to be whole.
fn files_put(request: &PutRequest) -> Result<put::FilesPut, VolumeError> {
    let PutRequest { id, volume, .. } = request;
    let not_ours = || VolumeError::NotOurs {
        name: volume.name.clone(),
        reason: format!("it isn't in a directory named {id} with a note of it"),
    };
    let kept = Kept::of_volume(id, &volume.name).ok_or_else(not_ours)?;
    let note = kept.read()?.ok_or_else(not_ours)?;
    let path = Path::new(&volume.name);
    let noted = note
        .volumes
        .iter()
        .find(|own| kept.dir.join(&own.name) == path)
        .ok_or_else(not_ours)?;
    let is_part = noted.is_part.unwrap_or(noted.name != "data");
    Ok(put::FilesPut {
        strangers: match is_part {
            true => Strangers::Stay,
            false => Strangers::Go,
        },
        from: path.to_owned(),
        to: volume.path.clone(),
        untouched: Vec::new(),
        kept,
    })
}

/// The state of a recorded volume, by the note that is found beside it.
fn probe(record: &VolumeRecord) -> Result<VolumeState, VolumeError> {
    let path = Path::new(&record.name);
    let Some(found) = identity(path)? else {
        return Ok(VolumeState::Missing);
    };
    if found != record.uuid {
        return Ok(VolumeState::Invalid(
            "another directory has its name".to_owned(),
        ));
    }
    for dir in path.ancestors().skip(1).take(2) {
        let (Some(place), Some(id)) = (dir.parent(), dir.file_name().and_then(|id| id.to_str()))
        else {
            continue;
        };
        let kept = Kept::at(place, id)?;
        let Some(note) = kept.read()? else { continue };
        let own = note
            .volumes
            .iter()
            .find(|volume| kept.dir.join(&volume.name) == path);
        if let Some(volume) = own {
            return observe_state(&note, volume, &kept);
        }
    }
    Ok(VolumeState::Invalid(
        "its note is gone, so it may not be whole".to_owned(),
    ))
}
