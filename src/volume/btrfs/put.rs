//! Putting a kept subvolume in place of its origin.
//!
//! Where the origin is a directory of a mounted subvolume, a writable snapshot of the kept one is
//! exchanged with it in one call, and the old one deleted. Which of the two is the new one is told
//! by their numbers: btrfs never gives one twice, and counts upwards.
//!
//! Where it is mounted by itself, or has the place of the snapshots in it, its content is made
//! equal file by file, by reference: another subvolume would have another number, which fstab may
//! name, and subvolumes in it would go with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::syncfs;

use super::{PLACE_NAME, delete_subvolume, observe_state, observe_subvolume};
use crate::sys::ioctl::{self, SUBVOLUME_ROOT_INODE, SubvolumeInfo};
use crate::sys::{failpoint, files, transfer};
use crate::volume::kept::{self, Kept};
use crate::volume::layout::{mount_of, observe_mounts};
use crate::volume::mirror::Strangers;
use crate::volume::mount::refuse_mounted;
use crate::volume::put::{self, FilesPut, refuse_system};
use crate::volume::{PlannedVolume, PutRequest, VolumeError, VolumeState, clone};

/// How it is done.
enum Way {
    /// By a new subvolume, which is made there.
    Exchange(PathBuf),
    Files(FilesPut),
}

pub(super) fn plan(request: &PutRequest) -> Result<Vec<PlannedVolume>, VolumeError> {
    match choose(request)? {
        Way::Exchange(new) => {
            kept::check_free_space(&request.volume.path, 0)?;
            refuse_mounted(&request.volume.path)?;
            Ok(vec![PlannedVolume {
                origin: request.volume.name.clone(),
                name: new.display().to_string(),
            }])
        }
        Way::Files(files) => put::plan(&files).map(|()| Vec::new()),
    }
}

pub(super) fn put(
    request: &PutRequest,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), VolumeError> {
    match choose(request)? {
        Way::Exchange(new) => exchange(request, &new),
        Way::Files(files) => put::put(&files, progress),
    }
}

fn choose(request: &PutRequest) -> Result<Way, VolumeError> {
    let volume = &request.volume;
    let path = &volume.path;
    check_good(request)?;
    refuse_system(path)?;
    let found = subvolume_at(path)?;
    if found.read_only {
        return Err(VolumeError::refused(
            format!("{} is read-only", path.display()),
            format!(
                "Make it writable with `btrfs property set {} ro false`.",
                path.display()
            ),
        ));
    }
    let kept = Kept::of_volume(&request.id, &volume.name);
    let kept = kept.ok_or_else(|| VolumeError::NotOurs {
        name: volume.name.clone(),
        reason: format!("it isn't in a directory named {}", request.id),
    })?;
    let mounts = observe_mounts()?;
    let is_mounted_itself = mount_of(path, &mounts).is_none_or(|mount| mount.mount_point == *path);
    if !is_mounted_itself && subvolumes_below(path)? == 0 {
        let new = clone::path_beside(path, &request.use_id, request.number);
        return Ok(Way::Exchange(new));
    }
    let places = places_in(path, &kept);
    check_only_places(path, &places)?;
    Ok(Way::Files(FilesPut {
        from: volume.name.clone().into(),
        to: path.clone(),
        strangers: Strangers::Go,
        untouched: places,
        kept,
    }))
}

fn check_good(request: &PutRequest) -> Result<(), VolumeError> {
    match observe_state(&request.volume)? {
        VolumeState::Good { .. } => Ok(()),
        VolumeState::Missing => Err(VolumeError::NotFound {
            name: request.volume.name.clone(),
        }),
        VolumeState::Invalid(reason) => Err(VolumeError::refused(
            format!("{} can't be used: {reason}", request.volume.name),
            "Use another snapshot.",
        )),
    }
}

fn subvolume_at(path: &Path) -> Result<SubvolumeInfo, VolumeError> {
    observe_subvolume(path)?.ok_or_else(|| VolumeError::NotFound {
        name: path.display().to_string(),
    })
}

fn subvolumes_below(path: &Path) -> Result<usize, VolumeError> {
    let failed = |error| VolumeError::call("ask btrfs about", path, error);
    let dir = transfer::open_root(path).map_err(failed)?;
    ioctl::btrfs_subvolumes_below(&dir).map_err(failed)
}

/// Where snapshots lie in this subvolume, relative to it.
fn places_in(path: &Path, kept: &Kept) -> Vec<PathBuf> {
    let own = kept
        .dir
        .parent()
        .and_then(|place| place.strip_prefix(path).ok());
    let mut places = vec![PathBuf::from(PLACE_NAME)];
    if let Some(own) = own.filter(|own| *own != Path::new(PLACE_NAME)) {
        places.push(own.to_owned());
    }
    places
}

/// Refuses subvolumes elsewhere in it, which would be emptied or removed.
fn check_only_places(path: &Path, places: &[PathBuf]) -> Result<(), VolumeError> {
    let mut known = 0;
    for place in places {
        for dir in files::list(&path.join(place))? {
            let is_dir = dir.symlink_metadata().is_ok_and(|own| own.is_dir());
            if is_dir {
                let inside = files::list(&dir)?;
                known += inside.iter().filter(|path| is_subvolume(path)).count();
            }
        }
    }
    if subvolumes_below(path)? <= known {
        return Ok(());
    }
    Err(VolumeError::refused(
        format!("{} has subvolumes of its own in it", path.display()),
        "Move them out of it, or restore to another directory.",
    ))
}

fn is_subvolume(path: &Path) -> bool {
    let own = path.symlink_metadata();
    own.is_ok_and(|own| own.is_dir() && own.ino() == SUBVOLUME_ROOT_INODE)
}

fn exchange(request: &PutRequest, new: &Path) -> Result<(), VolumeError> {
    let path = &request.volume.path;
    refuse_mounted(path)?;
    if observe_subvolume(new)?.is_none() {
        make_new(request, new)?;
    }
    failpoint::hit("put-cloned");
    let (there, beside) = (subvolume_at(path)?, subvolume_at(new)?);
    if beside.id > there.id {
        check_is_of_kept(request, new, &beside)?;
        rename_exchange(new, path)?;
    }
    failpoint::hit("put-renamed");
    check_is_of_kept(request, path, &subvolume_at(path)?)?;
    delete_subvolume(new)?;
    clone::remove_directory_of(new)?;
    failpoint::hit("put-dropped");
    Ok(())
}

fn make_new(request: &PutRequest, new: &Path) -> Result<(), VolumeError> {
    let kept = Path::new(&request.volume.name);
    let failed = |error| VolumeError::call("make a writable snapshot of", kept, error);
    let directory = new.parent().unwrap_or(new);
    files::make_private_dir(directory)?;
    let source = transfer::open_root(kept).map_err(failed)?;
    let dir = File::open(directory).map_err(failed)?;
    ioctl::btrfs_snapshot_writable(&dir, &request.number.to_string(), &source).map_err(failed)
}

/// Whatever the numbers say, only a snapshot of the kept one takes its origin's place.
fn check_is_of_kept(
    request: &PutRequest,
    path: &Path,
    info: &SubvolumeInfo,
) -> Result<(), VolumeError> {
    if info.parent_uuid.as_ref() == Some(&request.volume.uuid) {
        return Ok(());
    }
    Err(VolumeError::NotOurs {
        name: path.display().to_string(),
        reason: format!("it isn't a snapshot of {}", request.volume.name),
    })
}

/// Both are in one directory of one mount, or the one is in a directory beside the other.
fn rename_exchange(one: &Path, other: &Path) -> Result<(), VolumeError> {
    let failed = |error: io::Error| VolumeError::call("exchange with another", other, error);
    let flags = RenameFlags::RENAME_EXCHANGE;
    let here = nix::fcntl::AT_FDCWD;
    renameat2(here, one, here, other, flags).map_err(|errno| failed(errno.into()))?;
    let dir = transfer::open_root(other).map_err(failed)?;
    syncfs(&dir).map_err(|errno| failed(errno.into()))
}
