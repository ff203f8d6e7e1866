//! Putting kept files back into the directory that they came from: made equal file by file, by
//! reference where the filesystem can. Called again it goes on, whatever ended it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kept::{self, Kept};
use super::layout::{mount_of, observe_mounts};
use super::mirror::{Method, Mirror, Strangers};
use super::walk::Roots;
use super::{VolumeError, reflink};
use crate::sys::failpoint;

/// A page that was dirty when its file was copied can be stored to without a new time, until it is
/// written out: a minute at most, and this much before the note was written nothing was copied
/// while it was dirty.
const AT_REST: Duration = Duration::from_secs(3600);

/// What goes where.
pub(super) struct FilesPut {
    pub from: PathBuf,
    pub to: PathBuf,
    pub strangers: Strangers,
    /// Relative to both: neither brought nor removed.
    pub untouched: Vec<PathBuf>,
    pub kept: Kept,
}

/// Refuses what can't work.
pub(super) fn plan(put: &FilesPut) -> Result<(), VolumeError> {
    check_target(&put.to)?;
    if method(put)? == Method::Reflink {
        return kept::check_free_space(&put.to, 0);
    }
    let (bytes, inodes) = put.mirror(Method::Copy)?.measure()?;
    let (there_bytes, there_inodes) =
        Mirror::open(put.roots(&put.to), PathBuf::new(), Method::Copy)?.measure()?;
    // What is overwritten stays in the snapshots of a filesystem that never overwrites.
    let there_bytes = match overwrites(&put.to)? {
        true => there_bytes,
        false => 0,
    };
    kept::check_free_space(&put.to, bytes.saturating_sub(there_bytes))?;
    kept::check_free_inodes(&put.to, inodes.saturating_sub(there_inodes))
}

pub(super) fn put(put: &FilesPut, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
    check_target(&put.to)?;
    let method = method(put)?;
    let looks_count_before_ns = match method {
        // As quick as to look.
        Method::Reflink => i128::MIN,
        Method::Copy => at_rest_before_ns(&put.kept)?,
    };
    put.mirror(method)?
        .onto(put.strangers, looks_count_before_ns)
        .copy_still(&|| false, &mut |done, all| {
            failpoint::hit("put-copying");
            progress(done, all);
        })?;
    failpoint::hit("put-copied");
    Ok(())
}

impl FilesPut {
    fn roots(&self, dir: &Path) -> Roots {
        let mut untouched = self.untouched.clone();
        untouched.push("lost+found".into());
        Roots::whole(dir).without(untouched)
    }

    fn mirror(&self, method: Method) -> Result<Mirror, VolumeError> {
        Mirror::open(self.roots(&self.from), self.to.clone(), method)
    }
}

fn check_target(path: &Path) -> Result<(), VolumeError> {
    let own = path.symlink_metadata();
    if !own.is_ok_and(|own| own.is_dir()) {
        return Err(VolumeError::NotFound {
            name: path.display().to_string(),
        });
    }
    refuse_system(path)
}

/// Refuses to replace the root of the running system.
pub(super) fn refuse_system(path: &Path) -> Result<(), VolumeError> {
    if path != Path::new("/") {
        return Ok(());
    }
    Err(VolumeError::refused(
        "the snapshot is of the running system's root",
        "Restore to another directory, and copy from there.",
    ))
}

/// By reference if the note beside the kept files can be cloned there.
fn method(put: &FilesPut) -> Result<Method, VolumeError> {
    let note = put.kept.dir.join(kept::NOTE);
    Ok(match reflink::can_clone_to(&note, &put.to)? {
        true => Method::Reflink,
        false => Method::Copy,
    })
}

fn at_rest_before_ns(kept: &Kept) -> Result<i128, VolumeError> {
    let note = kept.dir.join(kept::NOTE);
    let own = note
        .metadata()
        .map_err(|error| VolumeError::call("look at", &note, error))?;
    let written_ns = i128::from(own.mtime()) * 1_000_000_000;
    Ok(written_ns - AT_REST.as_nanos() as i128)
}

fn overwrites(path: &Path) -> Result<bool, VolumeError> {
    let mounts = observe_mounts()?;
    let fs_type = mount_of(path, &mounts).map(|mount| mount.fs_type.as_str());
    Ok(!matches!(fs_type, Some("btrfs" | "zfs") | None))
}
