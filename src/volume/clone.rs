//! Clones of kept directories: `PLACE/.use-USE/N`, beside the kept snapshots and on their disk.
//!
//! Of a use's directory only what its name claims is ours: the name carries the use's id, which
//! nobody else makes, and no kept snapshot's name begins with a dot.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::kept::{self, Kept};
use super::mirror::{Method, Mirror};
use super::mount::refuse_mounted;
use super::walk::Roots;
use super::{CloneRequest, PlannedVolume, VolumeError, VolumeState, reflink};
use crate::sys::{Fact, files, ioctl, transfer};

/// Before a use's id: the directory of its clones.
const USE_PREFIX: &str = ".use-";

/// With less left a filesystem counts as full: no more than one extension of a tablespace.
pub const FULL_BYTES: u64 = 16 << 20;

/// How a directory is cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// A btrfs snapshot of the kept subvolume.
    Subvolume,
    /// File by file: by reference where the filesystem can, else copied.
    Files,
}

/// `PLACE/.use-USE/N`.
pub(super) fn plan(request: &CloneRequest, manner: Manner) -> Result<PlannedVolume, VolumeError> {
    let kept_path = Path::new(&request.volume.name);
    let place = place_of(request)?;
    if manner == Manner::Files && !reflink::can_clone_in(&place)? {
        let mut mirror = Mirror::open(Roots::whole(kept_path), place.clone(), Method::Copy)?;
        let (bytes, inodes) = mirror.measure()?;
        kept::check_free_space(&place, bytes)?;
        kept::check_free_inodes(&place, inodes)?;
    } else {
        kept::check_free_space(&place, 0)?;
    }
    let path = directory_in(&place, &request.use_id).join(request.number.to_string());
    Ok(PlannedVolume {
        origin: request.volume.name.clone(),
        name: path.display().to_string(),
    })
}

fn directory_in(place: &Path, use_id: &str) -> PathBuf {
    place.join(format!("{USE_PREFIX}{use_id}"))
}

/// Where a use makes something beside `path`, in the same way as a clone.
pub(super) fn path_beside(path: &Path, use_id: &str, number: usize) -> PathBuf {
    let place = path.parent().unwrap_or(path);
    directory_in(place, use_id).join(number.to_string())
}

/// Removes the directory of a use once nothing is in it.
pub(super) fn remove_directory_of(path: &Path) -> Result<(), VolumeError> {
    let directory = path.parent().unwrap_or(path);
    transfer::remove_empty_dir(directory)
        .map(drop)
        .map_err(|error| VolumeError::call("remove", directory, error))
}

/// Makes the planned clone and returns its path.
pub(super) fn make(
    request: &CloneRequest,
    planned: &PlannedVolume,
    manner: Manner,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PathBuf, VolumeError> {
    let path = PathBuf::from(&planned.name);
    let directory = path.parent().unwrap_or(&path);
    files::make_private_dir(directory)?;
    let kept_path = Path::new(&request.volume.name);
    match manner {
        Manner::Subvolume => {
            let failed = |error| VolumeError::call("make a writable snapshot of", kept_path, error);
            let source = transfer::open_root(kept_path).map_err(failed)?;
            let dir = File::open(directory).map_err(failed)?;
            let name = request.number.to_string();
            ioctl::btrfs_snapshot_writable(&dir, &name, &source).map_err(failed)?;
        }
        Manner::Files => {
            let method = match reflink::can_clone_in(directory)? {
                true => Method::Reflink,
                false => Method::Copy,
            };
            Mirror::open(Roots::whole(kept_path), path.clone(), method)?
                .copy_still(&|| false, progress)?;
        }
    }
    Ok(path)
}

/// Whether it holds what was written to it. On a full filesystem a writer was refused, and says so in
/// many ways or not at all.
pub(super) fn probe(planned: &PlannedVolume) -> Fact<VolumeState> {
    match kept::free_space(Path::new(&planned.name)) {
        Ok((free, _)) if free < FULL_BYTES => Fact::Known(VolumeState::Invalid(format!(
            "its filesystem is full, with {} KiB free",
            free >> 10
        ))),
        Ok(_) => Fact::Known(VolumeState::Good { bytes_used: None }),
        Err(_) if !Path::new(&planned.name).exists() => Fact::Known(VolumeState::Missing),
        Err(error) => Fact::unknown(error),
    }
}

/// Removes the clones of a use; what isn't in a directory of its name stays.
pub(super) fn remove(
    use_id: &str,
    planned: &[PlannedVolume],
    remove_one: &dyn Fn(&Path) -> Result<bool, VolumeError>,
) -> Result<Vec<String>, VolumeError> {
    let mut lines = Vec::new();
    let wanted = format!("{USE_PREFIX}{use_id}");
    for PlannedVolume { name, .. } in planned {
        let path = Path::new(name);
        let directory = path
            .parent()
            .filter(|dir| dir.file_name() == Some(wanted.as_ref()));
        let Some(directory) = directory else { continue };
        refuse_mounted(path)?;
        if remove_one(path)? {
            lines.push(format!("removed the clone {name}"));
        }
        reflink::remove_trials(directory)?;
        remove_directory_of(path)?;
    }
    Ok(lines)
}

/// A clone made of files; `Ok(false)` when there was none.
pub(super) fn remove_files(path: &Path) -> Result<bool, VolumeError> {
    let failed = |error| VolumeError::call("remove", path, error);
    let was_there = path.symlink_metadata().is_ok();
    transfer::remove_tree(path).map_err(failed)?;
    Ok(was_there)
}

/// The directory in which the snapshot's own directory lies.
fn place_of(request: &CloneRequest) -> Result<PathBuf, VolumeError> {
    let name = &request.volume.name;
    Kept::of_volume(&request.id, name)
        .and_then(|kept| kept.dir.parent().map(Path::to_owned))
        .ok_or_else(|| VolumeError::NotOurs {
            name: name.clone(),
            reason: format!("it isn't in a directory named {}", request.id),
        })
}
