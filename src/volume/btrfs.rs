//! btrfs: read-only snapshots of subvolumes, by system call alone.
//!
//! Each lies at `PLACE/ID/NAME` beside its note, never inside the data directory. No name would do
//! there (seen): MariaDB 10.11 shows a directory as a database though its name begins with a dot, and
//! MySQL 9.7 finds every tablespace twice, and doesn't start, unless it does. Besides, the server's
//! account could put another directory in its place, and whatever hands the data over to that
//! account (`chown -R`, as container images do at each start) fails on what is read-only. A snapshot
//! leaves nested subvolumes empty, and none can be made while the filesystem is frozen (the call waits
//! for the thaw; seen on Linux 6.18), so several subvolumes have no common moment.

mod put;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::syncfs;

use super::clone;
use super::kept::{self, Kept, Note, NotedVolume, Stage};
use super::layout::{Layout, Mount, Volume, mount_of, observe_mounts};
use super::mount::refuse_mounted;
use super::{
    Backend, BackendKind, CloneRequest, FoundVolume, Mountable, PlannedVolume, Prepared,
    PutRequest, Renamed, Scan, Tags, TakeRequest, VolumeError, VolumeRecord, VolumeState,
};
use crate::sys::ioctl::{self, SUBVOLUME_ROOT_INODE, SubvolumeInfo};
use crate::sys::{Fact, files, parallel, transfer};

/// Where snapshots go when no directory is configured.
pub const PLACE_NAME: &str = ".understudy-snapshots";

/// The btrfs back-end; needs no program.
#[derive(Debug, Clone, Copy, Default)]
pub struct Btrfs;

impl Backend for Btrfs {
    fn kind(&self) -> BackendKind {
        BackendKind::Btrfs
    }

    fn prepare(&self, request: &TakeRequest) -> Result<Box<dyn Prepared>, VolumeError> {
        let mounts = observe_mounts()?;
        check_not_top_level(&request.layout)?;
        if let Some(nested) = request.layout.nested() {
            return Err(refuse_nested(&nested.path));
        }
        let mut prepared = PreparedBtrfs {
            kept: Vec::new(),
            items: Vec::new(),
        };
        for (index, volume) in request.layout.volumes.iter().enumerate() {
            prepared.add(request, index, volume, &mounts)?;
        }
        Ok(Box::new(prepared))
    }

    fn discover_in(&self, scan: &Scan) -> Result<Vec<FoundVolume>, VolumeError> {
        let mut candidates: Vec<PathBuf> = Vec::new();
        for place in scan.places().iter().flat_map(|place| places_near(place)) {
            if !candidates.contains(&place) {
                candidates.push(place);
            }
        }
        let mut found = Vec::new();
        for place in candidates {
            let kept = scan.kept_in(&place)?;
            let volumes = parallel::map(&kept, |(kept, note)| match note.backend {
                BackendKind::Btrfs => found_in(kept, note),
                _ => Ok(Vec::new()),
            });
            for volumes in volumes {
                found.extend(volumes?);
            }
        }
        Ok(found)
    }

    fn probe(&self, volume: &VolumeRecord) -> Fact<VolumeState> {
        match observe_state(volume) {
            Ok(state) => Fact::Known(state),
            Err(error) => Fact::unknown(error),
        }
    }

    fn delete(&self, id: &str, volume: &VolumeRecord) -> Result<bool, VolumeError> {
        let path = Path::new(&volume.name);
        let not_ours = |reason: String| VolumeError::NotOurs {
            name: volume.name.clone(),
            reason,
        };
        let kept = Kept::of_volume(id, &volume.name)
            .ok_or_else(|| not_ours(format!("it isn't in a directory named {id}")))?;
        let note = kept.read()?;
        let Some(info) = observe_subvolume(path)? else {
            if note.is_some() {
                kept.remove_emptied()?;
            }
            return Ok(false);
        };
        if info.uuid != volume.uuid {
            return Err(not_ours(format!(
                "its uuid is {}, recorded was {}",
                info.uuid, volume.uuid
            )));
        }
        delete_subvolume(path)?;
        if note.is_some() {
            kept.remove_emptied()?;
        }
        Ok(true)
    }

    fn sweep(&self, id: &str, planned: &[PlannedVolume]) -> Result<Vec<String>, VolumeError> {
        let mut lines = Vec::new();
        for kept in kept::kept_of_planned(id, planned) {
            lines.extend(remove_kept(&kept)?);
        }
        Ok(lines)
    }

    fn plan_clone(&self, request: &CloneRequest) -> Result<PlannedVolume, VolumeError> {
        clone::plan(request, clone::Manner::Subvolume)
    }

    fn make_clone(
        &self,
        request: &CloneRequest,
        planned: &PlannedVolume,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Mountable, VolumeError> {
        clone::make(request, planned, clone::Manner::Subvolume, progress).map(Mountable::Directory)
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
        clone::remove(use_id, planned, &|path| match observe_subvolume(path)? {
            None => Ok(false),
            Some(_) => delete_subvolume(path).map(|()| true),
        })
    }

    fn plan_put(&self, request: &PutRequest) -> Result<Vec<PlannedVolume>, VolumeError> {
        put::plan(request)
    }

    fn put(
        &self,
        request: &PutRequest,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<Renamed>, VolumeError> {
        put::put(request, progress).map(|()| Vec::new())
    }
}

/// The directories where snapshots of `path` or in `path` may lie.
pub fn places_near(path: &Path) -> Vec<PathBuf> {
    let mut places = vec![path.to_owned(), path.join(PLACE_NAME)];
    if let Ok(path) = path.canonicalize()
        && let Ok(root) = subvolume_root(&path)
    {
        places.extend(root.parent().map(|parent| parent.join(PLACE_NAME)));
        places.push(root.join(PLACE_NAME));
    }
    let mut unique: Vec<PathBuf> = Vec::new();
    for place in places.into_iter().filter_map(|p| p.canonicalize().ok()) {
        if !unique.contains(&place) {
            unique.push(place);
        }
    }
    unique
}

struct Item {
    source: File,
    root: PathBuf,
    /// Index into `kept`, and the name there.
    kept: usize,
    name: String,
    taken: bool,
}

struct KeptHere {
    kept: Kept,
    note: Note,
    /// Open once the directory is made.
    dir: Option<File>,
}

struct PreparedBtrfs {
    kept: Vec<KeptHere>,
    items: Vec<Item>,
}

impl PreparedBtrfs {
    fn add(
        &mut self,
        request: &TakeRequest,
        index: usize,
        volume: &Volume,
        mounts: &[Mount],
    ) -> Result<(), VolumeError> {
        let Some(first) = volume.places.first() else {
            return Ok(());
        };
        if volume.mount.fs_type != "btrfs" {
            return Err(VolumeError::refused(
                format!(
                    "{} is on {}, not on btrfs",
                    first.path.display(),
                    volume.mount.fs_type
                ),
                "Use backend = \"auto\", or name the one that fits.",
            ));
        }
        // A file's own directory, so that the climb begins at one.
        let root = subvolume_root(&first.path)?;
        refuse_swap(&root)?;
        let place = choose_place(request, &root, mounts)?;
        kept::check_free_space(&root, 0)?;
        let source =
            transfer::open_root(&root).map_err(|error| VolumeError::call("open", &root, error))?;
        let info = ioctl::btrfs_subvolume_info(&source)
            .map_err(|error| VolumeError::call("ask btrfs about", &root, error))?;
        let name = match index {
            0 => "data".to_owned(),
            other => format!("volume-{other}"),
        };
        let kept = self.kept_index(request, &place)?;
        self.kept[kept].note.volumes.push(NotedVolume {
            origin: root.display().to_string(),
            name: name.clone(),
            path: root.clone(),
            uuid: String::new(),
            bytes_used: None,
            origin_uuid: Some(info.uuid),
            is_part: None,
        });
        self.items.push(Item {
            source,
            root,
            kept,
            name,
            taken: false,
        });
        Ok(())
    }

    fn kept_index(&mut self, request: &TakeRequest, place: &Path) -> Result<usize, VolumeError> {
        let kept = Kept::at(place, &request.id)?;
        if let Some(index) = self.kept.iter().position(|here| here.kept == kept) {
            return Ok(index);
        }
        let note = Note::new(&request.id, &request.server, BackendKind::Btrfs, Vec::new());
        self.kept.push(KeptHere {
            kept,
            note,
            dir: None,
        });
        Ok(self.kept.len() - 1)
    }

    /// Makes the directories and their notes, once.
    fn make_ready(&mut self) -> Result<(), VolumeError> {
        for here in self.kept.iter_mut().filter(|here| here.dir.is_none()) {
            here.kept.create(&here.note)?;
            let dir = transfer::open_root(&here.kept.dir)
                .map_err(|error| VolumeError::call("open", &here.kept.dir, error))?;
            here.dir = Some(dir);
        }
        Ok(())
    }

    fn path(&self, item: &Item) -> PathBuf {
        self.kept[item.kept].kept.dir.join(&item.name)
    }
}

impl Prepared for PreparedBtrfs {
    fn plan(&self) -> Vec<PlannedVolume> {
        let plan = |item: &Item| PlannedVolume {
            origin: item.root.display().to_string(),
            name: self.path(item).display().to_string(),
        };
        self.items.iter().map(plan).collect()
    }

    /// Also writes out what is dirty, since the snapshot commits a transaction.
    fn warm_up(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        self.make_ready()?;
        let all = self.items.len() as u64;
        for (done, item) in self.items.iter().enumerate() {
            syncfs(&item.source).map_err(|errno| VolumeError::call("sync", &item.root, errno))?;
            progress(done as u64 + 1, all);
        }
        Ok(())
    }

    fn take(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        self.make_ready()?;
        for index in 0..self.items.len() {
            let path = self.path(&self.items[index]);
            let item = &mut self.items[index];
            let Some(dir) = &self.kept[item.kept].dir else {
                continue;
            };
            if item.taken {
                ioctl::btrfs_delete_subvolume(dir, &item.name)
                    .map_err(|error| VolumeError::call("delete subvolume", &path, error))?;
            }
            item.taken = false;
            ioctl::btrfs_snapshot(dir, &item.name, &item.source)
                .map_err(|error| VolumeError::call("snapshot to", &path, error))?;
            item.taken = true;
        }
        let all = self.items.len() as u64;
        progress(all, all);
        Ok(())
    }

    fn seal(&mut self, tags: &Tags) -> Result<Vec<VolumeRecord>, VolumeError> {
        let mut records = Vec::new();
        for here in &mut self.kept {
            for volume in &mut here.note.volumes {
                let path = here.kept.dir.join(&volume.name);
                let info = observe_subvolume(&path)?.ok_or_else(|| VolumeError::NotFound {
                    name: path.display().to_string(),
                })?;
                volume.uuid = info.uuid;
                records.push(volume.record(&here.kept));
            }
            here.note.tags = tags.clone();
            here.note.stage = Stage::Complete;
            here.kept.write(&here.note)?;
        }
        Ok(records)
    }

    fn discard(&mut self) -> Result<(), VolumeError> {
        for here in self.kept.iter_mut().filter(|here| here.dir.is_some()) {
            remove_kept(&here.kept)?;
            here.dir = None;
        }
        self.items.iter_mut().for_each(|item| item.taken = false);
        Ok(())
    }
}

/// What a nested subvolume is refused with, here and in `choose`.
pub(super) fn refuse_nested(path: &Path) -> VolumeError {
    VolumeError::refused(
        format!(
            "{} is a volume of its own inside the data, which a btrfs snapshot leaves empty",
            path.display()
        ),
        "Make it an ordinary directory of the subvolume around it, or set backend = \"copy\" and a \
         [snapshot] directory.",
    )
}

/// Refused when the data directory, or another place, is the top level of its filesystem itself: all
/// of that filesystem lies within the data, so that nothing can be kept on it.
pub(super) fn check_not_top_level(layout: &Layout) -> Result<(), VolumeError> {
    let found = layout.volumes.iter().find(|Volume { mount, places }| {
        let is_top = mount.fs_type == "btrfs" && mount.root == Path::new("/");
        is_top && places.iter().any(|place| place.covers(&mount.mount_point))
    });
    let Some(Volume { mount, .. }) = found else {
        return Ok(());
    };
    let (at, device) = (mount.mount_point.display(), &mount.source);
    Err(VolumeError::refused(
        format!(
            "{at} is the top level of its btrfs filesystem, so that a snapshot on it would lie in \
             the data itself"
        ),
        format!(
            "Stop the server and make the data a subvolume: `btrfs subvolume snapshot {at} \
             {at}/@data && umount {at} && mount -o subvol=@data {device} {at}`, and so in fstab; \
             then `mount -o subvolid=5 {device} DIR`, and set a [snapshot] directory in DIR. Or set \
             a [snapshot] directory on another filesystem and backend = \"copy\"."
        ),
    ))
}

/// The root of the subvolume that holds `path` (absolute, without links).
fn subvolume_root(path: &Path) -> Result<PathBuf, VolumeError> {
    let failed = |error: io::Error| VolumeError::call("look at", path, error);
    let device = path.symlink_metadata().map_err(failed)?.dev();
    for dir in path.ancestors() {
        let own = dir.symlink_metadata().map_err(failed)?;
        if own.dev() != device {
            break;
        }
        if own.is_dir() && own.ino() == SUBVOLUME_ROOT_INODE {
            return Ok(dir.to_owned());
        }
    }
    Err(VolumeError::refused(
        format!(
            "the root of the subvolume that holds {} isn't mounted",
            path.display()
        ),
        "Mount the whole subvolume on this host, and give its path in [snapshot] path_map.",
    ))
}

/// A subvolume with an active swap file can't be snapshotted (ETXTBSY).
fn refuse_swap(root: &Path) -> Result<(), VolumeError> {
    let device = |path: &Path| path.metadata().ok().map(|own| own.dev());
    let swaps = files::read_text(Path::new("/proc/swaps"))?.unwrap_or_default();
    let here = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .find(|file| device(Path::new(file)).is_some_and(|swap| Some(swap) == device(root)));
    match here {
        None => Ok(()),
        Some(file) => Err(VolumeError::refused(
            format!(
                "the subvolume {} holds the active swap file {file}",
                root.display()
            ),
            "Move the swap file to a subvolume of its own.",
        )),
    }
}

/// PLACE for snapshots of this subvolume.
fn choose_place(
    request: &TakeRequest,
    root: &Path,
    mounts: &[Mount],
) -> Result<PathBuf, VolumeError> {
    let Some(directory) = &request.directory else {
        return default_place(root, &request.layout, mounts);
    };
    let place = kept::check_directory(directory, &request.layout)?;
    if kept::same_filesystem(&place, root, mounts) {
        return Ok(place);
    }
    Err(VolumeError::refused(
        format!(
            "{} isn't on the btrfs filesystem of {}",
            directory.display(),
            root.display()
        ),
        "Choose a [snapshot] directory on that filesystem, or leave it out.",
    ))
}

fn default_place(root: &Path, layout: &Layout, mounts: &[Mount]) -> Result<PathBuf, VolumeError> {
    let beside = root
        .parent()
        .filter(|parent| {
            mount_of(parent, mounts).is_some_and(|mount| mount.fs_type == "btrfs")
                && kept::same_filesystem(parent, root, mounts)
        })
        .map(|parent| parent.join(PLACE_NAME));
    let within = root.join(PLACE_NAME);
    beside
        .into_iter()
        .chain([within])
        .find(|place| layout.places().all(|used| !used.covers(place)))
        .ok_or_else(|| {
            let device = mount_of(root, mounts).map_or("DEVICE", |mount| &mount.source);
            VolumeError::refused(
                format!(
                    "there is no place for snapshots outside of {} on its filesystem",
                    root.display()
                ),
                format!(
                    "Mount the filesystem's top level elsewhere (`mount -o subvolid=5 {device} \
                     DIR`, and in fstab), and set a [snapshot] directory in DIR."
                ),
            )
        })
}

/// The volumes of one kept directory, as its note and the subvolumes themselves tell.
fn found_in(kept: &Kept, note: &Note) -> Result<Vec<FoundVolume>, VolumeError> {
    let of_volume = |volume: &NotedVolume| {
        let record = volume.record(kept);
        let state = match (observe_alone(&record)?, note.stage.unfinished()) {
            (VolumeState::Missing, _) => VolumeState::Missing,
            (_, Some(reason)) => VolumeState::Invalid(reason.to_owned()),
            (state, None) => state,
        };
        Ok(FoundVolume {
            id: note.id.clone(),
            tags: note.tags.clone(),
            state,
            record,
        })
    };
    note.volumes.iter().map(of_volume).collect()
}

/// `Ok(None)` when nothing is there; refused as not ours when it isn't a subvolume.
fn observe_subvolume(path: &Path) -> Result<Option<SubvolumeInfo>, VolumeError> {
    let failed = |error| VolumeError::call("look at", path, error);
    match path.symlink_metadata() {
        Ok(own) if own.is_dir() && own.ino() == SUBVOLUME_ROOT_INODE => {}
        Ok(_) => {
            return Err(VolumeError::NotOurs {
                name: path.display().to_string(),
                reason: "it isn't a subvolume".to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let dir = transfer::open_root(path).map_err(failed)?;
    ioctl::btrfs_subvolume_info(&dir).map(Some).map_err(failed)
}

fn observe_state(volume: &VolumeRecord) -> Result<VolumeState, VolumeError> {
    match observe_alone(volume)? {
        VolumeState::Missing => Ok(VolumeState::Missing),
        state => Ok(match unfinished(Path::new(&volume.name))? {
            Some(reason) => VolumeState::Invalid(reason.to_owned()),
            None => state,
        }),
    }
}

/// By the subvolume itself, whatever the note beside it says.
fn observe_alone(volume: &VolumeRecord) -> Result<VolumeState, VolumeError> {
    let path = Path::new(&volume.name);
    let info = match observe_subvolume(path) {
        Ok(Some(info)) => info,
        Ok(None) => return Ok(VolumeState::Missing),
        Err(VolumeError::NotOurs { reason, .. }) => return Ok(VolumeState::Invalid(reason)),
        Err(error) => return Err(error),
    };
    Ok(if info.uuid != volume.uuid {
        VolumeState::Invalid("it was replaced by another subvolume".to_owned())
    } else if !info.read_only {
        VolumeState::Invalid("it was made writable, so it may have changed".to_owned())
    } else {
        VolumeState::Good { bytes_used: None }
    })
}

/// Why the note beside the subvolume says that it isn't whole; a lost note says nothing.
fn unfinished(path: &Path) -> Result<Option<&'static str>, VolumeError> {
    let kept = path.parent().and_then(|dir| {
        let id = dir.file_name()?.to_str()?;
        Kept::at(dir.parent()?, id).ok()
    });
    Ok(match kept {
        None => None,
        Some(kept) => kept.read()?.and_then(|note| note.stage.unfinished()),
    })
}

fn delete_subvolume(path: &Path) -> Result<(), VolumeError> {
    refuse_mounted(path)?;
    let failed = |error| VolumeError::call("delete subvolume", path, error);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let dir = transfer::open_root(parent).map_err(failed)?;
    match ioctl::btrfs_delete_subvolume(&dir, &name.to_string_lossy()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            return Err(VolumeError::Busy {
                name: path.display().to_string(),
                reason: "btrfs says it is in use".to_owned(),
            });
        }
        Err(error) => return Err(failed(error)),
    }
    // On disk before the note goes, or a power cut would bring back a snapshot that nobody claims.
    syncfs(&dir).map_err(|errno| failed(errno.into()))
}

/// Removes a kept directory with its snapshots, if it is ours. A line for each thing removed.
fn remove_kept(kept: &Kept) -> Result<Vec<String>, VolumeError> {
    let mut lines = Vec::new();
    let note = match kept.read() {
        Ok(Some(note)) if note.backend == BackendKind::Btrfs => note,
        Ok(None) if kept.remove_unclaimed()? => {
            lines.push(format!("removed the directory {}", kept.dir.display()));
            return Ok(lines);
        }
        Ok(_) | Err(VolumeError::NotOurs { .. }) => return Ok(lines),
        Err(error) => return Err(error),
    };
    for volume in &note.volumes {
        let path = kept.dir.join(&volume.name);
        let info = match observe_subvolume(&path) {
            Ok(info) => info,
            Err(VolumeError::NotOurs { .. }) => None,
            Err(error) => return Err(error),
        };
        // Only a snapshot of the noted subvolume.
        if info.is_some_and(|info| info.parent_uuid == volume.origin_uuid) {
            delete_subvolume(&path)?;
            lines.push(format!("deleted the subvolume {}", path.display()));
        }
    }
    kept.remove_emptied()?;
    if !kept.dir.exists() {
        lines.push(format!("removed the directory {}", kept.dir.display()));
    }
    Ok(lines)
}
