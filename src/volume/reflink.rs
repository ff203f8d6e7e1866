//! Whether files can be cloned by reference (FICLONE) from the data to the snapshot directory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::VolumeError;
use super::kept::same_filesystem;
use super::layout::{Layout, Place, Role, observe_mounts};
use crate::sys::{files, ioctl, transfer};

/// Bytes of the file that is cloned as a trial.
const TRIAL_BYTES: usize = 4096;
const TRIAL_PREFIX: &str = ".understudy-trial-";

/// Whether all places can be cloned to the directory.
pub(super) fn is_possible(layout: &Layout, directory: &Path) -> Result<bool, VolumeError> {
    Ok(elsewhere(layout, directory)?.is_none() && can_clone_in(directory)?)
}

/// Refuses when the directory can't hold clones of all places.
pub(super) fn check(layout: &Layout, directory: &Path) -> Result<(), VolumeError> {
    if let Some(place) = elsewhere(layout, directory)? {
        return Err(VolumeError::refused(
            format!(
                "{} isn't on the filesystem of {}, so nothing can be cloned",
                directory.display(),
                place.path.display()
            ),
            "Choose a [snapshot] directory on the filesystem of the data, or backend = \"copy\".",
        ));
    }
    if can_clone_in(directory)? {
        return Ok(());
    }
    Err(VolumeError::refused(
        format!(
            "the filesystem of {} can't clone files",
            directory.display()
        ),
        "Use backend = \"copy\"; XFS clones when it was made with reflink=1.",
    ))
}

/// A place that isn't on the directory's filesystem. Relay logs aren't copied.
fn elsewhere<'a>(layout: &'a Layout, directory: &Path) -> Result<Option<&'a Place>, VolumeError> {
    let mounts = observe_mounts()?;
    Ok(layout
        .places()
        .filter(|place| place.role != Role::RelayLog)
        .find(|place| !same_filesystem(&place.path, directory, &mounts)))
}

/// Tries it with a small file, which is removed again.
pub(super) fn can_clone_in(directory: &Path) -> Result<bool, VolumeError> {
    let pid = std::process::id();
    let names = ["from", "to"].map(|part| directory.join(format!("{TRIAL_PREFIX}{pid}-{part}")));
    let tried = (|| {
        let from = transfer::create_file(&names[0])?;
        let to = transfer::create_file(&names[1])?;
        from.write_all_at(&[0x55; TRIAL_BYTES], 0)?;
        ioctl::clone_file(&from, &to)
    })();
    for name in &names {
        transfer::remove_entry(name).map_err(|error| VolumeError::call("remove", name, error))?;
    }
    match tried {
        Ok(()) => Ok(true),
        Err(error) if cannot(&error) => Ok(false),
        Err(error) => Err(VolumeError::call("try cloning in", directory, error)),
    }
}

/// Tries it from a small file to a directory, on which nothing is left.
pub(super) fn can_clone_to(file: &Path, directory: &Path) -> Result<bool, VolumeError> {
    let failed = |error| VolumeError::call("try cloning to", directory, error);
    let name = directory.join(format!("{TRIAL_PREFIX}{}-to", std::process::id()));
    let from = File::open(file).map_err(failed)?;
    let to = transfer::create_file(&name).map_err(failed)?;
    let tried = ioctl::clone_file(&from, &to);
    transfer::remove_entry(&name).map_err(failed)?;
    match tried {
        Ok(()) => Ok(true),
        Err(error) if cannot(&error) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Removes what trials that were killed have left in a directory of ours.
pub(super) fn remove_trials(directory: &Path) -> Result<(), VolumeError> {
    let is_trial = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(TRIAL_PREFIX.as_bytes())
    };
    for path in files::list(directory)?.iter().filter(is_trial) {
        files::remove(path)?;
    }
    Ok(())
}

fn cannot(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOTTY | libc::ENOSYS | libc::EXDEV)
    )
}
